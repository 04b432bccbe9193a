//! What is unwise about a place, as far as can be told when it is made.

use crate::machine::disk::Relation;
use crate::profile::Profile;

/// Whether the repository outlives this machine, as far as can be told.
pub(super) fn about(profile: &Profile) -> Vec<String> {
    let unknown = || match crate::policy::survival::of_profile(profile) {
        (Relation::Unknown(by), path) => Some(format!(
            "whether the repository is on another disk than `{}` is unknown ({by})",
            path.display()
        )),
        _ => None,
    };
    let fact = crate::policy::survival::dies_with_this_machine(profile).or_else(unknown);
    let shell = profile.reach.only_in_this_shell().unwrap_or_default();
    let shell = (!shell.is_empty()).then(|| {
        format!(
            "only this shell has {}; scheduled runs need them in a file: set `environment-file` in {}",
            shell.join(", "),
            profile.table()
        )
    });
    fact.into_iter()
        .chain(shell)
        .map(|fact| format!("warning: {fact}"))
        .collect()
}
