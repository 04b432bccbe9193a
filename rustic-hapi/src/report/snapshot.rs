//! What a snapshot run says: a table for a terminal, one line for a log, a document for programs.

use std::fmt::Write as _;

use chrono::{DateTime, Local};
use hapi_sources::{Integrity, Kind};
use serde_json::{Value, json};

use super::error::error_json;
use crate::archive::taken::Taken;
use crate::commands::retention::Applied;
use crate::commands::run_report::{RunReport, SeriesReport};
use crate::policy::counts::counts;
use crate::policy::description::{Outcome, SourceSummary};
use crate::policy::manifest::SourceRecord;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::words::{bytes, grouped, plural};

impl RunReport {
    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        let mut output = Output::run(self.text(colour), self.line(), self.json())
            .ending(self.exit(), self.complaints());
        output.odd = self.is_odd();
        output.remarks.clone_from(&self.remarks);
        output
    }

    /// What went wrong and what the operator should know, for standard error.
    fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for series in &self.series {
            match &series.taken {
                Err(error) => {
                    lines.push(format!("error: {}: {error}", series.name));
                    lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
                }
                Ok(taken) => complain(&mut lines, taken),
            }
        }
        // Retention fails for the very reason that the list could not be read.
        let failed = self.retention.as_ref().and_then(|r| r.as_ref().err());
        if let Some(error) = failed.or(self.unreadable.as_ref()) {
            lines.push(format!("error: {error}"));
            lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
        }
        lines.extend(self.warnings.iter().map(|w| format!("warning: {w}")));
        lines.extend(
            self.uncovered
                .iter()
                .map(|one| format!("warning: {}", one.fact)),
        );
        if !self.uncovered.is_empty() {
            lines.push(format!("hint: {}", self.uncovered_hint));
        }
        lines
    }

    /// One line for a log.
    fn line(&self) -> String {
        let mut parts = Vec::new();
        for series in &self.series {
            if let Ok(taken) = &series.taken {
                let name = match &taken.snapshot {
                    Some(saved) => format!("{} {}", series.name, &saved.id[..8]),
                    None => format!("{} (dry run)", series.name),
                };
                let outcome = match (taken.manifest.is_complete(), self.only.is_empty()) {
                    (true, true) => "complete".to_owned(),
                    (true, false) => format!("only {}", self.only.join(", ")),
                    (false, _) => "PARTIAL".to_owned(),
                };
                let added = taken
                    .snapshot
                    .as_ref()
                    .map(|s| format!(", {} added", bytes(s.added)))
                    .unwrap_or_default();
                let counts = headline(taken, self.now);
                parts.push(format!("{name} {outcome}{added}{counts}"));
            } else {
                parts.push(format!("{} FAILED", series.name));
            }
        }
        if let Some(Ok(applied)) = &self.retention {
            parts.push(match applied.postponed {
                None => kept_and_removed(applied),
                Some(_) => format!("retention {}", kept_and_removed(applied)),
            });
        }
        if self.append_only && self.saved_any() {
            parts.push(format!("retention {LEFT}"));
        }
        if self.saved_any() {
            parts.push(format!("in {}", self.location));
        }
        parts.join("; ")
    }

    /// The report for a terminal.
    fn text(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let mut text = String::new();
        for series in &self.series {
            let Ok(taken) = &series.taken else {
                _ = writeln!(
                    text,
                    "{}  {}",
                    paint.bold(&series.name),
                    paint.red("failed: no snapshot")
                );
                continue;
            };
            let outcome = match (taken.manifest.is_complete(), self.only.is_empty()) {
                (true, true) => paint.green("complete"),
                (true, false) => paint.yellow(&format!("only {}", self.only.join(", "))),
                (false, _) => paint.red("partial"),
            };
            match &taken.snapshot {
                Some(saved) => {
                    let news = if saved.unchanged { ", unchanged" } else { "" };
                    _ = writeln!(
                        text,
                        "{}  snapshot {}  {outcome}  {}, {} added{news}",
                        paint.bold(&series.name),
                        &saved.id[..8],
                        bytes(saved.bytes),
                        bytes(saved.added),
                    );
                }
                None => _ = writeln!(text, "{}  dry run  {outcome}", paint.bold(&series.name)),
            }
            let width = taken
                .manifest
                .sources
                .iter()
                .map(|s| s.name.chars().count())
                .max()
                .unwrap_or(0);
            for source in &taken.manifest.sources {
                let summary = &taken.description.sources[&source.name];
                let before = taken
                    .before
                    .as_ref()
                    .and_then(|b| b.sources.get(&source.name));
                _ = writeln!(
                    text,
                    "  {:width$}  {:>10}  {}",
                    source.name,
                    if summary.files > 0 {
                        bytes(summary.bytes)
                    } else {
                        "-".to_owned()
                    },
                    describe(source, summary, before, self.now, paint),
                );
                // New ones are among the warnings.
                let notes = source.notes.iter().filter(|n| !self.warnings.contains(n));
                for note in notes {
                    _ = writeln!(text, "  {:width$}  {:>10}  {note}", "", "note:");
                }
            }
        }
        if let Some(Ok(applied)) = &self.retention {
            _ = writeln!(text, "retention  {}", kept_and_removed(applied));
        }
        if self.append_only && self.saved_any() {
            _ = writeln!(text, "retention  {LEFT}");
        }
        if self.saved_any() {
            _ = writeln!(text, "repository {}", self.location);
        }
        text
    }

    /// The report for programs.
    fn json(&self) -> Value {
        let series: Vec<Value> = self.series.iter().map(series_json).collect();
        json!({
            "version": JSON_VERSION,
            "command": "snapshot",
            "exit": self.exit() as u8,
            "time": self.now.to_rfc3339(),
            "dry-run": self.dry_run,
            "repository": { "location": self.location, "id": self.repository_id },
            "series": series,
            "retention": match &self.retention {
                None if self.append_only => json!({ "left-to-server": true }),
                None => Value::Null,
                Some(Ok(applied)) => json!({
                    "kept": applied.plan.decisions.iter().filter(|d| d.keep).count(),
                    "postponed": applied.postponed,
                    "removed": applied.removed.iter().map(|s| s.id.to_hex().to_string()).collect::<Vec<_>>(),
                }),
                Some(Err(error)) => error_json(error),
            },
            "unreadable": self.unreadable.as_ref().map(error_json),
            "warnings": self.warnings,
            "remarks": self.remarks,
        })
    }
}

fn series_json(series: &SeriesReport) -> Value {
    match &series.taken {
        Err(error) => json!({ "name": series.name, "snapshot": null, "error": error_json(error) }),
        Ok(taken) => json!({
            "name": series.name,
            "snapshot": taken.snapshot.as_ref().map(|s| &s.id),
            "complete": taken.manifest.is_complete(),
            "tags": taken.tags,
            "bytes": taken.snapshot.as_ref().map(|s| s.bytes),
            "added": taken.snapshot.as_ref().map(|s| s.added),
            "unchanged": taken.snapshot.as_ref().map(|s| s.unchanged),
            "shrunk": taken.shrunk,
            "quiet": taken.quiet,
            "uncovered": taken.uncovered.iter().map(|one| json!({
                "name": one.name, "fact": one.fact, "lines": one.lines,
            })).collect::<Vec<_>>(),
            "hapi": taken.manifest.hapi,
            "sources": taken.manifest.sources.iter().map(|source| {
                let summary = &taken.description.sources[&source.name];
                json!({
                    "name": source.name,
                    "kind": source.kind,
                    "outcome": source.outcome,
                    "bytes": summary.bytes,
                    "files": summary.files,
                    "rows": summary.rows,
                    "newest": summary.newest,
                    "integrity": source.databases().map(|d| &d.integrity).collect::<Vec<_>>(),
                    "failures": source.failures,
                    "notes": source.notes,
                })
            }).collect::<Vec<_>>(),
        }),
    }
}

fn complain(lines: &mut Vec<String>, taken: &Taken) {
    for source in &taken.manifest.sources {
        for failure in &source.failures {
            lines.push(format!("error: {}: {}", source.name, failure.error));
            lines.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
        }
        for facts in source.databases() {
            match &facts.integrity {
                Integrity::Damaged { findings } => {
                    let first = findings.first().and_then(|f| f.lines().next());
                    let more = findings
                        .iter()
                        .flat_map(|f| f.lines())
                        .count()
                        .saturating_sub(1);
                    lines.push(format!(
                        "error: {}: the database is DAMAGED; the copy was kept: {} (and {more} more findings)",
                        source.name,
                        first.unwrap_or("no findings"),
                    ));
                    lines.push(match &taken.before {
                        Some(_) => "hint: the last good snapshot is pinned; `sqlite3 FILE .recover` on a copy, or restore that one".to_owned(),
                        None => "hint: `sqlite3 FILE .recover` on a copy; there is no good snapshot before this one".to_owned(),
                    });
                }
                Integrity::Unchecked { tables } => lines.push(format!(
                    "warning: {}: not checked, as SQLite lacks what they need: {}",
                    source.name,
                    tables.join(", ")
                )),
                Integrity::Ok => {}
            }
        }
    }
    for (_, kept) in taken.manifest.kept_side_files() {
        lines.push(format!(
            "note: `{}` ({}) is in the snapshot",
            kept.path.to_path().display(),
            bytes(kept.size.unwrap_or(0))
        ));
        if let Some(saved) = &taken.snapshot {
            lines.push(format!(
                "hint: the snapshot is kept until you add \"{}\" to `acknowledged` in `[retention]`",
                &saved.id[..8]
            ));
        }
    }
    lines.extend(taken.quiet.iter().map(|told| format!("warning: {told}")));
    if let Some(why) = taken.shrunk.as_ref().filter(|_| !taken.shrunk_before) {
        lines.push(format!(
            "warning: {why}; the snapshot is tagged shrunk, and the good one before it is pinned"
        ));
        if let Some(saved) = &taken.snapshot {
            lines.push(format!(
                "hint: if this is right, add \"{}\" to `acknowledged` in `[retention]`; after the next snapshot, `rustic-hapi status` names the id to add",
                &saved.id[..8]
            ));
        }
    }
}

/// The counts of the first database, for the one-line report.
fn headline(taken: &Taken, now: DateTime<Local>) -> String {
    let first = taken
        .manifest
        .sources
        .iter()
        .find(|s| s.kind == Kind::Sqlite);
    first
        .map(|source| counts(&taken.description.sources[&source.name], None, now))
        .filter(|counts| !counts.is_empty())
        .map(|counts| format!(" ({counts})"))
        .unwrap_or_default()
}

/// A source in words: "78 sessions, 41,203 messages (+36), the newest 4 min old".
fn describe(
    source: &SourceRecord,
    summary: &SourceSummary,
    before: Option<&SourceSummary>,
    now: DateTime<Local>,
    paint: Paint,
) -> String {
    let mut text = match (source.outcome, source.kind) {
        (Outcome::Absent, _) => return "absent".to_owned(),
        (Outcome::Failed, _) => return paint.red("failed"),
        (_, Kind::Sqlite) => counts(summary, before, now),
        (_, Kind::Secret) if source.rest => format!(
            "{} {}, encrypted",
            grouped(summary.files),
            plural(summary.files, "file", "files")
        ),
        (_, Kind::Secret) => {
            let entries: u64 = source.entries.iter().filter_map(|e| e.secret_entries).sum();
            format!(
                "{entries} {}, encrypted",
                plural(entries, "entry", "entries")
            )
        }
        (_, Kind::File) if summary.files == 1 => String::new(),
        _ => format!(
            "{} {}",
            grouped(summary.files),
            plural(summary.files, "file", "files")
        ),
    };
    if source.kind != Kind::Sqlite && source.kind != Kind::Secret {
        let news = match before {
            None => String::new(),
            Some(b) if b.bytes == summary.bytes && b.files == summary.files => String::new(),
            Some(b) => {
                #[allow(clippy::cast_possible_wrap, reason = "no source has 8 EiB")]
                let change = summary.bytes as i64 - b.bytes as i64;
                format!(
                    "{}{}",
                    if change < 0 { "-" } else { "+" },
                    bytes(change.unsigned_abs())
                )
            }
        };
        if !news.is_empty() {
            text = if text.is_empty() {
                news
            } else {
                format!("{text}, {news}")
            };
        }
    }
    match source.outcome {
        Outcome::Partial => format!("{text} {}", paint.red("partial")),
        Outcome::Damaged => format!("{text} {}", paint.red("DAMAGED")),
        _ if text.is_empty() => "ok".to_owned(),
        _ => text,
    }
}

/// Of an append-only destination.
const LEFT: &str = "left to the server's side (append-only)";

fn kept_and_removed(applied: &Applied) -> String {
    let kept = applied.plan.decisions.iter().filter(|d| d.keep).count();
    match &applied.postponed {
        None => format!("{kept} kept, {} removed", applied.removed.len()),
        Some(why) => format!("postponed: {why}"),
    }
}
