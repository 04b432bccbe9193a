//! The last run is how the newest `snapshot` of this machine ended, whatever came of it. Snapshots
//! tell of those that went well; the record of runs ([`crate::state::runs`]) tells of the others.

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::profile::reach::Reach;
use crate::state::runs;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastRun {
    /// When it ended, with the offset of its machine.
    pub time: DateTime<FixedOffset>,
    /// The exit code.
    pub exit: u8,
    /// What kept it from starting, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The last run that is on record.
///
/// # Errors
/// [`Error::State`] where the record cannot be read.
pub(crate) fn last(reach: &Reach) -> Result<Option<LastRun>, Error> {
    let runs = runs::last(&reach.state)?;
    let last = runs.into_iter().rfind(|run| run.command == "snapshot");
    Ok(last.map(|run| LastRun {
        time: run.time,
        exit: run.exit,
        error: run.complaints.first().cloned().filter(|_| run.exit != 0),
    }))
}
