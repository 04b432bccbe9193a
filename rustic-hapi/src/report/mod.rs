//! A report is what a command found out, as text for a terminal, as one line for a log, and as
//! JSON (docs/json.md) for programs.
//!
//! Knows: reports, words, JSON, Prometheus. Must not know: how facts are got; opens nothing.

mod check;
mod doctor;
mod drill;
pub(crate) mod metrics;
mod restore;
mod restore_in_place;
mod status;

use std::fmt::Write as _;

use chrono::{DateTime, Local};
use hapi_sources::{Integrity, Kind};
use serde_json::{Value, json};

use crate::archive::taken::Taken;
use crate::commands::ledger::Difference;
use crate::commands::retention::Applied;
use crate::commands::status::Status;
use crate::error::{Error, Exit};
use crate::policy::history::Snapshot;
use crate::policy::manifest::{Outcome, SourceRecord, SourceSummary};
use crate::policy::retention::Plan;
use crate::policy::survival::dies_with_this_machine;
use crate::profile::{Profile, Series};
use crate::repository::Repository;
use crate::terminal::output::JSON_VERSION;
use crate::terminal::paint::Paint;
use crate::words::{age, bytes, grouped, plural};

/// What a run did.
#[derive(Debug)]
pub struct RunReport {
    /// When it started; the snapshots' time.
    pub now: DateTime<Local>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The location, without credentials.
    pub location: String,
    /// The repository's id.
    pub repository_id: String,
    /// One for each series taken, in order.
    pub series: Vec<SeriesReport>,
    /// What became of retention, if it was applied.
    pub retention: Option<Result<Applied, Error>>,
    /// Whether it is the server's own side's.
    pub append_only: bool,
    /// What the repository holds in the end, where metrics are asked for.
    pub status: Option<Status>,
    /// Snapshot files that cannot be read, if there are any: the run went on without them.
    pub unreadable: Option<Error>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What the operator decided and is reminded of.
    pub remarks: Vec<String>,
    /// Whether the snapshots there are differ from what this machine knows of them.
    pub is_odd: bool,
}

/// What became of one series.
#[derive(Debug)]
pub struct SeriesReport {
    /// Its name.
    pub name: String,
    /// What was taken, or why there is no snapshot.
    pub taken: Result<Taken, Error>,
}

impl SeriesReport {
    /// Writes down what became of a series.
    pub fn of(series: &Series, taken: Result<Taken, Error>) -> Self {
        Self {
            name: series.name.clone(),
            taken,
        }
    }
}

impl RunReport {
    /// A report with nothing in it yet but what the profile and the snapshots there are give reason to say.
    pub fn begin(
        profile: &Profile,
        repository: &Repository,
        history: &[Snapshot],
        now: DateTime<Local>,
        dry_run: bool,
    ) -> Self {
        let (mut warnings, mut remarks) = (Vec::new(), Vec::new());
        if !profile.skipped_secrets.is_empty() {
            warnings.push(format!(
                "the secrets {} are in no snapshot: `[secrets] skip` is true in `{}`",
                profile
                    .skipped_secrets
                    .iter()
                    .map(|s| s.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                profile.file.display()
            ));
        }
        warnings.extend(from_the_future(history, &now));
        remarks.extend(dies_with_this_machine(profile).map(|fact| format!("warning: {fact}")));
        Self {
            now,
            dry_run,
            location: profile.location.to_string(),
            repository_id: repository.id(),
            series: Vec::new(),
            retention: None,
            append_only: profile.append_only,
            unreadable: None,
            remarks,
            is_odd: false,
            status: None,
            warnings,
        }
    }

    /// Says what this machine saved and is gone, and what another one wrote.
    pub fn differs_from_ledger(&mut self, difference: &Difference) {
        self.warnings.extend(difference.news());
        self.is_odd |= difference.is_new();
    }

    /// Whether something about a complete run is odd, and told now.
    pub fn is_odd(&self) -> bool {
        self.is_odd
            || self
                .series
                .iter()
                .filter_map(|s| s.taken.as_ref().ok())
                .any(|t| (t.shrunk.is_some() && !t.shrunk_before) || !t.quiet.is_empty())
    }

    /// Whether any snapshot was saved.
    pub fn saved_any(&self) -> bool {
        self.series
            .iter()
            .any(|s| s.taken.as_ref().is_ok_and(|t| t.snapshot.is_some()))
    }

    /// The exit code: 0 only where every series was taken whole and retention applied.
    pub fn exit(&self) -> Exit {
        let errors: Vec<&Error> = self
            .series
            .iter()
            .filter_map(|s| s.taken.as_ref().err())
            .collect();
        if errors.iter().any(|e| matches!(e, Error::Unproven { .. })) {
            return Exit::Failed;
        }
        if let Some(error) = errors.first() {
            return if self.saved_any() {
                Exit::Incomplete
            } else {
                error.exit()
            };
        }
        let whole = self
            .series
            .iter()
            .filter_map(|s| s.taken.as_ref().ok())
            .all(|t| t.manifest.is_complete());
        let retained = self.retention.as_ref().is_none_or(Result::is_ok);
        if whole && retained && self.unreadable.is_none() {
            Exit::Complete
        } else {
            Exit::Incomplete
        }
    }

    /// What went wrong and what the operator should know, for standard error.
    pub fn complaints(&self) -> Vec<String> {
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
        lines
    }

    /// One line for a log.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        for series in &self.series {
            if let Ok(taken) = &series.taken {
                let name = match &taken.snapshot {
                    Some(saved) => format!("{} {}", series.name, &saved.id[..8]),
                    None => format!("{} (dry run)", series.name),
                };
                let outcome = if taken.manifest.is_complete() {
                    "complete"
                } else {
                    "PARTIAL"
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
        parts.join("; ")
    }

    /// The report for a terminal.
    pub fn text(&self, colour: bool) -> String {
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
            let outcome = if taken.manifest.is_complete() {
                paint.green("complete")
            } else {
                paint.red("partial")
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
            }
        }
        if let Some(Ok(applied)) = &self.retention {
            _ = writeln!(text, "retention  {}", kept_and_removed(applied));
        }
        if self.append_only && self.saved_any() {
            _ = writeln!(text, "retention  {LEFT}");
        }
        text
    }

    /// The report for programs.
    pub fn json(&self) -> Value {
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

/// Says so where a snapshot is dated after today: either it or this run has a wrong date.
fn from_the_future(history: &[Snapshot], now: &DateTime<Local>) -> Option<String> {
    let newest = history.iter().max_by_key(|s| s.time)?;
    let ahead = newest.time.to_utc() - now.to_utc();
    (ahead > chrono::TimeDelta::days(1)).then(|| {
        format!(
            "the snapshot {} is dated {}, {} from now: is the clock right? (if it is, `restic forget {0}` removes what a wrong one dated)",
            &newest.id.to_hex()[..8],
            newest.time.format("%Y-%m-%d"),
            age(ahead)
        )
    })
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

/// An error for programs.
pub fn error_json(error: &Error) -> Value {
    json!({ "error": crate::destination::credentials::redacted(&error.to_string()), "hint": error.hint(), "exit": error.exit() as u8 })
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
                        Some(_) => "hint: the last sound snapshot is pinned; `sqlite3 FILE .recover` on a copy, or restore that one".to_owned(),
                        None => "hint: `sqlite3 FILE .recover` on a copy; there is no sound snapshot before this one".to_owned(),
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
        // Those that are told once are among the report's own warnings.
        let told = |note: &&String| taken.told_once.iter().all(|(text, _)| text != *note);
        for note in source.notes.iter().filter(told) {
            lines.push(format!("note: {}: {note}", source.name));
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
            "warning: {why}; the snapshot is tagged shrunk, and the sound one before it is pinned"
        ));
        if let Some(saved) = &taken.snapshot {
            lines.push(format!(
                "hint: if this is right, add \"{}\" to `acknowledged` in `[retention]`",
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

pub(crate) fn counts(
    summary: &SourceSummary,
    before: Option<&SourceSummary>,
    now: DateTime<Local>,
) -> String {
    // The two an operator thinks in first; the rest is in --json.
    let mut parts: Vec<String> = ["sessions", "messages"]
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

/// Of an append-only destination.
const LEFT: &str = "left to the server's side (append-only)";

fn kept_and_removed(applied: &Applied) -> String {
    let kept = applied.plan.decisions.iter().filter(|d| d.keep).count();
    match &applied.postponed {
        None => format!("{kept} kept, {} removed", applied.removed.len()),
        Some(why) => format!("postponed: {why}"),
    }
}

/// A retention plan for a terminal.
pub fn plan_text(plan: &Plan, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    let mut series = "";
    for decision in &plan.decisions {
        if decision.snapshot.series != series {
            series = &decision.snapshot.series;
            _ = writeln!(text, "{}", paint.bold(series));
        }
        let verdict = if decision.keep {
            paint.green("keep  ")
        } else {
            paint.red("remove")
        };
        _ = writeln!(
            text,
            "  {verdict}  {}  {}",
            decision.snapshot,
            decision.reasons.join(", ")
        );
    }
    text
}

/// A retention plan for programs.
pub fn plan_json(plan: &Plan, applied: bool) -> Value {
    json!({
        "version": JSON_VERSION,
        "command": "forget",
        "applied": applied,
        "snapshots": plan.decisions.iter().map(|d| json!({
            "id": d.snapshot.id.to_hex().to_string(),
            "time": d.snapshot.time.to_rfc3339(),
            "series": d.snapshot.series,
            "tags": d.snapshot.tags,
            "keep": d.keep,
            "reasons": d.reasons,
        })).collect::<Vec<_>>(),
    })
}

/// The list of snapshots for a terminal.
pub fn list_text(snapshots: &[Snapshot], now: DateTime<Local>, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    if snapshots.is_empty() {
        return "no snapshots of this profile yet\n".to_owned();
    }
    let width = snapshots.iter().map(|s| s.series.len()).max().unwrap_or(0);
    let hosts = snapshots.iter().map(|s| s.host.chars().count());
    // One host need not be named.
    let host_width = match snapshots.iter().any(|s| s.host != snapshots[0].host) {
        true => hosts.max().unwrap_or(0) + 2,
        false => 0,
    };
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
            "{}  {}  {:>8}  {:host_width$}{:width$}  {outcome}  {}",
            snapshot.short_id(),
            snapshot.time.format("%Y-%m-%d %H:%M"),
            age(now.to_utc() - snapshot.time.to_utc()),
            if host_width > 0 { &snapshot.host } else { "" },
            snapshot.series,
            facts.join(", "),
        );
    }
    text
}

/// The list of snapshots for programs.
pub fn list_json(snapshots: &[Snapshot]) -> Value {
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
