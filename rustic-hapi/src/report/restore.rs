//! What a restore says.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::commands::restore::Report;
use crate::exit::Exit;
use crate::policy::description::Outcome;
use crate::policy::manifest::PathRecord;
use crate::remedy::of_reason;
use crate::restore::difference::{Difference, OPENS_SECRETS};
use crate::restore::restorer::SourceReport;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::words::{bytes, grouped, plural};

impl Report {
    /// The exit code: 1 where a file is not what its manifest says, 3 where a source is not whole in
    /// any snapshot.
    pub fn exit(&self) -> Exit {
        let different = self.sources.iter().any(|s| !s.differences.is_empty());
        let unwhole = self.sources.iter().any(|s| !s.choice.outcome.is_sound())
            || self.nowhere.iter().any(|(_, required)| *required);
        match (different, unwhole) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::Incomplete,
            (false, false) => Exit::Complete,
        }
    }

    /// For a terminal.
    pub fn text(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let width = self
            .sources
            .iter()
            .map(|s| s.choice.source.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for source in &self.sources {
            _ = writeln!(
                text,
                "  {:width$}  {}  {:>10}  {}",
                source.choice.source,
                source.choice.snapshot,
                match source.files.is_empty() {
                    true => "-".to_owned(),
                    false => bytes(source.bytes),
                },
                describe(source, paint),
            );
            if let Some(place) = place(source, self) {
                _ = writeln!(text, "  {:width$}  {}", "", place.display());
            }
        }
        for (name, _) in &self.nowhere {
            _ = writeln!(text, "  {name:width$}  in no snapshot");
        }
        let files: u64 = self.sources.iter().map(|s| s.files.len() as u64).sum();
        let in_all: u64 = self.sources.iter().map(|s| s.bytes).sum();
        let what = format!(
            "{} {}, {}",
            grouped(files),
            plural(files, "file", "files"),
            bytes(in_all)
        );
        let place = self.target.display();
        let already: u64 = self.sources.iter().map(|s| s.already).sum();
        text += &match self.dry_run {
            false if files > 0 && already == files => {
                format!(
                    "nothing to restore: {what} exist unchanged in {place}, each compared with its manifest\n"
                )
            }
            true => format!("would restore {what} to {place} (--dry-run)\n"),
            false => format!(
                "restored {what} to {place} in {:.1} s, each compared with its manifest\n",
                self.took.as_secs_f64()
            ),
        };
        let sealed = self.sources.iter().any(|s| s.opened == Some(false));
        if sealed && !self.dry_run {
            text += "secrets are still encrypted (.age): decrypt them with `--identity FILE`, or `age -d -i FILE`\n";
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "restore",
            "exit": self.exit() as u8,
            "target": PathRecord::from(&self.target),
            "dry-run": self.dry_run,
            "seconds": self.took.as_secs_f64(),
            "sources": self.sources.iter().map(|s| json!({
                "name": s.choice.source,
                "kind": s.kind,
                "snapshot": s.choice.snapshot.id.to_hex().to_string(),
                "time": s.choice.snapshot.time.to_rfc3339(),
                "outcome": s.choice.outcome,
                "files": s.files.iter().map(PathRecord::from).collect::<Vec<_>>(),
                "bytes": s.bytes,
                "already": s.already,
                "opened": s.opened,
                "differences": s.differences.iter().map(said).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "nowhere": self.nowhere.iter().map(|(name, required)| json!({
                "name": name, "required": required,
            })).collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    /// For standard error.
    pub fn complaints(&self) -> Vec<String> {
        let of_source = |s: &SourceReport| {
            let name = s.choice.source.clone();
            let line = move |d: &Difference| match d.is_sealed() {
                true => format!("error: {name}: {}", said(d)),
                false => format!("error: {name}: not restored: {d}"),
            };
            s.differences.iter().map(line).collect::<Vec<_>>()
        };
        let mut lines: Vec<String> = self.sources.iter().flat_map(of_source).collect();
        let differences = || self.sources.iter().flat_map(|s| &s.differences);
        if differences().any(Difference::is_sealed) {
            lines.push(format!("hint: {OPENS_SECRETS}"));
        }
        let denied = differences().find_map(Difference::denied);
        lines.extend(
            denied
                .and_then(of_reason)
                .map(|remedy| format!("hint: {remedy}")),
        );
        if differences().any(|d| !d.is_sealed() && d.denied().is_none()) {
            lines.push("hint: name an older snapshot (`rustic-hapi snapshots`), and run `rustic-hapi check --read-data`".into());
        }
        lines.extend(
            self.nowhere
                .iter()
                .filter(|(_, required)| *required)
                .map(|(name, _)| format!("error: {name}: no snapshot has anything of it")),
        );
        lines.extend(self.warnings.iter().map(|w| format!("warning: {w}")));
        lines
    }
}

/// Where a source is, or would be: its only file, or the folder that all of them are in.
fn place(source: &SourceReport, report: &Report) -> Option<PathBuf> {
    let mut files = source.files.iter();
    let mut place = files.next()?.clone();
    for file in files {
        while !file.starts_with(&place) {
            place = place.parent()?.to_owned();
        }
    }
    match report.dry_run {
        true => Some(
            report
                .target
                .join(place.strip_prefix("/").unwrap_or(&place)),
        ),
        false => Some(place),
    }
}

/// A secret that no identity opens is there all the same.
fn said(difference: &Difference) -> String {
    match difference.is_sealed() {
        true => format!("{difference}; it is left encrypted"),
        false => difference.to_string(),
    }
}

fn describe(source: &SourceReport, paint: Paint) -> String {
    let files = source.files.len() as u64;
    let lost = source.differences.iter().filter(|d| !d.is_sealed()).count() as u64;
    if lost > 0 {
        return paint.red(&format!(
            "{lost} {} not restored",
            plural(lost, "file", "files")
        ));
    }
    if !source.differences.is_empty() {
        return paint.red("left encrypted");
    }
    let what = match (source.choice.outcome, source.opened) {
        (Outcome::Absent, _) => return "did not exist at that time".to_owned(),
        (Outcome::Failed, _) => return paint.red("not in this snapshot"),
        (_, Some(true)) => "decrypted".to_owned(),
        (_, Some(false)) => "encrypted".to_owned(),
        (_, None) => format!("{} {}", grouped(files), plural(files, "file", "files")),
    };
    let already = match source.already {
        0 => String::new(),
        n if n == files => ", unchanged".to_owned(),
        n => format!(", {} there already", grouped(n)),
    };
    let outcome = match source.choice.outcome {
        outcome @ (Outcome::Damaged | Outcome::Partial) => {
            format!(" {}", paint.red(outcome.in_words()))
        }
        _ => String::new(),
    };
    format!("{what}{already}{outcome}")
}

impl Report {
    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        Output::done(self.text(colour), self.json()).ending(self.exit(), self.complaints())
    }
}
