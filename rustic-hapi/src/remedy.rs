//! A remedy is what the operator can do about an error: a sentence, with the exact command where there is one.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use hapi_sources::{CaptureError, StagingError};

use crate::destination::unfinished;
use crate::error::{Cause, Error, ProfileError, Reason};
use crate::machine::permission;
use crate::machine::shell::quoted;
use crate::words::{by_restic, bytes};

/// The disk does not give something back.
const EIO: i32 = 5;

impl Error {
    /// The error with what helps, for a warning.
    pub(crate) fn in_a_warning(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; hint: {hint}"),
            None => self.to_string(),
        }
    }

    /// What the operator can do about it, if anything is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Profile(ProfileError::Missing { looked, .. }) if !profiles(looked).is_empty() => {
                format!("there are the profiles {}", profiles(looked).join(", "))
            }
            Self::Profile(ProfileError::Missing { .. }) => {
                "`rustic-hapi init --repository LOCATION` writes one; to get data back without one, give `--repository LOCATION --password-file FILE`".into()
            }
            Self::Profile(ProfileError::Read { path, error })
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return permission::remedy(path, path, path);
            }
            Self::Profile(ProfileError::NoHome) => {
                "set HOME (cron and systemd may not), or give `--home DIR`".into()
            }
            Self::Profile(ProfileError::RelativeHome { .. }) => {
                "set HOME to a path that starts with `/`, or give `--home DIR`".into()
            }
            Self::Profile(ProfileError::NotUtf8 { .. }) => {
                "rename it, or name another place; nothing was written".into()
            }
            Self::Profile(ProfileError::Value { hint, .. }) | Self::Usage { hint, .. } => {
                return hint.clone();
            }
            Self::Profile(ProfileError::Variable { hint, .. })
            | Self::PasswordFile { hint, .. }
            | Self::PasswordCommand { hint, .. }
            | Self::NoRepository { hint, .. }
            | Self::SameDisk { hint, .. }
            | Self::InMemory { hint, .. }
            | Self::RepositoryLocked { hint, .. }
            | Self::NotARepository { hint, .. }
            | Self::NoSnapshot { hint, .. } => hint.clone(),
            Self::InTheWay { .. } => {
                "nothing was written; choose an empty folder, or replace them with `--overwrite`".into()
            }
            Self::Unlike { .. } => {
                "nothing was restored from it; `rustic-hapi check --read-data` reports what else is affected, `rustic-hapi snapshots` lists the other snapshots".into()
            }
            Self::NoRoom { .. } => "make room there, or choose another place".into(),
            Self::Tool { command, .. } if command.starts_with("crontab") => {
                "is cron installed, and may this user use it? A systemd timer needs neither: `rustic-hapi schedule --install`".into()
            }
            Self::Identity(error) => return error.hint(),
            Self::NoScratch { .. } => "name a folder with room with `--scratch DIR`".into(),
            Self::Drill { error } | Self::Undone { error } | Self::NotUndone { error, .. } => {
                return error.hint();
            }
            Self::WrongPassword { shared: true, .. } => concat!(
                "that one is the main repository's, and stays: put the copy's into another file, and name it as `password-file` in its `[[copy]]`; where the main repository's was changed, ",
                by_restic!("--password-file OLD key add --new-password-file \"$RESTIC_PASSWORD_FILE\""),
                " adds it to the copy (`OLD`: a file with the one before, or the copy's recovery key)"
            ).into(),
            Self::WrongPassword { .. } => {
                "put the password of this repository there, or its recovery key".into()
            }
            Self::DamagedKeys { .. } => {
                "put the file back into `keys` from another copy of the repository, or open it with the recovery key (its own file: `--password-file`)".into()
            }
            Self::WrongKey { .. } => {
                format!("compare it letter by letter with the page it is written on; {} lists the keys, `rustic-hapi recovery-kit --new-key` makes another", by_restic!("key list"))
            }
            Self::NotARecoveryKey { .. } => {
                "a recovery key is one that `rustic-hapi recovery-kit --new-key` made, kept off this machine".into()
            }
            Self::UnprovenKey { id, .. } => format!(by_restic!("key remove {}"), id),
            Self::OtherRepository { location, .. } => format!(
                "{} If the new repository is meant, change `id` in the profile",
                match location.starts_with('/') {
                    true => "is another disk mounted there?",
                    false => "is it the right server, and the right path?",
                }
            ),
            Self::Refused { failures } => failures
                .iter()
                .find_map(of_reason)
                .unwrap_or("the repository is as it was; run `rustic-hapi snapshot` again".into())
                .into_owned(),
            Self::Unproven { id, .. } => {
                format!(
                    "check the destination ({}), then {}",
                    by_restic!("check"),
                    format_args!(by_restic!("forget {}"), id)
                )
            }
            Self::Locked { holder, .. } => {
                format!("{holder}; wait for it, or give `--lock-wait 10m`")
            }
            Self::State { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                if let Some(remedy) = of_our_files(path) {
                    return Some(remedy);
                }
                "run this as its owner, or give the user that runs this the permission; `lsattr` shows whether it is append-only or immutable".into()
            }
            Self::State { path, error } if is_full(error.kind()) => return Some(make_room(path)),
            Self::State { error, .. } if error.kind() == io::ErrorKind::Unsupported => {
                "choose a place on a file system that can (ext4, XFS, Btrfs)".into()
            }
            Self::State { error, .. } if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "mount it for writing, or choose another place".into()
            }
            Self::State { error, .. }
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                ) =>
            {
                "it exists and is not a folder: choose another place".into()
            }
            Self::Engine { doing, reason } => {
                let index = doing.starts_with("reading the index").then_some(
                    concat!(
                        "`rustic-hapi check` reports which file it is; ",
                        by_restic!("rebuild-index"),
                        " (from 0.16 on `restic repair index`) rebuilds the index from the packs"
                    ),
                );
                return of_reason(reason).or(index.map(Cow::Borrowed)).map(Cow::into_owned);
            }
            Self::NotProven { reason } => {
                return of_reason(reason).map(Cow::into_owned);
            }
            Self::UnreadableSnapshots { torn: false, files, .. } => {
                files.iter().find_map(of_reason).unwrap_or(LOOK.into()).into_owned()
            }
            Self::UnreadableSnapshots { .. } => "on some destinations an interrupted upload leaves such a file: put it back from another copy of the repository, or if there is none, remove it from the folder `snapshots`".into(),
            Self::Destination { hint, .. } | Self::NothingCaptured { hint, .. } => {
                return hint.clone();
            }
            Self::Floor { .. } => "this is a defect or a wrong clock; nothing was removed".into(),
            Self::Postponed { hint, .. } => (*hint).into(),
            Self::InUse { remedies, .. } => format!(
                "{}; systemd restarts a killed hub: stop the unit",
                remedies.join("; ")
            ),
            Self::NotSwapped { hint, .. } => return hint.map(str::to_owned),
            Self::HalfSwapped { folder, .. } => format!(
                "stop the hub and run the same command again, which puts this right if it can; if it cannot, put all files of `{}` back together, beside no other `-wal`",
                folder.display()
            ),
            Self::Stalled { .. } => {
                "is the server hung, the connection down, or a disk asleep? No snapshot was written, and the next run sends only what is missing; `no-progress` in `[limits]` is how long nothing may move".into()
            }
            Self::TooLong { .. } => {
                "is the connection slower than before? No snapshot was written, and the next run sends only what is missing; `total` in `[limits]` is how long a run may take".into()
            }
            Self::Internal { what } if what.contains("spawn thread") => {
                "no more threads may be started: raise `TasksMax=` of the unit, or `ulimit -u`".into()
            }
            Self::Internal { .. } => {
                "this is a defect; the repository has no half snapshot, and the next run may succeed".into()
            }
            Self::Staging(StagingError::Io { path, error })
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return of_our_files(path);
            }
            Self::Capture(error) => return of_capture(error, None),
            Self::Staging(StagingError::NoSpace { .. }) => STAGING.into(),
            _ => return None,
        })
    }
}

const STAGING: &str = "make room, or choose another place with `staging` in the profile";

/// What helps where a source could not be captured: what stands in the profile, or was known before; else what
/// the source's kind says itself.
pub(crate) fn of_capture(error: &CaptureError, source: Option<&str>) -> Option<String> {
    let remedy = match error {
        CaptureError::Missing { .. } | CaptureError::NoMatch { .. } => {
            let Some(source) = source else {
                return Some("correct the path in the profile, or say `required = false`".into());
            };
            let lost = match error {
                CaptureError::Missing { .. } => format!(
                    "if it was lost, stop the hub: `rustic-hapi restore --in-place --source {}` brings back what a snapshot has; if it was moved, ",
                    quoted(source)
                ),
                _ => String::new(),
            };
            return Some(format!(
                "{lost}correct its path; `without = [\"{source}\"]` at the top of the profile leaves an inherited source out, `required = false` lets one of your own be absent"
            ));
        }
        CaptureError::NoRecipients { .. } => "add `recipients` to `[secrets]` in the profile",
        CaptureError::Staging(StagingError::NoSpace { .. }) => STAGING,
        CaptureError::Read { error, .. } if error.raw_os_error() == Some(EIO) => {
            "the disk cannot read it: see `dmesg`, and keep the snapshots that have it"
        }
        CaptureError::WrongType { .. } => {
            "correct the path or the kind of the source in the profile"
        }
        CaptureError::NotADatabase { .. } => {
            "if it was one until recently, check it before the next migration; the last snapshot keeps what it has of it"
        }
        other => return other.hint(),
    };
    Some(remedy.to_owned())
}

/// What helps where a file could not be read, and nothing more is known.
pub(crate) const LOOK: &str = "check the disk, the server and the network; nothing was removed";

/// What helps where this user may not read a file of the repository.
pub(crate) const PERMISSION: &str = "run this as the user that the repository's files belong to (a run as root leaves files that belong to root); `lsattr` shows whether they are append-only or immutable";

/// What helps against what was at the bottom of a failure at the destination.
pub(crate) fn of_reason(reason: &Reason) -> Option<Cow<'static, str>> {
    Some(
        match &reason.cause {
            Some(Cause::Remedied(remedy)) => return Some(remedy.clone()),
            Some(Cause::System(kind)) if is_full(*kind) => FULL,
            Some(Cause::System(io::ErrorKind::ReadOnlyFilesystem)) => {
                "mount the destination for writing"
            }
            Some(Cause::System(io::ErrorKind::PermissionDenied)) => PERMISSION,
            _ => in_the_engines_words(&reason.text)?,
        }
        .into(),
    )
}

/// The profiles in the folders where one was looked for.
fn profiles(looked: &[PathBuf]) -> Vec<String> {
    let folders = looked
        .iter()
        .filter_map(|path| path.parent()?.read_dir().ok());
    let files = folders.flatten().flatten().map(|file| file.path());
    let profiles = files.filter(|file| file.extension().is_some_and(|end| end == "toml"));
    let mut names: Vec<_> = profiles
        .filter_map(|file| Some(format!("`{}`", file.file_stem()?.to_str()?)))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What helps where a destination is full.
pub(crate) const FULL: &str = "make room there: `rustic-hapi doctor` names what is unfinished, and `rustic-hapi forget --prune --instant` immediately deletes what no snapshot needs";

/// Whether there is no room, on the file system or for this user.
fn is_full(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded)
}

/// Whether a file system has room and no inodes. Some count none at all.
fn no_inodes(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_files > 0 && stat.f_favail < 16)
}

/// What makes room where this path is. A full disk has no room for a lock either: so what can go without one
/// comes first.
pub(crate) fn make_room(path: &Path) -> String {
    let is_repository = |p: &&Path| p.join("config").is_file() && p.join("keys").exists();
    let Some(repository) = path.ancestors().find(is_repository) else {
        return "make room on that file system".into();
    };
    let unfinished = unfinished::packs(repository);
    let first = match unfinished.iter().max_by_key(|(_, metadata)| metadata.len()) {
        Some((path, metadata)) => format!(
            "if no run is at work, `rm {}` frees {} (nothing refers to it: an upload was cut off)",
            quoted(&path.to_string_lossy()),
            bytes(metadata.len())
        ),
        None if no_inodes(repository) => {
            "that file system has no inodes left for new files (`df -i`): remove files there that are not the repository's".into()
        }
        None => "free 1 MiB there for a lock and an index".into(),
    };
    format!(
        "{first}; then `rustic-hapi forget --prune --instant` immediately deletes what no snapshot needs; if that is too little, the repository needs a larger disk"
    )
}

/// What helps where this user may not use a file of ours: all of its folder `rustic-hapi` is one user's, or all of
/// its repository.
fn of_our_files(path: &Path) -> Option<String> {
    let repository = path
        .ancestors()
        .find(|p| p.join("config").is_file() && p.join("keys").exists());
    if let Some(repository) = repository {
        return permission::remedy(path, repository, &repository.join("config"));
    }
    let ours = path.ancestors().find(|p| p.ends_with("rustic-hapi"));
    let whole = ours.unwrap_or(path);
    permission::remedy(path, whole, whole.parent().unwrap_or(whole))
}

/// The engine has no type for a damaged file, only these words.
fn in_the_engines_words(text: &str) -> Option<&'static str> {
    [
        ("processing Index", concat!("that file of the repository is damaged: put it back from another copy; to rebuild an index: ", by_restic!("rebuild-index"), " (from 0.16 on `restic repair index`)")),
        ("MAC check failed", "a file of the repository is damaged: `rustic-hapi check --read-data` names it, and what helps"),
        ("processing Config", "the repository's `config` is damaged: put it back from another copy of the repository, without which nothing can be read"),
    ]
    .into_iter()
    .find_map(|(fact, remedy)| text.contains(fact).then_some(remedy))
}

#[cfg(test)]
mod tests {
    use rustic_core::{ErrorKind, RusticError};

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_full_destination_has_a_remedy() {
        let full = io::Error::from_raw_os_error(28);
        let inner = RusticError::with_source(ErrorKind::InputOutput, "cannot write", full);
        let outer = RusticError::with_source(ErrorKind::Backend, "packing failed", inner);
        let error = Error::Refused {
            failures: vec![Reason::of(&outer)],
        };
        assert!(error.hint().is_some_and(|hint| hint.contains("make room")));
        assert_eq!(error.exit(), Exit::Failed);
    }

    #[test]
    fn a_damaged_index_has_a_remedy() {
        let error = Error::Engine {
            doing: "reading the index",
            reason: "error processing Index:9bf703b8: Data decryption failed, MAC check failed"
                .into(),
        };
        assert!(error.hint().is_some_and(|hint| hint.contains("is damaged")));
    }
}
