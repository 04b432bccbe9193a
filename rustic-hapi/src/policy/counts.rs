//! The counts of a database, in words.

use chrono::{DateTime, Local};

use crate::policy::description::{CONTENT, SourceSummary};
use crate::words::{age, grouped};

/// "78 sessions, 41,203 messages (+36), the newest 4 min old".
pub(crate) fn counts(
    summary: &SourceSummary,
    before: Option<&SourceSummary>,
    now: DateTime<Local>,
) -> String {
    // The two an operator thinks in first; the rest is in --json.
    let mut parts: Vec<String> = CONTENT
        .iter()
        .filter_map(|table| Some((*table, summary.rows.get(*table).copied().flatten()?)))
        .map(|(table, rows)| {
            let was = before.and_then(|b| b.rows.get(table).copied().flatten());
            let change = match was {
                Some(was) if rows > was => format!(" (+{})", grouped(rows - was)),
                Some(was) if rows < was => format!(" (-{})", grouped(was - rows)),
                _ => String::new(),
            };
            let name = if rows == 1 {
                table.trim_end_matches('s')
            } else {
                table
            };
            format!("{} {name}{change}", grouped(rows))
        })
        .collect();
    if parts.is_empty() {
        parts = summary
            .rows
            .iter()
            .filter_map(|(table, rows)| Some(format!("{} {table}", grouped((*rows)?))))
            .take(3)
            .collect();
    }
    parts.extend(summary.newest_time().map(|time| match now.to_utc() - time {
        ahead if ahead < -chrono::TimeDelta::minutes(2) => "the newest from the future".to_owned(),
        behind => format!(
            "the newest {} old",
            age(behind.max(chrono::TimeDelta::zero()))
        ),
    }));
    parts.join(", ")
}
