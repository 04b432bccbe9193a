//! What `snapshots` says: a line for each.

use std::fmt::Write as _;

use chrono::{DateTime, Local};
use hapi_sources::Kind;
use serde_json::{Value, json};

use super::error::error_lines;
use crate::commands::snapshots::Listing;
use crate::policy::counts::counts;
use crate::policy::history::Snapshot;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::words::{age, bytes, plural};

impl Listing {
    /// What the command says in the end; `now` is what ages are counted from.
    pub fn output(&self, now: DateTime<Local>, colour: bool) -> Output {
        let mut text = list_text(self, now, colour);
        if let Some(fact) = &self.unmatched {
            text += &format!("{fact}; `rustic-hapi snapshots --all-hosts` lists them\n");
        }
        let output = Output::new(text, list_json(&self.snapshots));
        match &self.unreadable {
            Some(error) => output.ending(error.exit(), error_lines(error)),
            None => output,
        }
    }
}

/// The list of snapshots for a terminal.
fn list_text(listing: &Listing, now: DateTime<Local>, colour: bool) -> String {
    let snapshots = &listing.snapshots;
    let paint = Paint(colour);
    if snapshots.is_empty() {
        return match listing.all {
            0 => "no snapshots of this profile yet\n".to_owned(),
            n => format!(
                "none of the {n} {} has these tags\n",
                plural(n as u64, "snapshot", "snapshots")
            ),
        };
    }
    let widest = |title: &str, of: fn(&Snapshot) -> &str| {
        let lengths = snapshots.iter().map(|s| of(s).chars().count());
        lengths.max().unwrap_or(0).max(title.len())
    };
    let host_width = widest("host", |s| &s.host);
    let width = widest("series", |s| &s.series);
    let head = format!(
        "{:8}  {:16}  {:>8}  {:host_width$}  {:width$}  {:8}  contents",
        "id", "time", "age", "host", "series", "outcome"
    );
    let mut text = format!("{}\n", paint.bold(&head));
    let mut schemas: std::collections::BTreeMap<(&str, &str), Vec<(i32, String)>> =
        std::collections::BTreeMap::new();
    for snapshot in snapshots {
        let outcome = if snapshot.is_complete() {
            paint.green("complete")
        } else if snapshot.has(crate::policy::history::ONLY) {
            "only    ".to_owned()
        } else {
            paint.red("partial ")
        };
        let mut facts = Vec::new();
        if let Some(description) = &snapshot.description {
            let bytes_in_all: u64 = description.sources.values().map(|s| s.bytes).sum();
            facts.push(bytes(bytes_in_all));
            for source in description
                .sources
                .values()
                .filter(|s| s.kind == Kind::Sqlite)
            {
                let counts = counts(source, None, snapshot.time.with_timezone(&Local));
                if !counts.is_empty() {
                    facts.push(counts);
                }
                if source.schema.is_empty() {
                    continue;
                }
                let known =
                    schemas.insert((&snapshot.host, &snapshot.series), source.schema.clone());
                if known.is_some_and(|known| known != source.schema) {
                    facts.push(paint.bold("schema changed"));
                }
            }
        }
        let hapi = snapshot.description.as_ref().and_then(|d| d.hapi.as_ref());
        facts.extend(hapi.map(|version| format!("HAPI {version}")));
        let known = ["partial", "only"];
        facts.extend(
            snapshot
                .tags
                .iter()
                .filter(|t| **t != snapshot.series && !known.contains(&t.as_str()))
                .map(|t| format!("[{t}]")),
        );
        _ = writeln!(
            text,
            "{}  {}  {:>8}  {:host_width$}  {:width$}  {outcome}  {}",
            snapshot.short_id(),
            snapshot.time.format("%Y-%m-%d %H:%M"),
            age(now.to_utc() - snapshot.time.to_utc()),
            snapshot.host,
            snapshot.series,
            facts.join(", "),
        );
    }
    text
}

/// The list of snapshots for programs.
fn list_json(snapshots: &[Snapshot]) -> Value {
    json!({
        "version": JSON_VERSION,
        "command": "snapshots",
        "snapshots": snapshots.iter().map(|s| json!({
            "id": s.id.to_hex().to_string(),
            "time": s.time.to_rfc3339(),
            "host": s.host,
            "series": s.series,
            "tags": s.tags,
            "complete": s.is_complete(),
            "tree": s.tree,
            "added": s.added,
            "description": s.description,
        })).collect::<Vec<_>>(),
    })
}
