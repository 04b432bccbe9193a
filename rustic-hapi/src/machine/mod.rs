//! What this machine is asked: its kernel, files, processes and disks.
//!
//! Knows: folders, processes, SQLite's file names and locks. Must not know: restic, profiles, snapshots.

pub(crate) mod able;
pub(crate) mod agents;
pub(crate) mod boot;
pub(crate) mod child;
pub(crate) mod disk;
pub mod holders;
pub(crate) mod hubs;
pub(crate) mod package;
pub(crate) mod permission;
pub(crate) mod private_files;
pub mod process;
pub(crate) mod record;
pub(crate) mod service;
pub(crate) mod shell;
pub(crate) mod specifiers;
pub mod swap;
pub(crate) mod target;
pub(crate) mod unit;
