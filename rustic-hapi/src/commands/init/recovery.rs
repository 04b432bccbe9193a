//! Whether there is a key for when the password is lost with this machine.

use std::path::PathBuf;

use crate::error::Error;
use crate::profile::Profile;
use crate::recovery::key::{self, KeyGoesTo, Made};
use crate::repository::Repository;
use crate::repository::keys::Key;

/// What `init` found and did about a recovery key.
#[derive(Debug)]
pub enum Recovery {
    /// Made one.
    Made(Made),
    /// The repository has these, and no other was made.
    There {
        /// The recovery keys, by their ids.
        keys: Vec<Key>,
        /// The file that was named for a new one, and was not written.
        unwritten: Option<PathBuf>,
    },
    /// There is none, and nobody to show one to.
    Missing,
}

impl Recovery {
    /// One recovery key is enough: another is `recovery-kit --new-key`'s to make.
    pub(super) fn look_or_make(
        repository: &Repository,
        profile: &Profile,
        place: Option<&KeyGoesTo>,
    ) -> Result<Self, Error> {
        let keys = key::among(repository.keys()?);
        match place {
            Some(place) if keys.is_empty() => key::make(repository, profile, place).map(Self::Made),
            None if keys.is_empty() => Ok(Self::Missing),
            place => Ok(Self::There {
                keys,
                unwritten: match place {
                    Some(KeyGoesTo::File(file)) if !file.exists() => Some(file.clone()),
                    _ => None,
                },
            }),
        }
    }
}
