//! What the new profile asks for and the hub's machine does not have: better told now than by the first snapshot.

use std::io;

use hapi_sources::{Kind, Source};

use crate::profile::Profile;

/// A warning of the required sources that are not there. Where the hub's database is not, no hub is here yet.
pub(super) fn about(profile: &Profile) -> Option<String> {
    let sources = || profile.sources.iter().map(|s| &s.source);
    let is_absent = |source: &&Source| {
        let found = source.path.symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let mut databases = sources().filter(|source| source.kind == Kind::Sqlite);
    if databases.all(|database| is_absent(&database)) {
        return None;
    }
    let is_required = |source: &&Source| source.required && !source.is_pattern();
    let absent: Vec<&Source> = sources().filter(is_required).filter(is_absent).collect();
    let paths: Vec<_> = absent
        .iter()
        .map(|source| format!("`{}`", source.path.display()))
        .collect();
    let names: Vec<_> = absent
        .iter()
        .map(|source| format!("\"{}\"", source.name))
        .collect();
    let does = crate::words::plural(absent.len() as u64, "does", "do");
    (!absent.is_empty()).then(|| {
        format!(
            "warning: {} {does} not exist, so snapshots will be partial; \
             hint: where this hub has none, add `without = [{}]` at the top of the profile",
            paths.join(", "),
            names.join(", ")
        )
    })
}
