//! A foreign snapshot file is another program's, in a form that the engine does not read: `"tags": null`, say,
//! which restic takes for no tags. What can be understood of it is read, and the rest left alone: nobody's
//! retention waits for it, a prune keeps its data, and it never counts as ours.

use rustic_core::repofile::SnapshotFile;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::profile::hub_id::USERNAME;

/// What can be understood of a decrypted snapshot file. A field of `null` is one that is not there, as for restic.
///
/// `None` where more than that is unknown in a file that carries our user name: a later version of ours may
/// have written it.
pub(super) fn understood(plain: &[u8]) -> Option<SnapshotFile> {
    let written: Map<String, Value> = serde_json::from_slice(plain).unwrap_or_default();
    // What the engine does not do without.
    let mut fields = json!({"time": "1970-01-01T00:00:00Z", "tree": "0".repeat(64), "paths": []});
    let mut understood = SnapshotFile::deserialize(&fields).ok()?;
    let mut all = true;
    for (name, value) in written.into_iter().filter(|(_, value)| !value.is_null()) {
        let mut more = fields.clone();
        more[name] = value;
        match SnapshotFile::deserialize(&more) {
            Ok(file) => (fields, understood) = (more, file),
            Err(_) => all = false,
        }
    }
    (all || understood.username != USERNAME).then_some(understood)
}
