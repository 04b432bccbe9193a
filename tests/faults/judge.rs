//! The judge knows what was reported as saved, and asks stock restic after each round whether it still is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use rustic_core::Id;
use rustic_hapi::Policy;
use rustic_hapi::history::Snapshot;
use rustic_hapi::retention::Plan;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{CANARIES, Home, Said, files_with};

/// See the module.
#[derive(Default)]
pub struct Judge {
    /// Snapshots that were reported as saved, with the SHA-256 of their database.
    saved: BTreeMap<String, String>,
    /// Those that retention's plan names for removal.
    may_go: BTreeSet<String>,
    /// Whose each is, where that is not the repository's own home.
    hubs: BTreeMap<String, PathBuf>,
    /// A host that is none of ours.
    stranger: Option<String>,
    /// What is known of each snapshot that was ever listed, for a plan of retention.
    seen: BTreeMap<String, Snapshot>,
    /// A run was killed that may have applied retention, and told nobody.
    retention_may_have_run: bool,
}

impl Judge {
    /// What a run reported.
    pub fn hear(&mut self, home: &Home, said: &Said) {
        self.hear_on(home, home, said);
    }

    /// What a run of a hub reported whose repository is another home's.
    pub fn hear_on(&mut self, home: &Home, hub: &Home, said: &Said) {
        let Ok(report) = serde_json::from_str::<Value>(&said.stdout) else {
            return;
        };
        for series in report["series"].as_array().into_iter().flatten() {
            if let Some(id) = series["snapshot"].as_str() {
                self.saved.insert(id.to_owned(), database_of(home, hub, id));
                self.hubs.insert(id.to_owned(), hub.path());
            }
        }
        for id in report["retention"]["removed"]
            .as_array()
            .into_iter()
            .flatten()
        {
            self.may_go.insert(id.as_str().unwrap().to_owned());
        }
    }

    /// What retention would remove now.
    pub fn expect_removals(&mut self, home: &Home, time: &str) {
        let plan = home.at(time, &["forget", "--dry-run", "--json"]).exits(0);
        for decision in plan.json()["snapshots"].as_array().unwrap() {
            if decision["keep"] == false {
                self.may_go
                    .insert(decision["id"].as_str().unwrap().to_owned());
            }
        }
    }

    /// A run that applies retention after its own snapshot was killed: what its plan removed may be gone before
    /// it was told.
    pub fn expect_retention(&mut self) {
        self.retention_may_have_run = true;
    }

    /// Whether retention removes a snapshot, by the default policy, once all of these are there.
    fn is_planned_away(&self, id: &str, listed: &BTreeSet<String>) -> bool {
        let there = self
            .seen
            .iter()
            .filter(|(seen, _)| listed.contains(*seen) || self.saved.contains_key(*seen));
        let there: Vec<Snapshot> = there.map(|(_, snapshot)| snapshot.clone()).collect();
        let now = there.iter().map(|s| s.time).max().unwrap();
        let plan = Plan::make(&there, &Policy::default(), &now).unwrap();
        plan.removals().iter().any(|s| s.id.to_hex().as_str() == id)
    }

    /// The operator removes all but the newest two of each series, and their data at once or with a later prune.
    pub fn keep_two(&mut self, home: &Home, prune: bool) {
        let forget = ["forget", "--keep-last", "2", "--group-by", "tags"];
        let prune: &[&str] = if prune { &["--prune"] } else { &[] };
        home.restic(&[&forget, prune].concat());
        let left = home.restic_snapshots();
        let is_left = |id: &String| left.iter().any(|s| s["id"] == id.as_str());
        self.saved.retain(|id, _| is_left(id));
    }

    /// Snapshots of this host are somebody else's.
    pub fn leave_out(&mut self, host: &str) {
        self.stranger = Some(host.to_owned());
    }

    pub fn count(&self) -> usize {
        self.saved.len()
    }

    /// After a round: everything that was reported as saved is there and is what it was, what is listed is
    /// whole, and the repository is sound. `asked` of the saved ones are compared byte for byte.
    pub fn judge(&mut self, home: &Home, pick: &mut dyn FnMut(u64) -> u64, asked: usize) {
        // A killed process leaves its lock, which the next run of ours has to clear by itself.
        home.restic(&["check", "--read-data", "--no-lock"]);
        let listed: BTreeSet<String> = home
            .restic_snapshots()
            .iter()
            .filter(|s| s["hostname"].as_str() != self.stranger.as_deref())
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect();
        for snapshot in home.restic_snapshots() {
            let seen = as_planned(&snapshot);
            self.seen.insert(seen.id.to_hex().to_string(), seen);
        }
        for id in self.saved.keys() {
            let planned = self.retention_may_have_run && self.is_planned_away(id, &listed);
            assert!(
                listed.contains(id) || self.may_go.contains(id) || planned,
                "the snapshot {id} is lost"
            );
        }
        self.retention_may_have_run = false;
        self.saved.retain(|id, _| listed.contains(id));
        // One that was written and not reported, since the run was killed in between, is whole too.
        for id in &listed {
            if !self.saved.contains_key(id) {
                self.saved
                    .insert(id.clone(), database_at(home, &home.path(), id));
            }
        }
        let ids: Vec<String> = self.saved.keys().cloned().collect();
        for _ in 0..asked.min(ids.len()) {
            let nth = usize::try_from(pick(ids.len() as u64)).unwrap();
            let id = &ids[nth];
            let own = home.path();
            let hub = self.hubs.get(id).unwrap_or(&own);
            assert_eq!(database_at(home, hub, id), self.saved[id], "{id}");
        }
    }

    /// After the run that follows: nothing of the killed one is left.
    pub fn clean(home: &Home) {
        let staging = home.state().join("staging");
        let left: Vec<_> = fs::read_dir(&staging)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let locks = fs::read_dir(home.repository().join("locks"));
        assert_eq!(locks.map_or(0, Iterator::count), 0);
        for canary in CANARIES {
            let found = files_with(home.dir.path(), canary);
            assert_eq!(found, [home.hapi("hub.env")], "{canary}");
        }
    }
}

/// What a plan of retention wants to know of one of restic's snapshots.
fn as_planned(snapshot: &Value) -> Snapshot {
    let tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
    let tags: Vec<String> = tags
        .iter()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect();
    let id: Id = snapshot["id"].as_str().unwrap().parse().unwrap();
    Snapshot {
        id: id.into(),
        original: None,
        host: String::new(),
        time: DateTime::parse_from_rfc3339(snapshot["time"].as_str().unwrap()).unwrap(),
        series: tags.first().cloned().unwrap_or_default(),
        tags,
        description: None,
        keep_until: None,
        added: None,
        tree: String::new(),
    }
}

/// The SHA-256 of the database in a snapshot, as restic reads it; it has to be the manifest's. Of a
/// snapshot without a database, that of its manifest.
fn database_of(home: &Home, hub: &Home, id: &str) -> String {
    database_at(home, &hub.path(), id)
}

fn database_at(home: &Home, hub: &Path, id: &str) -> String {
    let dump = |path: &Path| -> Vec<u8> {
        let output = home
            .restic_command(&["dump", "--no-lock", id, path.to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{id}: {said}");
        output.stdout
    };
    let bytes = dump(&hub.join(".hapi-manifest.json"));
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let sources = manifest["sources"].as_array().unwrap();
    let source = sources.iter().find(|s| s["name"] == "hapi.db");
    // A partial snapshot may be without it, too, and says so.
    let Some(wanted) = source.and_then(|s| s["entries"][0]["sha256"].as_str()) else {
        return hex::encode(Sha256::digest(&bytes));
    };
    let found = hex::encode(Sha256::digest(dump(&hub.join(".hapi/hapi.db"))));
    assert_eq!(
        found, wanted,
        "the database in {id} is not what was captured"
    );
    found
}
