//! A destination is the place that a location names, within reach: the backend that the engine
//! writes to, and what can be said for sure about what is there.
//!
//! Knows: restic's notation and REST protocol, rclone, ssh. Must not know: what is in a repository, profiles.

pub(crate) mod access;
pub(crate) mod credentials;
pub(crate) mod location;
pub(crate) mod lock_files;
pub(crate) mod object_store;
pub(crate) mod rclone;
pub(crate) mod rest;
pub(crate) mod sftp;
pub(crate) mod variables;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hapi_sources::Stop;
use rustic_backend::BackendOptions;
use rustic_core::WriteBackend;

use crate::destination::access::Access;
use crate::destination::location::Location;
use crate::destination::lock_files::{LockFolder, LockStore};
use crate::destination::object_store::ObjectStore;
use crate::destination::rclone::{Listing, Rclone};
use crate::destination::rest::{Listed, Patience, Rest};
use crate::destination::sftp::Sftp;
use crate::error::Error;
use crate::machine::private_files::is_absent;
use crate::profile::Profile;

/// A place within reach.
#[derive(Clone)]
pub(crate) struct Destination {
    location: Location,
    backend: Arc<dyn WriteBackend>,
    /// The server, where it is none of this machine's folders.
    server: Option<Arc<Rest>>,
}

/// What is at a destination, as far as it is certain.
pub(crate) enum Presence {
    /// A repository.
    Repository,
    /// Nothing: the path is missing, or an empty folder.
    Absent(String),
    /// A server that answers 404 to everything: it has nothing at this path, or is no server for
    /// repositories at all. Only making one there can tell.
    Nothing,
    /// Something else.
    Occupied(String),
    /// A repository that lost its config file.
    Remains,
}

impl Destination {
    /// Reaches for the place of a profile. Of a server nothing is asked yet; a program that goes
    /// between is started.
    ///
    /// # Errors
    /// The location names nothing that can be reached.
    pub(crate) fn reach(profile: &Profile, patience: Patience, stop: &Stop) -> Result<Self, Error> {
        let location = profile.location.clone();
        let Location::Remote(text) = &location else {
            let backends = BackendOptions::default()
                .repository(location.with_credentials())
                .to_backends()
                .map_err(Error::engine("reaching the repository"))?;
            return Ok(Self {
                backend: backends.repository(),
                location,
                server: None,
            });
        };
        let name = location.to_string();
        let access = &profile.access()?;
        let server = match text.split_once(':') {
            Some(("rest", url)) => Rest::new(name, url, access, patience, stop)?,
            _ => {
                let rclone = through_rclone(text, &name, &profile.home, access, stop)?;
                Rest::of_rclone(name, rclone, patience, stop)?
            }
        };
        let server = Arc::new(server);
        Ok(Self {
            location,
            backend: Arc::clone(&server) as Arc<dyn WriteBackend>,
            server: Some(server),
        })
    }

    /// The location it was reached by.
    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Where files are read and written.
    pub(crate) fn backend(&self) -> Arc<dyn WriteBackend> {
        Arc::clone(&self.backend)
    }

    /// Where its lock files are.
    pub(crate) fn locks(&self) -> Arc<dyn LockStore> {
        match (&self.server, self.location.local()) {
            // A lock that is refreshed is no sign that the work goes on.
            (Some(server), _) => Arc::new(server.unwatched()),
            (None, folder) => Arc::new(LockFolder::of(folder.unwrap_or(Path::new("/")))),
        }
    }

    /// The engine, which has no locks, leaves their folder out of a new repository.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make_room_for_locks(&self) -> Result<(), Error> {
        match self.location.local() {
            Some(folder) => crate::machine::private_files::private_folder(&folder.join("locks")),
            None => Ok(()),
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// Whatever keeps the answer from being certain.
    pub(crate) fn presence(&self) -> Result<Presence, Error> {
        match (&self.server, self.location.local()) {
            (Some(server), _) => at_server(server),
            (None, Some(folder)) => at_folder(folder),
            (None, None) => Ok(Presence::Repository),
        }
    }

    /// Makes sure that there is a repository.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::NotARepository`], or whatever keeps the answer from being
    /// certain.
    pub(crate) fn require(&self) -> Result<(), Error> {
        self.presence()?.require(&self.location)
    }

    /// A repository whose making was cut off has a key and no config. Of two keys that one password
    /// opens, programs try whichever comes first: the leftover has to go.
    pub(crate) fn remove_orphaned_keys(&self) -> Result<(), Error> {
        if let Some(server) = &self.server {
            if matches!(server.look("keys")?, Listed::Files(1..)) {
                for (name, _) in server.list("keys")? {
                    server.remove(&format!("keys/{name}")).map_err(|failure| {
                        Error::Destination {
                            location: self.location.to_string(),
                            fact: format!("holds a key of an `init` that was cut off, and does not let it go: {failure}"),
                            hint: Some("remove the files in its folder `keys` on the storage host, and run `init` again".into()),
                        }
                    })?;
                }
            }
            return Ok(());
        }
        let Some(keys) = self.location.local().map(|folder| folder.join("keys")) else {
            return Ok(());
        };
        let entries = match fs::read_dir(&keys) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(Error::State { path: keys, error }),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| Error::State { path, error })?;
        }
        Ok(())
    }
}

/// Makes sure of a local repository before anything is opened: an unmounted disk is told as such,
/// before anything else is found odd about the place. Servers are asked when they are opened.
///
/// # Errors
/// As [`Destination::require`].
pub(crate) fn require_folder(location: &Location) -> Result<(), Error> {
    match location.local() {
        Some(folder) => at_folder(folder)?.require(location),
        None => Ok(()),
    }
}

impl Presence {
    /// That there is a repository, or the error that there is none.
    pub(crate) fn require(self, location: &Location) -> Result<(), Error> {
        match self {
            Self::Repository => Ok(()),
            Self::Absent(fact) => Err(Error::NoRepository {
                location: location.to_string(),
                fact,
                hint: match location.local() {
                    Some(_) => "is the disk mounted? If this is the first time, `rustic-hapi init` makes one",
                    None => "is the path right, and the disk there mounted? If this is the first time, `rustic-hapi init` makes one",
                }
                .into(),
            }),
            Self::Nothing => Err(Error::Destination {
                location: location.to_string(),
                fact: "answers 404 to everything: it has nothing at this path, or is no server for restic repositories".into(),
                hint: Some("are host, port and path right? If this is the first time, `rustic-hapi init` makes a repository".into()),
            }),
            Self::Occupied(fact) => Err(Error::NotARepository {
                location: location.to_string(),
                fact,
                hint: match location.local() {
                    Some(_) => "choose an empty folder, or look at what is there; nothing was changed",
                    None => "is the path right, and is this an empty folder or a server for restic repositories (rest-server, `rclone serve restic`)? Nothing was changed",
                }
                .into(),
            }),
            Self::Remains => Err(Error::NotARepository {
                location: location.to_string(),
                fact: "holds the data of a repository whose file `config` is missing".into(),
                hint: "put `config` back, from another copy of the repository; nothing was changed"
                    .into(),
            }),
        }
    }
}

/// Starts rclone for what is no REST server. Of several keys the first that opens is taken, as ssh
/// does it.
fn through_rclone(
    text: &str,
    name: &str,
    home: &Path,
    access: &Access,
    stop: &Stop,
) -> Result<Rclone, Error> {
    let wrong = |fact| Error::Usage { fact, hint: None };
    match text.split_once(':') {
        Some(("rclone", remote)) => Rclone::serve(name, remote, access, stop),
        Some(("sftp", _)) => {
            let remotes = Sftp::parse(text)
                .map_err(wrong)?
                .remotes(name, home, access)?;
            let mut first = None;
            for remote in remotes {
                match Rclone::serve(name, &remote, access, stop) {
                    Err(error) if is_refused_key(&error) => _ = first.get_or_insert(error),
                    done => return done,
                }
            }
            Err(first.unwrap_or_else(|| wrong(format!("`{name}` cannot be logged in to"))))
        }
        _ => {
            let store = ObjectStore::parse(text).map_err(wrong)?;
            let mut access = access.clone();
            for (key, value) in store.environment(&access) {
                access.environment.insert(key.to_owned(), value.into());
            }
            Rclone::serve(name, &store.remote(&access), &access, stop)
        }
    }
}

fn is_refused_key(error: &Error) -> bool {
    let text = error.to_string();
    ["unable to authenticate", "passphrase", "parse private key"]
        .iter()
        .any(|word| text.contains(word))
}

/// What a server says is there. Of a foreign folder behind a REST server that is not ours nothing can be
/// seen: restic's protocol lists its own folders alone.
fn at_server(server: &Rest) -> Result<Presence, Error> {
    if server.has_config()? {
        return Ok(Presence::Repository);
    }
    const OTHER: &str = "holds something that is not a restic repository";
    match server.place() {
        Some(Listing::Names(names)) if names.iter().any(|name| !is_of_a_repository(name)) => {
            return Ok(Presence::Occupied(OTHER.into()));
        }
        Some(Listing::Missing) => return Ok(Presence::Absent("the folder does not exist".into())),
        Some(Listing::Failed(said)) => return Err(server.unlisted(said).into()),
        Some(Listing::Names(_)) | None => {}
    }
    // That one file is not there is little: a place that is away looks like that through rclone, and
    // another web server like nothing else.
    const FOLDERS: usize = 4;
    let mut missing = 0;
    let folders: [&str; FOLDERS] = ["snapshots", "index", "data", "keys"];
    for folder in folders {
        match server.look(folder)? {
            Listed::Files(0) => {}
            Listed::Files(_) if folder == "keys" => {}
            Listed::Files(_) => return Ok(Presence::Remains),
            Listed::Missing => missing += 1,
            Listed::Foreign => {
                return Ok(Presence::Occupied(
                    "is no server for restic repositories: it answers 404 with a page for people"
                        .into(),
                ));
            }
        }
    }
    Ok(match missing {
        FOLDERS => Presence::Nothing,
        _ => Presence::Absent("the place is empty".into()),
    })
}

/// Whether a name is one of those in a repository's folder.
fn is_of_a_repository(name: &str) -> bool {
    let known = ["data", "index", "keys", "locks", "snapshots"];
    known.contains(&name.trim_end_matches('/'))
}

/// What is at a local path.
fn at_folder(folder: &Path) -> Result<Presence, Error> {
    let unsure = |error: io::Error| Error::State {
        path: folder.into(),
        error,
    };
    const OTHER: &str = "holds something that is not a restic repository";
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => {
            return Ok(Presence::Absent("the folder does not exist".into()));
        }
        Err(error) => return Err(unsure(error)),
    };
    if !metadata.is_dir() {
        return Ok(Presence::Occupied(OTHER.into()));
    }
    if folder.join("config").try_exists().map_err(unsure)? {
        return Ok(Presence::Repository);
    }
    // A file system's own folder does not make a place occupied.
    let mut names = fs::read_dir(folder).map_err(unsure)?.filter_map(Result::ok);
    // A repository whose making was cut off has its folders, perhaps a key, and no config.
    for kind in ["snapshots", "index", "data"] {
        if holds_a_file(&folder.join(kind)).map_err(unsure)? {
            return Ok(Presence::Remains);
        }
    }
    let occupied = names.any(|entry| {
        let name = entry.file_name();
        !["lost+found", "data", "index", "keys", "locks", "snapshots"]
            .iter()
            .any(|known| name == *known)
    });
    Ok(if occupied {
        Presence::Occupied(OTHER.into())
    } else {
        Presence::Absent("the folder is empty".into())
    })
}

fn holds_a_file(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_a_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}
