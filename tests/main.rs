//! Every test that runs the program, in one binary: the engine is linked once, and what they share is compiled
//! once. Two of them run at any time in this one process, so none may change it: a directory, a mask, a limit, a
//! variable or a signal is a child's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;

mod advice;
mod agents;
mod bad_input;
mod check;
mod conversations;
mod copies;
mod declared;
mod destinations;
mod doctor;
mod doctor_locks;
mod drill;
mod evenings;
mod examples;
mod foreign_snapshots;
mod gate;
mod init;
mod inplace;
mod interrupted_reading;
mod layers;
mod live_files;
mod locks;
mod messages;
mod mounts;
mod notify;
mod odd_metadata;
mod outages;
mod output;
mod packages;
mod pages;
mod rclone_variables;
mod recovery;
mod restore;
mod retention;
mod runbook;
mod schedule;
mod sftp;
mod snapshot;
mod status;
mod swap;
mod text_files;
mod two_hubs;
mod uncovered;
mod unfinished_runs;
mod variables;
