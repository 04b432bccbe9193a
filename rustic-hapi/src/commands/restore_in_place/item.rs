//! An item is one file on its way home: fetched and proven beside where it lives, and only then given its name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, Identities, IntegrityCheck, Kind, Observer, Stop};

use crate::error::Error;
use crate::machine::able::{if_able, keeps_private, sync_file, sync_folder};
use crate::machine::disk::free_at;
use crate::machine::holders;
use crate::machine::target::{Attributes, apply};
use crate::policy::choice::Choice;
use crate::policy::manifest::{EntryRecord, SourceRecord};
use crate::restore::difference::{OPENS_SECRETS, What};
use crate::restore::fetch::{Failure, Fetch};
use crate::restore::library::may_not_read;
use crate::restore::proof::database_is;
use crate::restore::restorer::private;
use crate::restore::secret::open_secret;
use crate::terminal::ui::Ui;

/// One file that was replaced, or would be.
#[derive(Debug)]
pub struct Replaced {
    /// Whether SQLite opened it.
    pub is_database: bool,
    /// The source's name.
    pub source: String,
    /// Where it came from.
    pub choice: Choice,
    /// Where it lives.
    pub live: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Where what was there is now.
    pub set_aside: Option<PathBuf>,
    /// It was there already, and equal.
    pub already: bool,
}

/// A file that is to come home.
pub(super) struct Item {
    pub(super) choice: Choice,
    pub(super) record: SourceRecord,
    pub(super) entry: EntryRecord,
    pub(super) live: PathBuf,
}

/// Makes the folders above a file where there are none, with the mode they had.
pub(super) fn make_folder(fetch: &Fetch<'_>, then: &Path, live: &Path) -> Result<(), Error> {
    let missing: Vec<(&Path, Option<&Path>)> = live
        .ancestors()
        .skip(1)
        .zip(
            then.ancestors()
                .skip(1)
                .map(Some)
                .chain(std::iter::repeat(None)),
        )
        .take_while(|(folder, _)| !folder.exists())
        .collect();
    for (folder, was) in missing.into_iter().rev() {
        let state = Error::at(folder);
        let owner_above = owner_here(folder, None);
        crate::machine::private_files::private_folder(folder)?;
        let node = was.and_then(|was| fetch.contents.node(was));
        let attributes = node.map(Attributes::of);
        let owner = owner_above.or(attributes.and_then(|attributes| attributes.owner));
        let attributes = Attributes {
            mode: attributes.map_or(0o700, |attributes| attributes.mode),
            owner,
            mtime: None,
        };
        let open = File::open(folder).map_err(state)?;
        apply(&open, attributes).map_err(state)?;
        let above = folder.parent().unwrap_or(Path::new("/"));
        sync_folder(above).map_err(state)?;
    }
    Ok(())
}

/// To whom something new belongs: to whoever has the nearest folder, since numbers of users differ
/// between machines; where root has it, to whom it belonged.
pub(super) fn owner_here(path: &Path, then: Option<(u32, u32)>) -> Option<(u32, u32)> {
    let above = path.ancestors().skip(1).find_map(|p| fs::metadata(p).ok());
    above
        .filter(|above| above.uid() != 0)
        .map(|above| (above.uid(), above.gid()))
        .or(then)
}

/// What files that are on their way are called.
const INCOMING: &str = ".rustic-hapi-restoring-";

/// Removes what a killed restore left of files on their way: it may be a secret in plain. The lock of
/// runs is held, so nobody is using them.
pub(super) fn sweep(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(INCOMING.as_bytes());
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::at(&path))?;
        }
    }
    Ok(())
}

/// Whether a file has the bytes of an entry.
fn has_hash(path: &Path, entry: &EntryRecord) -> bool {
    let hash = || {
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        io::copy(&mut File::open(path).ok()?, &mut hash).ok()?;
        Some(hex::encode(sha2::Digest::finalize(hash)))
    };
    fs::metadata(path).is_ok_and(|m| m.is_file() && Some(m.len()) == entry.size)
        && hash() == entry.sha256
}

/// What came, beside where it will be.
pub(super) enum Arrival {
    File(tempfile::TempPath),
    Already,
}

impl Item {
    fn lost(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stopped => CaptureError::Stopped.into(),
            Failure::Difference(What::Sealed) => Error::usage(
                format!(
                    "this identity cannot decrypt the secret `{}`",
                    self.choice.source
                ),
                OPENS_SECRETS,
            ),
            Failure::Local(error) => Error::at(&self.live)(error),
            Failure::Difference(What::Unreadable(reason)) if reason.is_denied() => {
                may_not_read(reason)
            }
            Failure::Difference(what) => Error::Unlike {
                snapshot: self.choice.snapshot.to_string(),
                differences: vec![format!("`{}`: {what}", self.entry.path.to_path().display())],
            },
        }
    }

    pub(super) fn attributes(&self, fetch: &Fetch<'_>) -> Result<Attributes, Error> {
        let node = fetch.node(&self.entry).map_err(|f| self.lost(f))?;
        Ok(Attributes::of(node))
    }

    /// What is there must be something that can be set aside and brought back.
    pub(super) fn may_be_replaced(&self) -> Result<(), Error> {
        let refuse = |fact: &str, hint: &str| {
            Err(Error::usage(
                format!("`{}` {fact}", self.live.display()),
                hint.to_owned(),
            ))
        };
        match (fs::symlink_metadata(&self.live), fs::metadata(&self.live)) {
            (Ok(link), Err(_)) if link.is_symlink() => refuse(
                "is a symbolic link that leads nowhere",
                "mount what it leads to, or move the link away",
            ),
            (_, Ok(there)) if !there.is_file() => refuse(
                "is in the way, and is not a file",
                "check what it is, and move it away",
            ),
            _ => Ok(()),
        }
    }

    /// Whether the live database is this one to the byte, with nothing in a WAL or journal.
    pub(super) fn is_there_already(&self) -> bool {
        let side = |suffix| {
            let path = holders::side_file(&self.live, suffix);
            fs::metadata(path).is_ok_and(|m| m.len() > 0)
        };
        !side("-wal") && !side("-journal") && has_hash(&self.live, &self.entry)
    }

    /// Fetches a database beside the live one, and has SQLite look at all of it.
    pub(super) fn bring_database(
        &self,
        fetch: &Fetch<'_>,
        incoming: &Path,
        ui: &Ui,
        stop: &Stop,
    ) -> Result<(), Error> {
        let local = |error| self.lost(Failure::Local(error));
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(incoming)
            .map_err(local)?;
        ui.start(
            &format!("restoring {}", self.record.name),
            self.entry.size.unwrap_or(0),
        );
        let came = fetch.into_file(&self.entry, &mut file);
        ui.end();
        came.map_err(|failure| self.lost(failure))?;
        sync_file(&file).map_err(local)?;
        drop(file);
        ui.start("checking integrity", 0);
        let proven = database_is(&self.entry, incoming, IntegrityCheck::Full, stop);
        ui.end();
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        proven.map_err(|what| self.lost(Failure::Difference(what.into())))
    }

    /// Fetches any other file beside where it lives. A link there is followed: the content is what
    /// is restored.
    pub(super) fn bring(
        &self,
        fetch: &Fetch<'_>,
        identities: Option<&Identities>,
    ) -> Result<Arrival, Error> {
        let live = fs::canonicalize(&self.live).unwrap_or_else(|_| self.live.clone());
        let folder = live.parent().unwrap_or(Path::new("/"));
        let local = |error| self.lost(Failure::Local(error));
        let mut incoming = tempfile::Builder::new()
            .prefix(INCOMING)
            .tempfile_in(folder)
            .map_err(local)?;
        let mut attributes = self.attributes(fetch)?;
        let same = match (self.record.kind, identities) {
            (Kind::Secret, Some(identities)) => {
                let plaintext = open_secret(fetch, &self.entry, identities)
                    .map_err(|failure| self.lost(failure))?;
                attributes.mode = private(attributes.mode);
                keeps_private(incoming.path())
                    .and_then(|()| incoming.write_all(plaintext.as_bytes()))
                    .map_err(local)?;
                fs::read(&live).is_ok_and(|there| {
                    zeroize::Zeroizing::new(there).as_slice() == plaintext.as_bytes()
                })
            }
            _ => {
                fetch
                    .into_file(&self.entry, incoming.as_file_mut())
                    .map_err(|failure| self.lost(failure))?;
                has_hash(&live, &self.entry)
            }
        };
        if same {
            if self.record.kind == Kind::Secret {
                if_able(fs::set_permissions(
                    &live,
                    fs::Permissions::from_mode(attributes.mode),
                ))
                .map_err(local)?;
            }
            return Ok(Arrival::Already);
        }
        attributes.owner = owner_here(&live, attributes.owner);
        if let Ok(there) = fs::metadata(&live) {
            attributes.owner = Some((there.uid(), there.gid()));
            if self.record.kind != Kind::Secret {
                attributes.mode = there.permissions().mode();
            }
        }
        apply(incoming.as_file(), attributes).map_err(local)?;
        sync_file(incoming.as_file()).map_err(local)?;
        Ok(Arrival::File(incoming.into_temp_path()))
    }

    /// Gives what came its name; what was there keeps another one beside it.
    pub(super) fn take_place(
        self,
        arrival: Arrival,
        now: DateTime<Local>,
        undo: &mut Vec<String>,
    ) -> Result<Replaced, Error> {
        let live = fs::canonicalize(&self.live).unwrap_or_else(|_| self.live.clone());
        let mut set_aside = None;
        let already = matches!(arrival, Arrival::Already);
        if let Arrival::File(incoming) = arrival {
            let mut exchange = || -> io::Result<()> {
                if live.try_exists()? {
                    set_aside = Some(second_name(&live, now)?);
                }
                fs::rename(&incoming, &live)?;
                sync_folder(live.parent().unwrap_or(Path::new("/")))
            };
            exchange().map_err(Error::at(&live))?;
            let quoted = |path: &Path| crate::machine::shell::quoted(&path.to_string_lossy());
            undo.push(match &set_aside {
                Some(old) => format!("mv -f {} {}", quoted(old), quoted(&live)),
                None => format!("rm {}", quoted(&live)),
            });
        }
        Ok(Replaced {
            is_database: false,
            source: self.choice.source.clone(),
            bytes: self.entry.size.unwrap_or(0),
            choice: self.choice,
            live,
            set_aside,
            already,
        })
    }
}

/// Gives a file a second name beside its own.
fn second_name(live: &Path, now: DateTime<Local>) -> io::Result<PathBuf> {
    let mut name = live.as_os_str().to_owned();
    name.push(now.format(".set-aside-%Y%m%dT%H%M%S").to_string());
    let mut path = PathBuf::from(&name);
    for number in 1.. {
        match fs::hard_link(live, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100 => {
                let mut next = name.clone();
                next.push(format!("-{number}"));
                path = PathBuf::from(next);
            }
            other => return other.map(|()| path),
        }
    }
    Ok(path)
}

pub(super) fn has_room(path: &Path, needed: u64) -> Result<(), Error> {
    let folder = path.ancestors().find(|p| p.is_dir()).unwrap_or(path);
    match free_at(folder) {
        Some(free) if free < needed => Err(Error::NoRoom {
            path: folder.into(),
            free,
            needed,
        }),
        _ => Ok(()),
    }
}

impl Replaced {
    pub(super) fn planned(item: Item) -> Self {
        Self {
            is_database: item.entry.database.is_some(),
            source: item.choice.source.clone(),
            bytes: item.entry.size.unwrap_or(0),
            choice: item.choice,
            live: item.live,
            set_aside: None,
            already: false,
        }
    }
}
