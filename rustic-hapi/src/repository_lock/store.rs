//! Where lock files are kept: the folder `locks` of a repository. The engine has no notion of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustic_core::{BytesList, Id};

use crate::error::Error;
use crate::rest::Rest;

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
    /// That of a repository.
    pub(crate) fn of(repository: &Path) -> Self {
        Self(repository.join("locks"))
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.0.join(id.to_hex().as_str())
    }

    fn failed(path: PathBuf) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::State { path, error }
    }
}

impl LockStore for LockFolder {
    fn list(&self) -> Result<Vec<Id>, Error> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Self::failed(self.0.clone())(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(Self::failed(self.0.clone()))?.file_name();
            ids.extend(name.to_string_lossy().parse::<Id>());
        }
        Ok(ids)
    }

    fn read(&self, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::failed(path)(error)),
        }
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Error> {
        let put = || -> io::Result<()> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.0)?;
            let mut file = tempfile::Builder::new()
                .prefix(".tmp-")
                .tempfile_in(&self.0)?;
            file.write_all(&content)?;
            file.as_file().sync_all()?;
            file.persist(self.path(id)).map_err(|error| error.error)?;
            File::open(&self.0)?.sync_all()
        };
        put().map_err(Self::failed(self.0.clone()))
    }

    fn remove(&self, id: &Id) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Self::failed(path)(error)),
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
                reason: "it is still listed".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

fn path(id: &Id) -> String {
    format!("locks/{}", id.to_hex().as_str())
}
