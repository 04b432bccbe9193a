//! A site is where a database is, or will be: its real path, and what stands beside it there.
//!
//! Each step of a swap is one call here. None removes the last name of an old file, and
//! [`Site::heal`] finishes or takes back what a kill left between two of them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};

use crate::error::Error;
use crate::machine::able::{rename_by_link, sync_folder};
use crate::machine::holders::{self, Holder, side_file};
use crate::machine::swap::aside::{Aside, MARKER, SIDE_FILES, SetAside, remove_if_there};
use crate::machine::swap::fault;

/// What was done about a swap that had been killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healed {
    /// The old database is at its path with its side files, as it was.
    PutBack {
        /// The database's real path.
        live: PathBuf,
    },
    /// The new database was at its path already, though nobody may have proved it; the old files
    /// stay in their folder.
    Completed(SetAside),
}

impl fmt::Display for Healed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutBack { live } => write!(
                f,
                "a restore that was cut off had left `{}` half swapped; the old database was put back",
                live.display()
            ),
            Self::Completed(SetAside { folder, live, .. }) => write!(
                f,
                "a restore that was cut off had already replaced `{}`; the files before it are in `{}`",
                live.display(),
                folder.as_deref().unwrap_or(live).display()
            ),
        }
    }
}

/// Whose a database is that comes to where none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Permissions, as in `0o600`.
    pub mode: u32,
    /// Only root gives files away; a file of anybody else's stays his.
    pub uid: u32,
    /// As `uid`.
    pub gid: u32,
}

/// Where a database is, or will be.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) live: PathBuf,
    folder: PathBuf,
    name: OsString,
}

impl Site {
    /// Follows links as SQLite does, but for the one that a swap makes.
    pub(super) fn of(live: &Path) -> Result<Self, Error> {
        let state = Error::at(live);
        let mut path = std::path::absolute(live).map_err(state)?;
        // As many as the kernel follows.
        for _ in 0..40 {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(state(io::Error::other("not a file")));
            };
            let folder = fs::canonicalize(folder).map_err(Error::at(folder))?;
            let site = Self {
                live: folder.join(name),
                name: name.to_owned(),
                folder,
            };
            match fs::symlink_metadata(&site.live) {
                Ok(file) if file.is_symlink() => {
                    let target = fs::read_link(&site.live).map_err(state)?;
                    if site.is_ours(&target) {
                        return Ok(site);
                    }
                    path = site.folder.join(target);
                }
                Ok(file) if file.is_file() => return Ok(site),
                Ok(_) => return Err(state(io::Error::other("not a file"))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(site),
                Err(error) => return Err(state(error)),
            }
        }
        Err(state(io::Error::other("too many links")))
    }

    pub(super) fn state(&self, error: io::Error) -> Error {
        Error::at(&self.folder)(error)
    }

    pub(super) fn in_use(&self, holders: Vec<Holder>) -> Error {
        holders::in_use(self.live.clone(), &holders)
    }

    pub(super) fn not_swapped(&self, reason: String, hint: Option<&'static str>) -> Error {
        Error::NotSwapped {
            path: self.live.clone(),
            reason,
            hint,
        }
    }

    pub(super) fn half(&self, aside: &Aside, reason: String) -> Error {
        Error::HalfSwapped {
            path: self.live.clone(),
            reason,
            folder: aside.folder.clone(),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }

    fn with_name(&self, before: &str, after: &str) -> OsString {
        let mut name = OsString::from(before);
        name.push(&self.name);
        name.push(after);
        name
    }

    pub(super) fn temporary(&self, what: &str) -> PathBuf {
        self.folder
            .join(self.with_name(".", &format!(".restoring-{what}")))
    }

    /// Whether this is how a swap's link reads.
    fn is_ours(&self, target: &Path) -> bool {
        target.file_name() == Some(&self.name)
            && target.parent().is_some_and(|folder| {
                folder.components().count() == 1
                    && starts_with(folder.as_os_str(), &self.with_name("", ".set-aside-"))
            })
    }

    fn entries(&self, prefix: &OsStr) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if starts_with(&entry.file_name(), prefix) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    pub(super) fn sweep(&self) -> Result<(), Error> {
        let left = self
            .entries(&self.with_name(".", ".restoring-"))
            .map_err(|error| self.state(error))?;
        for path in left {
            remove_if_there(&path).map_err(Error::at(&path))?;
        }
        Ok(())
    }

    pub(super) fn heal(&self) -> Result<Option<Healed>, Error> {
        let folders = self
            .entries(&self.with_name("", ".set-aside-"))
            .map_err(|error| self.state(error))?;
        let mut healed = None;
        for folder in folders {
            if folder.join(MARKER).exists() {
                healed = Some(self.heal_from(&self.aside(folder))?);
            } else {
                // One without a file is of a swap that was killed before it had a marker.
                _ = fs::remove_dir(folder);
            }
        }
        Ok(healed)
    }

    fn heal_from(&self, aside: &Aside) -> Result<Healed, Error> {
        let old = identity(&aside.path("")).map_err(|error| self.state(error))?;
        let live = identity(&self.live).map_err(|error| self.state(error))?;
        let points_there = fs::read_link(&self.live).is_ok_and(|to| to == aside.link(&self.name));
        let failed = |error: io::Error| self.half(aside, error.to_string());
        match (old, live) {
            (Some(_), _) if points_there => {
                holders::nobody_has_it_open(&self.live)?;
                self.put_back(aside).map_err(failed)?;
            }
            // Neither the database nor its side files had lost their names yet, or they have them
            // again: the second ones go, since a file with two names has two WALs.
            (Some(old), Some(live)) if old == live => aside.discard().map_err(failed)?,
            (None, _) if !points_there && aside.files().is_empty() => {
                aside.discard().map_err(failed)?
            }
            // There was no database, but side files of one.
            (None, None) if !points_there => self.put_back(aside).map_err(failed)?,
            (_, Some(_)) if !points_there => {
                aside.finish().map_err(failed)?;
                return Ok(Healed::Completed(self.kept_in(aside)));
            }
            _ => return Err(self.half(aside, "there is no database at this path".into())),
        }
        Ok(Healed::PutBack {
            live: self.live.clone(),
        })
    }

    fn aside(&self, folder: PathBuf) -> Aside {
        Aside {
            files: folder.join(&self.name),
            folder,
        }
    }

    pub(super) fn kept_in(&self, aside: &Aside) -> SetAside {
        SetAside {
            folder: Some(aside.folder.clone()),
            files: aside.files(),
            live: self.live.clone(),
        }
    }

    /// Gives what is there a second name in a new folder; `None` where nothing is.
    pub(super) fn set_aside(
        &self,
        now: DateTime<Local>,
        ownership: Ownership,
    ) -> Result<Option<Aside>, Error> {
        let there: Vec<_> = [""]
            .into_iter()
            .chain(SIDE_FILES)
            .filter(|suffix| side_file(&self.live, suffix).symlink_metadata().is_ok())
            .collect();
        if there.is_empty() {
            return Ok(None);
        }
        let aside = self.new_folder(now).map_err(|error| self.state(error))?;
        let linked = || -> io::Result<()> {
            // The hub follows the link into it, should the machine start again half-way.
            if rustix::process::geteuid().is_root() {
                let (uid, gid) = (Some(ownership.uid), Some(ownership.gid));
                std::os::unix::fs::chown(&aside.folder, uid, gid)?;
            }
            aside.mark()?;
            self.sync()?;
            for suffix in &there {
                fault::link()?;
                fs::hard_link(side_file(&self.live, suffix), aside.path(suffix))?;
            }
            sync_folder(&aside.folder)
        };
        linked().map_err(|error| {
            let undone = match aside.discard() {
                Ok(()) => String::new(),
                Err(error) => format!("; `{}` remains: {error}", aside.folder.display()),
            };
            let reason = format!("its files cannot be linked to: {error}{undone}");
            let hint = "run this as root or the database's owner; where the file system has no \
                        hard links, restore with `--target` and follow the runbook";
            self.not_swapped(reason, Some(hint))
        })?;
        Ok(Some(aside))
    }

    fn new_folder(&self, now: DateTime<Local>) -> io::Result<Aside> {
        let name = now.format(".set-aside-%Y%m%dT%H%M%S").to_string();
        let mut folder = self.folder.join(self.with_name("", &name));
        for n in 2.. {
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    folder = self.folder.join(self.with_name("", &format!("{name}-{n}")));
                }
                made => return made.map(|()| self.aside(folder)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The database becomes a link to its second name.
    pub(super) fn point_at(&self, aside: &Aside) -> io::Result<()> {
        let link = self.temporary("link");
        remove_if_there(&link)?;
        symlink(aside.link(&self.name), &link)?;
        fs::rename(&link, &self.live)
    }

    /// The old file becomes the database again. Not the same as `rename`, which does nothing where
    /// both names are one file's.
    pub(super) fn name_again(&self, aside: &Aside) -> io::Result<()> {
        if aside.path("").exists() {
            let link = self.temporary("back");
            remove_if_there(&link)?;
            fs::hard_link(aside.path(""), &link)?;
            fs::rename(&link, &self.live)?;
        }
        self.sync()
    }

    pub(super) fn remove_side_files(&self) -> io::Result<()> {
        SIDE_FILES
            .iter()
            .try_for_each(|suffix| remove_if_there(&side_file(&self.live, suffix)))
    }

    /// From a link into the folder to what was there before. Until the last rename the side files in
    /// the folder are those that count.
    pub(super) fn put_back(&self, aside: &Aside) -> io::Result<()> {
        self.remove_side_files()?;
        for suffix in SIDE_FILES {
            if aside.path(suffix).exists() {
                fs::hard_link(aside.path(suffix), side_file(&self.live, suffix))?;
            }
        }
        self.sync()?;
        fault::at("sides-back");
        self.name_again(aside)?;
        fault::at("named-again");
        aside.discard()
    }
}

fn starts_with(name: &OsStr, prefix: &OsStr) -> bool {
    name.as_encoded_bytes()
        .starts_with(prefix.as_encoded_bytes())
}

/// Device and inode; links are followed.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A hub that starts meanwhile makes a database, which is then not ours to replace.
pub(super) fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems cannot do this in one step.
        Err(rustix::io::Errno::INVAL) => rename_by_link(from, to),
        renamed => Ok(renamed?),
    }
}
