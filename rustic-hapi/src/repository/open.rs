//! Opening a repository: with the profile's password or another, behind the commit gate; and making one
//! where there is none. One that is away is never taken for one that is missing.

use std::path::Path;
use std::sync::Arc;

use bytesize::ByteSize;
use hapi_sources::Stop;
use rustic_core::repofile::Chunker;
use rustic_core::{
    ConfigOptions, Credentials, FileType, Id, KeyOptions, OpenStatus, RepositoryBackends,
    RepositoryOptions, WriteBackend,
};

use crate::destination::Destination;
use crate::destination::location::Location;
use crate::destination::patience::Patience;
use crate::destination::presence::Presence;
use crate::destination::variables;
use crate::error::{Error, Reason};
use crate::profile::reach::{Password, Reach};
use crate::repository::files::{Flawed, flawed_files};
use crate::repository::gate::{Gate, GatedBackend};
use crate::repository::readahead::Readahead;
use crate::repository::{Engine, Repository, Writing, password};
use crate::terminal::ui::Ui;

/// Bytes a pack, to begin with; the engine lets packs grow with the repository. Half a day's use is
/// some 30 MB, and the engine's own 32 MiB would send nothing before all of it was found: on a slow link
/// the upload goes on beside the archive. Several packs are in flight, and in memory, at once.
const PACK_SIZE: u64 = 8 << 20;

/// zstd's, of a new repository. In chunks of 12 KiB the engine's default (3) takes an eighth more processor time for a
/// first snapshot and gains nothing: docs/performance.md.
const COMPRESSION_LEVEL: i32 = 1;

impl Repository {
    /// Opens the repository with the password in its file.
    ///
    /// # Errors
    /// The password file, [`Error::NoRepository`] only where it is definitely absent,
    /// [`Error::WrongPassword`], [`Error::OtherRepository`] where the profile names another id.
    pub(crate) fn open(reach: &Reach, stop: &Stop, ui: Ui) -> Result<Self, Error> {
        Self::open_by_file(reach, Patience::usual(), stop, ui)
    }

    /// The same where it answers at once: a server that does not is not asked again.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub(crate) fn open_at_once(reach: &Reach, stop: &Stop, ui: Ui) -> Result<Self, Error> {
        Self::open_by_file(reach, Patience::once(), stop, ui)
    }

    fn open_by_file(reach: &Reach, patience: Patience, stop: &Stop, ui: Ui) -> Result<Self, Error> {
        let password = password::of(&reach.password, stop)?;
        if reach.variables.get(variables::PASSWORD).is_some()
            && !matches!(reach.password, Password::Given(_))
        {
            let used = password::origin(&reach.password);
            ui.note(format_args!("RESTIC_PASSWORD is not used, but {used}"));
        }
        let opened = Self::open_as(reach, &password, patience.clone(), stop, ui.clone());
        if let (Err(Error::WrongKey { .. }), Password::File(file)) = (&opened, &reach.password)
            && let Some(undecoded) = password::undecoded(file, &password)
            && let Ok(repository) = Self::open_as(reach, &undecoded, patience, stop, ui.clone())
        {
            let name = file.display();
            ui.warn(format_args!(
                "the repository opens with `{name}` only when its BOM counts as a part of the password, which restic does not do; hint: `tail -c +4 '{name}' | RESTIC_PASSWORD=\"$(tr -d '\\r' < '{name}')\" restic -r '{}' key add --new-password-file /dev/stdin`",
                reach.location
            ));
            return Ok(repository);
        }
        opened.map_err(of_the_file(reach))
    }

    /// Opens the repository with another of its passwords.
    ///
    /// # Errors
    /// As [`Repository::open`], with [`Error::WrongKey`] where no key opens with it.
    pub(crate) fn open_with(
        reach: &Reach,
        password: &str,
        stop: &Stop,
        ui: Ui,
    ) -> Result<Self, Error> {
        Self::open_as(reach, password, Patience::usual(), stop, ui)
    }

    fn open_as(
        reach: &Reach,
        password: &str,
        patience: Patience,
        stop: &Stop,
        ui: Ui,
    ) -> Result<Self, Error> {
        let shown = ui.clone();
        let open = || Self::open_now(reach, password, patience.clone(), stop, ui);
        match reach.location.local() {
            Some(_) => open(),
            None => {
                let waiting = || {
                    format!(
                        "waiting for `{}` (attempt {})",
                        reach.location,
                        patience.attempt()
                    )
                };
                shown.while_it_lasts(&waiting, open)
            }
        }
    }

    fn open_now(
        reach: &Reach,
        password: &str,
        patience: Patience,
        stop: &Stop,
        ui: Ui,
    ) -> Result<Self, Error> {
        let destination = destination(reach, patience, stop)?;
        destination.require(reach.id.is_some())?;
        let (backend, gate, inner) = match unlock(&destination, password, stop, &ui, &[]) {
            Ok(unlocked) => unlocked,
            Err(Locked::Error(error)) => return Err(error),
            // A damaged key opens no more than a wrong password does, and the engine tries no
            // further after one that it cannot read.
            Err(Locked::Keys(flawed)) => {
                let ids: Vec<_> = flawed.iter().map(|key| key.id).collect();
                let keys: Vec<_> = flawed.iter().map(Flawed::to_string).collect();
                match unlock(&destination, password, stop, &ui, &ids) {
                    Ok(unlocked) => {
                        ui.warn(format_args!(
                            "{}; another one opens the repository",
                            keys.join("; ")
                        ));
                        unlocked
                    }
                    Err(_) => {
                        let unread = flawed.iter().find(|key| !key.is_damaged);
                        return Err(match unread {
                            // It may be the one that the password opens.
                            Some(key) => Error::Engine {
                                doing: "opening the repository",
                                reason: Reason {
                                    text: keys.join("; "),
                                    ..key.reason.clone()
                                },
                            },
                            None => Error::DamagedKeys {
                                location: reach.location.to_string(),
                                keys: ids.iter().map(|id| id.to_hex()[..8].to_owned()).collect(),
                            },
                        });
                    }
                }
            }
        };
        let repository = Self {
            inner,
            backend,
            destination,
            state: reach.state.clone(),
            gate,
            ui,
        };
        match &reach.id {
            Some(wanted) if *wanted != repository.id() => Err(Error::OtherRepository {
                location: reach.location.to_string(),
                found: repository.id(),
                wanted: wanted.clone(),
            }),
            _ => Ok(repository),
        }
    }

    /// Makes a repository (restic's version 2, fixed-size chunks, compressed, each blob verified
    /// before it is written) where there is none yet.
    ///
    /// # Errors
    /// [`Error::NotARepository`] where something else is there.
    pub(crate) fn init(reach: &Reach, chunk_size: u64, stop: &Stop) -> Result<Self, Error> {
        let password = password::of(&reach.password, stop)?;
        let destination = destination(reach, Patience::usual(), stop)?;
        match destination.presence()? {
            Presence::Absent(_) => destination.remove_orphaned_keys()?,
            Presence::Repository | Presence::Nothing => {}
            other => other.require(&reach.location, reach.id.is_some())?,
        }
        let (backend, gate) = gated(&destination, stop, &[]);
        let handle = engine(&backend, &reach.location, true, Ui::silent())?;
        let config = ConfigOptions::default()
            .set_version(2u32)
            .set_chunker(Chunker::FixedSize)
            .set_chunk_size(ByteSize(chunk_size))
            .set_compression(COMPRESSION_LEVEL)
            .set_datapack_size(ByteSize(PACK_SIZE))
            .set_extra_verify(true);
        let inner = handle
            .init(
                &Credentials::password(password.as_str()),
                // When the repository was made is nowhere else.
                &KeyOptions::default().with_created(true),
                &config,
            )
            .map_err(Error::engine("making the repository"))?;
        destination.make_room_for_locks()?;
        Ok(Self {
            inner,
            backend,
            destination,
            state: reach.state.clone(),
            gate,
            ui: Ui::silent(),
        })
    }

    /// Whether there is a repository at the location, or room for one.
    ///
    /// # Errors
    /// [`Error::NotARepository`] where something else is there, or whatever keeps the answer from
    /// being certain.
    pub(crate) fn exists(reach: &Reach, stop: &Stop) -> Result<bool, Error> {
        let destination = destination(reach, Patience::usual(), stop)?;
        match destination.presence()? {
            Presence::Repository => Ok(true),
            Presence::Absent(_) | Presence::Nothing => Ok(false),
            other => other
                .require(&reach.location, reach.id.is_some())
                .map(|()| false),
        }
    }

    /// A handle to write a snapshot with, through the gate.
    pub(crate) fn for_writing(&self) -> Result<Writing, Error> {
        // The engine's handle cannot be cloned; the key spares a second key derivation.
        engine(&self.backend, self.location(), true, self.ui.clone())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed_ids)
            .map_err(Error::engine("reading the index"))
    }

    /// A second handle that shares nothing with this one but the key: no cache, and an index read
    /// anew from the backend. What it shows is what is there.
    pub(crate) fn reopen(&self) -> Result<Engine, Error> {
        let (backend, _) = gated(&self.destination, self.gate.stop(), &[]);
        engine(&backend, self.location(), false, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed)
            .map_err(Error::engine("reading the index back"))
    }

    /// A handle to restore with: the index is loaded, and neighbouring blobs are fetched together.
    pub(crate) fn for_reading(&self) -> Result<Engine, Error> {
        let backend: Arc<dyn WriteBackend> = Arc::new(Readahead::new(
            Arc::clone(&self.backend),
            self.packs()?,
            self.location().local().is_none(),
        ));
        engine(&backend, self.location(), true, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(rustic_core::Repository::to_indexed)
            .map_err(Error::engine("reading the index"))
    }
}

/// Why a password opens nothing.
enum Locked {
    /// Perhaps because these key files are damaged, or cannot be read.
    Keys(Vec<Flawed>),
    Error(Error),
}

type Unlocked = (
    Arc<dyn WriteBackend>,
    Gate,
    rustic_core::Repository<OpenStatus>,
);

/// Opens a repository with a password, leaving key files out.
fn unlock(
    destination: &Destination,
    password: &str,
    stop: &Stop,
    ui: &Ui,
    without: &[Id],
) -> Result<Unlocked, Locked> {
    let location = destination.location();
    let (backend, gate) = gated(destination, stop, without);
    let handle = engine(&backend, location, true, ui.clone()).map_err(Locked::Error)?;
    let error = match handle.open(&Credentials::password(password)) {
        Ok(inner) => return Ok((backend, gate, inner)),
        Err(error) => error,
    };
    let wrong = error.is_incorrect_password();
    if wrong && without.is_empty() {
        match backend.list(FileType::Key) {
            Ok(keys) if keys.is_empty() => {
                return Err(Locked::Error(Error::NotARepository {
                    location: location.to_string(),
                    fact: "has a `config` and no key, so that nothing opens it".into(),
                    hint: "is it a repository at all? If it was one, put `keys` back from another copy of it; nothing was changed".into(),
                }));
            }
            Err(error) => {
                return Err(Locked::Error(Error::engine("opening the repository")(
                    error,
                )));
            }
            Ok(_) => {}
        }
    }
    let error = match wrong {
        true => Error::WrongKey {
            location: location.to_string(),
        },
        false => Error::engine("opening the repository")(error),
    };
    // The engine has no type for a key that is damaged, only these words.
    if without.is_empty() && (wrong || error.to_string().contains("for key `")) {
        match flawed_files(&*backend, FileType::Key) {
            Ok(flawed) if !flawed.is_empty() => return Err(Locked::Keys(flawed)),
            _ => {}
        }
    }
    Err(Locked::Error(error))
}

/// The password that opens nothing is the one in the profile's file.
fn of_the_file(reach: &Reach) -> impl FnOnce(Error) -> Error {
    let origin = password::origin(&reach.password);
    let shared = reach.shares_password;
    move |error| match error {
        Error::WrongKey { location } => Error::WrongPassword {
            origin,
            location,
            shared,
        },
        other => other,
    }
}

fn destination(reach: &Reach, patience: Patience, stop: &Stop) -> Result<Destination, Error> {
    let access = || reach.access();
    Destination::reach(&reach.location, access, &reach.home, patience, stop)
}

/// The backend of a destination, behind a gate of its own.
fn gated(
    destination: &Destination,
    stop: &Stop,
    without_keys: &[Id],
) -> (Arc<dyn WriteBackend>, Gate) {
    let gate = Gate::new(stop.clone());
    let local = destination.location().local().map(Path::to_path_buf);
    let backend = GatedBackend::new(destination.backend(), local, gate.clone());
    (Arc::new(backend.without_keys(without_keys.to_vec())), gate)
}

pub(super) fn engine(
    backend: &Arc<dyn WriteBackend>,
    location: &Location,
    cache: bool,
    ui: Ui,
) -> Result<rustic_core::Repository<()>, Error> {
    let mut options = RepositoryOptions::default();
    // A cache of what is on a local disk anyway would only be a second copy of private data.
    options.no_cache = !cache || location.local().is_some();
    let backends = RepositoryBackends::new(Arc::clone(backend), None);
    rustic_core::Repository::new_with_progress(&options, &backends, ui)
        .map_err(Error::engine("reaching the repository"))
}
