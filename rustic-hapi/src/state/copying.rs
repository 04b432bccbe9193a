//! What this machine knows of its copying to one place: when it last tried, what came of it, and what the place
//! then lacked.

use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::machine::record;

/// The last copying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastCopying {
    /// When it began, with the offset of its machine.
    pub time: DateTime<FixedOffset>,
    /// Whether it never got to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Snapshots that the copy then lacked, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacking: Option<usize>,
    /// The ids of snapshots there whose data are lost, in both repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// The newest complete snapshot of the main series that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<FixedOffset>>,
}

fn file(state: &Path) -> PathBuf {
    state.join("copying.json")
}

impl LastCopying {
    /// The one on record in the state folder of a copy.
    ///
    /// # Errors
    /// [`Error::State`] where it cannot be read.
    pub(crate) fn load(state: &Path) -> Result<Option<Self>, Error> {
        record::load(&file(state))
    }

    /// Puts it on record.
    ///
    /// # Errors
    /// [`Error::State`] with the file.
    pub(crate) fn store(&self, state: &Path) -> Result<(), Error> {
        record::store(&file(state), self)
    }
}
