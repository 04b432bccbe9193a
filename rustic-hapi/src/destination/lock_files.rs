//! Where lock files are kept: the folder `locks` of a repository. The engine has no notion of it.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustic_core::{BytesList, Id};
use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;

use crate::destination::rest::Rest;
use crate::error::Error;
use crate::machine::able::{if_able, sync_file, sync_folder};
use crate::machine::private_files::{UNFINISHED, give_to_owner_of, sweep_unfinished};

/// A place for lock files. They are called by the SHA-256 of their content.
pub(crate) trait LockStore: Send + Sync {
    /// The names of all there are.
    fn list(&self) -> Result<Vec<Id>, Error>;
    /// One of them; `None` where it is gone meanwhile.
    fn read(&self, id: &Id) -> Result<Option<Vec<u8>>, Error>;
    /// Puts one down, whole or not at all.
    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Error>;
    /// Removes one; that it is gone already is what was wanted.
    fn remove(&self, id: &Id) -> Result<(), Error>;
}

/// A folder of this machine's.
pub(crate) struct LockFolder(PathBuf);

impl LockFolder {
    pub(crate) fn of(repository: &Path) -> Self {
        Self(repository.join("locks"))
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.0.join(id.to_hex().as_str())
    }

    /// Writes a file that has no name until it is whole, so that a kill leaves nothing; false where the file
    /// system has no such files.
    fn put_unnamed(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        let mut file = tempfile::tempfile_in(&self.0)?;
        if_able(file.set_permissions(Permissions::from_mode(0o600)))?;
        file.write_all(content)?;
        give_to_owner_of(&self.0, &file)?;
        sync_file(&file)?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        match linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            // One of this name has this content.
            Ok(()) | Err(Errno::EXIST) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// The same with a name of its own, which a kill leaves behind.
    fn put_named(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.0)?;
        file.write_all(content)?;
        give_to_owner_of(&self.0, file.as_file())?;
        sync_file(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl LockStore for LockFolder {
    fn list(&self) -> Result<Vec<Id>, Error> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::at(&self.0)(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::at(&self.0))?.file_name();
            ids.extend(name.to_string_lossy().parse::<Id>());
        }
        Ok(ids)
    }

    fn read(&self, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::at(&path)(error)),
        }
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Error> {
        let put = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.0)?;
            sweep_unfinished(&self.0);
            let path = self.path(id);
            if !self.put_unnamed(&path, &content)? {
                self.put_named(&path, &content)?;
            }
            sync_folder(&self.0)
        };
        put().map_err(Error::at(&self.0))
    }

    fn remove(&self, id: &Id) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::at(&path)(error)),
            _ => Ok(()),
        }
    }
}

impl LockStore for Rest {
    fn list(&self) -> Result<Vec<Id>, Error> {
        let files = match Self::list(self, "locks") {
            // A server may make the folder with the first lock.
            Err(failure) if failure.is_missing() => Vec::new(),
            listed => listed?,
        };
        Ok(files
            .iter()
            .filter_map(|(name, _)| name.parse().ok())
            .collect())
    }

    fn read(&self, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        Ok(Self::read(self, &path(id))?)
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Error> {
        Ok(Self::write(self, &path(id), &BytesList::from(content))?)
    }

    fn remove(&self, id: &Id) -> Result<(), Error> {
        Self::remove(self, &path(id))?;
        // "Not there" is also what rclone says of anything that goes wrong behind it.
        match self.is_through_rclone() && LockStore::list(self)?.contains(id) {
            true => Err(Error::Engine {
                doing: "removing a lock",
                reason: "it is still listed".into(),
            }),
            false => Ok(()),
        }
    }
}

fn path(id: &Id) -> String {
    format!("locks/{}", id.to_hex().as_str())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_lock_appears_whole_and_private_with_a_name_of_its_own_or_without() {
        let repository = tempfile::tempdir().unwrap();
        let locks = LockFolder::of(repository.path());
        let ids = ["a1", "b2"].map(|two| two.repeat(32).parse::<Id>().unwrap());
        locks.write(&ids[0], b"first".to_vec()).unwrap();
        // Again, as one whose answer was lost.
        locks.write(&ids[0], b"first".to_vec()).unwrap();
        locks.put_named(&locks.path(&ids[1]), b"second").unwrap();
        assert_eq!(names(&locks.0), ["a1".repeat(32), "b2".repeat(32)]);
        for (id, content) in ids.iter().zip(["first", "second"]) {
            assert_eq!(locks.read(id).unwrap().unwrap(), content.as_bytes());
            let mode = fs::metadata(locks.path(id)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    /// A run that was killed while it put its lock down left `.tmp-…` in the repository for ever.
    #[test]
    fn what_a_kill_left_of_a_lock_goes_with_a_later_one() {
        let repository = tempfile::tempdir().unwrap();
        let locks = LockFolder::of(repository.path());
        fs::create_dir(&locks.0).unwrap();
        for (name, age) in [(".tmp-left", 2), (".tmp-at-work", 0), ("of-others", 2)] {
            let file = File::create(locks.0.join(name)).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age * 3600);
            file.set_modified(time).unwrap();
        }
        let id = "c3".repeat(32).parse().unwrap();
        locks.write(&id, b"third".to_vec()).unwrap();
        assert_eq!(
            names(&locks.0),
            [".tmp-at-work", &"c3".repeat(32), "of-others"]
        );
    }
}
