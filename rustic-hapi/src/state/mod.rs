//! The state folder: the lock of runs, and what this machine wrote down.
//!
//! Knows: the profile's folder, its own files. Must not know: repositories, snapshots.

pub(crate) mod drills;
pub(crate) mod last_run;
pub(crate) mod run_lock;
pub(crate) mod runs;
