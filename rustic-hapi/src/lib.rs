//! rustic-hapi keeps the state of a HAPI hub safe: every source of a profile becomes whole,
//! consistent bytes, all of them go into one restic-format repository, and what is old is
//! forgotten by rules that never go below 14 days.
//!
//! ```text
//! profile ─> sources ─> captures ─> manifest ─> archive ─> snapshot ─> read back ─> retention ─> report
//! snapshot ─> contents ─> fetch ─> compare with manifest ─> on the disk ─> its name ─> report
//! ```
//!
//! A command is one verb: a module of [`commands`] with `run`, a `Request` of what is asked and a `Report` of what was done.
//! Start with [`Profile::load`], then [`snapshot::run`], which reads as the first arrow, then [`drill::run`],
//! which proves that it comes back. Commands print nothing: a report has an [`Output`], which has words.
//!
//! ```no_run
//! use chrono::Local;
//! use hapi_sources::Stop;
//! use rustic_hapi::{Context, Exit, Lookup, Profile, Ui, drill, snapshot};
//!
//! # fn main() -> Result<(), rustic_hapi::Error> {
//! // `~/.config/rustic-hapi/hapi.toml`, whose `~` is this home.
//! let lookup = Lookup {
//!     home: Some("/home/u".into()),
//!     ..Lookup::default()
//! };
//! let profile = Profile::load(&lookup)?;
//! let context = Context {
//!     clock: &Local::now,
//!     stop: &Stop::default(),
//!     ui: &Ui::silent(),
//! };
//!
//! let taken = snapshot::run(&profile, &snapshot::Request::default(), &context)?;
//! assert_eq!(taken.exit(), Exit::Complete);
//!
//! let proven = drill::run(profile.reading(), &drill::Request::default(), None, &context)?;
//! assert_eq!(proven.exit(), Exit::Complete);
//! # Ok(())
//! # }
//! ```
//!
//! The bytes come from the crate `hapi-sources`, which knows SQLite, age and files, and nothing of
//! repositories. `examples/snapshot_and_drill.rs` is the above as a program.

#![warn(unreachable_pub)]

mod archive;
pub mod cli;
pub mod commands;
mod conversation;
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

// What the operator wrote, and where it is looked for.
pub use destination::location::Location;
pub use profile::lookup::{Environment, Lookup};
pub use profile::policy::Policy;
pub use profile::reach::{Password, Reach};
pub use profile::reading::{Found, Reading};
pub use profile::sources::{Rhythm, Sensitivity, Series, SeriesSource};
pub use profile::{Alarms, Limits, Profile};

// One verb each: the two that matter most; all are in `commands`.
pub use commands::context::Context;
pub use commands::{drill, snapshot};

// What snapshots say, and the rules over them.
pub use policy::choice::Which;
pub use policy::{description, history, manifest, retention, slots};
pub use recovery::identity;

// How it ended, and who hears of it.
pub use error::{Error, ProfileError};
pub use exit::Exit;
pub use terminal::output::Output;
pub use terminal::ui::{LogFormat, Ui, Verbosity};

// The program's own, and its tests'.
#[doc(hidden)]
pub use demo::synthetic;
#[doc(hidden)]
pub use machine::{holders, process, swap};
#[doc(hidden)]
pub use terminal::signals;
