//! The list of a repository's snapshots.

use crate::commands::context::Context;
use crate::error::Error;
use crate::policy::history::Snapshot;
use crate::policy::readable;
use crate::policy::unmatched;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::origin;

/// The snapshots there are.
#[derive(Debug)]
pub struct Listing {
    /// Those asked for, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Whether those of all hosts were asked for.
    pub all_hosts: bool,
    /// What is there instead, where none is the profile's.
    pub unmatched: Option<String>,
    /// Snapshot files that cannot be read, if there are any: they hide none of the others.
    pub unreadable: Option<Error>,
}

/// Lists the snapshots of a profile, or those of every host that has some.
///
/// # Errors
/// Those of opening and reading the repository.
pub fn run(
    from: Reading<'_>,
    host: Option<&str>,
    all_hosts: bool,
    context: &Context<'_>,
) -> Result<Listing, Error> {
    let repository = Repository::open(from.reach, context.stop, context.ui.clone())?;
    let (files, unreadable) = repository.snapshots_or_readable()?;
    let snapshots = match all_hosts {
        true => readable::of_all_hosts(&files),
        false => origin::readable(&repository, &files, from.profile, host)?,
    };
    let of_profile = from.profile.filter(|_| host.is_none());
    Ok(Listing {
        all_hosts,
        unmatched: of_profile
            .and_then(|profile| unmatched::nothing_matches(profile, &snapshots, &files)),
        snapshots,
        unreadable,
    })
}
