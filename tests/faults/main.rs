//! The fault suite: the invariants in ARCHITECTURE.md under attack through the real binary, with stock restic
//! as the judge.
//!
//! In CI it is short. `just faults 500` is as long as one likes; `RUSTIC_HAPI_FAULTS_SEED` repeats what
//! a printed seed did, up to what the machine's own timing makes of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may panic, and a seed is printed"
)]

#[allow(dead_code, reason = "the other tests use the rest of it")]
#[path = "../common/mod.rs"]
mod common;
mod dice;
mod judge;

mod bad_sources;
mod copies;
mod full_disk;
mod hostile_input;
mod integrity;
mod io_errors;
mod kill_storm;
mod lies;
mod restics_own;
mod secrets;
mod time;
mod together;
