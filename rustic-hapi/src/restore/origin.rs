//! The origin of a snapshot is the hub whose state it is of. Snapshots of now name it in their
//! description; that of older ones, or of one that `restic tag` wrote anew, is read from their manifest
//! once and kept in the state folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rustic_core::repofile::SnapshotFile;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::record;
use crate::policy::history::{self, Origin, Origins, Snapshot};
use crate::policy::manifest::PathRecord;
use crate::policy::readable;
use crate::profile::Profile;
use crate::profile::written::shipped_with;
use crate::repository::Repository;
use crate::restore::contents::Contents;
use crate::words::plural;
use hapi_sources::Kind;

/// Where what was read is kept.
const FILE: &str = "origins.json";

/// The snapshots of a profile's hub, oldest first. Where it has none, its id is not written down, and there is
/// one other hub of its host, they are that one's: a storage host with a copy of the profile has other
/// paths, and another id by them. A run that writes does not presume so much ([`ours`]).
pub(crate) fn seen(
    repository: &Repository,
    files: &[SnapshotFile],
    profile: &Profile,
) -> Vec<Snapshot> {
    let origins = of(repository, files, Some(&profile.host));
    history::ours_or_the_only(files, profile, &origins)
}

/// The snapshots of a profile's hub, oldest first.
pub(crate) fn ours(
    repository: &Repository,
    files: &[SnapshotFile],
    profile: &Profile,
) -> Vec<Snapshot> {
    let of_host = Some(profile.host.as_str());
    history::ours(files, profile, &of(repository, files, of_host))
}

/// The snapshots that commands which only read look at.
///
/// # Errors
/// Several hosts or hubs are meant.
pub(crate) fn readable(
    repository: &Repository,
    files: &[SnapshotFile],
    profile: Option<&Profile>,
    host: Option<&str>,
) -> Result<Vec<Snapshot>, Error> {
    let of_host = host.or(profile.map(|profile| profile.host.as_str()));
    // What is named may be a hub.
    let of_host = of_host.filter(|host| files.iter().any(|file| file.hostname == **host));
    readable::readable(files, profile, host, &of(repository, files, of_host))
}

/// Reads the origins that no description names, of one host or of all. One that cannot be read stays
/// unknown.
fn of(repository: &Repository, files: &[SnapshotFile], host: Option<&str>) -> Origins {
    let silent: Vec<Snapshot> = readable::of_all_hosts(files)
        .into_iter()
        .filter(|snapshot| snapshot.hub().is_none())
        .filter(|snapshot| host.is_none_or(|host| snapshot.host == host))
        .collect();
    if silent.is_empty() {
        return Origins::new();
    }
    let path = repository.state().join(FILE);
    let mut known: BTreeMap<String, Kept> = record::load(&path).ok().flatten().unwrap_or_default();
    let mut origins = Origins::new();
    let mut engine = None;
    for snapshot in &silent {
        let id = snapshot.id.to_hex().to_string();
        let origin = match known.get(&id) {
            Some(kept) => kept.origin(),
            None => {
                // Opened only where something has to be read.
                let engine = engine.get_or_insert_with(|| repository.for_reading().ok());
                let contents = engine
                    .as_ref()
                    .and_then(|engine| Contents::load(engine, snapshot).ok());
                let Some(contents) = contents else { continue };
                Origin::of(&contents.manifest)
            }
        };
        origins.insert(snapshot.id, origin);
    }
    let mut keep: BTreeMap<String, Kept> = origins
        .iter()
        .map(|(id, origin)| (id.to_hex().to_string(), Kept::of(origin)))
        .collect();
    let all_known = keep.keys().all(|id| known.contains_key(id));
    for file in files {
        let id = file.id.to_hex().to_string();
        if let Some(kept) = known.remove(&id) {
            keep.entry(id).or_insert(kept);
        }
    }
    if !all_known {
        // What cannot be kept is read again.
        _ = record::store(&path, &keep);
    }
    origins
}

/// An origin as the state folder has it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    databases: Vec<PathRecord>,
}

impl Kept {
    fn of(origin: &Origin) -> Self {
        Self {
            hub: origin.hub.as_ref().map(ToString::to_string),
            databases: origin
                .databases
                .iter()
                .map(|p| p.as_path().into())
                .collect(),
        }
    }

    fn origin(&self) -> Origin {
        Origin {
            hub: self
                .hub
                .as_deref()
                .and_then(crate::profile::hub_id::HubId::parse),
            databases: self.databases.iter().map(PathRecord::to_path).collect(),
        }
    }
}

impl Origin {
    fn of(manifest: &crate::policy::manifest::Manifest) -> Self {
        let databases = manifest.sources.iter().filter(|s| s.kind == Kind::Sqlite);
        Self {
            hub: manifest
                .hub
                .as_deref()
                .and_then(crate::profile::hub_id::HubId::parse),
            databases: databases
                .map(|s| s.path.to_path())
                .collect::<Vec<PathBuf>>(),
        }
    }
}

/// One hub that has snapshots in a repository.
#[derive(Clone, Debug)]
pub struct HubHere {
    /// Its id.
    pub id: crate::profile::hub_id::HubId,
    /// The host name that its snapshots carry.
    pub host: String,
    /// The path of its first database, where it is known.
    pub database: Option<PathBuf>,
    /// Its newest snapshot.
    pub newest: Snapshot,
    /// How many there are.
    pub snapshots: usize,
}

impl HubHere {
    /// The shipped profile that its newest snapshot was taken by, or by one that extends it.
    pub(crate) fn extends(&self) -> Option<&'static str> {
        let description = self.newest.description.as_ref()?;
        Some(shipped_with(description.sources.keys()))
    }
}

impl fmt::Display for HubHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database.as_deref().map_or_else(
            || "an unknown path".to_owned(),
            |path| path.display().to_string(),
        );
        let newest = self.newest.time.format("%Y-%m-%d %H:%M");
        write!(
            f,
            "{}  {}:{database}, {} {}, the newest of {newest}",
            self.id,
            self.host,
            self.snapshots,
            plural(self.snapshots as u64, "snapshot", "snapshots")
        )
    }
}

/// One line for each hub.
pub(crate) fn listed(hubs: &[HubHere]) -> String {
    let lines: Vec<_> = hubs.iter().map(|hub| format!("  {hub}")).collect();
    lines.join("\n")
}

/// The other hubs of the profile's host that have snapshots of its series here.
pub(crate) fn others_of_host(
    repository: &Repository,
    files: &[SnapshotFile],
    profile: &Profile,
) -> Vec<HubHere> {
    let tagged = |file: &&SnapshotFile| {
        let mut series = profile.series.iter();
        series.any(|s| file.tags.iter().any(|tag| *tag == s.name))
    };
    let files: Vec<SnapshotFile> = files.iter().filter(tagged).cloned().collect();
    let mut hubs = hubs(repository, &files);
    hubs.retain(|hub| hub.host == profile.host && !profile.hub.has_id(&hub.id));
    hubs
}

/// Says so where the profile's hub has no snapshot here, and another one of its host has: it may be the
/// same, moved.
pub(crate) fn only_others(
    repository: &Repository,
    files: &[SnapshotFile],
    profile: &Profile,
    ours: &[Snapshot],
) -> Option<String> {
    if !ours.is_empty() {
        return None;
    }
    let others = others_of_host(repository, files, profile);
    let first = others.first()?;
    Some(format!(
        "this hub has no snapshot in the repository, but another hub of the host `{}` has: {first}; \
         if it is the same hub and its home was moved: `rustic-hapi init --adopt {}`",
        profile.host, first.id
    ))
}

/// The hubs that have snapshots here, the one with the newest snapshot first.
pub(crate) fn hubs(repository: &Repository, files: &[SnapshotFile]) -> Vec<HubHere> {
    let origins = of(repository, files, None);
    let mut hubs: Vec<HubHere> = Vec::new();
    for snapshot in readable::of_all_hosts(files).into_iter().rev() {
        let Some(id) = history::hub_of(&snapshot, &origins) else {
            continue;
        };
        let database = origins
            .get(&snapshot.id)
            .and_then(|origin| origin.databases.first().cloned());
        match hubs
            .iter_mut()
            .find(|hub| hub.id == id && hub.host == snapshot.host)
        {
            Some(hub) => {
                hub.snapshots += 1;
                hub.database = hub.database.take().or(database);
            }
            None => hubs.push(HubHere {
                id,
                host: snapshot.host.clone(),
                database,
                newest: snapshot,
                snapshots: 1,
            }),
        }
    }
    for hub in &mut hubs {
        if hub.database.is_none() {
            let engine = repository.for_reading().ok();
            let contents = engine.and_then(|engine| Contents::load(&engine, &hub.newest).ok());
            hub.database =
                contents.and_then(|c| Origin::of(&c.manifest).databases.into_iter().next());
        }
    }
    hubs
}
