//! A recovery key is a second password of the repository, made to be kept off the machine: the
//! password file dies with the disk it is on.
//! One file, since making, reading and proving a key are about the same text.
//!
//! It is 200 random bits, written in Crockford's base32 (<https://www.crockford.com/base32.html>:
//! no I, L, O and U) as eight groups of five, `7ZK4M-…`, and that text, dashes included, is the
//! password: stock restic opens the repository with it. In the repository its key bears the user
//! name `recovery`. This program keeps no copy: it is shown once, or written to one file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, Local};
use hapi_sources::Stop;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::machine::able::{keeps_private, sync_file, sync_folder};
use crate::machine::disk::{Relation, relation};
use crate::machine::private_files::decoded;
use crate::machine::record;
use crate::profile::Profile;
use crate::repository::keys::Key;
use crate::repository::{Repository, password};
use crate::terminal::prompt;
use crate::terminal::ui::Ui;

/// The user name by which a recovery key is known among the repository's keys.
pub(crate) const USERNAME: &str = "recovery";

/// The text of a recovery key; zeroes itself, and prints as `[secret]`.
pub struct RecoveryKey(Zeroizing<String>);

/// Where a new key goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyGoesTo {
    /// It is handed out, for the one who reads the terminal to write it down.
    Terminal,
    /// A file that is not there yet.
    File(PathBuf),
}

/// Where a kept key is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Typed by hand, without echo; standard input is a terminal.
    Terminal,
    /// Standard input.
    Stdin,
    /// A file whose first line it is.
    File(PathBuf),
}

/// A key that was made, and proven to open the repository.
#[derive(Debug)]
pub struct Made {
    /// Its id in the repository.
    pub id: String,
    /// The key itself, where it is to be shown.
    pub shown_once: Option<RecoveryKey>,
    /// The file it was written to.
    pub file: Option<PathBuf>,
    /// The recovery keys that were there before, and still open the repository.
    pub others: Vec<Key>,
    /// What is unwise about the file.
    pub warnings: Vec<String>,
}

/// A proof, at some time, that a recovery key opens the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Confirmed {
    version: u32,
    /// The key's id in the repository.
    pub key_id: String,
    /// The repository's id.
    pub repository: String,
    /// When.
    pub confirmed: DateTime<FixedOffset>,
}

const RECORD_VERSION: u32 = 1;

/// Adds a recovery key to the profile's repository and proves that it opens it.
///
/// A file is written before the key is added, and is durable by then: killed in between, this
/// leaves a file that opens nothing, and never a key that nobody has. Other keys stay.
///
/// # Errors
/// [`Error::Usage`] where the file is there already; then, as with any other, nothing was added,
/// but for [`Error::UnprovenKey`].
pub(crate) fn make(
    repository: &Repository,
    profile: &Profile,
    place: &KeyGoesTo,
) -> Result<Made, Error> {
    let others = among(repository.keys()?);
    let key = RecoveryKey::random()?;
    let (file, warnings) = match place {
        KeyGoesTo::Terminal => (None, Vec::new()),
        KeyGoesTo::File(path) => (Some(key.write_to(path)?), dies_with(profile, path)),
    };
    let id = repository.add_key(key.reveal(), USERNAME)?;
    if let Err(error) = prove(profile, &key, &id) {
        return Err(match repository.remove_key(&id) {
            Ok(()) => error,
            Err(removal) => Error::UnprovenKey {
                id,
                reason: error.to_string(),
                removal: removal.to_string(),
            },
        });
    }
    let file = file
        .map(|file| {
            file.keep()
                .map_err(|error| Error::at(&error.path)(error.error))
        })
        .transpose()?;
    Ok(Made {
        id,
        shown_once: file.is_none().then_some(key),
        file,
        others,
        warnings,
    })
}

/// The recovery keys among a repository's keys.
pub(crate) fn among(keys: Vec<Key>) -> Vec<Key> {
    keys.into_iter()
        .filter(|key| key.username.as_deref() == Some(USERNAME))
        .collect()
}

/// Opens the profile's repository with a key that was kept elsewhere, and notes that it did.
///
/// # Errors
/// [`Error::WrongKey`]; [`Error::NotARecoveryKey`] for the password that is on this machine anyway;
/// [`Error::OtherRepository`]; those of reaching the repository and of writing the note.
pub(crate) fn confirm(
    profile: &Profile,
    key: &RecoveryKey,
    now: DateTime<Local>,
    stop: &Stop,
) -> Result<Confirmed, Error> {
    let (repository, password) = key.open(profile, stop)?;
    let id = repository.key_id().ok_or_else(unknown_key)?;
    // The text decides, rather than the key it opens: two keys may have one password.
    match password::of(&profile.reach.password, stop) {
        Ok(ordinary) if *ordinary == *password => {
            return Err(Error::NotARecoveryKey {
                fact: format!(
                    "it is {}, and lost with this disk",
                    password::origin(&profile.reach.password)
                ),
            });
        }
        Ok(_) => {}
        // Nothing to compare with, after a loss of the disk, say: only a key that is marked counts.
        Err(_) if among(repository.keys()?).iter().any(|key| key.id == id) => {}
        Err(error) => {
            return Err(Error::NotARecoveryKey {
                fact: format!("may be the ordinary password: {error}"),
            });
        }
    }
    let confirmed = Confirmed {
        version: RECORD_VERSION,
        key_id: id,
        repository: repository.id(),
        confirmed: now.fixed_offset(),
    };
    record::store(&note(profile), &confirmed)?;
    Ok(confirmed)
}

/// When a recovery key of the profile's repository was last proven on this machine, and which.
///
/// `None` also where the note is of another repository than the profile names now. The key may
/// have been removed since.
///
/// # Errors
/// [`Error::State`] for a note that cannot be read, or is none.
pub(crate) fn last_confirmed(profile: &Profile) -> Result<Option<Confirmed>, Error> {
    let path = note(profile);
    let Some(bytes) = record::read(&path)? else {
        return Ok(None);
    };
    let found: Confirmed =
        serde_json::from_slice(&bytes).map_err(|error| Error::at(&path)(error.into()))?;
    let named = profile.reach.id.as_ref();
    Ok(Some(found).filter(|found| named.is_none_or(|id| *id == found.repository)))
}

impl RecoveryKey {
    /// Reads a kept key.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is none, [`Error::State`] for a file that cannot be read.
    pub fn read(origin: &Origin, stop: &Stop) -> Result<Self, Error> {
        let (text, whence) = match origin {
            Origin::Terminal => (
                prompt::hidden_line("recovery key (not shown): ", stop)?,
                "the line that was typed".to_owned(),
            ),
            Origin::Stdin => (
                first_line(io::stdin().lock(), Path::new("/dev/stdin"))?,
                "standard input".to_owned(),
            ),
            Origin::File(path) => {
                let file = File::open(path).map_err(Error::at(&path))?;
                (first_line(file, path)?, format!("`{}`", path.display()))
            }
        };
        if text.is_empty() {
            return Err(Error::usage(
                format!("there is no key in {whence}"),
                "a recovery key is one line: eight groups of five",
            ));
        }
        Ok(Self(text))
    }

    /// The key itself, for the engine, the file or the terminal.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What a terminal shows, once.
    pub fn card(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "\nThe recovery key, shown this once:\n\n    {}\n\nWrite it down, it is not stored anywhere, and keep it off this machine.\n",
            self.reveal()
        ))
    }

    fn random() -> Result<Self, Error> {
        let mut random = Zeroizing::new([0u8; BITS / 8]);
        getrandom::fill(random.as_mut()).map_err(|error| Error::State {
            path: "/dev/urandom".into(),
            error: io::Error::other(error.to_string()),
        })?;
        let mut text = Zeroizing::new(String::with_capacity(SYMBOLS + SYMBOLS / GROUP));
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in random.iter() {
            bits = bits << 8 | u32::from(*byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
            }
        }
        Ok(Self(grouped(&text)))
    }

    /// A new file with just the key, 0600 and durable; gone again unless it is kept.
    fn write_to(&self, path: &Path) -> Result<tempfile::TempPath, Error> {
        let state = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => there_already(path),
            _ => Error::at(path)(error),
        };
        let path = std::path::absolute(path).map_err(state)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(state)?;
        let ours = tempfile::TempPath::try_from_path(&path).map_err(state)?;
        let line = Zeroizing::new(format!("{}\n", self.reveal()));
        keeps_private(&path)
            .and_then(|()| file.write_all(line.as_bytes()))
            .and_then(|()| sync_file(&file))
            .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("/"))))
            .map_err(state)?;
        Ok(ours)
    }

    /// Opens the repository, as the key should have been written first, then as it was. Returns
    /// what opened it, too.
    fn open(
        &self,
        profile: &Profile,
        stop: &Stop,
    ) -> Result<(Repository, Zeroizing<String>), Error> {
        let open = |text: &str| Repository::open_with(&profile.reach, text, stop, Ui::silent());
        let tidied = tidied(self.reveal());
        let tidied = tidied.filter(|text| text.as_str() != self.reveal());
        match tidied.map(|text| (open(&text), text)) {
            None | Some((Err(Error::WrongKey { .. }), _)) => {}
            Some((opened, text)) => return opened.map(|repository| (repository, text)),
        }
        open(self.reveal()).map(|repository| (repository, self.0.clone()))
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Origin {
    /// Standard input, with a prompt where it is a terminal.
    pub fn stdin() -> Self {
        match io::stdin().is_terminal() {
            true => Self::Terminal,
            false => Self::Stdin,
        }
    }
}

const BITS: usize = 200;
const SYMBOLS: usize = BITS / 5;
const GROUP: usize = 5;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A key as it was made, whatever hand it was copied in: lower case, spaces for dashes, and the
/// letters that the alphabet leaves out for the digits they look like. `None` for anything that
/// cannot be one of ours.
fn tidied(text: &str) -> Option<Zeroizing<String>> {
    let mut symbols = Zeroizing::new(String::with_capacity(text.len()));
    for letter in text.chars() {
        match letter.to_ascii_uppercase() {
            '-' => {}
            space if space.is_whitespace() => {}
            'O' => symbols.push('0'),
            'I' | 'L' => symbols.push('1'),
            known if known.is_ascii() && ALPHABET.contains(&(known as u8)) => symbols.push(known),
            _ => return None,
        }
    }
    (symbols.len() == SYMBOLS).then(|| grouped(&symbols))
}

fn grouped(symbols: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(symbols.len() * 2));
    for (i, symbol) in symbols.chars().enumerate() {
        if i > 0 && i % GROUP == 0 {
            text.push('-');
        }
        text.push(symbol);
    }
    text
}

fn first_line(from: impl Read, path: &Path) -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    from.take(4096)
        .read_to_end(&mut bytes)
        .map_err(Error::at(path))?;
    let text = decoded(&bytes)
        .ok_or_else(|| Error::at(path)(io::Error::other("it is not a text in UTF-8 or UTF-16")))?;
    Ok(Zeroizing::new(
        text.lines().next().unwrap_or_default().trim().to_owned(),
    ))
}

/// A second handle, opened with nothing but the key, must find the key that was added.
fn prove(profile: &Profile, key: &RecoveryKey, id: &str) -> Result<(), Error> {
    let again =
        Repository::open_with(&profile.reach, key.reveal(), &Stop::default(), Ui::silent())?;
    match again.key_id() {
        Some(found) if found == id => Ok(()),
        _ => Err(unknown_key()),
    }
}

fn unknown_key() -> Error {
    Error::Engine {
        doing: "opening the repository",
        reason: "it does not say which key opened it".into(),
    }
}

/// Refuses a file that is there before anything is done for it.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn must_be_new(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(there_already(path)),
        Err(_) => Ok(()),
    }
}

fn there_already(path: &Path) -> Error {
    Error::usage(
        format!("`{}` exists already and was not changed", path.display()),
        format!(
            "name a new file; whether this one holds a recovery key: `rustic-hapi recovery-kit --confirm --key-file {}`",
            crate::machine::shell::quoted(&path.to_string_lossy())
        ),
    )
}

/// Why a file is no place for what should outlive this machine's disk, where the system tells.
fn dies_with(profile: &Profile, file: &Path) -> Vec<String> {
    let place = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let sources = profile.sources.iter().map(|s| s.source.path.as_path());
    let repository = profile.reach.location.local().into_iter();
    sources
        .chain(repository)
        .find_map(|lost| match relation(&place, lost) {
            Relation::Same(reason) => Some((lost, reason)),
            _ => None,
        })
        .map(|(lost, reason)| {
            format!(
                "the recovery key in `{}` would be lost together with `{}` ({reason}): move it off this machine",
                file.display(),
                lost.display()
            )
        })
        .into_iter()
        .collect()
}

fn note(profile: &Profile) -> PathBuf {
    profile.reach.state.join("recovery-key.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_eight_groups_of_five_and_never_the_same() {
        let key = RecoveryKey::random().unwrap();
        let groups: Vec<_> = key.reveal().split('-').collect();
        assert_eq!(groups.len(), 8);
        assert!(
            groups
                .iter()
                .all(|g| g.len() == 5 && g.bytes().all(|b| ALPHABET.contains(&b)))
        );
        assert_ne!(key.reveal(), RecoveryKey::random().unwrap().reveal());
        assert_eq!(format!("{key:?}"), "[secret]");
    }

    #[test]
    fn a_copy_by_hand_is_understood() {
        let key = RecoveryKey::random().unwrap();
        let copy = key
            .reveal()
            .to_lowercase()
            .replace('-', "  ")
            .replace('0', "o")
            .replace('1', "l");
        assert_eq!(tidied(&copy).unwrap().as_str(), key.reveal());
        assert!(tidied(&copy[1..]).is_none(), "too short");
        assert!(tidied("a password of one's own").is_none());
    }
}
