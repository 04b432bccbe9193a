//! The list of a repository's snapshots.

use crate::commands::context::Context;
use crate::error::Error;
use crate::policy::choice;
use crate::policy::history::Snapshot;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::origin;

/// The snapshots there are.
#[derive(Debug)]
pub struct Listing {
    /// Those asked for, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// How many snapshot files the repository has, others' among them.
    pub files: usize,
    /// The profile's host, where the files there are are all others'.
    pub none_of: Option<String>,
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
        true => choice::of_all_hosts(&files),
        false => origin::readable(&repository, &files, from.profile, host)?,
    };
    let none = snapshots.is_empty() && !files.is_empty();
    Ok(Listing {
        none_of: from
            .profile
            .filter(|_| none)
            .map(|profile| profile.host.clone()),
        files: files.len(),
        snapshots,
        unreadable,
    })
}
