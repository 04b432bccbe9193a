//! What snapshots say of themselves, and the rules over them: pure functions, `now` an argument.
//!
//! Knows: snapshot files, times, the engine's rules and ids. Must not know: the repository, the clock, the disk (but `survival.rs`).

pub(crate) mod choice;
pub(crate) mod copying;
pub(crate) mod counts;
pub mod description;
pub(crate) mod freshness;
pub mod history;
pub(crate) mod losses;
pub mod manifest;
pub(crate) mod notes;
pub(crate) mod readable;
pub(crate) mod restic_time;
pub mod retention;
pub(crate) mod services;
pub mod slots;
pub(crate) mod survival;
pub(crate) mod uncovered;
pub(crate) mod unmatched;
