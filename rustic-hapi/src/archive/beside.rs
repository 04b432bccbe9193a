//! What is beside the sources is in HAPI's home and in none of them: what the hub began to store since the profile was
//! written, and which HAPI it is.

use std::fs;
use std::path::{Path, PathBuf};

use hapi_sources::{
    CaptureError, LeftOut, Scope, Source, Stop, Why, left_out, named_file, uncovered,
};

use crate::archive::capturing::{Captured, own_places};
use crate::machine::package::{installed_version, is_version};
use crate::policy::manifest::Beside;
use crate::profile::Profile;
use crate::profile::sources::{Series, SeriesSource};

/// Looks; what is uncovered belongs to the series that takes the rest, or to the main one.
///
/// # Errors
/// HAPI's home cannot be listed; the end was asked for.
pub(crate) fn look(
    profile: &Profile,
    series: &Series,
    sources: &[SeriesSource],
    captured: &Captured,
    stop: &Stop,
) -> Result<Beside, CaptureError> {
    let is_main = profile
        .series
        .first()
        .is_some_and(|main| main.name == series.name);
    let uncovered = match profile.rest() {
        // One that failed says so itself.
        Some(rest) => {
            let rest = sources
                .iter()
                .position(|s| s.source.name == rest.source.name);
            let rest = rest.and_then(|rest| captured.get(rest)?.as_ref().ok());
            rest.map_or_else(Vec::new, |rest| rest.left_out.clone())
        }
        None if is_main => not_taken(profile, stop)?,
        None => Vec::new(),
    };
    Ok(Beside {
        uncovered,
        hapi: is_main.then(|| hapi_version(profile)).flatten(),
    })
}

/// What the next run would not take, where a source takes the rest; of what that leaves, as far as can be told.
///
/// # Errors
/// As [`look`].
pub(crate) fn would_be_left_out(
    profile: &Profile,
    rest: &Source,
    stop: &Stop,
) -> Result<Vec<LeftOut>, CaptureError> {
    left_out(
        rest,
        &profile.everything_named(),
        &real_and_named(own_places(profile)),
        stop,
    )
}

/// Each path, and where it leads.
fn real_and_named(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let real = paths.iter().filter_map(|path| fs::canonicalize(path).ok());
    real.chain(paths.iter().cloned()).collect()
}

/// What no source takes, where none takes the rest.
///
/// # Errors
/// As [`look`].
pub(crate) fn not_taken(profile: &Profile, stop: &Stop) -> Result<Vec<LeftOut>, CaptureError> {
    let named = profile.everything_named();
    let mut private = own_places(profile);
    private.push(profile.file.clone());
    let private = real_and_named(private);
    let mut found = match uncovered(
        &profile.hapi_home,
        &named,
        &profile.not_missed,
        &private,
        stop,
    ) {
        // The database's source tells that.
        Err(CaptureError::Missing { .. }) => return Ok(Vec::new()),
        found => found?,
    };
    // Keys elsewhere that the hub's settings name.
    let skipped = profile.skipped_secrets.iter();
    for source in skipped.filter(|s| matches!(s.scope, Scope::NamedBy { .. })) {
        found.extend(named_file(source, &named).map(|path| LeftOut {
            path,
            is_folder: false,
            why: Why::NoSource,
            databases: Vec::new(),
        }));
    }
    Ok(found)
}

/// The version of the HAPI that ran here: the newest of the runtimes that it unpacked, else its package's.
pub(crate) fn hapi_version(profile: &Profile) -> Option<String> {
    let unpacked = newest_runtime(&profile.hapi_home);
    let databases = || profile.databases().collect();
    unpacked.or_else(|| installed_version(&profile.reach.home, &databases()))
}

fn newest_runtime(hapi_home: &Path) -> Option<String> {
    let names = fs::read_dir(hapi_home.join("runtime")).ok()?.flatten();
    let versions = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (is_version(&name) && folder).then(|| (rank(&name), name))
    });
    versions.max().map(|(_, name)| name)
}

/// What orders versions: their numbers, and a release after what came before it.
fn rank(version: &str) -> (Vec<u64>, bool) {
    let (numbers, before) = match version.split_once(['-', '+']) {
        Some((numbers, _)) => (numbers, true),
        None => (version, false),
    };
    let numbers = numbers.split('.').map(|n| n.parse().unwrap_or(0)).collect();
    (numbers, !before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_runtime_is_the_version() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(newest_runtime(tmp.path()), None);
        for name in ["0.9.12", "0.30.7", "0.30.10-beta.1", "tools", "0.30.10"] {
            fs::create_dir_all(tmp.path().join("runtime").join(name)).unwrap();
        }
        fs::write(tmp.path().join("runtime/9.9.9"), "no folder").unwrap();
        assert_eq!(newest_runtime(tmp.path()).as_deref(), Some("0.30.10"));
    }
}
