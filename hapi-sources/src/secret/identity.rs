//! An identity is a private key that opens secrets again; *identities* are those of one file.
//!
//! Everything that can be asked or refused is asked or refused when the file is read: after that a
//! passphrase is never needed again, and [`Identities::decrypt`] depends on the ciphertext alone.
//! What is private lives in memory that zeroes itself, and no error and no `Debug` shows it.
//!
//! The formats are those of the `age` program (C2SP age v1): lines `AGE-SECRET-KEY-1…`, the same
//! encrypted with a passphrase, or an SSH private key.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use age::{Decryptor, Identity, scrypt, ssh, x25519};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::entries::contents;
use crate::error::{DecryptError, IdentityError};
use crate::file::pinned::found;
use crate::file::stable::fill;

/// A file of identities is a page or two.
const LARGEST: u64 = 1 << 20;
/// An SSH key is smaller still, and age parses it anew with each line: the time grows with the square.
const LARGEST_SSH: usize = 64 << 10;
/// What the `age` program accepts (4 GiB of memory, some 15 s): what it opens, this opens.
const MOST_WORK: u8 = 22;

const MAGIC: &[u8] = b"age-encryption.org/v1\n";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// Asks a person for a passphrase.
pub trait Passphrase {
    /// The passphrase of `what` (the identity's path in backticks), without the line's end. `None`
    /// where no one can be asked, since there is no terminal, say.
    fn ask(&self, what: &str) -> Option<SecretString>;
}

/// The private keys of one file.
pub struct Identities {
    keys: Vec<Box<dyn Identity + Send + Sync>>,
    exposed: bool,
}

impl Identities {
    /// Reads an age identity file (one or more lines `AGE-SECRET-KEY-1…`, with comments), the same
    /// encrypted with a passphrase (binary or armored), or an SSH private key (ed25519 or RSA).
    ///
    /// `passphrase` is asked at most once, and only where the file is encrypted. A wrong one is an
    /// error: read again to ask again. Keys of plugins and hardware tokens are not supported.
    pub fn read(path: &Path, passphrase: &dyn Passphrase) -> Result<Self, IdentityError> {
        let (content, exposed) = content(path)?;
        let file = IdentityFile { path, passphrase };
        let text = content.trim_ascii_start();
        let keys = if content.starts_with(MAGIC) || text.starts_with(ARMOR) {
            file.lines(&file.decrypted(text)?)?
        } else if text.starts_with(b"-----BEGIN ") {
            vec![file.ssh(text)?]
        } else {
            file.lines(&content)?
        };
        Ok(Self { keys, exposed })
    }

    /// These keys and those of another file.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.keys.extend(others.keys);
        self.exposed |= others.exposed;
        self
    }

    /// Whether others than its owner may read the file: worth a warning.
    pub fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// Opens a ciphertext (binary, as captures hold it) to its last byte: one that was cut short or
    /// changed anywhere is an error, never a shorter plaintext.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<Plaintext, DecryptError> {
        if !ciphertext.starts_with(MAGIC) {
            return Err(if MAGIC.starts_with(ciphertext) {
                DecryptError::Damaged
            } else {
                DecryptError::NotAge
            });
        }
        let keys = self.keys.iter().map(|k| k.as_ref() as &dyn Identity);
        let open = || -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
            let reader = Decryptor::new_buffered(ciphertext)?.decrypt(keys)?;
            Ok(whole(reader, ciphertext.len())?)
        };
        match open() {
            Ok(bytes) => Ok(Plaintext(bytes)),
            Err(age::DecryptError::NoMatchingKeys) => Err(DecryptError::NoMatchingKey),
            Err(_) => Err(DecryptError::Damaged),
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// An opened secret: zeroed when it is dropped, and never printed.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The count that a capture notes in [`SecretFacts::entries`](crate::SecretFacts::entries).
    pub fn entries(&self) -> u64 {
        contents(&self.0).0
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The content of a file of identities, and whether others may read it.
fn content(path: &Path) -> Result<(Zeroizing<Vec<u8>>, bool), IdentityError> {
    let err = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    // Whatever lies there instead, a pipe say, must not hold the restore up.
    let mut opened = std::fs::File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(err)?;
    let stat = opened.metadata().map_err(err)?;
    if !stat.is_file() {
        return Err(IdentityError::WrongType {
            path: path.to_owned(),
            found: found(&stat),
        });
    }
    if stat.len() > LARGEST {
        return Err(IdentityError::TooLarge {
            path: path.to_owned(),
            limit: LARGEST,
        });
    }
    let mut content = Zeroizing::new(Vec::new());
    fill(&mut opened, &mut content, stat.len()).map_err(err)?;
    Ok((content, stat.mode() & 0o044 != 0))
}

/// Reads to the end without ever moving the bytes: a plaintext is shorter than its ciphertext.
fn whole(mut reader: impl Read, ciphertext: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ciphertext));
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that is being read: its path for the errors, and whom to ask.
struct IdentityFile<'a> {
    path: &'a Path,
    passphrase: &'a dyn Passphrase,
}

type Key = Box<dyn Identity + Send + Sync>;

impl IdentityFile<'_> {
    /// The keys of an age identity file, line by line. A line that is none is named by its number.
    fn lines(&self, content: &[u8]) -> Result<Vec<Key>, IdentityError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in content.split(|b| *b == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.parse::<x25519::Identity>().ok());
            keys.push(Box::new(key.ok_or_else(|| self.no_key(number + 1, line))?));
        }
        if keys.is_empty() {
            return Err(IdentityError::Empty {
                path: self.path.to_owned(),
            });
        }
        Ok(keys)
    }

    fn no_key(&self, number: usize, line: &[u8]) -> IdentityError {
        let begins = |s: &[u8]| line.len() >= s.len() && line[..s.len()].eq_ignore_ascii_case(s);
        if begins(b"AGE-PLUGIN-") {
            return self.unsupported("an identity of a plugin (AGE-PLUGIN-…)");
        }
        if begins(b"AGE-SECRET-KEY-PQ-") {
            return self.unsupported("a post-quantum identity (AGE-SECRET-KEY-PQ-…)");
        }
        if begins(b"age1") || begins(b"ssh-") {
            return IdentityError::PublicKey {
                path: self.path.to_owned(),
            };
        }
        IdentityError::Unknown {
            path: self.path.to_owned(),
            line: number,
        }
    }

    /// What a passphrase hides.
    fn decrypted(&self, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let decryptor =
            Decryptor::new_buffered(ArmoredReader::new(content)).map_err(|e| self.refused(e))?;
        if !decryptor.is_scrypt() {
            return Err(self.unsupported("an age file that no passphrase opens"));
        }
        let mut key = scrypt::Identity::new(self.ask()?);
        key.set_max_work_factor(MOST_WORK);
        let reader = decryptor
            .decrypt(std::iter::once(&key as &dyn Identity))
            .map_err(|e| self.refused(e))?;
        whole(reader, content.len()).map_err(|_| self.damaged())
    }

    /// An SSH private key, decrypted here if need be: age would ask for each ciphertext.
    fn ssh(&self, text: &[u8]) -> Result<Key, IdentityError> {
        if text.len() > LARGEST_SSH {
            return Err(IdentityError::TooLarge {
                path: self.path.to_owned(),
                limit: LARGEST_SSH as u64,
            });
        }
        let known = [
            &b"-----BEGIN OPENSSH PRIVATE KEY-----"[..],
            b"-----BEGIN RSA PRIVATE KEY-----",
        ];
        if !known.iter().any(|k| text.starts_with(k)) {
            return Err(self.unsupported("a private key of another format than OpenSSH's"));
        }
        let key = self.careful(|| ssh::Identity::from_buffer(text, None))?;
        let unsupported = match key.map_err(|_| self.damaged())? {
            key @ ssh::Identity::Unencrypted(_) => return Ok(Box::new(key)),
            ssh::Identity::Encrypted(key) => {
                let passphrase = self.ask()?;
                let key = self.careful(|| key.decrypt(passphrase))?;
                let key = key.map_err(|_| self.wrong_passphrase())?;
                return Ok(Box::new(ssh::Identity::from(key)));
            }
            ssh::Identity::Unsupported(unsupported) => unsupported,
        };
        Err(self.unsupported(match unsupported {
            ssh::UnsupportedKey::EncryptedPem => {
                "an SSH key whose passphrase uses the former PEM format"
            }
            ssh::UnsupportedKey::EncryptedSsh(_) => "an SSH key encrypted with an unknown cipher",
            ssh::UnsupportedKey::Hardware(_) => "an SSH key of a hardware token",
            ssh::UnsupportedKey::Type(_) => "an SSH key that is neither ed25519 nor RSA",
        }))
    }

    /// Runs what reads an SSH key. age 0.12.1 indexes past the end of a number that is only zeros:
    /// one bit of a damaged RSA key is enough for a panic.
    fn careful<T>(&self, read: impl FnOnce() -> T) -> Result<T, IdentityError> {
        panic::catch_unwind(AssertUnwindSafe(read)).map_err(|_| self.damaged())
    }

    fn ask(&self) -> Result<SecretString, IdentityError> {
        let what = format!("`{}`", self.path.display());
        self.passphrase
            .ask(&what)
            .ok_or_else(|| IdentityError::NoPassphrase {
                path: self.path.to_owned(),
            })
    }

    fn refused(&self, e: age::DecryptError) -> IdentityError {
        match e {
            age::DecryptError::DecryptionFailed => self.wrong_passphrase(),
            age::DecryptError::ExcessiveWork { required, .. } => IdentityError::TooMuchWork {
                path: self.path.to_owned(),
                required,
                limit: MOST_WORK,
            },
            _ => self.damaged(),
        }
    }

    fn unsupported(&self, found: &'static str) -> IdentityError {
        IdentityError::Unsupported {
            path: self.path.to_owned(),
            found,
        }
    }

    fn wrong_passphrase(&self) -> IdentityError {
        IdentityError::WrongPassphrase {
            path: self.path.to_owned(),
        }
    }

    fn damaged(&self) -> IdentityError {
        IdentityError::Damaged {
            path: self.path.to_owned(),
        }
    }
}
