//! A key of a repository is a small file that one password opens; the repository's master key is
//! in each of them. restic's `key list` shows the same.

use chrono::{DateTime, FixedOffset};
use rustic_core::{FileType, Id, KeyOptions, repofile::KeyId};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::repository::Repository;

/// What a key tells about itself, unencrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The name of its file, 64 hexadecimal digits.
    #[serde(skip_deserializing)]
    pub id: String,
    /// The user that made it, or what the key is for.
    pub username: Option<String>,
    /// The machine it was made on.
    pub hostname: Option<String>,
    /// When, RFC 3339; restic and the engine write it, no one has to.
    pub created: Option<String>,
}

impl Key {
    /// The first digits of the id, as restic shows it.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

impl Repository {
    /// When the oldest key was made: when the repository was, as far as can be told.
    pub(crate) fn first_key_made(&self) -> Result<Option<DateTime<FixedOffset>>, Error> {
        #[derive(serde::Deserialize)]
        struct Key {
            created: Option<DateTime<FixedOffset>>,
        }
        let ids = self
            .backend
            .list(FileType::Key)
            .map_err(Error::engine("listing the keys"))?;
        // Key files are plain JSON (restic, repository design, "Keys, Encryption and MAC").
        let made = ids.iter().filter_map(|id| {
            let stored = self.backend.read_full(FileType::Key, id).ok()?;
            serde_json::from_slice::<Key>(&stored).ok()?.created
        });
        Ok(made.min())
    }

    /// All keys, by their ids.
    ///
    /// # Errors
    /// Any that cannot be listed or read.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, Error> {
        let mut ids = self
            .backend
            .list(FileType::Key)
            .map_err(Error::engine("listing the keys"))?;
        ids.sort_unstable();
        let read = |id: &Id| {
            let bytes = self
                .backend
                .read_full(FileType::Key, id)
                .map_err(Error::engine("reading a key"))?;
            let key: Key = serde_json::from_slice(&bytes).map_err(|error| Error::Engine {
                doing: "reading a key",
                reason: format!("{} is not a key: {error}", id.to_hex().as_str()).into(),
            })?;
            Ok(Key {
                id: id.to_hex().to_string(),
                ..key
            })
        };
        ids.iter().map(read).collect()
    }

    /// The id of the key that the repository was opened with.
    pub(crate) fn key_id(&self) -> Option<String> {
        let id = self.inner.key_id().as_ref()?;
        Some(id.to_hex().to_string())
    }

    /// Adds a key that `password` opens. `username` is what `restic key list` shows of it.
    ///
    /// Returns its id. The key's file is durable by then where the repository is local.
    ///
    /// # Errors
    /// Those of writing it.
    pub(crate) fn add_key(&self, password: &str, username: &str) -> Result<String, Error> {
        let options = KeyOptions::default()
            .hostname(crate::machine::process::host_name())
            .username(username.to_owned())
            .with_created(true);
        self.inner
            .add_key(password, &options)
            .map(|id| id.to_hex().to_string())
            .map_err(Error::engine("adding a key"))
    }

    /// Removes a key, which must not be the one that the repository was opened with.
    ///
    /// # Errors
    /// Those of the engine, and an id that is none.
    pub(crate) fn remove_key(&self, id: &str) -> Result<(), Error> {
        let id: Id = id
            .parse()
            .map_err(Error::engine("understanding the key's id"))?;
        self.inner
            .delete_key(&KeyId::from(id))
            .map_err(Error::engine("removing a key"))
    }
}
