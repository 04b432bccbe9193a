//! rustic-hapi keeps the state of a HAPI hub safe: every row of a profile becomes whole,
//! consistent bytes, all of them go into one restic-format repository, and what is old is
//! forgotten by rules that never go below 14 days.
//!
//! [`snapshot::run`] is the tour: profile → sources → captures → manifest → archive → snapshot →
//! read back → retention → report. The program in `main.rs` only parses and prints.

pub mod archive;
pub mod boot;
pub mod check;
pub mod choice;
pub mod cli;
mod collisions;
pub mod contents;
pub mod demo;
pub mod drill;
pub mod drill_history;
pub mod env;
mod error;
mod fetch;
mod gate;
pub mod history;
pub mod holders;
pub mod identity;
pub mod init;
pub mod inplace;
mod keys;
mod location;
mod lock;
pub mod manifest;
pub mod notify;
mod output;
mod paint;
mod place;
pub mod process;
mod profile;
mod prompt;
mod readahead;
mod readback;
pub mod recovery_key;
pub mod recovery_kit;
pub mod report;
mod repository;
pub mod restore;
pub mod retention;
mod runbook;
pub mod runs;
pub mod schedule;
pub mod slots;
pub mod snapshot;
pub mod supervise;
pub mod swap;
pub mod synthetic;
mod ui;

pub use error::{Error, Exit, ProfileError};
pub use keys::Key;
pub use location::Location;
pub use output::Output;
pub use profile::{
    Alarms, Environment, Lookup, Profile, Rhythm, SHIPPED, Sensitivity, Series, SeriesSource,
};
pub use repository::{Pruned, Repository, chunk_size_for};
pub use ui::{LogFormat, Ui, Verbosity};

use chrono::{DateTime, Local};
use hapi_sources::Stop;

/// Lists the snapshots of a profile.
///
/// # Errors
/// Those of opening and reading the repository.
pub fn list(
    profile: &Profile,
    host: Option<&str>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let repository = Repository::open(profile, stop, ui.clone())?;
    let files = repository.snapshots()?;
    let snapshots = choice::readable(&files, profile, host)?;
    let mut text = report::list_text(&snapshots, now, ui.colour);
    if snapshots.is_empty() && !files.is_empty() && !profile.is_bare() {
        text += &format!(
            "{} of others are here; ours would be of the host `{}`\n",
            files.len(),
            profile.host
        );
    }
    Ok(Output::new(text, report::list_json(&snapshots)))
}

/// Applies or shows the retention plan.
///
/// # Errors
/// Those of the repository, [`Error::Floor`], [`Error::Postponed`].
pub fn forget(
    profile: &Profile,
    args: &cli::ForgetArgs,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let asked = match args.dry_run {
        true => retention::Asked::DryRun,
        false => retention::Asked::ByHand,
    };
    let _lock = snapshot::lock(profile, args.lock.wait(), stop)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    let applied = retention::apply(&repository, profile, &now, asked)?;
    let mut text = report::plan_text(&applied.plan, ui.colour);
    let mut json = report::plan_json(&applied.plan, !args.dry_run);
    if args.prune && !args.dry_run {
        let pruned = repository.prune()?;
        text += &format!(
            "pruned: {} packs marked, {} packs with {} deleted, {} rewritten\n",
            pruned.packs_marked,
            pruned.packs_deleted,
            report::bytes(pruned.bytes_deleted),
            report::bytes(pruned.bytes_repacked)
        );
        json["pruned"] = serde_json::to_value(pruned).unwrap_or_default();
    }
    if args.dry_run {
        text += "nothing was changed (--dry-run)\n";
        return Ok(Output::new(text, json));
    }
    Ok(Output::done(text, json))
}

/// The machine's name, as `uname -n` has it.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
