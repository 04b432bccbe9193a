//! How the data come back when this machine and its password are gone: the second key, the page, identities.
//!
//! Knows: the repository's keys, the profile. Must not know: how snapshots are made.

pub mod identity;
pub(crate) mod key;
pub(crate) mod runbook;
