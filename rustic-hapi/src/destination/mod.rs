//! A destination is the place that a location names, within reach: the backend that the engine
//! writes to, and what can be said for sure about what is there.
//!
//! Knows: restic's notation and REST protocol, SFTP over ssh, rclone. Must not know: what is in a repository, profiles.

pub(crate) mod access;
pub(crate) mod credentials;
pub(crate) mod folder;
pub(crate) mod http;
pub(crate) mod location;
pub(crate) mod lock_files;
pub(crate) mod object_store;
pub(crate) mod patience;
pub(crate) mod presence;
pub(crate) mod rclone;
pub(crate) mod rest;
mod server;
pub(crate) mod sftp;
pub(crate) mod unfinished;
pub(crate) mod variables;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hapi_sources::Stop;
use rustic_backend::BackendOptions;
use rustic_core::WriteBackend;

use crate::destination::access::Access;
use crate::destination::folder::Folder;
use crate::destination::location::Location;
use crate::destination::lock_files::{LockFolder, LockStore};
use crate::destination::object_store::ObjectStore;
use crate::destination::patience::Patience;
use crate::destination::presence::{Presence, at_folder};
use crate::destination::rclone::Rclone;
use crate::destination::rest::Rest;
use crate::destination::server::Server;
use crate::destination::sftp::Sftp;
use crate::destination::sftp::place::Place;
use crate::error::{Error, ProfileError};
use crate::machine::private_files::is_absent;

/// A place within reach.
#[derive(Clone)]
pub(crate) struct Destination {
    location: Location,
    backend: Arc<dyn WriteBackend>,
    /// The server, where it is none of this machine's folders.
    server: Option<Arc<dyn Server>>,
}

impl Destination {
    /// Reaches for the place that a location names. Sends nothing to a server yet; a program that goes
    /// between is started. Only what is not of this machine needs `access`.
    ///
    /// # Errors
    /// The location names nothing that can be reached, or those of `access`.
    pub(crate) fn reach(
        location: &Location,
        access: impl FnOnce() -> Result<Access, ProfileError>,
        home: &Path,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let location = location.clone();
        let Location::Remote(text) = &location else {
            let backends = BackendOptions::default()
                .repository(location.with_credentials())
                .to_backends()
                .map_err(Error::engine("reaching the repository"))?;
            let inner = backends.repository();
            let backend: Arc<dyn WriteBackend> = match location.local() {
                Some(path) => Arc::new(Folder {
                    inner,
                    path: path.to_owned(),
                }),
                None => inner,
            };
            return Ok(Self {
                backend,
                location,
                server: None,
            });
        };
        let name = location.to_string();
        let access = access()?;
        Ok(match text.split_once(':') {
            Some(("rest", url)) => {
                let server = Rest::new(name, url, &access, patience, stop)?;
                Self::at(location, server)
            }
            Some(("sftp", _)) => {
                let place = Place::parse(text).map_err(wrong)?;
                let server = Sftp::new(name, place, home.into(), access, patience, stop);
                Self::at(location, server)
            }
            _ => {
                let rclone = through_rclone(text, &name, &access, stop)?;
                let server = Rest::of_rclone(name, rclone, patience, stop)?;
                Self::at(location, server)
            }
        })
    }

    fn at(location: Location, server: impl Server + WriteBackend) -> Self {
        let server = Arc::new(server);
        Self {
            location,
            backend: Arc::clone(&server) as Arc<dyn WriteBackend>,
            server: Some(server),
        }
    }

    /// The location it was reached by.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Where files are read and written.
    pub(crate) fn backend(&self) -> Arc<dyn WriteBackend> {
        Arc::clone(&self.backend)
    }

    pub(crate) fn locks(&self) -> Arc<dyn LockStore> {
        match (&self.server, self.location.local()) {
            (Some(server), _) => server.locks(),
            (None, folder) => Arc::new(LockFolder::of(folder.unwrap_or(Path::new("/")))),
        }
    }

    /// The engine, which has no locks, leaves their folder out of a new repository.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make_room_for_locks(&self) -> Result<(), Error> {
        match self.location.local() {
            Some(folder) => {
                let locks = folder.join("locks");
                fs::create_dir_all(&locks).map_err(Error::at(&locks))
            }
            None => Ok(()),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// Whatever keeps the answer from being certain.
    pub(crate) fn presence(&self) -> Result<Presence, Error> {
        match (&self.server, self.location.local()) {
            (Some(server), _) => server.presence(),
            (None, Some(folder)) => at_folder(folder),
            (None, None) => Ok(Presence::Repository),
        }
    }

    /// Makes sure that there is a repository.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::NotARepository`], or whatever keeps the answer from being
    /// certain.
    pub(crate) fn require(&self, made: bool) -> Result<(), Error> {
        self.presence()?.require(&self.location, made)
    }

    /// A repository whose making was cut off has a key and no config. Of two keys that one password
    /// opens, programs try whichever comes first: the leftover has to go.
    pub(crate) fn remove_orphaned_keys(&self) -> Result<(), Error> {
        if let Some(server) = &self.server {
            for name in server.keys()? {
                server
                    .remove_key(&name)
                    .map_err(|error| Error::Destination {
                        location: self.location.to_string(),
                        fact: format!("holds a key of an `init` that was cut off, and does not let it go: {error}"),
                        hint: Some("remove the files in its folder `keys` on the storage host, and run `rustic-hapi init` again".into()),
                    })?;
            }
            return Ok(());
        }
        let Some(keys) = self.location.local().map(|folder| folder.join("keys")) else {
            return Ok(());
        };
        let entries = match fs::read_dir(&keys) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(Error::at(&keys)(error)),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::at(&path))?;
        }
        Ok(())
    }
}

/// Starts rclone for what speaks neither restic's protocol nor SFTP.
fn through_rclone(text: &str, name: &str, access: &Access, stop: &Stop) -> Result<Rclone, Error> {
    if let Some(remote) = text.strip_prefix("rclone:") {
        return Rclone::serve(name, remote, access, stop);
    }
    let store = ObjectStore::parse(text).map_err(wrong)?;
    let mut access = access.clone();
    for (key, value) in store.environment(&access) {
        access.environment.insert(key.to_owned(), value.into());
    }
    Rclone::serve(name, &store.remote(&access), &access, stop)
}

fn wrong(fact: String) -> Error {
    Error::Usage { fact, hint: None }
}
