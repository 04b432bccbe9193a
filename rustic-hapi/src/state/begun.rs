//! What began and has no end on record. Each run puts a mark into the state folder before it does anything
//! else, and takes it away once its end is on record. A run that was killed, ran out of memory, or whose machine
//! went down leaves its mark, which stays until a run of that kind ends well.
//!
//! A run holds its mark locked for as long as it lives (`flock`), so the kernel says which runs are under way,
//! whatever became of a process id.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::able::{sync_file, sync_folder};
use crate::machine::private_files::{
    UNFINISHED, is_absent, private_folder, sweep_unfinished, write_private,
};
use crate::state::runs;

/// A run that began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// Its id, a UUID.
    pub run: String,
    /// `snapshot`, `drill`, `prune`.
    pub command: String,
    /// When it began, with the offset of its machine.
    pub time: DateTime<FixedOffset>,
    /// Its process: asked only where the file system has no locks.
    pub(crate) pid: u32,
    /// That it never ended was told.
    #[serde(default)]
    pub(crate) told: bool,
}

/// The mark of this run.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    command: String,
    /// Locked while it is open.
    _file: File,
}

fn folder(state: &Path) -> PathBuf {
    state.join("begun")
}

/// Puts a mark down.
///
/// # Errors
/// [`Error::State`] with the folder.
pub(crate) fn begin(state: &Path, begun: &Begun) -> Result<Mark, Error> {
    let folder = folder(state);
    private_folder(&folder)?;
    sweep_unfinished(&folder);
    let path = folder.join(&begun.run);
    let text = serde_json::to_vec(begun).map_err(|error| Error::at(&path)(error.into()))?;
    let put = || {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&folder)?;
        // Locked before it has its name. Without locks the process is asked for.
        _ = file.as_file().try_lock();
        file.write_all(&text)?;
        sync_file(file.as_file())?;
        let file = file.persist(&path).map_err(|error| error.error)?;
        sync_folder(&folder)?;
        Ok(file)
    };
    let file = put().map_err(Error::at(&folder))?;
    Ok(Mark {
        path,
        command: begun.command.clone(),
        _file: file,
    })
}

impl Mark {
    /// The end is on record. Where all went well, earlier runs of this kind that never ended are past.
    pub(crate) fn ended(self, well: bool) -> Result<(), Error> {
        // While it is locked: whoever finds it unlocked finds that it is gone.
        fs::remove_file(&self.path).map_err(Error::at(&self.path))?;
        let folder = self.path.parent().filter(|_| well);
        for (path, begun) in folder.map(left).transpose()?.unwrap_or_default() {
            if begun.command == self.command {
                fs::remove_file(&path).map_err(Error::at(&path))?;
            }
        }
        Ok(())
    }
}

/// The runs that never ended, the oldest first.
///
/// # Errors
/// [`Error::State`] where the marks cannot be read.
pub(crate) fn never_ended(state: &Path) -> Result<Vec<Begun>, Error> {
    let mut runs: Vec<_> = left(&folder(state))?.into_iter().map(|(_, b)| b).collect();
    // One whose end is on record ended, whatever kept its mark from being taken away.
    let ended = runs::last(state).unwrap_or_default();
    runs.retain(|begun| ended.iter().all(|run| run.id != begun.run));
    runs.sort_by_key(|begun| begun.time);
    Ok(runs)
}

/// Writes down that somebody heard of them.
pub(crate) fn told(state: &Path, runs: &[Begun]) -> Result<(), Error> {
    for begun in runs {
        let begun = Begun {
            told: true,
            ..begun.clone()
        };
        let path = folder(state).join(&begun.run);
        let text = serde_json::to_vec(&begun).map_err(|error| Error::at(&path)(error.into()))?;
        // A run that ended well may have taken it away.
        if path.exists() {
            write_private(&path, &text)?;
        }
    }
    Ok(())
}

/// The newest of each kind, and a sentence about those of that kind.
pub(crate) fn in_words(runs: &[Begun]) -> Vec<(&Begun, String)> {
    let mut kinds: BTreeMap<&str, Vec<&Begun>> = BTreeMap::new();
    for begun in runs {
        kinds.entry(&begun.command).or_default().push(begun);
    }
    kinds
        .into_values()
        .filter_map(|runs| Some((*runs.last()?, sentence(&runs)?)))
        .collect()
}

fn sentence(runs: &[&Begun]) -> Option<String> {
    let newest = runs.last()?;
    let since = newest.time.format("%Y-%m-%d %H:%M:%S");
    let before = match runs.len() {
        1 => String::new(),
        n => format!(", nor did {} before it", n - 1),
    };
    Some(format!(
        "the `{}` that began {since} (run {}) never ended{before}: it was killed, ran out of memory, or the machine went down; `journalctl --since '{since}'` may say why",
        newest.command,
        newest.run.get(..8).unwrap_or(&newest.run),
    ))
}

/// The marks that no run holds. What is no mark does not count.
fn left(folder: &Path) -> Result<Vec<(PathBuf, Begun)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::at(folder)(error)),
    };
    let mut left = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(UNFINISHED.as_bytes())
        {
            continue;
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(Error::at(&path)(error)),
        };
        let Ok(begun) = serde_json::from_reader::<_, Begun>(&file) else {
            continue;
        };
        let is_under_way = match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => Path::new(&format!("/proc/{}", begun.pid)).exists(),
        };
        // It may have ended since the folder was read.
        if !is_under_way && path.exists() {
            left.push((path, begun));
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(command: &str, minute: i64) -> Begun {
        Begun {
            run: crate::state::runs::new_id(),
            command: command.to_owned(),
            time: DateTime::from_timestamp(minute * 60, 0).unwrap().into(),
            pid: std::process::id(),
            told: false,
        }
    }

    #[test]
    fn what_is_under_way_did_not_fail_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        assert_eq!(never_ended(state).unwrap(), []);
        let (killed, other, alive) = (
            begun("snapshot", 1),
            begun("drill", 2),
            begun("snapshot", 3),
        );
        for run in [&killed, &other] {
            drop(begin(state, run).unwrap());
        }
        let mark = begin(state, &alive).unwrap();
        fs::write(state.join("begun/notes.txt"), "what is this?").unwrap();
        assert_eq!(never_ended(state).unwrap(), [killed.clone(), other.clone()]);
        told(state, std::slice::from_ref(&killed)).unwrap();
        assert!(never_ended(state).unwrap()[0].told);
        // Only a good end is one, and only of its kind.
        mark.ended(false).unwrap();
        assert_eq!(never_ended(state).unwrap().len(), 2);
        begin(state, &alive).unwrap().ended(true).unwrap();
        assert_eq!(never_ended(state).unwrap(), [other]);
    }

    #[test]
    fn each_kind_is_one_sentence() {
        let runs = [
            begun("drill", 1),
            begun("snapshot", 2),
            begun("snapshot", 3),
        ];
        let words = in_words(&runs);
        assert_eq!(words.len(), 2);
        assert_eq!(words[1].0, &runs[2]);
        assert!(words[1].1.contains("began 1970-01-01 00:03:00"));
        assert!(words[1].1.contains("nor did 1 before it"));
        assert!(!words[0].1.contains("before it"));
    }
}
