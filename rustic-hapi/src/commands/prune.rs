//! A prune gives back the space of what retention removed. A run does one of its own at most weekly,
//! after the run has reported that the snapshot is saved: nothing about the snapshot depends on it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::commands::context::Context;
use crate::error::Error;
use crate::machine::record;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::repository::lock::{Mode, exclusive_wait};
use crate::repository::prune::{How, Pruned};
use crate::terminal::output::{JSON_VERSION, Output};
use crate::words::bytes;

/// How often it is done.
const EVERY: TimeDelta = TimeDelta::days(7);

/// Runs come at slots, not to the second: one that is due an hour from now is due.
const ALMOST: TimeDelta = TimeDelta::hours(1);

/// When the last one was done, or the first run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LastPrune {
    time: DateTime<FixedOffset>,
}

fn file(profile: &Profile) -> PathBuf {
    profile.reach.state.join("prune.json")
}

/// Whether a run should do one. The first run has nothing to prune: the week begins with it.
///
/// # Errors
/// That it begins cannot be written down.
pub fn is_due(profile: &Profile, now: DateTime<Local>) -> Result<bool, Error> {
    if profile.append_only || !profile.prune {
        return Ok(false);
    }
    let last = record::load::<LastPrune>(&file(profile)).ok().flatten();
    let age = last.map(|last| now.fixed_offset() - last.time);
    match age {
        // One from the future says nothing.
        Some(age) if age >= TimeDelta::zero() => Ok(age >= EVERY - ALMOST),
        _ => remember(profile, now).map(|()| false),
    }
}

fn remember(profile: &Profile, now: DateTime<Local>) -> Result<(), Error> {
    let time = now.fixed_offset();
    record::store(&file(profile), &LastPrune { time })
}

/// Prunes with the repository to itself; where others use it, the next run tries again.
///
/// # Errors
/// Those of the repository.
pub fn run(profile: &Profile, context: &Context<'_>) -> Result<Output, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);

    let later = |error: &Error| {
        ui.step(format_args!("the prune is postponed: {error}"));
        Output::nothing_to_do(
            "prune",
            "other programs use the repository: the next run prunes",
        )
    };
    let _lock = match crate::state::run_lock::lock(&profile.reach, Duration::ZERO, stop) {
        Err(error @ Error::Locked { .. }) => return Ok(later(&error)),
        taken => taken?,
    };
    let repository = Repository::open(&profile.reach, stop, ui.clone())?;
    let _held = match repository.lock(Mode::Exclusive, exclusive_wait()) {
        Err(error @ Error::RepositoryLocked { .. }) => return Ok(later(&error)),
        taken => taken?,
    };
    let pruned = repository.prune(How::Marking)?;
    remember(profile, now)?;
    let line = line(&pruned);
    ui.step(&line);
    let json = json!({ "version": JSON_VERSION, "command": "prune", "exit": 0, "pruned": pruned });
    Ok(Output::done(format!("{line}\n"), json))
}

/// What it did, in one line.
pub(crate) fn line(pruned: &Pruned) -> String {
    format!(
        "pruned: {} packs marked for a later prune, {} packs with {} deleted, {} rewritten",
        pruned.packs_marked,
        pruned.packs_deleted,
        bytes(pruned.bytes_deleted),
        bytes(pruned.bytes_repacked)
    )
}
