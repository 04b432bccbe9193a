//! A swap puts a restored database in the place of the hub's own while nobody has it open.
//!
//! At every moment, that of a power cut included, either the old or the new database is at its
//! path, whole; and the old files are never deleted. SQLite replays a `-wal` into whatever database
//! it lies beside, and no system call renames two files at once, so neither may the new database
//! come while the old WAL is there, nor the WAL go while the old database is. What bridges the gap
//! is that SQLite looks for side files beside what a link leads to:
//!
//! 1. `hapi.db` and its side files get second names (hard links) in a set-aside folder;
//! 2. `hapi.db` becomes a link into that folder, in one rename: still the old one, with its WAL;
//! 3. the first names of the side files go, which now mean nothing;
//! 4. the new database becomes `hapi.db`, in one rename.
//!
//! A swap that was killed is told by a marker in its folder, and [`heal`] puts it right.
//!
//! ```no_run
//! # use rustic_hapi::swap::{Ownership, Swap};
//! # fn restore(_to: &std::path::Path) {}
//! # fn main() -> Result<(), rustic_hapi::Error> {
//! let swap = Swap::begin("/home/me/.hapi/hapi.db".as_ref())?;
//! restore(swap.incoming());
//! let on_a_new_machine = Ownership { mode: 0o600, uid: 1000, gid: 1000 };
//! let old = swap.commit(chrono::Local::now(), &on_a_new_machine, &|_live| Ok(()))?;
//! println!("to undo this:\n{}", old.undo().join("\n"));
//! # Ok(()) }
//! ```

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};

use crate::error::Error;
use crate::machine::holders::{self, Holder, beside};
use crate::machine::shell::quoted;

/// What SQLite puts beside a database.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Says, in a set-aside folder, that its swap has not come to its end.
const MARKER: &str = "unfinished";

/// A swap that is prepared, and has changed nothing. What is at [`Self::incoming`] goes with it.
#[derive(Debug)]
pub struct Swap {
    place: Place,
    incoming: PathBuf,
    healed: Option<Healed>,
    unseen: usize,
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

/// Puts right what a killed swap of this database left: back to the old one, unless the new one is
/// in its place already. `None` where there is nothing of the kind.
///
/// # Errors
/// [`Error::InUse`] while a process has the old database open, [`Error::HalfSwapped`] where neither
/// database is at its path, [`Error::State`].
pub fn heal(live: &Path) -> Result<Option<Healed>, Error> {
    Place::of(live)?.heal()
}

impl Swap {
    /// Heals, removes what a killed restore left behind, and makes sure that nobody has the database
    /// open. Two swaps of one database at a time are for the caller to prevent.
    ///
    /// # Errors
    /// Those of [`heal`]; [`Error::InUse`].
    pub fn begin(live: &Path) -> Result<Self, Error> {
        let place = Place::of(live)?;
        let healed = place.heal()?;
        place.sweep()?;
        let mut random = [0u8; 6];
        getrandom::fill(&mut random)
            .map_err(|error| place.state(io::Error::other(error.to_string())))?;
        let unseen = place.in_no_use()?;
        Ok(Self {
            incoming: place.temporary(&hex::encode(random)),
            place,
            healed,
            unseen,
        })
    }

    /// Where the caller puts the new database, 0600; nothing is there yet. In the folder of the old
    /// one, so that a rename brings it home.
    pub fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// The database's real path.
    pub fn live(&self) -> &Path {
        &self.place.live
    }

    /// What [`Self::begin`] healed.
    pub fn healed(&self) -> Option<&Healed> {
        self.healed.as_ref()
    }

    /// The processes whose open files were not to be seen, see [`holders::Look::unseen`].
    pub fn unseen(&self) -> usize {
        self.unseen
    }

    /// Swaps, gives the new database the old one's mode and owner, and has it proven: `prove` gets
    /// the path, says what is wrong, and keeps no connection. Durable once it returns. `now` names
    /// the set-aside folder.
    ///
    /// # Errors
    /// [`Error::NotSwapped`] with everything as it was; [`Error::InUse`] likewise, but that a process
    /// which began in the middle keeps the database as a link into the set-aside folder until
    /// [`heal`]; [`Error::HalfSwapped`] where putting back failed.
    pub fn commit(
        self,
        now: DateTime<Local>,
        where_there_is_none: &Ownership,
        prove: &dyn Fn(&Path) -> Result<(), String>,
    ) -> Result<SetAside, Error> {
        self.place.in_no_use()?;
        let ownership = self.dress(where_there_is_none)?;
        let Some(aside) = self.place.set_aside(now, ownership)? else {
            return self.move_in(prove);
        };
        fault::at("linked");
        let mut reached = Reached::Linked;
        let Err(failure) = self.exchange(&aside, &mut reached, prove) else {
            return Ok(self.place.kept_in(&aside));
        };
        let put_back = self.put_back(&aside, reached, &failure);
        Err(match (put_back, failure) {
            (Err(error), failure) => self.place.half(&aside, format!("{failure}, and {error}")),
            (Ok(()), Failure::Held(holders)) => self.place.in_use(holders),
            (Ok(()), failure) => self.place.not_swapped(failure.to_string(), None),
        })
    }

    /// Makes the new file what the old one was to others, and durable.
    fn dress(&self, where_there_is_none: &Ownership) -> Result<Ownership, Error> {
        let refused = |reason: String| self.place.not_swapped(reason, None);
        for suffix in ["-wal", "-journal"] {
            let path = beside(&self.incoming, suffix);
            if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                return Err(refused(format!(
                    "`{}` holds rows of the new one",
                    path.display()
                )));
            }
        }
        let old = match fs::metadata(&self.place.live) {
            Ok(old) => Some(Ownership {
                mode: old.mode() & 0o777,
                uid: old.uid(),
                gid: old.gid(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(refused(error.to_string())),
        };
        let ownership = old.unwrap_or(*where_there_is_none);
        let new = fs::symlink_metadata(&self.incoming)
            .and_then(|new| match new.is_file() {
                true => Ok(new),
                false => Err(io::Error::other("not a file")),
            })
            .map_err(|error| refused(format!("`{}`: {error}", self.incoming.display())))?;
        // Whose a file is that never was here cannot be of use to a user who may not give it away.
        let matters = old.is_some() || rustix::process::geteuid().is_root();
        if matters && (new.uid(), new.gid()) != (ownership.uid, ownership.gid) {
            let (uid, gid) = (ownership.uid, ownership.gid);
            std::os::unix::fs::chown(&self.incoming, Some(uid), Some(gid)).map_err(|error| {
                let reason = format!("it belongs to user {uid} and group {gid}: {error}");
                let hint = "run this as that user, or as root";
                self.place.not_swapped(reason, Some(hint))
            })?;
        }
        fs::set_permissions(&self.incoming, fs::Permissions::from_mode(ownership.mode))
            .and_then(|()| File::open(&self.incoming)?.sync_all())
            .map_err(|error| refused(format!("`{}`: {error}", self.incoming.display())))?;
        Ok(ownership)
    }

    /// Where there was nothing, there is nothing to keep.
    fn move_in(&self, prove: &dyn Fn(&Path) -> Result<(), String>) -> Result<SetAside, Error> {
        let live = &self.place.live;
        let moved = rename_to_nothing(&self.incoming, live)
            .map_err(|error| self.place.not_swapped(error.to_string(), None))
            .and_then(|()| {
                self.place
                    .sync()
                    .map_err(|error| error.to_string())
                    .and_then(|()| prove(live))
                    .map_err(|reason| self.place.not_swapped(reason, None))
                    .inspect_err(|_| _ = fs::remove_file(live))
            });
        moved.map(|()| SetAside {
            folder: None,
            files: Vec::new(),
            live: live.clone(),
        })
    }

    fn exchange(
        &self,
        aside: &Aside,
        reached: &mut Reached,
        prove: &dyn Fn(&Path) -> Result<(), String>,
    ) -> Result<(), Failure> {
        let place = &self.place;
        let old = aside.path("");
        let had_database = old.exists();
        if had_database {
            place.point_at(aside)?;
        }
        *reached = Reached::Pointed;
        place.sync()?;
        fault::at("pointed");
        // Whoever opens it from here on finds the side files in the folder; whoever came before has
        // the database open, and may be about to make side files by their first names.
        unheld(&place.live)?;
        *reached = Reached::Bare;
        place.remove_side_files()?;
        place.sync()?;
        fault::at("bare");
        if had_database {
            fs::rename(&self.incoming, &place.live)?;
        } else {
            rename_to_nothing(&self.incoming, &place.live)?;
        }
        *reached = Reached::Swapped;
        place.sync()?;
        fault::at("swapped");
        unheld(&old)?;
        prove(&place.live).map_err(Failure::Other)?;
        fault::at("proved");
        Ok(aside.finish()?)
    }

    /// Back through the same steps.
    fn put_back(
        &self,
        aside: &Aside,
        reached: Reached,
        failure: &Failure,
    ) -> Result<(), PutBackError> {
        let place = &self.place;
        match reached {
            Reached::Linked => Ok(aside.discard()?),
            // The side files were not touched, and a process that has the database open may have
            // made new ones: they stay.
            Reached::Pointed => {
                place.name_again(aside)?;
                Ok(aside.discard()?)
            }
            Reached::Bare => Ok(place.put_back(aside)?),
            Reached::Swapped => {
                if let Failure::Other(_) = failure {
                    // What a hub writes into the new database would be lost.
                    unheld(&place.live).map_err(|failure| match failure {
                        Failure::Held(_) => PutBackError::Taken,
                        Failure::Other(error) => PutBackError::Io(io::Error::other(error)),
                    })?;
                }
                if aside.path("").exists() {
                    place.point_at(aside)?;
                } else {
                    remove_if_there(&place.live)?;
                }
                place.sync()?;
                fault::at("pointed-back");
                match failure {
                    // The old files are in use by their names in the folder.
                    Failure::Held(_) => Ok(()),
                    Failure::Other(_) => Ok(place.put_back(aside)?),
                }
            }
        }
    }
}

impl Drop for Swap {
    /// A copy of private messages is not left about.
    fn drop(&mut self) {
        for suffix in [""].iter().chain(&SIDE_FILES) {
            _ = fs::remove_file(beside(&self.incoming, suffix));
        }
    }
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug)]
enum Reached {
    /// The old files have their second names.
    Linked,
    /// The database is a link into the folder.
    Pointed,
    /// The side files lose their first names.
    Bare,
    /// The new database is in place.
    Swapped,
}

/// Why an exchange did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a process opened it meanwhile")]
    Held(Vec<Holder>),
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Why the old database is not back.
#[derive(Debug, thiserror::Error)]
enum PutBackError {
    #[error("the old one was not put back, since a process has the new one open already")]
    Taken,
    #[error("putting the old one back failed: {0}")]
    Io(#[from] io::Error),
}

fn unheld(database: &Path) -> Result<(), Failure> {
    match holders::of(database) {
        Ok(look) if look.holders.is_empty() => Ok(()),
        Ok(look) => Err(Failure::Held(look.holders)),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
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
            lines.push(move_if_there(word(&beside(&self.live, suffix)), &new));
        }
        // Whichever side files there are by then: who looks into the old database with SQLite
        // settles its WAL. The database itself last, so that it is never there without its WAL.
        let old = folder.join(self.live.file_name().unwrap_or_default());
        for suffix in SIDE_FILES {
            lines.push(move_if_there(word(&beside(&old, suffix)), &home));
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

/// Where a database is, or will be.
#[derive(Debug)]
struct Place {
    live: PathBuf,
    folder: PathBuf,
    name: OsString,
}

impl Place {
    /// Follows links as SQLite does, but for the one that a swap makes.
    fn of(live: &Path) -> Result<Self, Error> {
        let state = |error| Error::State {
            path: live.into(),
            error,
        };
        let mut path = std::path::absolute(live).map_err(state)?;
        // As many as the kernel follows.
        for _ in 0..40 {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(state(io::Error::other("not a file")));
            };
            let folder = fs::canonicalize(folder).map_err(|error| Error::State {
                path: folder.into(),
                error,
            })?;
            let place = Self {
                live: folder.join(name),
                name: name.to_owned(),
                folder,
            };
            match fs::symlink_metadata(&place.live) {
                Ok(file) if file.is_symlink() => {
                    let target = fs::read_link(&place.live).map_err(state)?;
                    if place.is_ours(&target) {
                        return Ok(place);
                    }
                    path = place.folder.join(target);
                }
                Ok(file) if file.is_file() => return Ok(place),
                Ok(_) => return Err(state(io::Error::other("not a file"))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(place),
                Err(error) => return Err(state(error)),
            }
        }
        Err(state(io::Error::other("too many links")))
    }

    fn state(&self, error: io::Error) -> Error {
        Error::State {
            path: self.folder.clone(),
            error,
        }
    }

    fn in_use(&self, holders: Vec<Holder>) -> Error {
        holders::in_use(self.live.clone(), &holders)
    }

    fn not_swapped(&self, reason: String, hint: Option<&'static str>) -> Error {
        Error::NotSwapped {
            path: self.live.clone(),
            reason,
            hint,
        }
    }

    fn half(&self, aside: &Aside, reason: String) -> Error {
        Error::HalfSwapped {
            path: self.live.clone(),
            reason,
            folder: aside.folder.clone(),
        }
    }

    /// The number of processes that could not be looked at.
    fn in_no_use(&self) -> Result<usize, Error> {
        let look = holders::of(&self.live)?;
        match look.holders.is_empty() {
            true => Ok(look.unseen),
            false => Err(self.in_use(look.holders)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn with_name(&self, before: &str, after: &str) -> OsString {
        let mut name = OsString::from(before);
        name.push(&self.name);
        name.push(after);
        name
    }

    fn temporary(&self, what: &str) -> PathBuf {
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

    fn sweep(&self) -> Result<(), Error> {
        let left = self
            .entries(&self.with_name(".", ".restoring-"))
            .map_err(|error| self.state(error))?;
        for path in left {
            remove_if_there(&path).map_err(|error| Error::State { path, error })?;
        }
        Ok(())
    }

    fn heal(&self) -> Result<Option<Healed>, Error> {
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
                self.in_no_use()?;
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

    fn kept_in(&self, aside: &Aside) -> SetAside {
        SetAside {
            folder: Some(aside.folder.clone()),
            files: aside.files(),
            live: self.live.clone(),
        }
    }

    /// Gives what is there a second name in a new folder; `None` where nothing is.
    fn set_aside(
        &self,
        now: DateTime<Local>,
        ownership: Ownership,
    ) -> Result<Option<Aside>, Error> {
        let there: Vec<_> = [""]
            .into_iter()
            .chain(SIDE_FILES)
            .filter(|suffix| beside(&self.live, suffix).symlink_metadata().is_ok())
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
                fs::hard_link(beside(&self.live, suffix), aside.path(suffix))?;
            }
            File::open(&aside.folder)?.sync_all()
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
    fn point_at(&self, aside: &Aside) -> io::Result<()> {
        let link = self.temporary("link");
        remove_if_there(&link)?;
        symlink(aside.link(&self.name), &link)?;
        fs::rename(&link, &self.live)
    }

    /// The old file becomes the database again. Not the same as `rename`, which does nothing where
    /// both names are one file's.
    fn name_again(&self, aside: &Aside) -> io::Result<()> {
        if aside.path("").exists() {
            let link = self.temporary("back");
            remove_if_there(&link)?;
            fs::hard_link(aside.path(""), &link)?;
            fs::rename(&link, &self.live)?;
        }
        self.sync()
    }

    fn remove_side_files(&self) -> io::Result<()> {
        SIDE_FILES
            .iter()
            .try_for_each(|suffix| remove_if_there(&beside(&self.live, suffix)))
    }

    /// From a link into the folder to what was there before. Until the last rename the side files in
    /// the folder are those that count.
    fn put_back(&self, aside: &Aside) -> io::Result<()> {
        self.remove_side_files()?;
        for suffix in SIDE_FILES {
            if aside.path(suffix).exists() {
                fs::hard_link(aside.path(suffix), beside(&self.live, suffix))?;
            }
        }
        self.sync()?;
        fault::at("sides-back");
        self.name_again(aside)?;
        fault::at("named-again");
        aside.discard()
    }
}

/// A set-aside folder: second names of the old files, and the marker while it is under way.
#[derive(Debug)]
struct Aside {
    folder: PathBuf,
    /// The database in it; side files have this name with something behind it.
    files: PathBuf,
}

impl Aside {
    fn path(&self, suffix: &str) -> PathBuf {
        beside(&self.files, suffix)
    }

    /// What the database's link says: relative, so that it holds wherever the folder is mounted.
    fn link(&self, name: &OsStr) -> PathBuf {
        Path::new(self.folder.file_name().unwrap_or_default()).join(name)
    }

    fn files(&self) -> Vec<PathBuf> {
        [""].into_iter()
            .chain(SIDE_FILES)
            .map(|suffix| self.path(suffix))
            .filter(|path| path.exists())
            .collect()
    }

    fn mark(&self) -> io::Result<()> {
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
        file.sync_all()
    }

    fn finish(&self) -> io::Result<()> {
        remove_if_there(&self.folder.join(MARKER))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Removes the second names, the database's last: a folder with side files alone means that
    /// there was no database.
    fn discard(&self) -> io::Result<()> {
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

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A hub that starts meanwhile makes a database, which is then not ours to replace.
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems cannot do this in one step.
        Err(rustix::io::Errno::INVAL) if to.symlink_metadata().is_err() => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Faults for the tests, in builds with debug assertions alone:
/// `RUSTIC_HAPI_TEST_FAULT=swap:STEP` ends the process there, as SIGKILL would.
mod fault {
    use std::io;

    pub(super) fn at(step: &str) {
        if asked(step) {
            std::process::abort();
        }
    }

    pub(super) fn link() -> io::Result<()> {
        match asked("no-links") {
            true => Err(io::Error::from_raw_os_error(1)),
            false => Ok(()),
        }
    }

    fn asked(step: &str) -> bool {
        cfg!(debug_assertions)
            && std::env::var("RUSTIC_HAPI_TEST_FAULT")
                .is_ok_and(|fault| fault.strip_prefix("swap:") == Some(step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["hapi.db", "hapi.db-wal", "hapi.db-shm"];

    /// A folder with a database of three files, and a swap of it with its old files linked.
    fn linked() -> (tempfile::TempDir, Swap, Aside) {
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let swap = Swap::begin(&dir.path().join("hapi.db")).unwrap();
        fs::write(swap.incoming(), "new").unwrap();
        let ownership = swap.dress(&NOBODYS).unwrap();
        let aside = swap.place.set_aside(Local::now(), ownership).unwrap();
        (dir, swap, aside.unwrap())
    }

    const NOBODYS: Ownership = Ownership {
        mode: 0o600,
        uid: 0,
        gid: 0,
    };

    /// What is in the folder, but for what begins with a dot.
    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn is_as_it_was(dir: &Path) {
        assert_eq!(names(dir), ["hapi.db", "hapi.db-shm", "hapi.db-wal"]);
        for name in NAMES {
            assert!(dir.join(name).symlink_metadata().unwrap().is_file());
            assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), name);
        }
    }

    fn failure() -> Failure {
        Failure::Other("broken".into())
    }

    #[test]
    fn put_back_before_anything_moved() {
        let (dir, swap, aside) = linked();
        swap.put_back(&aside, Reached::Linked, &failure()).unwrap();
        is_as_it_was(dir.path());
    }

    #[test]
    fn put_back_leaves_a_wal_that_a_process_made_meanwhile() {
        let (dir, swap, aside) = linked();
        swap.place.point_at(&aside).unwrap();
        fs::write(dir.path().join("hapi.db-journal"), "its").unwrap();
        let held = Failure::Held(Vec::new());
        swap.put_back(&aside, Reached::Pointed, &held).unwrap();
        assert_eq!(
            fs::read(dir.path().join("hapi.db-journal")).unwrap(),
            b"its"
        );
        fs::remove_file(dir.path().join("hapi.db-journal")).unwrap();
        is_as_it_was(dir.path());
    }

    #[test]
    fn put_back_after_the_side_files_went() {
        let (dir, swap, aside) = linked();
        swap.place.point_at(&aside).unwrap();
        fs::remove_file(dir.path().join("hapi.db-wal")).unwrap();
        swap.put_back(&aside, Reached::Bare, &failure()).unwrap();
        is_as_it_was(dir.path());
    }

    #[test]
    fn put_back_in_use_stays_a_link_until_healed() {
        let (dir, swap, aside) = linked();
        swap.place.point_at(&aside).unwrap();
        swap.place.remove_side_files().unwrap();
        fs::rename(swap.incoming(), &swap.place.live).unwrap();
        let held = Failure::Held(Vec::new());
        swap.put_back(&aside, Reached::Swapped, &held).unwrap();
        let live = dir.path().join("hapi.db");
        assert_eq!(
            fs::read_link(&live).unwrap(),
            aside.link("hapi.db".as_ref())
        );
        assert_eq!(fs::read(&live).unwrap(), b"hapi.db");

        let mut reader = std::process::Command::new("sleep")
            .arg("60")
            .stdin(File::open(&live).unwrap())
            .spawn()
            .unwrap();
        let refused = heal(&live);
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        let healed = heal(&live).unwrap();
        assert!(matches!(healed, Some(Healed::PutBack { .. })), "{healed:?}");
        is_as_it_was(dir.path());
        assert_eq!(heal(&live).unwrap(), None);
    }

    #[test]
    fn a_link_whose_folder_was_emptied_is_left_to_a_human() {
        let (dir, swap, aside) = linked();
        swap.place.point_at(&aside).unwrap();
        aside
            .files()
            .iter()
            .for_each(|f| fs::remove_file(f).unwrap());
        let refused = heal(&dir.path().join("hapi.db"));
        assert!(
            matches!(refused, Err(Error::HalfSwapped { .. })),
            "{refused:?}"
        );
        assert!(aside.folder.join(MARKER).exists());
    }

    #[test]
    fn side_files_without_a_database_are_set_aside_too() {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("hapi.db");
        fs::write(dir.path().join("hapi.db-wal"), "stale").unwrap();
        let put = |fails: bool| {
            let swap = Swap::begin(&live).unwrap();
            fs::write(swap.incoming(), "new").unwrap();
            swap.commit(Local::now(), &NOBODYS, &|_| match fails {
                true => Err("broken".into()),
                false => Ok(()),
            })
        };
        assert!(matches!(put(true), Err(Error::NotSwapped { .. })));
        assert_eq!(names(dir.path()), ["hapi.db-wal"]);
        let old = put(false).unwrap();
        assert_eq!(fs::read(&live).unwrap(), b"new");
        assert!(!dir.path().join("hapi.db-wal").exists());
        assert_eq!(fs::read(&old.files[0]).unwrap(), b"stale");
        assert_eq!(old.files.len(), 1);
    }

    #[test]
    fn a_killed_swap_of_side_files_alone_is_healed() {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("hapi.db");
        for (swapped, left) in [(false, "hapi.db-wal"), (true, "hapi.db")] {
            fs::write(dir.path().join("hapi.db-wal"), "stale").unwrap();
            let swap = Swap::begin(&live).unwrap();
            let aside = swap.place.set_aside(Local::now(), NOBODYS);
            let folder = aside.unwrap().unwrap().folder;
            swap.place.remove_side_files().unwrap();
            if swapped {
                fs::write(&live, "new").unwrap();
            }
            let healed = heal(&live).unwrap().unwrap();
            assert_eq!(matches!(healed, Healed::Completed(_)), swapped);
            assert_eq!(folder.exists(), swapped);
            assert_eq!(names(dir.path())[0], left);
        }
    }

    #[test]
    fn a_new_file_with_a_wal_of_its_own_is_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        let swap = Swap::begin(&dir.path().join("hapi.db")).unwrap();
        fs::write(swap.incoming(), "new").unwrap();
        fs::write(beside(swap.incoming(), "-wal"), "rows").unwrap();
        let refused = swap.commit(Local::now(), &NOBODYS, &|_| Ok(()));
        assert!(
            matches!(refused, Err(Error::NotSwapped { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_killed_restores_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            ".hapi.db.restoring-1f",
            ".hapi.db.restoring-1f-wal",
            ".other.db.restoring-1f",
            "hapi.db.restoring-1f",
            "hapi.db.bak",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("hapi.db.set-aside-20261122T060000")).unwrap();
        drop(Swap::begin(&dir.path().join("hapi.db")).unwrap());
        assert_eq!(names(dir.path()), ["hapi.db.bak", "hapi.db.restoring-1f"]);
        assert!(dir.path().join(".other.db.restoring-1f").exists());
        assert!(!dir.path().join(".hapi.db.restoring-1f").exists());
        assert!(!dir.path().join(".hapi.db.restoring-1f-wal").exists());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("hapi.db");
        fs::create_dir(&live).unwrap();
        assert!(matches!(Swap::begin(&live), Err(Error::State { .. })));
        let loops = dir.path().join("loop.db");
        symlink("loop.db", &loops).unwrap();
        assert!(matches!(Swap::begin(&loops), Err(Error::State { .. })));
        let nowhere = dir.path().join("no/hapi.db");
        assert!(matches!(Swap::begin(&nowhere), Err(Error::State { .. })));
    }
}
