//! The list of a repository's snapshots.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use crate::commands::context::Context;
use crate::error::Error;
use crate::policy::history::Snapshot;
use crate::policy::readable;
use crate::policy::unmatched;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::origin;

/// Which snapshots to list.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Another host's than the profile's.
    pub host: Option<String>,
    /// Those of every host that has some.
    pub all_hosts: bool,
    /// Only the newest of each host and series, so many.
    pub latest: Option<NonZeroUsize>,
    /// Only those that have all of these tags.
    pub tags: Vec<String>,
}

/// The snapshots there are.
#[derive(Debug)]
pub struct Listing {
    /// Those asked for, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// How many there are, with those that were not asked for.
    pub all: usize,
    /// What is there instead, where none is the profile's.
    pub unmatched: Option<String>,
    /// Snapshot files that cannot be read, if there are any: they hide none of the others.
    pub unreadable: Option<Error>,
}

/// Lists the snapshots of a profile, or those of every host that has some.
///
/// # Errors
/// Those of opening and reading the repository.
pub fn run(from: Reading<'_>, request: &Request, context: &Context<'_>) -> Result<Listing, Error> {
    let host = request.host.as_deref();
    let repository = Repository::open(from.reach, context.stop, context.ui.clone())?;
    let (files, unreadable) = repository.snapshots_or_readable()?;
    let snapshots = match request.all_hosts {
        true => readable::of_all_hosts(&files),
        false => origin::readable(&repository, &files, from.profile, host)?,
    };
    let of_profile = from.profile.filter(|_| host.is_none());
    Ok(Listing {
        all: snapshots.len(),
        unmatched: of_profile
            .and_then(|profile| unmatched::nothing_matches(profile, &snapshots, &files)),
        snapshots: request.of(snapshots),
        unreadable,
    })
}

impl Request {
    /// Those asked for, of all in order of time.
    fn of(&self, all: Vec<Snapshot>) -> Vec<Snapshot> {
        let tagged = |snapshot: &Snapshot| self.tags.iter().all(|tag| snapshot.has(tag));
        let mut left: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut newest_first: Vec<_> = all.into_iter().rev().filter(tagged).collect();
        if let Some(latest) = self.latest {
            newest_first.retain(|snapshot| {
                let series = (snapshot.host.clone(), snapshot.series.clone());
                let seen = left.entry(series).or_default();
                *seen += 1;
                *seen <= latest.get()
            });
        }
        newest_first.reverse();
        newest_first
    }
}
