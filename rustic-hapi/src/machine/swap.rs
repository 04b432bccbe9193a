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

mod aside;
mod fault;
mod site;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};

pub use self::aside::SetAside;
pub use self::site::{Healed, Ownership};

use self::aside::{Aside, SIDE_FILES, remove_if_there};
use self::site::{Site, rename_to_nothing};
use crate::error::Error;
use crate::machine::able::{if_able, sync_file};
use crate::machine::holders::{self, Holder, side_file};

/// A swap that is prepared, and has changed nothing. What is at [`Self::incoming`] goes with it.
#[derive(Debug)]
pub struct Swap {
    site: Site,
    incoming: PathBuf,
    healed: Option<Healed>,
}

/// Puts right what a killed swap of this database left: back to the old one, unless the new one is
/// in its place already. `None` where there is nothing of the kind.
///
/// # Errors
/// [`Error::InUse`] while a process has the old database open, [`Error::HalfSwapped`] where neither
/// database is at its path, [`Error::State`].
pub fn heal(live: &Path) -> Result<Option<Healed>, Error> {
    Site::of(live)?.heal()
}

impl Swap {
    /// Heals, removes what a killed restore left behind, and makes sure that nobody has the database
    /// open. Two swaps of one database at a time are for the caller to prevent.
    ///
    /// # Errors
    /// Those of [`heal`]; [`Error::InUse`].
    pub fn begin(live: &Path) -> Result<Self, Error> {
        let site = Site::of(live)?;
        let healed = site.heal()?;
        site.sweep()?;
        let mut random = [0u8; 6];
        getrandom::fill(&mut random)
            .map_err(|error| site.state(io::Error::other(error.to_string())))?;
        holders::nobody_has_it_open(&site.live)?;
        Ok(Self {
            incoming: site.temporary(&hex::encode(random)),
            site,
            healed,
        })
    }

    /// Where the caller puts the new database, 0600; nothing is there yet. In the folder of the old
    /// one, so that a rename brings it home.
    pub fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// What [`Self::begin`] healed.
    pub(crate) fn healed(&self) -> Option<&Healed> {
        self.healed.as_ref()
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
        holders::nobody_has_it_open(&self.site.live)?;
        let ownership = self.dress(where_there_is_none)?;
        let Some(aside) = self.site.set_aside(now, ownership)? else {
            return self.move_in(prove);
        };
        fault::at("linked");
        let mut reached = Reached::Linked;
        let Err(failure) = self.exchange(&aside, &mut reached, prove) else {
            return Ok(self.site.kept_in(&aside));
        };
        let put_back = self.put_back(&aside, reached, &failure);
        Err(match (put_back, failure) {
            (Err(error), failure) => self.site.half(&aside, format!("{failure}, and {error}")),
            (Ok(()), Failure::Held(holders)) => self.site.in_use(holders),
            (Ok(()), failure) => self.site.not_swapped(failure.to_string(), None),
        })
    }

    /// Makes the new file what the old one was to others, and durable.
    fn dress(&self, where_there_is_none: &Ownership) -> Result<Ownership, Error> {
        let refused = |reason: String| self.site.not_swapped(reason, None);
        for suffix in ["-wal", "-journal"] {
            let path = side_file(&self.incoming, suffix);
            if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                return Err(refused(format!(
                    "`{}` holds rows of the new one",
                    path.display()
                )));
            }
        }
        let old = match fs::metadata(&self.site.live) {
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
                self.site.not_swapped(reason, Some(hint))
            })?;
        }
        if_able(fs::set_permissions(
            &self.incoming,
            fs::Permissions::from_mode(ownership.mode),
        ))
        .and_then(|()| sync_file(&File::open(&self.incoming)?))
        .map_err(|error| refused(format!("`{}`: {error}", self.incoming.display())))?;
        Ok(ownership)
    }

    /// Where there was nothing, there is nothing to keep.
    fn move_in(&self, prove: &dyn Fn(&Path) -> Result<(), String>) -> Result<SetAside, Error> {
        let live = &self.site.live;
        let moved = rename_to_nothing(&self.incoming, live)
            .map_err(|error| self.site.not_swapped(error.to_string(), None))
            .and_then(|()| {
                self.site
                    .sync()
                    .map_err(|error| error.to_string())
                    .and_then(|()| prove(live))
                    .map_err(|reason| self.site.not_swapped(reason, None))
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
        let site = &self.site;
        let old = aside.path("");
        let had_database = old.exists();
        if had_database {
            site.point_at(aside)?;
        }
        *reached = Reached::Pointed;
        site.sync()?;
        fault::at("pointed");
        // Whoever opens it from here on finds the side files in the folder; whoever came before has
        // the database open, and may be about to make side files by their first names.
        unheld(&site.live)?;
        *reached = Reached::Bare;
        site.remove_side_files()?;
        site.sync()?;
        fault::at("bare");
        if had_database {
            fs::rename(&self.incoming, &site.live)?;
        } else {
            rename_to_nothing(&self.incoming, &site.live)?;
        }
        *reached = Reached::Swapped;
        site.sync()?;
        fault::at("swapped");
        unheld(&old)?;
        prove(&site.live).map_err(Failure::Other)?;
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
        let site = &self.site;
        match reached {
            Reached::Linked => Ok(aside.discard()?),
            // The side files were not touched, and a process that has the database open may have
            // made new ones: they stay.
            Reached::Pointed => {
                site.name_again(aside)?;
                Ok(aside.discard()?)
            }
            Reached::Bare => Ok(site.put_back(aside)?),
            Reached::Swapped => {
                if let Failure::Other(_) = failure {
                    // What a hub writes into the new database would be lost.
                    unheld(&site.live).map_err(|failure| match failure {
                        Failure::Held(_) => PutBackError::Taken,
                        Failure::Other(error) => PutBackError::Io(io::Error::other(error)),
                    })?;
                }
                if aside.path("").exists() {
                    site.point_at(aside)?;
                } else {
                    remove_if_there(&site.live)?;
                }
                site.sync()?;
                fault::at("pointed-back");
                match failure {
                    // The old files are in use by their names in the folder.
                    Failure::Held(_) => Ok(()),
                    Failure::Other(_) => Ok(site.put_back(aside)?),
                }
            }
        }
    }
}

impl Drop for Swap {
    /// A copy of private messages is not left about.
    fn drop(&mut self) {
        for suffix in [""].iter().chain(&SIDE_FILES) {
            _ = fs::remove_file(side_file(&self.incoming, suffix));
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::aside::MARKER;
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
        let aside = swap.site.set_aside(Local::now(), ownership).unwrap();
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
        swap.site.point_at(&aside).unwrap();
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
        swap.site.point_at(&aside).unwrap();
        fs::remove_file(dir.path().join("hapi.db-wal")).unwrap();
        swap.put_back(&aside, Reached::Bare, &failure()).unwrap();
        is_as_it_was(dir.path());
    }

    #[test]
    fn put_back_in_use_stays_a_link_until_healed() {
        let (dir, swap, aside) = linked();
        swap.site.point_at(&aside).unwrap();
        swap.site.remove_side_files().unwrap();
        fs::rename(swap.incoming(), &swap.site.live).unwrap();
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
        swap.site.point_at(&aside).unwrap();
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
            let aside = swap.site.set_aside(Local::now(), NOBODYS);
            let folder = aside.unwrap().unwrap().folder;
            swap.site.remove_side_files().unwrap();
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
        fs::write(side_file(swap.incoming(), "-wal"), "rows").unwrap();
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
