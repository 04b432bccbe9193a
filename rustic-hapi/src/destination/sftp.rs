//! An SFTP server keeps a repository's files. The system's own `ssh` reaches it, as restic has it: whatever
//! works in the operator's shell works here (an alias, a jump host, a certificate, a hardware key, a server
//! that asks for no key at all), and no other program is needed.
//!
//! A file gets its name when it is whole: it is written under another one, synced where the server can, and
//! renamed. What is passing is tried again over a new connection, what is final is not.

mod backend;
mod connection;
mod failure;
pub(crate) mod place;
mod program;
mod said;
mod session;
mod writers;

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hapi_sources::Stop;
use rustic_core::BytesList;

use self::connection::Connection;
use self::failure::What;
use self::place::Place;
use self::session::{Entry, Session};
use self::writers::Writers;
use crate::destination::access::Access;
use crate::destination::patience::Patience;
use crate::machine::private_files::UNFINISHED;

pub(crate) use self::failure::Failure;

/// After so long what is not whole is nobody's work any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// An SFTP server.
#[derive(Clone)]
pub(crate) struct Sftp {
    /// What messages call it.
    name: String,
    place: Place,
    home: PathBuf,
    access: Access,
    patience: Patience,
    stop: Stop,
    connection: Arc<Mutex<Option<Arc<Connection>>>>,
    leftovers: Arc<Mutex<Leftovers>>,
    writers: Arc<Writers>,
}

/// What uploads left that were killed, as far as it was seen.
#[derive(Default)]
struct Leftovers {
    /// Their paths, and when they were written by the server's clock.
    seen: Vec<(String, u32)>,
    /// What the server's clock said, and when; known once something was written.
    clock: Option<(u32, Instant)>,
}

impl Sftp {
    /// A server, of which nothing is asked yet.
    pub(crate) fn new(
        name: String,
        place: Place,
        home: PathBuf,
        access: Access,
        patience: Patience,
        stop: &Stop,
    ) -> Self {
        Self {
            name,
            place,
            home,
            access,
            patience,
            stop: stop.clone(),
            connection: Arc::default(),
            leftovers: Arc::default(),
            writers: Arc::default(),
        }
    }

    /// The same server for what goes on beside the work: what moves there is no sign of life.
    pub(crate) fn unwatched(&self) -> Self {
        Self {
            stop: self.stop.unwatched(),
            ..self.clone()
        }
    }

    /// What is at a path of the repository's; `None` where nothing is.
    pub(crate) fn look(&self, below: &str) -> Result<Option<Found>, Failure> {
        let path = self.place.path(below);
        self.ask(
            &format!("looking at `{path}`"),
            async |session: &Session| match session.look(&self.stop, &path).await {
                Ok(found) if found.is_dir() => Ok(Some(Found::Folder)),
                Ok(_) => Ok(Some(Found::File)),
                Err(what) if what.is_missing() => Ok(None),
                Err(what) => Err(what),
            },
        )
    }

    /// The names in a folder of the repository's.
    pub(crate) fn names(&self, below: &str) -> Result<Vec<String>, Failure> {
        let entries = self.list(below)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// The files of a folder of the repository's with their sizes; those of `data` are in folders of their own.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<(String, u64)>, Failure> {
        let mut entries = self.list(folder)?;
        if folder == "data" {
            let folders = entries.iter().filter(|entry| entry.is_folder);
            let folders = folders
                .map(|entry| self.place.path(&format!("data/{}", entry.name)))
                .collect::<Vec<_>>();
            let listed = self.ask("listing `data`", async |session: &Session| {
                session.list_all(&self.stop, folders.clone()).await
            })?;
            for (folder, inner) in listed {
                self.remember(&folder, &inner);
                entries.extend(inner);
            }
        }
        self.sweep();
        let files = entries.into_iter().filter(|entry| !entry.is_folder);
        Ok(files.map(|entry| (entry.name, entry.size)).collect())
    }

    fn list(&self, below: &str) -> Result<Vec<Entry>, Failure> {
        let path = self.place.path(below);
        let entries = self.ask(&format!("listing `{path}`"), async |session: &Session| {
            session.list(&self.stop, &path).await
        })?;
        self.remember(&path, &entries);
        Ok(entries)
    }

    /// A file.
    pub(crate) fn read(&self, below: &str) -> Result<Vec<u8>, Failure> {
        let path = self.place.path(below);
        self.ask(&format!("reading `{path}`"), async |session: &Session| {
            session.read(&self.stop, &path).await
        })
    }

    /// A part of a file: where it begins, and how long it is.
    pub(crate) fn read_part(&self, below: &str, from: u64, size: u64) -> Result<Vec<u8>, Failure> {
        let path = self.place.path(below);
        self.ask(&format!("reading `{path}`"), async |session: &Session| {
            session.read_part(&self.stop, &path, from, size).await
        })
    }

    /// Writes a file, which appears whole.
    pub(crate) fn write(&self, below: &str, content: &BytesList) -> Result<(), Failure> {
        let path = self.place.path(below);
        let doing = format!("writing `{path}`");
        self.writers
            .begin()
            .map_err(|free| Failure::new(&self.name, &*doing, What::Full { free }, &self.place))?;
        let written = self.ask(&doing, async |session: &Session| {
            self.put(session, &path, content).await
        });
        let full = written.as_ref().err().and_then(Failure::is_full);
        self.writers.end(full);
        if written.is_ok() {
            self.sweep();
        }
        written
    }

    async fn put(&self, session: &Session, path: &str, content: &BytesList) -> Result<(), What> {
        let stop = &self.stop;
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let folder = if folder.is_empty() { "/" } else { folder };
        let start = &name[..name.len().min(8)];
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| What::Nonsense(error.to_string()))?;
        let unfinished = format!("{folder}/{UNFINISHED}{start}-{}", hex::encode(random));
        let mut written = session.write(stop, &unfinished, pieces(content)).await;
        if written.as_ref().is_err_and(What::is_missing) {
            // restic makes the folders of `data` when it makes a repository; copies of one may lack the empty ones.
            session.make_folder(stop, folder).await?;
            written = session.write(stop, &unfinished, pieces(content)).await;
        }
        let done = match written {
            Ok(clock) => {
                self.now_is(clock);
                session.rename(stop, &unfinished, path).await
            }
            Err(what) => Err(what),
        };
        let Err(what) = done else {
            return Ok(());
        };
        if what.ends_connection() {
            return Err(what);
        }
        let what = self.explained(session, folder, content.size(), what).await;
        _ = session.remove(stop, &unfinished).await;
        Err(what)
    }

    /// A full disk has no number in SFTP: the server says "Failure".
    async fn explained(&self, session: &Session, folder: &str, size: usize, what: What) -> What {
        if !what.is_unnamed() && !matches!(what, What::Short { .. }) {
            return what;
        }
        match session.room(&self.stop, folder).await {
            Some((free, files)) if free < size as u64 || !files => What::Full { free },
            _ => what,
        }
    }

    /// Removes a file; that it is gone already is what was wanted.
    pub(crate) fn remove(&self, below: &str) -> Result<(), Failure> {
        let path = self.place.path(below);
        self.ask(
            &format!("removing `{path}`"),
            async |session: &Session| match session.remove(&self.stop, &path).await {
                Err(what) if !what.is_missing() => Err(what),
                _ => Ok(()),
            },
        )
    }

    /// Makes the folders of a repository, as restic does.
    pub(crate) fn make_folders(&self) -> Result<(), Failure> {
        let path = self.place.path("");
        self.ask(&format!("making `{path}`"), async |session: &Session| {
            if session.look(&self.stop, &path).await.is_err() {
                for folder in self.place.folders() {
                    let made = session.make_folder(&self.stop, &folder).await;
                    if let Err(what) = made {
                        return Err(self.explained(session, &folder, 1, what).await);
                    }
                }
            }
            let at = |names: Vec<String>| names.iter().map(|name| self.place.path(name)).collect();
            let folders = ["data", "index", "keys", "locks", "snapshots"];
            let folders = at(folders.map(str::to_owned).to_vec());
            session.make_folders(&self.stop, folders).await?;
            let inner = (0..256).map(|byte| format!("data/{byte:02x}"));
            let made = session.make_folders(&self.stop, at(inner.collect())).await;
            match made {
                Ok(()) => Ok(()),
                Err(what) => Err(self.explained(session, &path, 1, what).await),
            }
        })
    }

    /// Asks over the connection there is, or a new one, until it works, is final, or patience ends.
    fn ask<T>(
        &self,
        doing: &str,
        question: impl AsyncFn(&Session) -> Result<T, What>,
    ) -> Result<T, Failure> {
        self.patience.persist(&self.stop, || {
            let connection = self.connected()?;
            connection.wait(&question).map_err(|what| {
                if what.ends_connection() {
                    self.give_up(&connection);
                }
                Failure::new(&self.name, doing, what, &self.place)
            })
        })
    }

    fn connected(&self) -> Result<Arc<Connection>, Failure> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = connection.as_ref().filter(|there| !there.is_over()) {
            return Ok(Arc::clone(there));
        }
        *connection = None;
        let Self {
            name, place, home, ..
        } = self;
        let new = Connection::open(name, place, home, &self.access, &self.stop)?;
        Ok(Arc::clone(connection.insert(Arc::new(new))))
    }

    /// Nobody asks anything over this connection any more.
    fn give_up(&self, broken: &Arc<Connection>) {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if connection
            .as_ref()
            .is_some_and(|there| Arc::ptr_eq(there, broken))
        {
            *connection = None;
        }
    }

    fn leftovers(&self) -> std::sync::MutexGuard<'_, Leftovers> {
        self.leftovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now_is(&self, clock: Option<u32>) {
        self.leftovers().clock = clock.map(|seconds| (seconds, Instant::now()));
    }

    fn remember(&self, folder: &str, entries: &[Entry]) {
        let ours = entries.iter().filter(|e| e.name.starts_with(UNFINISHED));
        let ours =
            ours.filter_map(|entry| Some((format!("{folder}/{}", entry.name), entry.modified?)));
        self.leftovers().seen.extend(ours);
    }

    /// Removes what killed uploads left, by the server's clock. That is known once something was written, and
    /// so whoever only reads removes nothing. What cannot be removed is in nobody's way.
    fn sweep(&self) {
        let mut leftovers = self.leftovers();
        let Some((clock, since)) = leftovers.clock else {
            return;
        };
        let now = u64::from(clock) + since.elapsed().as_secs();
        let seen = std::mem::take(&mut leftovers.seen);
        drop(leftovers);
        let old = seen.into_iter().filter(|(_, written)| {
            Duration::from_secs(now.saturating_sub(u64::from(*written))) > ABANDONED
        });
        for (path, _) in old {
            _ = self.ask("removing what was left", async |session: &Session| {
                session.remove(&self.stop, &path).await
            });
        }
    }
}

/// What is at a path.
pub(crate) enum Found {
    Folder,
    File,
}

/// Content in pieces that every server takes.
fn pieces(content: &BytesList) -> impl Iterator<Item = Vec<u8>> {
    let mut reader = content.clone().reader();
    std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(session::PIECE);
        // Memory does not fail.
        let read = reader
            .by_ref()
            .take(session::PIECE as u64)
            .read_to_end(&mut piece);
        read.ok().filter(|&n| n > 0).map(|_| piece)
    })
}
