//! Whose a repository and a state folder are. What root puts into those of another user locks that user out, so as
//! root they are left to their owner.
//!
//! Where root has been writing already, a cron job of root's say, it goes on: some of the snapshots or records there
//! are root's. And nothing is asked of a file system that gives every file to one user, whoever makes it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hapi_sources::{user_for_chown, user_name};
use rustix::process::geteuid;

use crate::destination::location::Location;
use crate::error::Error;
use crate::machine::process::call_as;
use crate::machine::shell::quoted;

/// What a run as root would leave behind for another user to stumble over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// The folder.
    pub(crate) path: PathBuf,
    /// Whose it is.
    pub(crate) owner: u32,
    /// Whether root has written there already.
    pub(crate) is_routine: bool,
}

impl Foreign {
    /// The fact, for a sentence.
    pub(crate) fn in_words(&self) -> String {
        let (path, owner) = (self.path.display(), user_name(self.owner));
        format!("`{path}` belongs to {owner}, who cannot read the files that root puts there")
    }

    /// The call that leaves nothing of root's behind, and before it what gives back what root has left already.
    pub(crate) fn hint(&self) -> String {
        let call = call_as(self.owner);
        match self.is_routine {
            false => format!("`{call}`"),
            true => format!(
                "`sudo chown -R {} {}` gives that user all of it; from then on run it as that user: `{call}`",
                user_for_chown(self.owner),
                quoted(&self.path.to_string_lossy())
            ),
        }
    }
}

/// What of another user's a call that writes would write to: only root can.
pub(crate) fn foreign(location: Option<&Location>, state: &Path) -> Option<Foreign> {
    if !geteuid().is_root() {
        return None;
    }
    let Some(repository) = location.and_then(Location::local) else {
        return of_new(state);
    };
    let config = repository.join("config");
    match fs::metadata(&config) {
        // Nobody but root can use it.
        Ok(stat) if stat.uid() == 0 => None,
        Ok(_) => of(repository, &config, &repository.join("snapshots")).or_else(|| of_new(state)),
        Err(_) => of_new(state),
    }
}

/// Whose a state folder is, or where there is none yet, whose it would be.
fn of_new(state: &Path) -> Option<Foreign> {
    let there = state.ancestors().find(|path| path.exists())?;
    of(there, there, state)
}

/// Makes sure that a call leaves nothing of root's with another user.
///
/// # Errors
/// A usage error with the call that does.
pub(crate) fn leaves_nothing_behind(
    location: Option<&Location>,
    state: &Path,
) -> Result<Option<Foreign>, Error> {
    match foreign(location, state) {
        Some(foreign) if !foreign.is_routine => Err(Error::usage(
            format!("refusing to write as root: {}", foreign.in_words()),
            foreign.hint(),
        )),
        other => Ok(other),
    }
}

/// A folder that is whose `marker` is, and `used`, where every run leaves a file.
fn of(folder: &Path, marker: &Path, used: &Path) -> Option<Foreign> {
    let uid = |path: &Path| fs::metadata(path).ok().map(|m| m.uid());
    let owner = uid(marker).filter(|owner| *owner != 0)?;
    // In a user namespace files of whoever is not in it are nobody's.
    let overflow = fs::read_to_string("/proc/sys/fs/overflowuid").unwrap_or_default();
    if overflow.trim() == owner.to_string() && !sees_all_users() {
        return None;
    }
    let made = tempfile::tempfile_in(folder).ok()?.metadata().ok()?.uid();
    (made == 0).then(|| Foreign {
        path: folder.to_owned(),
        owner,
        is_routine: has_a_file_of_roots(used),
    })
}

/// Whether user numbers here are those of the machine (user_namespaces(7)).
fn sees_all_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn has_a_file_of_roots(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .any(|stat| stat.is_file() && stat.uid() == 0)
}
