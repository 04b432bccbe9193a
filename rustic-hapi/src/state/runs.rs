//! The last runs, one JSON line each in the state folder: what became of them, under the id that also
//! stands in the log and in notifications.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::private_files::{give_to_owner_of, is_absent, private_folder, write_private};

/// Runs that are kept.
const KEPT: usize = 100;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Run {
    /// Its id, a UUID.
    pub id: String,
    /// `snapshot`, `drill`, …
    pub command: String,
    /// When it began, with the offset of its machine.
    pub time: DateTime<FixedOffset>,
    /// How long it took.
    pub seconds: f64,
    /// The exit code.
    pub exit: u8,
    /// What it said in one line.
    pub line: String,
    /// What it complained of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
}

/// A new id: a random UUID (RFC 9562, version 4).
pub(crate) fn new_id() -> String {
    let mut bytes = [0u8; 16];
    // Ids without randomness still tell runs of different seconds apart.
    if getrandom::fill(&mut bytes).is_err() {
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
        bytes[..8].copy_from_slice(&now.to_be_bytes());
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn file(state: &Path) -> PathBuf {
    state.join("runs.jsonl")
}

/// Writes a run down; the oldest ones go.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn append(state: &Path, run: Run) -> Result<(), Error> {
    private_folder(state)?;
    // Two runs that end at once write one after the other.
    let lock = state.join("runs.lock");
    let _lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock)
        .and_then(|file| give_to_owner_of(state, &file).map(|()| file))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(Error::at(&lock))?;
    let mut runs = last(state).unwrap_or_default();
    runs.push(run);
    let first = runs.len().saturating_sub(KEPT);
    let text: String = runs[first..]
        .iter()
        .filter_map(|run| serde_json::to_string(run).ok())
        .map(|line| line + "\n")
        .collect();
    write_private(&file(state), text.as_bytes())
}

/// The runs on record, the oldest first. Lines that make no sense do not count.
///
/// # Errors
/// [`Error::State`] where the record cannot be read.
pub(crate) fn last(state: &Path) -> Result<Vec<Run>, Error> {
    let path = file(state);
    let mut text = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
        Ok(_) => Ok(String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(Error::at(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept_and_a_torn_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let run = |n: u8| Run {
            id: new_id(),
            command: "snapshot".into(),
            time: DateTime::UNIX_EPOCH.into(),
            seconds: 1.0,
            exit: n,
            line: String::new(),
            complaints: Vec::new(),
        };
        for n in 0..105 {
            append(dir.path(), run(n)).unwrap();
        }
        let text = std::fs::read_to_string(file(dir.path())).unwrap();
        std::fs::write(file(dir.path()), text + "{\"id\":").unwrap();
        let runs = last(dir.path()).unwrap();
        assert_eq!((runs.len(), runs[0].exit, runs[99].exit), (KEPT, 5, 104));
    }

    #[test]
    fn an_id_is_a_uuid() {
        let id = new_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, new_id());
    }
}
