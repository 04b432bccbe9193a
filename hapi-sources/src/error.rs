//! What can go wrong between a path and a capture, and on the way back. One file, since each list is whole.

#![allow(
    missing_docs,
    reason = "a variant's fields are named by the message above it"
)]

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::permission::Barrier;

/// A source is described in a way that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not `table.column`.
    #[error("`{0}` is not a column, written `table.column`")]
    NotAColumn(String),
    /// Not a glob pattern.
    #[error("`{pattern}` is not a pattern: {reason}")]
    Pattern { pattern: String, reason: String },
}

/// A recipient that age does not take.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// Neither an age x25519 recipient nor an SSH public key.
    #[error(
        "`{0}` is neither an age recipient (age1…) nor an SSH public key (ssh-ed25519 …, ssh-rsa …)"
    )]
    Unknown(String),
    /// A key of a kind that is not supported.
    #[error("`{recipient}` is {what}, which cannot be used; {instead}")]
    Unusable {
        recipient: String,
        what: &'static str,
        instead: &'static str,
    },
    /// Secret keys do not belong into a profile; the value is not repeated.
    #[error(
        "this is a SECRET key: put the public key (age1…) here. The secret key has now been on this machine: make a new one"
    )]
    SecretKey,
    /// No recipient at all.
    #[error("no recipient is given")]
    Empty,
    /// age refuses the combination.
    #[error("age cannot encrypt to these recipients together: {0}")]
    Mixed(String),
}

/// The staging folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Creating, opening, writing or removing failed.
    #[error("cannot use the staging folder `{}`: {error}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The file system would be full.
    #[error("the staging folder `{}` has {free} bytes free, {needed} are needed", path.display())]
    NoSpace {
        path: PathBuf,
        free: u64,
        needed: u64,
    },
}

impl StagingError {
    pub(crate) fn at(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// A source, or a part of it, could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It does not exist.
    #[error("`{}` does not exist", path.display())]
    Missing { path: PathBuf },
    /// Nothing matches the pattern.
    #[error("nothing matches `{}`", path.display())]
    NoMatch { path: PathBuf },
    /// It is something else than the kind needs.
    #[error("`{}` is {found}, not {wanted}", path.display())]
    WrongType {
        path: PathBuf,
        found: &'static str,
        wanted: &'static str,
    },
    /// Reading failed.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// It changed at every attempt to read it.
    #[error("`{}` kept changing while it was read, {attempts} times", path.display())]
    Unstable { path: PathBuf, attempts: u32 },
    /// It is, or shares its inode with, a live database.
    #[error("`{}` is a live database or one of its side files", path.display())]
    LiveDatabase { path: PathBuf },
    /// The database is gone or empty, and what is left of its content stands in a side file that SQLite
    /// would delete or ignore. It was not opened.
    #[error(
        "`{}` {}, but `{}` holds {bytes} bytes that SQLite would delete or ignore{}",
        path.display(),
        if *missing { "does not exist" } else { "is empty" },
        side.display(),
        if *is_readable { "" } else { "; this user may not read them, so they are NOT kept" }
    )]
    DatabaseLost {
        path: PathBuf,
        missing: bool,
        side: PathBuf,
        bytes: u64,
        is_readable: bool,
        /// A process that still has that file open.
        pid: Option<u32>,
    },
    /// 0 bytes, or 1, and no side file with content: SQLite takes that for a database without tables.
    #[error("`{}` is empty: there is no database in it", path.display())]
    EmptyDatabase { path: PathBuf },
    /// Somebody uses the database through another name: the WAL is beside that one.
    #[error("`{}` is in use under another name: {}", path.display(), user_of(*pid, wal.as_deref()))]
    OtherName {
        path: PathBuf,
        pid: Option<u32>,
        wal: Option<PathBuf>,
    },
    /// SQLite would make side files that the owner of the database cannot write. It was not opened,
    /// unless `made` names such a file.
    #[error(
        "`{}` belongs to {owner}, who {}",
        path.display(),
        match made {
            Some(made) => format!("cannot write `{}`: this user created it", made.display()),
            None => "could not write the `-wal` and `-shm` files that this user would make".to_owned(),
        }
    )]
    WouldLockOut {
        path: PathBuf,
        owner: String,
        made: Option<PathBuf>,
    },
    /// A crash left a rollback journal, and only a writer may roll it back.
    #[error("`{}` has a `-journal` file that a crash left ({reason})", path.display())]
    HotJournal { path: PathBuf, reason: String },
    /// SQLite did not get a lock in time.
    #[error("`{}` is locked by another process", path.display())]
    Locked { path: PathBuf },
    /// Encrypted, or something else.
    #[error("`{}` is not a SQLite database, or is encrypted", path.display())]
    NotADatabase { path: PathBuf },
    /// This user may not use a file that SQLite needs.
    #[error("SQLite cannot open `{}`: this user may not {to} `{}`", path.display(), barrier.path.display())]
    Barred {
        path: PathBuf,
        /// Read, write, or enter.
        to: &'static str,
        barrier: Barrier,
    },
    /// SQLite cannot open it read-only as things are (see the hint).
    #[error("SQLite cannot open `{}`: {reason}", path.display())]
    CannotOpen { path: PathBuf, reason: String },
    /// Another error of SQLite.
    #[error("SQLite failed on `{}`: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    /// The copy took longer than allowed.
    #[error("copying `{}` took longer than {seconds} s", path.display())]
    Deadline { path: PathBuf, seconds: u64 },
    /// The secret has no one to be encrypted to.
    #[error("there is no recipient to encrypt `{}` to", path.display())]
    NoRecipients { path: PathBuf },
    /// age failed.
    #[error("cannot encrypt `{}`: {reason}", path.display())]
    Encrypt { path: PathBuf, reason: String },
    /// Another source put something else at this path.
    #[error("`{}` cannot be taken: its place belongs to the source `{by}`", path.display())]
    Shadowed { path: PathBuf, by: String },
    /// Root could read it, and whoever wrote the name of it could not.
    #[error("`{}`, which `{}` names, is not readable by the owner of that folder", path.display(), by.display())]
    OutOfBounds { path: PathBuf, by: PathBuf },
    /// The pattern is not one.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The staging folder failed: no further capture will work either.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The end was asked for.
    #[error("stopped")]
    Stopped,
}

impl CaptureError {
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn of_the_copy(path: &Path, reason: &str) -> Self {
        Self::Sqlite {
            path: path.to_owned(),
            reason: format!("checking the copy: {reason}"),
        }
    }

    /// What helps, as far as it is a matter of SQLite, age and files.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Locked { .. } => {
                "another process holds an exclusive lock; try again when it is done".into()
            }
            Self::CannotOpen { .. } => {
                "run as the hub's user; if the hub crashed and its `-shm` file is gone, start the hub once".into()
            }
            Self::Barred { barrier, .. } => barrier.hint(),
            Self::HotJournal { .. } => "start the hub once: it rolls the journal back".into(),
            Self::DatabaseLost { side, missing, pid, .. } => {
                let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
                let name = side.as_os_str().as_bytes();
                let name = name.strip_suffix(b"-wal").or(name.strip_suffix(b"-journal")).unwrap_or(name);
                // Side files lie beside what a link leads to.
                let real = Path::new(OsStr::from_bytes(name));
                let database = if *missing { String::new() } else { quoted(real) + " " };
                let folder = quoted(&real.with_extension("lost"));
                let running = pid.map_or_else(
                    || "do not start the hub".to_owned(),
                    |pid| format!(
                        "process {pid} still has it open: copy {} away first, and what `ls -l /proc/{pid}/fd` shows as deleted; \
                         then `kill -9 {pid}`, since a clean stop deletes the WAL; do not start the hub again",
                        quoted(side)
                    ),
                );
                format!(
                    "{running}; move the files away together: `mkdir {folder} && mv {database}{} {folder}`; restore the last snapshot; \
                     try the `{}` on copies only: with an older database it is whole only if nothing was checkpointed since",
                    quoted(side),
                    side.file_name().unwrap_or_default().to_string_lossy()
                )
            }
            Self::EmptyDatabase { .. } => {
                "if the hub is new, start it once; else restore the last snapshot".into()
            }
            Self::OtherName { wal: Some(wal), .. } if wal.as_os_str().as_bytes().ends_with(b" (deleted)") => {
                "that file was removed while the hub uses it: stop the hub cleanly (it then writes everything into the database), do not kill it".into()
            }
            Self::OtherName { .. } => {
                "name the path that the hub uses as the source's path; link or mount the folder, never the database alone".into()
            }
            Self::WouldLockOut { owner, made: Some(made), .. } => {
                // `chown` takes a number as it is.
                let user = owner.trim_start_matches('#');
                format!("`sudo chown '{user}' '{}'`; then run as the hub's user: `sudo -u '{owner}' …`", made.display())
            }
            Self::WouldLockOut { owner, .. } => {
                format!("run as the hub's user: `sudo -u '{owner}' …`")
            }
            Self::Read { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                match Barrier::to_reading(path) {
                    Some(barrier) => barrier.hint(),
                    None => format!(
                        "`namei -l '{}'` shows whose each part of the path is: let the user of the run read it, or run as its owner",
                        path.display()
                    ),
                }
            }
            _ => return None,
        })
    }
}

fn user_of(pid: Option<u32>, wal: Option<&Path>) -> String {
    let process = pid.map_or_else(
        || "a process that this user cannot see".to_owned(),
        |pid| format!("process {pid}"),
    );
    match wal {
        Some(wal) => format!("{process} writes to `{}`", wal.display()),
        None => format!("{process} has it open, and its `-wal` and `-shm` files are elsewhere"),
    }
}

/// A database file at rest could not be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// Reading failed.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// Not even a file.
    #[error("`{}` is {found}, not a database", path.display())]
    WrongType { path: PathBuf, found: &'static str },
    /// It does not begin as a database does.
    #[error("`{}` is not a SQLite database, or is encrypted", path.display())]
    NotADatabase { path: PathBuf },
    /// A part of its state stands in another file.
    #[error("`{}` does not stand alone: `{}` has content", path.display(), side.display())]
    SideFile { path: PathBuf, side: PathBuf },
    /// Another error of SQLite.
    #[error("SQLite failed on `{}`: {reason}", path.display())]
    Sqlite { path: PathBuf, reason: String },
    /// The end was asked for.
    #[error("stopped")]
    Stopped,
}

impl ExamineError {
    /// What the operator can do about it, if anything is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SideFile { path, .. } => Some(format!(
                "if both belong together, fold them into one with `sqlite3 '{}' 'PRAGMA journal_mode = DELETE'`; if not, move the other away",
                path.display()
            )),
            _ => None,
        }
    }
}

/// A file of identities that cannot be used. Nothing of its content is repeated.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Opening or reading failed.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// Not even a file.
    #[error("`{}` is {found}, not a file of identities", path.display())]
    WrongType { path: PathBuf, found: &'static str },
    /// Larger than any file of identities.
    #[error("`{}` is larger than {limit} bytes, and so no identity", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    /// Comments at most.
    #[error("`{}` has no identity in it", path.display())]
    Empty { path: PathBuf },
    /// The other half of a key pair.
    #[error("`{}` is a public key, which encrypts and does not open", path.display())]
    PublicKey { path: PathBuf },
    /// A line that is no key; lines count from 1.
    #[error("line {line} of `{}` is not an identity", path.display())]
    Unknown { path: PathBuf, line: usize },
    /// A key of a kind that is not supported.
    #[error("`{}` holds {found}, which is not supported", path.display())]
    Unsupported { path: PathBuf, found: &'static str },
    /// It is encrypted, and no one was there to ask.
    #[error("`{}` is encrypted, and there is no terminal to ask for its passphrase", path.display())]
    NoPassphrase { path: PathBuf },
    /// The passphrase does not fit.
    #[error("the passphrase does not open `{}`", path.display())]
    WrongPassphrase { path: PathBuf },
    /// A scrypt work factor (base-2 logarithm) that would take memory and hours.
    #[error("`{}` wants a scrypt work factor of {required}, beyond {limit}", path.display())]
    TooMuchWork {
        path: PathBuf,
        required: u8,
        limit: u8,
    },
    /// It begins as an identity does, and goes on as none.
    #[error("`{}` is damaged or cut short", path.display())]
    Damaged { path: PathBuf },
}

impl IdentityError {
    /// What the operator can do about it, if anything is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPassphrase { .. } => {
                "run it from a terminal, or give an identity without a passphrase".into()
            }
            Self::PublicKey { path } if path.extension().is_some_and(|e| e == "pub") => format!(
                "the private key is probably `{}`",
                path.with_extension("").display()
            ),
            Self::PublicKey { .. } => "give the file with the private key".into(),
            Self::Unknown { .. } | Self::Empty { .. } => {
                "an identity is a line `AGE-SECRET-KEY-1…` (see `age-keygen`), or an SSH private key of type ed25519 or RSA".into()
            }
            Self::Unsupported { .. } => {
                "give an age identity or an SSH key of type ed25519 or RSA, or open the `.age` file with the `age` program".into()
            }
            _ => return None,
        })
    }
}

/// A ciphertext that was not opened. Nothing of it, or of the keys, is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is encrypted to others.
    #[error("it is encrypted to other recipients than these identities")]
    NoMatchingKey,
    /// Something else, or of a later version.
    #[error("it is not an age file of version 1")]
    NotAge,
    /// Cut short or changed: not one byte of it is handed out.
    #[error("it is damaged or cut short")]
    Damaged,
}
