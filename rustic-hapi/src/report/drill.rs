//! What a drill says.

use std::fmt::Write as _;

use chrono::{DateTime, Local};
use serde_json::{Value, json};

use crate::commands::drill::{Report, SourceDrill, Verdict};
use crate::policy::choice::Choice;
use crate::policy::counts::counts;
use crate::policy::description::Outcome;
use crate::policy::manifest::PathRecord;
use crate::restore::difference::{Difference, OPENS_SECRETS};
use crate::state::drills::DrillOutcome;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::words::{bytes, grouped, plural};

impl Report {
    /// For a terminal, and for a log.
    pub fn text(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let width = self
            .sources
            .iter()
            .map(|s| s.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for source in &self.sources {
            let from = match &source.choice {
                Some(choice) => choice.snapshot.to_string(),
                None => format!("{:25}", "no snapshot"),
            };
            let word = source.verdict.in_words();
            let verdict = match source.verdict {
                Verdict::Proven => paint.green(word),
                Verdict::Different => paint.red(word),
                _ => word.to_owned(),
            };
            let size = match source.files {
                0 => "-".to_owned(),
                _ => bytes(source.bytes),
            };
            _ = writeln!(
                text,
                "  {:width$}  {from}  {size:>10}  {verdict}{}",
                source.name,
                detail(source, self.time),
            );
        }
        if let Some(boot) = &self.boot {
            let word = match boot.up {
                true => paint.green("came up"),
                false => paint.red("DID NOT COME UP"),
            };
            _ = writeln!(
                text,
                "  the hub {word} after {} s: {}",
                boot.seconds, boot.how
            );
        }
        let (files, sealed) = self.files();
        let in_all: u64 = self.sources.iter().map(|s| s.bytes).sum();
        let verdict = match self.outcome() {
            DrillOutcome::Proven => paint.green("proven"),
            DrillOutcome::Failed => paint.red("NOT DECRYPTED"),
            DrillOutcome::Difference => paint.red(self.difference()),
        };
        let sealed = match sealed {
            0 => String::new(),
            n => format!(" and {} not decrypted", grouped(n)),
        };
        _ = writeln!(
            text,
            "{verdict}: {} {}{sealed}, {} restored in {:.1} s, verified in {:.1} s total",
            grouped(files),
            plural(files, "file", "files"),
            bytes(in_all),
            self.restored_after.as_secs_f64(),
            self.took.as_secs_f64(),
        );
        let unopened = self.sources.iter().any(|s| s.verdict == Verdict::Unopened);
        if unopened && !self.has_wrong_identity() {
            text += "secrets were not decrypted; add `--identity FILE` to test them\n";
        }
        if let Some(kept) = &self.kept {
            _ = writeln!(text, "kept: {}", kept.display());
        }
        text
    }

    /// What is not in a snapshot came back from none: nothing differs.
    fn difference(&self) -> &'static str {
        let differs = |source: &SourceDrill| source.verdict == Verdict::Different;
        let booted = self.boot.as_ref().is_none_or(|boot| boot.up);
        match self.findings.is_empty() && booted && !self.sources.iter().any(differs) {
            true => "NOT WHOLE",
            false => "DIFFERENT",
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "drill",
            "exit": self.exit() as u8,
            "outcome": self.outcome(),
            "time": self.time.to_rfc3339(),
            "repository": self.repository,
            "restore-seconds": self.restored_after.as_secs_f64(),
            "seconds": self.took.as_secs_f64(),
            "sources": self.sources.iter().map(|s| json!({
                "name": s.name,
                "kind": s.kind,
                "snapshot": s.choice.as_ref().map(|c| c.snapshot.id.to_hex().to_string()),
                "time": s.choice.as_ref().map(|c| c.snapshot.time.to_rfc3339()),
                "outcome": s.choice.as_ref().map(|c| c.outcome),
                "passed-over": s.choice.iter().flat_map(|c| &c.passed_over).map(|newer| json!({
                    "snapshot": newer.snapshot.id.to_hex().to_string(),
                    "outcome": newer.outcome,
                    "shrunk": newer.shrunk,
                })).collect::<Vec<_>>(),
                "verdict": s.verdict.in_json(),
                "files": s.files,
                "bytes": s.bytes,
                "rows": s.summary.as_ref().map(|x| &x.rows),
                "newest": s.summary.as_ref().map(|x| &x.newest),
                "findings": s.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "boot": self.boot,
            "findings": self.all_findings(),
            "warnings": self.warnings,
            "kept": self.kept.as_ref().map(PathRecord::from),
        })
    }

    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        let mut complaints: Vec<String> = self
            .all_findings()
            .iter()
            .map(|finding| format!("error: {finding}"))
            .collect();
        let differences = || self.sources.iter().flat_map(|s| &s.findings);
        let differs = |s: &SourceDrill| {
            s.verdict != Verdict::Missing && s.findings.iter().any(|d| !d.is_sealed())
        };
        let in_repository = !self.findings.is_empty() || self.sources.iter().any(differs);
        if in_repository {
            complaints.push("hint: `rustic-hapi check --read-data` reports what is affected; `rustic-hapi drill --older` tests an older snapshot".into());
        }
        let is_nowhere = |s: &SourceDrill| {
            let failed = |choice: &Choice| choice.outcome == Outcome::Failed;
            s.verdict == Verdict::Missing && s.choice.as_ref().is_none_or(failed)
        };
        if self.sources.iter().any(is_nowhere) {
            complaints.push("hint: `rustic-hapi doctor` tells what is wrong with it, `rustic-hapi snapshot` captures it".into());
        }
        if differences().any(Difference::is_sealed) {
            complaints.push(format!("hint: {OPENS_SECRETS}"));
        }
        if self.boot.as_ref().is_some_and(|boot| !boot.up) {
            complaints.push("hint: the output of the command is above; with `--keep` the copy stays, to try it by hand".into());
        }
        complaints.extend(self.warnings.iter().map(|w| format!("warning: {w}")));
        let verdict = match self.outcome() {
            DrillOutcome::Proven => "proven",
            DrillOutcome::Failed => "NOT DECRYPTED",
            DrillOutcome::Difference => self.difference(),
        };
        let bytes_in_all: u64 = self.sources.iter().map(|s| s.bytes).sum();
        let sealed = match self.files().1 {
            0 => String::new(),
            n => format!(
                ", {} {} not decrypted",
                grouped(n),
                plural(n, "file", "files")
            ),
        };
        let line = format!(
            "drill {verdict}: {} sources{sealed}, {} restored in {:.1} s",
            self.sources.len(),
            bytes(bytes_in_all),
            self.restored_after.as_secs_f64()
        );
        Output::done(self.text(colour), self.json())
            .in_short(line)
            .ending(self.exit(), complaints)
    }
}

fn detail(source: &SourceDrill, now: DateTime<Local>) -> String {
    let counts = source
        .summary
        .as_ref()
        .map(|summary| counts(summary, None, now))
        .filter(|counts| !counts.is_empty() && source.verdict != Verdict::Absent);
    match (counts, source.files) {
        (Some(counts), _) => format!(": {counts}"),
        (None, files) if files > 1 => format!(": {} files", grouped(files)),
        _ => String::new(),
    }
}
