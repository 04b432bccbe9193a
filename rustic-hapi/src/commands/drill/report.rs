//! What a drill found, and how it ended by that.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Local};

use crate::commands::drill::source::{SourceDrill, Verdict};
use crate::exit::Exit;
use crate::machine::boot::Boot;
use crate::restore::difference::Difference;
use crate::state::drills::{self, DrillOutcome, Record};

/// What a drill found.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub time: DateTime<Local>,
    /// The repository's id.
    pub repository: String,
    /// By source, in the profile's order.
    pub sources: Vec<SourceDrill>,
    /// What is different and belongs to no single source.
    pub findings: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Until the last file was restored: the real recovery time.
    pub restored_after: Duration,
    /// In all.
    pub took: Duration,
    /// What became of the boot.
    pub boot: Option<Boot>,
    /// Where everything was left, if it was.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// How it ended.
    pub fn outcome(&self) -> DrillOutcome {
        let different = !self.findings.is_empty()
            || self.boot.as_ref().is_some_and(|boot| !boot.up)
            || self
                .sources
                .iter()
                .any(|s| matches!(s.verdict, Verdict::Different | Verdict::Missing));
        match (different, self.has_wrong_identity()) {
            (true, _) => DrillOutcome::Difference,
            (false, true) => DrillOutcome::Failed,
            (false, false) => DrillOutcome::Proven,
        }
    }

    /// Whether secrets were not decrypted although an identity was given.
    pub fn has_wrong_identity(&self) -> bool {
        let findings = self.sources.iter().flat_map(|s| &s.findings);
        findings.into_iter().any(Difference::is_sealed)
    }

    /// Files whose content was proven, and files that were not decrypted.
    pub fn files(&self) -> (u64, u64) {
        let of = |unopened: bool| {
            let sources = self.sources.iter();
            sources
                .filter(|s| (s.verdict == Verdict::Unopened) == unopened)
                .map(|s| s.files)
                .sum()
        };
        (of(false), of(true))
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self.outcome() {
            DrillOutcome::Proven => Exit::Complete,
            DrillOutcome::Difference => Exit::Difference,
            DrillOutcome::Failed => Exit::DrillFailed,
        }
    }

    /// Everything that is different, for people.
    pub fn all_findings(&self) -> Vec<String> {
        let of_sources = self
            .sources
            .iter()
            .flat_map(|s| s.findings.iter().map(|f| format!("{}: {f}", s.name)));
        let of_boot = self
            .boot
            .iter()
            .filter(|boot| !boot.up)
            .map(|boot| format!("the hub did not come up: {}", boot.how));
        self.findings
            .iter()
            .cloned()
            .chain(of_sources)
            .chain(of_boot)
            .collect()
    }

    pub(super) fn record(&self) -> Record {
        Record {
            time: self.time.fixed_offset(),
            repository: Some(self.repository.clone()),
            outcome: self.outcome(),
            exit: self.exit() as u8,
            seconds: self.took.as_secs_f64(),
            restore_seconds: self.restored_after.as_secs_f64(),
            bytes: self.sources.iter().map(|s| s.bytes).sum(),
            sources: self
                .sources
                .iter()
                .map(|s| drills::SourceRecord {
                    name: s.name.clone(),
                    snapshot: s
                        .choice
                        .as_ref()
                        .map_or_else(String::new, |c| c.snapshot.id.to_hex().to_string()),
                    verdict: s.verdict.in_json().to_owned(),
                })
                .collect(),
            findings: self.all_findings(),
            boot: self.boot.clone(),
        }
    }
}
