//! A doubt is what a scan cannot vouch for, for whatever reason: SQLite's own check of that table decides then.
//!
//! So a scan may be as strict as it likes, and understand as little as it likes: it costs time, never a verdict.

use std::io;

use rusqlite::ffi::ErrorCode;

use super::super::at_rest::Failed;

/// What is read is not what a scan vouches for.
pub(super) struct Doubt;

/// Why a scan did not come to its end, or to none that vouches.
pub(super) enum Halt {
    Doubt,
    Failed(Failed),
}

impl From<Doubt> for Halt {
    fn from(_: Doubt) -> Self {
        Self::Doubt
    }
}

impl From<Failed> for Halt {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A page beyond the end is the file's fault.
            io::ErrorKind::UnexpectedEof => Self::Doubt,
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<rusqlite::Error> for Halt {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::OperationInterrupted
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Self::Failed(error.into()),
            _ => Self::Doubt,
        }
    }
}
