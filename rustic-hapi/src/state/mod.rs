//! The state folder: the lock of runs, and what this machine wrote down.
//!
//! Knows: the profile's folder, its own files, which snapshots there are. Must not know: how they are made.

pub(crate) mod begun;
pub(crate) mod copying;
pub(crate) mod drills;
pub(crate) mod last_run;
pub(crate) mod ledger;
pub(crate) mod owner;
pub(crate) mod present;
pub(crate) mod run_lock;
pub(crate) mod runs;
