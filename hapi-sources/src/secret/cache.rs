//! The cache keeps ciphertexts, so that an unchanged secret stays the same bytes.
//!
//! A ciphertext is used again only where its MAC proves that path, plaintext and recipients are the same,
//! and while it is less than a week old.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use rustix::fs::OFlags;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::recipients::Recipients;
use crate::error::StagingError;
use crate::facts::Sha256Hash;

/// A secret is a small file; what is larger has the wrong kind.
pub(super) const LARGEST: u64 = 16 << 20;
/// After this time a ciphertext is made anew.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);

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
        sweep(dir);
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

    pub(super) fn entry(&self, path: &Path) -> PathBuf {
        self.dir
            .join(Sha256Hash::of(path.as_os_str().as_bytes()).to_string())
    }

    /// The former ciphertext, if it is the item's; an error is something that should not be.
    pub(super) fn load(&self, item: &Item<'_>) -> Result<Option<Vec<u8>>, (PathBuf, String)> {
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

    pub(super) fn store(&self, item: &Item<'_>, ciphertext: &[u8]) -> io::Result<()> {
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

/// What a ciphertext belongs to.
pub(super) struct Item<'a> {
    pub(super) path: &'a Path,
    pub(super) recipients: &'a Recipients,
    pub(super) plaintext: &'a [u8],
    pub(super) now: SystemTime,
}

/// Removes ciphertexts that nobody used for so long that they would be made anew: of files that are gone.
fn sweep(dir: &Path) {
    let is_old = |entry: &fs::DirEntry| {
        let changed = entry.metadata().and_then(|stat| stat.modified()).ok();
        let age = changed.and_then(|time| SystemTime::now().duration_since(time).ok());
        entry.file_name().len() == 64 && age.is_some_and(|age| age > OLDEST)
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if is_old(&entry) {
            // One that stays does no harm.
            _ = fs::remove_file(entry.path());
        }
    }
}

fn read_key(path: &Path) -> io::Result<Option<Zeroizing<[u8; 32]>>> {
    // Whatever lies there instead, a pipe say, must not hold the run up.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
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
