//! A set-aside folder keeps the files that a swap replaced; none of them is ever deleted by us.
//!
//! While the swap is under way the files in it are second names (hard links), and a marker says so.

use std::ffi::OsStr;
use std::fs::{self};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::machine::able::{sync_file, sync_folder};
use crate::machine::holders::side_file;
use crate::machine::shell::quoted;

/// What SQLite puts beside a database.
pub(super) const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Says, in a set-aside folder, that its swap has not come to its end.
pub(super) const MARKER: &str = "unfinished";

/// What was at the database's place before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now; `None` where there was nothing.
    pub folder: Option<PathBuf>,
    /// The files in there: the database first, if there was one.
    pub files: Vec<PathBuf>,
    /// The database's real path, where the new one is.
    pub live: PathBuf,
}

impl SetAside {
    /// Lines for a POSIX shell that put the old files back, with the hub stopped, and keep the
    /// new ones in the folder instead. Each goes on only if the one before it succeeded. Empty
    /// where there was nothing.
    pub fn undo(&self) -> Vec<String> {
        let Some(folder) = &self.folder else {
            return Vec::new();
        };
        let word = |path: &Path| quoted(&path.to_string_lossy());
        let move_if_there =
            |file: String, to: &str| format!("{{ [ ! -e {file} ] || mv -- {file} {to}/; }}");
        let new = word(&folder.join("restored"));
        let home = word(self.live.parent().unwrap_or(Path::new("/")));
        let mut lines = vec![format!("mkdir -- {new}")];
        for suffix in [""].iter().chain(&SIDE_FILES) {
            lines.push(move_if_there(word(&side_file(&self.live, suffix)), &new));
        }
        // Whichever side files there are by then: who looks into the old database with SQLite
        // settles its WAL. The database itself last, so that it is never there without its WAL.
        let old = folder.join(self.live.file_name().unwrap_or_default());
        for suffix in SIDE_FILES {
            lines.push(move_if_there(word(&side_file(&old, suffix)), &home));
        }
        if self.files.contains(&old) {
            lines.push(format!("mv -- {} {home}/", word(&old)));
        }
        let last = lines.len() - 1;
        for line in &mut lines[..last] {
            line.push_str(" &&");
        }
        lines
    }
}

/// A set-aside folder: second names of the old files, and the marker while it is under way.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) folder: PathBuf,
    /// The database in it; side files have this name with something behind it.
    pub(super) files: PathBuf,
}

impl Aside {
    pub(super) fn path(&self, suffix: &str) -> PathBuf {
        side_file(&self.files, suffix)
    }

    /// What the database's link says: relative, so that it holds wherever the folder is mounted.
    pub(super) fn link(&self, name: &OsStr) -> PathBuf {
        Path::new(self.folder.file_name().unwrap_or_default()).join(name)
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        [""].into_iter()
            .chain(SIDE_FILES)
            .map(|suffix| self.path(suffix))
            .filter(|path| path.exists())
            .collect()
    }

    pub(super) fn mark(&self) -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(MARKER))?;
        file.write_all(
            b"An in-place restore began here and has not ended. Stop the hub and begin a restore\n\
              in place again: that puts this right first. Do not delete this folder: the\n\
              database may be a link into it.\n",
        )?;
        sync_file(&file)
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        remove_if_there(&self.folder.join(MARKER))?;
        sync_folder(&self.folder)
    }

    /// Removes the second names, the database's last: a folder with side files alone means that
    /// there was no database.
    pub(super) fn discard(&self) -> io::Result<()> {
        for suffix in SIDE_FILES.into_iter().chain([""]) {
            remove_if_there(&self.path(suffix))?;
        }
        remove_if_there(&self.folder.join(MARKER))?;
        match fs::remove_dir(&self.folder) {
            // Something of somebody else's.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        }
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
