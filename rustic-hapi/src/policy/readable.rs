//! Whose snapshots a command looks at that only reads: those of the profile, of another host, or of all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rustic_core::repofile::SnapshotFile;

use crate::error::Error;
use crate::policy::history::{self, CONDITIONS, Origins, Snapshot};
use crate::profile::Profile;

/// The snapshots that commands which only read look at: the profile's own, or, where there is no
/// profile on this machine, those that this program wrote for `host`, a host's name or the id of a hub.
///
/// # Errors
/// Without a profile: several hosts, or hubs of one host, are in the repository, and none was named.
pub(crate) fn readable(
    files: &[SnapshotFile],
    profile: Option<&Profile>,
    host: Option<&str>,
    origins: &Origins,
) -> Result<Vec<Snapshot>, Error> {
    if let Some(profile) = profile.filter(|profile| host.is_none_or(|host| host == profile.host)) {
        return Ok(history::ours_or_the_only(files, profile, origins));
    }
    let hub = |snapshot: &Snapshot| history::hub_of(snapshot, origins);
    let of_this_program = || files.iter().filter(|f| f.username == history::USERNAME);
    let hosts: BTreeSet<&str> = of_this_program().map(|f| f.hostname.as_str()).collect();
    if let Some(name) = host.filter(|host| !hosts.contains(host)) {
        let mut snapshots = of_all_hosts(files);
        snapshots.retain(|s| hub(s).is_some_and(|hub| hub.is_named(name)));
        if !snapshots.is_empty() {
            return Ok(snapshots);
        }
    }
    let host = match (host, hosts.len()) {
        (Some(host), _) if hosts.contains(host) => host.to_owned(),
        (Some(host), _) => {
            return Err(Error::usage(
                format!("there is no snapshot of the host `{host}` here"),
                format!("there are some of {}", joined(&hosts)),
            ));
        }
        (None, 0 | 1) => hosts.first().copied().unwrap_or_default().to_owned(),
        (None, _) => {
            return Err(Error::usage(
                "there are snapshots of several hosts here",
                format!("name one with `--host`: {}", joined(&hosts)),
            ));
        }
    };
    let mut snapshots = of_all_hosts(files);
    snapshots.retain(|snapshot| snapshot.host == host);
    let hubs: BTreeSet<String> = snapshots
        .iter()
        .filter_map(|snapshot| hub(snapshot).map(|hub| hub.to_string()))
        .collect();
    match hubs.len() {
        0 | 1 => Ok(snapshots),
        _ => Err(Error::usage(
            format!("the host `{host}` has snapshots of several hubs here"),
            format!(
                "name one with `--host HUB-ID`: {}; `rustic-hapi snapshots --all-hosts` lists them",
                hubs.into_iter().collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

/// All that this program wrote, on whatever host, oldest first. No profile says here which tag is the series and
/// which the operator's (`snapshot --tag`): the series is the one that more of the host's snapshots have.
pub(crate) fn of_all_hosts(files: &[SnapshotFile]) -> Vec<Snapshot> {
    let ours = || files.iter().filter(|f| f.username == history::USERNAME);
    let mut with_tag: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for file in ours() {
        for tag in names(file) {
            *with_tag.entry((&file.hostname, tag)).or_default() += 1;
        }
    }
    let mut snapshots: Vec<_> = ours()
        .filter_map(|file| {
            let host = file.hostname.as_str();
            let most = names(file).map(|tag| (with_tag[&(host, tag)], Reverse(tag)));
            let (_, Reverse(series)) = most.max()?;
            Snapshot::read(file, series)
        })
        .collect();
    snapshots.sort_by_key(|s| s.time);
    snapshots
}

/// The tags that may be a series' name.
fn names(file: &SnapshotFile) -> impl Iterator<Item = &str> {
    let tags = file.tags.iter().map(String::as_str);
    tags.filter(|tag| !CONDITIONS.contains(tag))
}

fn joined(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
