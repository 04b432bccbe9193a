//! What can go wrong, and the exit code each failure has.
//! One file, since it is one list, and the chain by which a failure keeps its remedy.

#![allow(
    missing_docs,
    reason = "a variant's fields are named by the message above it"
)]

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hapi_sources::{CaptureError, StagingError};
use rustic_core::{ErrorKind, RusticError};

use crate::exit::Exit;

/// A profile, or the way it was asked for, makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none where one would be.
    #[error("there is no profile `{name}`; looked for {}", looked.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(" and "))]
    Missing { name: String, looked: Vec<PathBuf> },
    /// Reading it failed.
    #[error("cannot read the profile `{}`: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong type.
    #[error("the profile `{}` is not valid: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    /// A value makes no sense.
    #[error("{key} in the profile `{}`: {fact}", path.display())]
    Value {
        path: PathBuf,
        key: String,
        fact: String,
        hint: Option<String>,
    },
    /// A variable of restic's or rustic's, or a flag, says what makes no sense.
    #[error("`{name}` {fact}")]
    Variable {
        name: String,
        fact: String,
        hint: String,
    },
    /// HOME is not set and `--home` not given.
    #[error("HOME is not set, so `~` cannot be resolved")]
    NoHome,
    /// HOME is there, and no place.
    #[error("HOME is `{}`, which is not an absolute path", home.display())]
    RelativeHome { home: PathBuf },
    /// The engine and TOML have text for paths.
    #[error("{what} `{}` is not valid UTF-8, and a snapshot or a profile cannot hold such a path", path.display())]
    NotUtf8 { what: &'static str, path: PathBuf },
}

/// A failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`ProfileError`].
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The command line asks for something that makes no sense.
    #[error("{fact}")]
    Usage { fact: String, hint: Option<String> },
    /// The password file cannot be used.
    #[error("the password file `{}` {fact}", path.display())]
    PasswordFile {
        path: PathBuf,
        fact: String,
        hint: String,
    },
    /// The program that prints the password does not.
    #[error("the password command {fact}")]
    PasswordCommand { fact: String, hint: String },
    /// The password opens no key. `origin` is a phrase: the password in this file, say; `shared` where it is the main
    /// repository's, and this a copy.
    #[error("{origin} does not open the repository `{location}`")]
    WrongPassword {
        origin: String,
        location: String,
        shared: bool,
    },
    /// No key opens, and some are damaged.
    #[error("no key of the repository `{location}` opens with the password, and it has a damaged key file, {}: its name is not its hash", keys.join(", "))]
    DamagedKeys { location: String, keys: Vec<String> },
    /// A key that was given by hand opens nothing.
    #[error("the key given does not open the repository `{location}`")]
    WrongKey { location: String },
    /// A key that opens the repository, and is lost with this machine all the same.
    #[error("the key given opens the repository, but {fact}")]
    NotARecoveryKey { fact: String },
    /// A key that was added could not be shown to open the repository, and is still there.
    #[error("the new key {id} could not be verified: {reason}; removing it failed: {removal}")]
    UnprovenKey {
        id: String,
        reason: String,
        removal: String,
    },
    /// There is definitely none.
    #[error("there is no repository at `{location}`: {fact}")]
    NoRepository {
        location: String,
        fact: String,
        hint: String,
    },
    /// What is at the location is not a restic repository.
    #[error("`{location}` {fact}")]
    NotARepository {
        location: String,
        fact: String,
        hint: String,
    },
    /// It cannot be reached.
    #[error("`{location}` {fact}")]
    Destination {
        location: String,
        fact: String,
        hint: Option<String>,
    },
    /// Another one than the profile names.
    #[error("the repository at `{location}` has the id {found}, the profile names {wanted}")]
    OtherRepository {
        location: String,
        found: String,
        wanted: String,
    },
    /// The destination shares its disk with the sources.
    #[error("{}the repository `{location}` is on the same disk as `{}`: {reason}", unmounted.as_ref().map_or_else(String::new, |fact| format!("{fact}: ")), source_path.display())]
    SameDisk {
        location: String,
        source_path: PathBuf,
        reason: String,
        /// That nothing is mounted there.
        unmounted: Option<String>,
        hint: String,
    },
    /// It is gone at the next start.
    #[error("the repository `{location}` is in memory ({kind}) and will be lost at reboot")]
    InMemory {
        location: String,
        kind: String,
        hint: String,
    },
    /// The engine failed.
    #[error("{doing} failed: {reason}")]
    Engine { doing: &'static str, reason: Reason },
    /// A program of the system did not do what it was asked to.
    #[error("`{command}` failed: {reason}")]
    Tool { command: String, reason: String },
    /// The commit gate refused the snapshot.
    #[error("no snapshot was written: {}", joined(failures))]
    Refused { failures: Vec<Reason> },
    /// The snapshot could not be read back, and was removed.
    #[error("the snapshot could not be read back and was removed: {reason}")]
    NotProven { reason: Reason },
    /// The snapshot could not be read back, and could not be removed.
    #[error("the snapshot {id} could not be verified: {reason}; removing it failed: {removal}")]
    Unproven {
        id: String,
        reason: String,
        removal: String,
    },
    /// Nothing at all could be captured.
    #[error("no source of the series `{series}` could be captured, so there is no snapshot: {}", failures.join("; "))]
    NothingCaptured {
        series: String,
        failures: Vec<String>,
        hint: Option<String>,
    },
    /// The staging folder failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// Another run of ours is under way.
    #[error("another run holds the lock `{}`", path.display())]
    Locked { path: PathBuf, holder: String },
    /// Snapshot files that cannot be read, and why.
    #[error("`{location}`: {}", joined(files))]
    UnreadableSnapshots {
        location: String,
        files: Vec<Reason>,
        /// Whether all of them are damaged: torn by an upload that broke off, most likely.
        torn: bool,
    },
    /// Somebody uses the repository in a way that excludes this.
    #[error("the repository `{location}` is locked: {holder}")]
    RepositoryLocked {
        location: String,
        holder: String,
        hint: String,
    },
    /// A folder or file of ours cannot be used.
    #[error("cannot use `{}`: {error}", path.display())]
    State {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The plan would leave fewer days than there have to be.
    #[error("retention was not applied: {fact}")]
    Floor { fact: String },
    /// The list of snapshots changed while it was used.
    #[error("retention was postponed: {fact}")]
    Postponed { fact: String, hint: &'static str },
    /// There is no such snapshot.
    #[error("{fact}")]
    NoSnapshot { fact: String, hint: String },
    /// What is in the way at the target, which is left as it is.
    #[error("{}{} in the way at `{}`, and different: {}", files.len(), if files.len() == 1 { " file is" } else { " files are" }, target.display(), first_of(files))]
    InTheWay {
        target: PathBuf,
        files: Vec<PathBuf>,
    },
    /// A snapshot is not what its manifest and description say.
    #[error("the snapshot {snapshot} cannot be used: {}", differences.join("; "))]
    Unlike {
        snapshot: String,
        differences: Vec<String>,
    },
    /// The file system of the target is too small.
    #[error("`{}` has {free} bytes free, {needed} are needed", path.display())]
    NoRoom {
        path: PathBuf,
        free: u64,
        needed: u64,
    },
    /// An identity that opens secrets cannot be used.
    #[error(transparent)]
    Identity(#[from] hapi_sources::IdentityError),
    /// There is no place for a drill.
    #[error(transparent)]
    NoScratch { error: Box<Error> },
    /// A drill could not be run.
    #[error("the drill could not be run: {error}")]
    Drill { error: Box<Error> },
    /// The database cannot be replaced while somebody has it open.
    #[error("`{}` is open in {}", path.display(), by.join(" and in "))]
    InUse {
        path: PathBuf,
        by: Vec<String>,
        /// What ends each, once.
        remedies: Vec<String>,
    },
    /// The old database is at its path, as it was.
    #[error("`{}` was not replaced and is unchanged: {reason}", path.display())]
    NotSwapped {
        path: PathBuf,
        reason: String,
        hint: Option<&'static str>,
    },
    /// A restore in place failed half way, and everything is as it was.
    #[error("{error}; what had been replaced was put back")]
    Undone { error: Box<Error> },
    /// A restore in place failed half way, and putting back failed, too.
    #[error("{error}; putting back what had been replaced also failed; these lines do it, with the hub stopped:\n{}", undo.join("\n"))]
    NotUndone {
        error: Box<Error>,
        undo: Vec<String>,
    },
    /// What is at the database's path is for a human to decide.
    #[error("`{}` is not as it should be: {reason}; the old files are in `{}`", path.display(), folder.display())]
    HalfSwapped {
        path: PathBuf,
        reason: String,
        folder: PathBuf,
    },
    /// Nothing moved any more.
    #[error("nothing moved for {}, so the run was ended; its repository is `{location}`", crate::words::duration(*limit))]
    Stalled { location: String, limit: Duration },
    /// It took longer than a run may.
    #[error("the run took {}, so it was ended; its repository is `{location}`", crate::words::duration(*limit))]
    TooLong { location: String, limit: Duration },
    /// A defect: the code panicked.
    #[error("internal error: {what}")]
    Internal { what: String },
    /// SIGHUP, SIGINT or SIGTERM.
    #[error("{}", interrupted(*signal))]
    Signal { signal: i32 },
    /// A source failed in a way that concerns the whole run.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

impl Error {
    /// The error that a file or folder of ours cannot be used, once it is known why.
    pub(crate) fn at<P: AsRef<Path> + ?Sized>(path: &P) -> impl Fn(io::Error) -> Self + Copy + '_ {
        let path = path.as_ref();
        move |error| Self::State {
            path: path.into(),
            error,
        }
    }

    /// The error that something was asked for that makes no sense, and what would.
    pub fn usage(fact: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage {
            fact: fact.into(),
            hint: Some(hint.into()),
        }
    }

    /// Wraps an error of the engine, in one line.
    pub fn engine(doing: &'static str) -> impl FnOnce(Box<RusticError>) -> Self {
        move |error| Self::Engine {
            doing,
            reason: Reason::of(&error),
        }
    }

    /// The exit code this failure has.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Profile(_)
            | Self::Usage { .. }
            | Self::PasswordFile { .. }
            | Self::PasswordCommand { .. } => Exit::Usage,
            Self::WrongPassword { .. } | Self::WrongKey { .. } | Self::NotARecoveryKey { .. } => {
                Exit::WrongPassword
            }
            Self::NoRepository { .. } => Exit::NoRepository,
            Self::Locked { .. } | Self::RepositoryLocked { .. } => Exit::Locked,
            Self::Floor { .. } => Exit::Floor,
            Self::InTheWay { .. } | Self::Identity(_) => Exit::Usage,
            Self::Drill { .. } => Exit::DrillFailed,
            Self::Signal { signal: 1 } => Exit::HungUp,
            Self::Signal { signal: 2 } => Exit::Interrupted,
            Self::Signal { .. } => Exit::Terminated,
            _ => Exit::Failed,
        }
    }
}

/// Why something failed, in words; and what was at the bottom of it, as far as that has a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub text: String,
    pub(crate) cause: Option<Cause>,
}

/// What was at the bottom of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// This call of the operating system.
    System(io::ErrorKind),
    /// Something that who met it knows a remedy for.
    Remedied(Cow<'static, str>),
}

impl Reason {
    /// Of an error of the engine's: in one line, with what stands in its chain.
    pub(crate) fn of(error: &RusticError) -> Self {
        let mut cause = None;
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(remedied) = error.downcast_ref::<Remedied>() {
                cause = Some(Cause::Remedied(remedied.remedy.clone()));
                next = remedied.error.as_ref().map(|error| error as &dyn StdError);
                continue;
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{
                    PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
                };
                let kind = error.kind();
                let is_known = matches!(
                    kind,
                    PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
                );
                // Who met it knows more than the system said.
                if is_known && !matches!(cause, Some(Cause::Remedied(_))) {
                    cause = Some(Cause::System(kind));
                }
            }
            next = error.source();
        }
        Self {
            text: one_line(error),
            cause,
        }
    }

    /// With words before it.
    pub(crate) fn after(self, words: &str) -> Self {
        Self {
            text: format!("{words}{}", self.text),
            ..self
        }
    }

    /// Whether this user may not read something, which says nothing of what it holds.
    pub(crate) fn is_denied(&self) -> bool {
        self.cause == Some(Cause::System(io::ErrorKind::PermissionDenied))
            || self.text.contains("Permission denied")
    }

    /// With its remedy, where there is one.
    pub(crate) fn remedied(text: String, remedy: Option<&'static str>) -> Self {
        Self {
            text,
            cause: remedy.map(|remedy| Cause::Remedied(remedy.into())),
        }
    }
}

impl<T: Into<String>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self::remedied(text.into(), None)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A remedy on its way through the engine's errors, which keep their sources: it is found again in their chain.
#[derive(Debug)]
pub(crate) struct Remedied {
    pub(crate) remedy: Cow<'static, str>,
    /// What it is the remedy for, where the engine's error does not say so already.
    pub(crate) error: Option<io::Error>,
}

impl Remedied {
    /// A failure at a server as the engine carries it.
    pub(crate) fn failure(text: String, remedy: Option<&'static str>) -> Box<RusticError> {
        let error =
            RusticError::new(ErrorKind::Backend, "{failure}").attach_context("failure", text);
        match remedy {
            Some(remedy) => error.attach_source(Self {
                remedy: remedy.into(),
                error: None,
            }),
            None => error,
        }
    }
}

impl fmt::Display for Remedied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.as_ref().map_or(Ok(()), |error| error.fmt(f))
    }
}

impl StdError for Remedied {}

/// What a signal means to the person who sent it.
fn interrupted(signal: i32) -> String {
    match signal {
        1 => "hung up (the terminal was closed)".to_owned(),
        2 => "interrupted (Ctrl-C)".to_owned(),
        15 => "terminated".to_owned(),
        other => format!("ended by signal {other}"),
    }
}

/// Each cause once: a full disk fails many files in the same way.
fn joined(reasons: &[Reason]) -> String {
    let mut told: Vec<(&Reason, u64)> = Vec::new();
    for reason in reasons {
        let same = |(known, _): &&mut (&Reason, u64)| {
            known.text == reason.text || known.cause.is_some() && known.cause == reason.cause
        };
        match told.iter_mut().find(same) {
            Some((_, more)) => *more += 1,
            None => told.push((reason, 0)),
        }
    }
    let texts = told.iter().map(|(reason, more)| match more {
        0 => reason.text.clone(),
        more => format!("{} (and {more} more in the same way)", reason.text),
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn first_of(files: &[PathBuf]) -> String {
    let mut text = files
        .iter()
        .take(3)
        .map(|path| format!("`{}`", path.display()))
        .collect::<Vec<_>>()
        .join(", ");
    if files.len() > 3 {
        text += " …";
    }
    text
}

/// An engine's error as one line, without its advice: its own `Display` is a page.
pub(crate) fn one_line(error: &RusticError) -> String {
    shortened(&error.display_log())
}

/// The same for a text that has an engine's error in it.
pub(crate) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = line.strip_prefix("Error: ").unwrap_or(&line).to_owned();
    // A nested error of the engine's brings its whole page along, with the cause in the middle.
    if let Some((before, page)) = line.split_once("`rustic_core` experienced an error") {
        let cause = page.split_once("Message: ").map_or("", |(_, cause)| cause);
        line = format!("{before}{cause}");
    }
    for page in [
        "For more information, see:",
        "Some additional details",
        "Backtrace:",
    ] {
        if let Some(at) = line.find(page).filter(|at| *at > 0) {
            line.truncate(at);
        }
    }
    while let Some(start) = line.find(" (kind: ") {
        let end = line[start..]
            .find(')')
            .map_or(line.len(), |end| start + end + 1);
        line.replace_range(start..end, "");
    }
    for (noise, better) in [
        (
            "Backoff failed, please check the logs for more information: ",
            "",
        ),
        (" Please check the file and try again.", ""),
        (".: caused by: ", ": "),
        (": caused by: ", ": "),
    ] {
        line = line.replace(noise, better);
    }
    // A source that says nothing carries a remedy.
    let line = line.trim_end_matches([' ', ':', '.']);
    let line = line.strip_suffix(": caused by").unwrap_or(line);
    line.trim_end_matches([' ', ':', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use rustic_core::ErrorKind;

    use super::*;

    #[test]
    fn an_engines_error_is_one_line_with_its_cause() {
        let cause = io::Error::from_raw_os_error(28);
        let error = RusticError::with_source(
            ErrorKind::InputOutput,
            "Failed to write to the buffer: `{path}`. Please check the file and try again.",
            cause,
        )
        .attach_context("path", "/mnt/x");
        assert_eq!(
            one_line(&error),
            "Failed to write to the buffer: `/mnt/x`: No space left on device (os error 28)"
        );
    }

    #[test]
    fn a_nested_error_of_the_engines_keeps_its_cause() {
        let cause = RusticError::new(
            ErrorKind::Cryptography,
            "Data decryption failed, MAC check failed.",
        )
        .attach_error_code("C001");
        let error = RusticError::with_source(
            ErrorKind::Cryptography,
            "error processing Index:9bf703b8",
            cause,
        );
        assert_eq!(
            one_line(&error),
            "error processing Index:9bf703b8: Data decryption failed, MAC check failed"
        );
    }
}
