//! A report is what a command found out, as text for a terminal, as one line for a log, and as
//! JSON (docs/json.md) for programs.
//!
//! Knows: reports, words, JSON, Prometheus. Must not know: how facts are got; opens nothing.

mod check;
mod conversations;
mod copy;
mod doctor;
mod drill;
mod error;
mod init;
mod init_copy;
mod list;
pub(crate) mod metrics;
mod plan;
pub mod profile;
mod restore;
mod restore_in_place;
mod snapshot;
mod status;
mod status_picture;

pub use error::error_output;
