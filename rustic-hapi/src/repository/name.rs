//! The name of a file in a repository is the SHA-256 of its content (restic, repository design): one that
//! is torn, or was put in another's place, is found out by it.

use rustic_core::Id;
use sha2::{Digest, Sha256};

/// Whether a file may have this name.
pub(super) fn is_hash_of(id: &Id, content: &[u8]) -> bool {
    hex::encode(Sha256::digest(content)) == id.to_hex().as_str()
}
