//! A profile whose host or series no snapshot has: a copy of it on another machine was written otherwise than the
//! hub's, and looks at nothing. Retention then removes nothing, and what it calls stale stays so.

use std::collections::{BTreeMap, BTreeSet};

use rustic_core::repofile::SnapshotFile;

use crate::policy::history::Snapshot;
use crate::policy::readable::of_all_hosts;
use crate::profile::Profile;

/// Where there is no snapshot of the profile in a repository that has others: what the profile looks for, and which
/// hosts and series are there.
pub(crate) fn nothing_matches(
    profile: &Profile,
    ours: &[Snapshot],
    files: &[SnapshotFile],
) -> Option<String> {
    let all = of_all_hosts(files);
    (ours.is_empty() && !all.is_empty()).then(|| {
        let series: Vec<_> = profile.series.iter().map(|s| s.name.as_str()).collect();
        format!(
            "the profile `{}` matches no snapshot: it looks for the host `{}` with the series {}; the repository has {}",
            profile.file.display(),
            profile.host,
            series.join(", "),
            hosts_and_series(&all)
        )
    })
}

/// Where one series of the profile has no snapshot, and others have: the profile may extend another one than the
/// hub's does.
pub(crate) fn series_without(profile: &Profile, ours: &[Snapshot]) -> Option<String> {
    let here: BTreeSet<&str> = ours.iter().map(|s| s.series.as_str()).collect();
    let required = |series: &str| {
        let mut of_it = profile.sources.iter().filter(|s| s.series == series);
        of_it.any(|s| s.source.required)
    };
    let names = profile.series.iter().map(|series| series.name.as_str());
    let without: Vec<_> = names
        .filter(|name| !here.contains(name) && required(name))
        .map(|name| format!("`{name}`"))
        .collect();
    (!without.is_empty() && !here.is_empty()).then(|| {
        format!(
            "no snapshot of {} is in the repository, which has {}; if this profile is a copy, does it `extends` the same profile as the hub's?",
            without.join(", "),
            hosts_and_series(ours)
        )
    })
}

fn hosts_and_series(snapshots: &[Snapshot]) -> String {
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for snapshot in snapshots {
        hosts
            .entry(&snapshot.host)
            .or_default()
            .insert(&snapshot.series);
    }
    let each = hosts.into_iter().map(|(host, series)| {
        let series: Vec<_> = series.into_iter().collect();
        format!("`{host}` with {}", series.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}
