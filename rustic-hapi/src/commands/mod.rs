//! A command is one verb: the order of its steps. Its request is what is asked, its report what was done.
//!
//! Knows: policy, repository, archive, restore, state. Must not know: words for people, formats, clap.

pub mod check;
pub mod context;
pub mod conversations;
pub mod copy;
pub mod drill;
pub mod env;
pub mod export;
pub mod forget;
pub mod init;
pub mod places;
pub mod prune;
pub mod recovery_kit;
pub mod restore;
pub mod restore_in_place;
pub mod retention;
pub mod run_report;
pub mod sessions;
pub mod snapshot;
pub mod snapshots;
pub mod status;
mod told_once;
