//! What a status says in the end, and its document for programs.

use chrono::{DateTime, Local};
use serde_json::{Value, json};

use super::copy::lost;
use super::status_picture::age;
use crate::commands::places::Place;
use crate::commands::status::Status;
use crate::policy::freshness::{Freshness, SeriesStatus};
use crate::terminal::call::Call;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::ui::Ui;
use crate::words::plural;

impl Status {
    /// For programs.
    pub fn json(&self) -> Value {
        let mut json = self.json_of_the_place();
        if !self.copies.is_empty() {
            let copies = self.copies.iter().map(|copy| copy_json(copy, self.time));
            json["copies"] = copies.collect();
        }
        json
    }

    fn json_of_the_place(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "status",
            "exit": self.exit() as u8,
            "time": self.time.to_rfc3339(),
            "profile": self.profile,
            "host": self.host,
            "repository": {
                "location": self.location,
                "id": self.repository,
                "bytes": self.sizes.bytes(),
                "files": self.sizes,
                "snapshots": self.snapshots,
                "others": self.others,
                "oldest": self.oldest.map(|t| t.to_rfc3339()),
            },
            "series": self.series.iter().map(|s| series_json(s, self.time)).collect::<Vec<_>>(),
            "retention": self.retention.as_ref().map(|r| json!({
                "policy": r.policy,
                "oldest": r.oldest.map(|t| t.to_rfc3339()),
                "removable": r.removable,
                "pins": r.pins.iter().map(|(snapshot, why)| json!({
                    "id": snapshot.id.to_hex().to_string(),
                    "time": snapshot.time.to_rfc3339(),
                    "reasons": why,
                })).collect::<Vec<_>>(),
            })),
            "last-run": self.run,
            "schedule": self.schedule,
            "never-ended": self.never_ended,
            "last-check": self.check,
            "last-drill": self.drill,
            "last-proven": self.proven.map(|t| t.to_rfc3339()),
            "warnings": self.warnings,
        })
    }

    /// What the command says in the end.
    pub fn output(&self, ui: &Ui, markdown: bool) -> Output {
        self.said(ui, markdown).in_short(self.line())
    }

    /// The verdicts, for a notification.
    fn line(&self) -> String {
        let verdicts = self.series.iter().map(|series| {
            let old = series
                .age(self.time)
                .map_or_else(String::new, |old| format!(" ({} old)", age(old)));
            format!("{} {}{old}", series.name, series.verdict.in_words())
        });
        let copies = self.copies.iter().map(|copy| {
            let old = copy
                .age(self.time)
                .map_or_else(String::new, |old| format!(" ({} old)", age(old)));
            format!("copy {} {}{old}", copy.name, copy.verdict.in_words())
        });
        verdicts.chain(copies).collect::<Vec<_>>().join("; ")
    }

    fn said(&self, ui: &Ui, markdown: bool) -> Output {
        let mut complaints = Vec::new();
        for series in &self.series {
            if series.verdict == Freshness::Stale {
                let fact = match series.age(self.time) {
                    Some(old) => format!(
                        "the newest complete snapshot of `{}` is {} old; the limit is {}",
                        series.name,
                        age(old),
                        age(series.max_age)
                    ),
                    None => format!("there is no complete snapshot of `{}`", series.name),
                };
                complaints.push(format!("error: {fact}"));
            }
            if series.ahead > 0 {
                let ahead = series.ahead as u64;
                complaints.push(format!(
                    "warning: {ahead} {} of `{}` {} a date in the future and {} ignored until then; is the clock right?",
                    plural(ahead, "snapshot", "snapshots"),
                    series.name,
                    plural(ahead, "has", "have"),
                    plural(ahead, "is", "are"),
                ));
            }
        }
        let main_is_stale = self.series.iter().any(|s| s.verdict == Freshness::Stale);
        complaints.extend(
            self.copies
                .iter()
                .flat_map(|copy| about_copy(copy, self.time)),
        );
        if !complaints.is_empty() && main_is_stale {
            complaints.push(
                "hint: `rustic-hapi snapshot` takes one now and reports what is wrong; then check the schedule and its log".into(),
            );
        }
        if self.profile.is_none() {
            complaints.push(
                "note: there is no profile for these snapshots, so their slots are unknown; only their age is checked".into(),
            );
        }
        complaints.extend(self.warnings.iter().map(|w| format!("warning: {w}")));
        let output = match markdown {
            true => Output::new(self.markdown(), self.json()),
            false => Output::done(self.text(ui.colour, ui.unicode), self.json()),
        };
        output.ending(self.exit(), complaints)
    }
}

/// That a copy is too old, apart from the main repository, or could not be looked into.
fn about_copy(copy: &Place, now: DateTime<Local>) -> Vec<String> {
    let name = &copy.name;
    let mut lines = Vec::new();
    if copy.verdict == Freshness::Stale {
        lines.push(match copy.age(now) {
            Some(old) => format!(
                "error: the newest complete snapshot in the copy `{name}` is {} old; the limit is {}",
                age(old),
                age(copy.max_age)
            ),
            None => format!("error: there is no complete snapshot in the copy `{name}`"),
        });
        lines.push(match copy.repository {
            Some(_) => format!(
                "hint: the next run copies what is missing; `rustic-hapi doctor --from {name}` finds what keeps it from that"
            ),
            None => format!("hint: `rustic-hapi init --copy {name}` makes its repository"),
        });
    }
    if let Some(error) = copy
        .unreached
        .as_ref()
        .filter(|_| copy.repository.is_some())
    {
        lines.push(format!(
            "warning: the copy `{name}` could not be looked into, so its age is that of the last copying: {}",
            Call::default().of_copy(name).complete(&error.to_string())
        ));
    }
    let lost = copy.last.as_ref().and_then(|last| lost(name, &last.lost));
    lines.extend(lost.map(|line| format!("warning: {line}")));
    if let Some(error) = copy.last.as_ref().and_then(|last| last.error.as_ref())
        && copy.unreached.is_none()
    {
        lines.push(format!(
            "warning: the last copying to `{name}` failed: {error}"
        ));
    }
    lines
}

fn copy_json(copy: &Place, now: DateTime<Local>) -> Value {
    json!({
        "name": copy.name,
        "location": copy.location,
        "id": copy.repository,
        "verdict": copy.verdict,
        "age-seconds": copy.age(now).map(|age| age.num_seconds()),
        "max-age-seconds": copy.max_age.num_seconds(),
        "newest": copy.newest.map(|newest| newest.to_rfc3339()),
        "snapshots": copy.snapshots,
        "lacking": copy.lacking,
        "unreached-because": copy.unreached.as_ref().map(|error| {
            Call::default().of_copy(&copy.name).complete(&error.to_string())
        }),
        "last-copying": copy.last,
    })
}

fn series_json(series: &SeriesStatus, now: DateTime<Local>) -> Value {
    json!({
        "name": series.name,
        "verdict": series.verdict,
        "age-seconds": series.age(now).map(|age| age.num_seconds()),
        "max-age-seconds": series.max_age.num_seconds(),
        "newest": series.newest.as_ref().map(|s| json!({
            "id": s.id.to_hex().to_string(), "time": s.time.to_rfc3339(), "tags": s.tags,
        })),
        "partial": series.partial.as_ref().map(|s| json!({
            "id": s.id.to_hex().to_string(), "time": s.time.to_rfc3339(), "tags": s.tags,
        })),
        "complete-snapshots": series.counts.0,
        "partial-snapshots": series.counts.1,
        "in-the-future": series.ahead,
        "slots": series.slots.iter().map(|v| json!({
            "time": v.slot.time.to_rfc3339(), "state": v.state,
        })).collect::<Vec<_>>(),
        "next-slot": series.next.as_ref().map(|slot| slot.time.to_rfc3339()),
        "sources": series.sources.iter().map(|(name, s)| json!({
            "name": name, "kind": s.kind, "outcome": s.outcome, "bytes": s.bytes,
            "files": s.files, "rows": s.rows, "newest": s.newest,
        })).collect::<Vec<_>>(),
        "database": series.database.as_ref().map(|d| json!({
            "source": d.source,
            "newest": d.newest.map(|t| t.to_rfc3339()),
            "unmoved-snapshots": d.still,
            "history": d.points.iter().map(|point| json!({
                "time": point.time.to_rfc3339(),
                "bytes": point.bytes,
                "rows": d.tables.iter().zip(&point.rows)
                    .map(|(table, rows)| (table.clone(), json!(rows)))
                    .collect::<serde_json::Map<_, _>>(),
            })).collect::<Vec<_>>(),
        })),
    })
}
