//! The history of drills: one JSON line each in the state folder, so that `status` and `doctor` can
//! say when a restore was last tried, and how it ended.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, Local, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::able::sync_file;
use crate::machine::boot::Boot;
use crate::machine::private_files::{private_folder, write_private};
use crate::machine::record;
use crate::profile::reach::Reach;

const FILE: &str = "drills.jsonl";

/// Lines that are kept.
const KEPT: usize = 500;

/// One drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// When it began, with the offset of its machine.
    pub time: DateTime<FixedOffset>,
    /// The repository's id.
    #[serde(default)]
    pub repository: Option<String>,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// The exit code.
    pub exit: u8,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds until the last file was restored: the real recovery time.
    pub restore_seconds: f64,
    /// Bytes restored.
    pub bytes: u64,
    /// The drilled sources: name, snapshot, verdict.
    pub sources: Vec<SourceRecord>,
    /// What was different, or why it could not be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// What became of the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
}

/// A source in the record of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceRecord {
    /// Its name.
    pub name: String,
    /// The snapshot's id.
    pub snapshot: String,
    /// The verdict, in a word.
    pub verdict: String,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillOutcome {
    /// Everything came back as it was.
    Proven,
    /// Something did not.
    Difference,
    /// It could not be run, or no identity that was given opens the secrets.
    Failed,
}

impl Record {
    /// Whether all came back but the content of secrets, which no identity that was given opens.
    pub fn had_wrong_identity(&self) -> bool {
        self.outcome == DrillOutcome::Failed && !self.sources.is_empty()
    }
}

fn file(reach: &Reach) -> PathBuf {
    reach.state.join(FILE)
}

/// Writes a drill down, on the disk when this returns.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn append(reach: &Reach, record: &Record) -> Result<(), Error> {
    private_folder(&reach.state)?;
    let path = file(reach);
    let mut line = serde_json::to_vec(record).unwrap_or_default();
    line.push(b'\n');
    let add = || -> io::Result<()> {
        let mut history = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)?;
        history.write_all(&line)?;
        sync_file(&history)
    };
    add().map_err(Error::at(&path))?;
    let text = read(&path)?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > 2 * KEPT {
        let kept = lines[lines.len() - KEPT..].join("\n") + "\n";
        write_private(&path, kept.as_bytes())?;
    }
    Ok(())
}

/// The last drill of this profile's repository, if there was one. Lines that are torn, or of another
/// repository, do not count.
///
/// # Errors
/// [`Error::State`] where the history cannot be read.
pub(crate) fn last(reach: &Reach) -> Result<Option<Record>, Error> {
    Ok(all(reach)?.pop())
}

/// Whether a week has passed since a drill was last run to its end, by the record in a state folder.
/// An hour less counts, so that a weekly one does not slip by a slot each week.
pub(crate) fn is_due(state: &Path, now: DateTime<Local>) -> bool {
    let records = read(&state.join(FILE)).unwrap_or_default();
    let last = records
        .lines()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok())
        .filter(|record| record.outcome != DrillOutcome::Failed)
        .map(|record| record.time)
        .max();
    last.is_none_or(|last| {
        let age = now.fixed_offset() - last;
        age >= TimeDelta::days(7) - TimeDelta::hours(1) || age < TimeDelta::hours(-1)
    })
}

/// All drills that are on record, the oldest first.
///
/// # Errors
/// As [`last`].
pub(crate) fn all(reach: &Reach) -> Result<Vec<Record>, Error> {
    let of_this_repository = |record: &Record| match (&record.repository, &reach.id) {
        (Some(drilled), Some(ours)) => drilled == ours,
        _ => true,
    };
    Ok(read(&file(reach))?
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(of_this_repository)
        .collect())
}

fn read(path: &Path) -> Result<String, Error> {
    let text = record::read(path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).into_owned())
}
