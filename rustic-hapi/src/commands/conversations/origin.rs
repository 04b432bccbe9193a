//! Where a conversation is looked for, and where it was found.

use std::path::PathBuf;

use crate::conversation::database::Database;
use crate::error::Error;
use crate::policy::choice::Which;
use crate::policy::history::Snapshot;

/// Which databases are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One snapshot's: the newest that holds it whole and lost nothing, or one that is named.
    Snapshot(Which),
    /// Those of every snapshot, the newest first.
    AllSnapshots,
    /// The live ones, through a pinned copy.
    Live,
}

impl Default for Place {
    fn default() -> Self {
        Self::Snapshot(Which::Newest)
    }
}

/// Where one database came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The snapshot; `None` is the live database.
    pub snapshot: Option<Snapshot>,
    /// Its path on the hub's machine.
    pub path: PathBuf,
}

impl Origin {
    /// For a sentence.
    pub fn in_words(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => format!("snapshot {snapshot}"),
            None => "the live database".to_owned(),
        }
    }
}

/// What is done with each database; `false` is enough.
pub(crate) type Reader<'r> = dyn FnMut(&Database, &Origin) -> Result<bool, Unread> + 'r;

/// Why a database was not read to its end.
pub(crate) enum Unread {
    /// SQLite does not make sense of it; another snapshot's may do.
    Sqlite(rusqlite::Error),
    /// Anything else ends the command.
    Error(Error),
}

impl From<rusqlite::Error> for Unread {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
