//! A secret is encrypted to age recipients (C2SP age v1) before anything else sees it.
//!
//! Its plaintext exists in memory that zeroes itself, and nowhere else. age makes another
//! ciphertext each time, so the former one is used again while plaintext and recipients are the
//! same and it is less than a week old: an unchanged state then makes an unchanged snapshot.

pub(crate) mod identity;
mod recipients;

pub use recipients::Recipients;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use rustix::fs::OFlags;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::capture::{Capture, Content, Entry, Note};
use crate::error::{CaptureError, StagingError};
use crate::facts::{Metadata, SecretFacts, Sha256Hash};
use crate::file::pinned::{Links, Pinned};
use crate::file::stable::{Stable, fill, stable};
use crate::guard::Protected;
use crate::source::Source;
use crate::staging::Bytes;
use crate::taking::Taking;

/// A secret is a small file; what is larger has the wrong kind.
const LARGEST: u64 = 16 << 20;
/// Values of at least this many bytes are looked for in other files.
const LONG: usize = 16;
/// After this time a ciphertext is made anew.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Captures one file as ciphertext.
pub(crate) fn capture(taking: &mut Taking<'_>, source: &Source) -> Result<Capture, CaptureError> {
    let path = source.path.as_path();
    // Known from here on, even if the encryption fails.
    let Known {
        plaintext,
        metadata,
        entries,
    } = read(taking, source)?;
    let no_one = || CaptureError::NoRecipients {
        path: path.to_owned(),
    };
    let recipients = taking.recipients.ok_or_else(no_one)?;
    let mut capture = Capture::empty(source);
    let item = Item {
        path,
        recipients,
        plaintext: &plaintext,
        now: taking.now,
    };
    let former = match taking.secret_cache.map(|cache| cache.load(&item)) {
        Some(Ok(former)) => former,
        Some(Err((path, reason))) => {
            capture.notes.push(Note::SecretCache { path, reason });
            None
        }
        None => None,
    };
    let reused = former.is_some();
    let ciphertext = match former {
        Some(former) => former,
        None => {
            let reason = |e: String| CaptureError::Encrypt {
                path: path.to_owned(),
                reason: e,
            };
            let fresh = recipients.encrypt(&plaintext).map_err(reason)?;
            if let Some(cache) = taking.secret_cache
                && let Err(e) = cache.store(&item, &fresh)
            {
                let reason = format!("it could not be stored: {e}");
                capture.notes.push(Note::SecretCache {
                    path: cache.entry(path),
                    reason,
                });
            }
            fresh
        }
    };
    let sha256 = Sha256Hash::of(&ciphertext);
    let facts = SecretFacts { entries, reused };
    capture.entries.push(Entry {
        path: path.with_added_extension("age"),
        metadata,
        content: Content::Secret {
            bytes: Bytes::from_vec(ciphertext),
            sha256,
            facts,
        },
    });
    Ok(capture)
}

/// A secret's plaintext with what else was seen of its file.
struct Known {
    plaintext: Zeroizing<Vec<u8>>,
    metadata: Metadata,
    entries: u64,
}

/// Reads a secret and remembers it, so that no other source carries it, without taking it.
pub(crate) fn learn(taking: &mut Taking<'_>, source: &Source) -> Result<(), CaptureError> {
    read(taking, source).map(drop)
}

fn read(taking: &mut Taking<'_>, source: &Source) -> Result<Known, CaptureError> {
    let path = source.path.as_path();
    let gate = |taking: &mut Taking<'_>, pinned: &Pinned| match taking.guard.check(pinned, path) {
        Some(Protected::Database) => Err(CaptureError::LiveDatabase {
            path: path.to_owned(),
        }),
        _ if pinned.stat.len() > LARGEST => Err(CaptureError::WrongType {
            path: path.to_owned(),
            found: "larger than 16 MiB",
            wanted: "a file of secrets",
        }),
        _ => Ok(None),
    };
    let read = stable(
        taking,
        path,
        Links::Follow,
        gate,
        |taking, file, size, first| {
            let mut plaintext = Zeroizing::new(Vec::new());
            fill(file, &mut plaintext, size).map_err(|e| CaptureError::read(path, e))?;
            let (len, hash) = (plaintext.len() as u64, Sha256Hash::of(&plaintext));
            if first {
                taking.advance(len);
            }
            Ok((plaintext, len, hash))
        },
    )?;
    let Stable::Read(read) = read else {
        return Err(CaptureError::Missing {
            path: path.to_owned(),
        });
    };
    let (entries, values) = contents(&read.body);
    taking
        .guard
        .remember(path, (read.size, read.sha256), values);
    Ok(Known {
        plaintext: read.body,
        metadata: read.metadata,
        entries,
    })
}

/// What a ciphertext belongs to.
struct Item<'a> {
    path: &'a Path,
    recipients: &'a Recipients,
    plaintext: &'a [u8],
    now: SystemTime,
}

const MAGIC: &[u8; 16] = b"hapi-sources/1\n\0";
const HEAD: usize = MAGIC.len() + 8 + 32;

/// Keeps ciphertexts, so that an unchanged secret stays the same bytes.
///
/// One file a secret: magic, time in Unix seconds, HMAC-SHA256, ciphertext. The MAC covers path,
/// recipients, time, plaintext and ciphertext, with a random key that never leaves the folder: a
/// plain hash would let anyone who reads it try short secrets.
pub struct SecretCache {
    dir: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SecretCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretCache")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl SecretCache {
    /// Opens the folder (made with mode 0700) and its key (made with mode 0600). A key of another
    /// length is replaced, and with it all that it vouched for.
    pub fn open(dir: &Path) -> Result<Self, StagingError> {
        let at = |error| StagingError::at(dir, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(at)?;
        let mode = fs::metadata(dir).map_err(at)?.mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(at)?;
        }
        let path = dir.join("key");
        match read_key(&path) {
            Ok(Some(key)) => {
                return Ok(Self {
                    dir: dir.to_owned(),
                    key,
                });
            }
            Ok(None) => fs::remove_file(&path).map_err(|e| StagingError::at(&path, e))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StagingError::at(&path, e)),
        }
        let mut key = Zeroizing::new([0; 32]);
        let random =
            rustix::rand::getrandom(key.as_mut_slice(), rustix::rand::GetRandomFlags::empty());
        if random.map_err(|e| at(e.into()))? != key.len() {
            return Err(at(io::ErrorKind::UnexpectedEof.into()));
        }
        match write_whole(dir, &path, &[key.as_slice()], false) {
            Ok(()) => {}
            // Another run was quicker: its key is as good.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let theirs = read_key(&path).map_err(|e| StagingError::at(&path, e))?;
                key = theirs
                    .ok_or_else(|| StagingError::at(&path, io::ErrorKind::InvalidData.into()))?;
            }
            Err(e) => return Err(StagingError::at(&path, e)),
        }
        Ok(Self {
            dir: dir.to_owned(),
            key,
        })
    }

    fn entry(&self, path: &Path) -> PathBuf {
        self.dir
            .join(Sha256Hash::of(path.as_os_str().as_bytes()).to_string())
    }

    /// The former ciphertext, if it is the item's; an error is something that should not be.
    fn load(&self, item: &Item<'_>) -> Result<Option<Vec<u8>>, (PathBuf, String)> {
        let path = self.entry(item.path);
        let err = |reason: &str| (path.clone(), format!("it could not be used: {reason}"));
        let mut all = Vec::new();
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(err(&e.to_string())),
        };
        file.take(2 * LARGEST)
            .read_to_end(&mut all)
            .map_err(|e| err(&e.to_string()))?;
        if all.len() <= HEAD || !all.starts_with(MAGIC) {
            return Err(err("it is not an entry of this cache"));
        }
        let ciphertext = all.split_off(HEAD);
        let (created, mac) = all[MAGIC.len()..].split_at(8);
        let seconds = u64::from_be_bytes(created.try_into().unwrap_or_default());
        // A MAC that differs is the ordinary sign of a changed secret or another recipient.
        if self
            .mac(item, seconds, &ciphertext)
            .verify_slice(mac)
            .is_err()
        {
            return Ok(None);
        }
        let age = item
            .now
            .duration_since(UNIX_EPOCH + Duration::from_secs(seconds));
        Ok(age.is_ok_and(|age| age <= OLDEST).then_some(ciphertext))
    }

    fn store(&self, item: &Item<'_>, ciphertext: &[u8]) -> io::Result<()> {
        let seconds = item
            .now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let mac = self.mac(item, seconds, ciphertext).finalize().into_bytes();
        let parts = [&MAGIC[..], &seconds.to_be_bytes(), &mac, ciphertext];
        write_whole(&self.dir, &self.entry(item.path), &parts, true)
    }

    fn mac(&self, item: &Item<'_>, seconds: u64, ciphertext: &[u8]) -> Hmac<Sha256> {
        // HMAC pads its key with zeros to the hash's block of 64 bytes (RFC 2104).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(self.key.as_slice());
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into());
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        field(item.path.as_os_str().as_bytes());
        field(item.recipients.names().join("\n").as_bytes());
        field(&seconds.to_be_bytes());
        field(item.plaintext);
        field(ciphertext);
        mac
    }
}

fn read_key(path: &Path) -> io::Result<Option<Zeroizing<[u8; 32]>>> {
    use std::os::unix::fs::OpenOptionsExt;
    // Whatever lies there instead, a pipe say, must not hold the run up.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let mut file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let mut key = Zeroizing::new([0; 32]);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != key.len() as u64 {
        return Ok(None);
    }
    file.read_exact(key.as_mut_slice())?;
    Ok(Some(key))
}

/// Writes a file of mode 0600 that is there whole or not at all, also after a loss of power.
fn write_whole(dir: &Path, path: &Path, parts: &[&[u8]], replace: bool) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.as_file().sync_all()?;
    let moved = if replace {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    moved.map_err(|e| e.error)?;
    File::open(dir)?.sync_all()
}

/// Counts the entries of a secret, and collects its longer values.
pub(crate) fn contents(plaintext: &[u8]) -> (u64, Vec<Zeroizing<Vec<u8>>>) {
    let mut values = Vec::new();
    if plaintext.trim_ascii_start().starts_with(b"{") {
        let members =
            serde_json::Deserializer::from_slice(plaintext).deserialize_map(Members(&mut values));
        if let Ok(members) = members {
            return (members, values);
        }
        values.clear();
    }
    let lines = || {
        plaintext
            .split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|l| !l.is_empty())
    };
    let assignments = lines().filter_map(assigned).count() as u64;
    for line in lines() {
        add(
            &mut values,
            if assignments > 0 {
                assigned(line).unwrap_or(line)
            } else {
                line
            },
        );
    }
    (
        if assignments > 0 {
            assignments
        } else {
            lines().count() as u64
        },
        values,
    )
}

/// The value of `[export ]KEY=value`, without quotes around it.
fn assigned(line: &[u8]) -> Option<&[u8]> {
    let line = line
        .strip_prefix(b"export ")
        .unwrap_or(line)
        .trim_ascii_start();
    let equals = line.iter().position(|b| *b == b'=')?;
    let (name, value) = (
        line[..equals].trim_ascii_end(),
        line[equals + 1..].trim_ascii(),
    );
    let named = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let is_name = !name.is_empty() && !name[0].is_ascii_digit() && name.iter().all(named);
    is_name.then(|| {
        let bare = |q: &[u8]| value.strip_prefix(q)?.strip_suffix(q);
        bare(b"\"").or_else(|| bare(b"'")).unwrap_or(value)
    })
}

/// Keeps a value worth looking for: long, and neither comment, path, plain address nor PEM's frame.
fn add(values: &mut Vec<Zeroizing<Vec<u8>>>, value: &[u8]) {
    let public = value.starts_with(b"#")
        || value.starts_with(b"/")
        || value.starts_with(b"-----")
        || (value.windows(3).any(|w| w == b"://") && !value.iter().any(|b| b"@?".contains(b)));
    if value.len() >= LONG && !public {
        values.push(Zeroizing::new(value.to_vec()));
    }
}

/// Counts a JSON object's members and collects its string leaves, without building the document.
struct Members<'a>(&'a mut Vec<Zeroizing<Vec<u8>>>);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut members = 0;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Leaves(self.0))?;
            members += 1;
        }
        Ok(members)
    }
}

struct Leaves<'a>(&'a mut Vec<Zeroizing<Vec<u8>>>);

impl<'de> DeserializeSeed<'de> for Leaves<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, s: &str) -> Result<(), E> {
        add(self.0, s.as_bytes());
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Leaves(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Leaves(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_shape_and_values_kept_when_long() {
        let env = b"# keys\nexport A=\"0123456789abcdef\"\nB=short\n\nURL=https://example.org/a/b\nC='x'\n";
        let (n, values) = contents(env);
        assert_eq!((n, values.len()), (4, 1));
        assert_eq!(values[0].as_slice(), b"0123456789abcdef");
        let (n, values) =
            contents(br#" {"a": {"b": ["0123456789abcdef\n", 1.5]}, "c": null, "d": true}"#);
        assert_eq!((n, values.len()), (3, 1));
        assert_eq!(contents(b"one\n\ntwo\n").0, 2);
        assert_eq!(contents(b"{ not json\n").0, 1);
        assert_eq!(contents(b"").0, 0);
    }
}
