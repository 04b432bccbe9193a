//! rustic-hapi keeps the state of a HAPI hub safe: every row of a profile becomes whole,
//! consistent bytes, all of them go into one restic-format repository, and what is old is
//! forgotten by rules that never go below 14 days.
//!
//! [`snapshot::run`] is the tour: profile → sources → captures → manifest → archive → snapshot →
//! read back → retention → report. The program in `main.rs` only parses and prints.

mod archive;
pub mod cli;
pub mod commands;
pub mod demo;
mod destination;
pub mod doctor;
mod error;
mod exit;
mod machine;
mod policy;
mod profile;
mod recovery;
mod remedy;
pub mod report;
mod repository;
mod restore;
pub mod schedule;
mod state;
pub mod supervise;
mod terminal;
mod words;

pub use commands::context::Context;
pub use commands::snapshot;
pub use demo::synthetic;
pub use destination::location::Location;
pub use destination::variables::Variables;
pub use error::{Error, ProfileError};
pub use exit::Exit;
pub use machine::{holders, process, swap};
pub use policy::{description, history, manifest, retention, slots};
pub use profile::lookup::{Environment, Lookup};
pub use profile::policy::Policy;
pub use profile::sources::{Rhythm, Sensitivity, Series, SeriesSource};
pub use profile::{Alarms, Limits, Profile};
pub use recovery::identity;
pub use repository::Repository;
pub use terminal::output::Output;
pub use terminal::signals;
pub use terminal::ui::{LogFormat, Ui, Verbosity};
