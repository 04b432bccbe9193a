//! What helps where this user may not do something to a file: whose the file is, and the command that changes that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hapi_sources::{Barrier, user_for_chown, user_name};
use rustix::process::geteuid;

use crate::machine::process::call_as;
use crate::machine::shell::quoted;

/// What helps against whatever keeps this user from a file or folder; `None` where owners and modes do not.
/// `whole` is the folder all of which should be one user's, `marker` what says whose.
pub(crate) fn remedy(path: &Path, whole: &Path, marker: &Path) -> Option<String> {
    // What cannot be made or replaced is kept from it by its folder.
    let above = path.ancestors().skip(1).find(|above| above.exists());
    let barrier = Barrier::to_using(path).or_else(|| Barrier::to_writing_in(above?))?;
    // Only what is within is known to be for one user.
    let is_within = barrier.path.starts_with(whole);
    let owner = fs::metadata(marker).or_else(|_| fs::metadata(whole));
    let owner = owner.map_or(barrier.owner, |m| m.uid());
    let us = geteuid().as_raw();
    let above = barrier.path.parent().and_then(|p| fs::metadata(p).ok());
    let is_for_us = match is_within {
        true => owner == us || owner == 0,
        // What root left in a folder of this user's, say.
        false => barrier.is_ours() || above.is_some_and(|m| m.uid() == us),
    };
    let whole = match is_within {
        true => whole,
        false => &barrier.path,
    };
    let command = match () {
        () if !is_for_us => format!(
            "run it as the owner, {}: `{}`",
            user_name(owner),
            call_as(owner)
        ),
        () if barrier.is_ours() && is_within => format!("`chmod -R u+rwX {}`", word(whole)),
        () if barrier.is_ours() => format!("`chmod u+rwx {}`", word(whole)),
        () => format!(
            "`sudo chown -R {} {}` makes it this user's again",
            user_for_chown(us),
            word(whole)
        ),
    };
    Some(format!("{barrier}: {command}"))
}

/// The same for whatever is the first in the way in a folder and all below it.
pub(crate) fn remedy_below(whole: &Path, marker: &Path) -> Option<String> {
    fn look(folder: &Path, whole: &Path, marker: &Path) -> Option<String> {
        if Barrier::to_reading(folder).is_some() {
            return remedy(folder, whole, marker);
        }
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            let found = match entry.file_type() {
                Ok(kind) if kind.is_dir() => look(&path, whole, marker),
                _ => Barrier::to_reading(&path).and_then(|_| remedy(&path, whole, marker)),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
    look(whole, whole, marker)
}

fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
