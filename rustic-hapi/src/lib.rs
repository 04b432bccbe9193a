//! rustic-hapi keeps the state of a HAPI hub safe: every row of a profile becomes whole,
//! consistent bytes, all of them go into one restic-format repository, and what is old is
//! forgotten by rules that never go below 14 days.
//!
//! [`snapshot::run`] is the tour: profile → sources → captures → manifest → archive → snapshot →
//! read back → retention → report. The program in `main.rs` only parses and prints.

pub mod access;
pub mod archive;
pub mod boot;
pub mod check;
pub mod choice;
pub mod cli;
mod collisions;
pub mod contents;
pub mod demo;
mod destination;
mod disk;
pub mod doctor;
mod draft;
pub mod drill;
pub mod drill_history;
pub mod env;
mod error;
mod fetch;
mod gate;
pub mod history;
pub mod holders;
mod hub_id;
pub mod identity;
pub mod init;
pub mod inplace;
mod keys;
pub mod last_run;
mod ledger;
mod location;
mod lock;
mod loose_packs;
pub mod manifest;
pub mod metrics;
pub mod notify;
mod object_store;
mod origin;
mod output;
mod paint;
mod parent;
mod password;
mod place;
pub mod process;
mod profile;
mod prompt;
mod proven;
pub mod prune;
mod rclone;
mod readahead;
mod readback;
pub mod recovery_key;
pub mod recovery_kit;
pub mod report;
mod repository;
mod repository_lock;
mod rest;
mod restic_time;
pub mod restore;
pub mod retention;
mod runbook;
pub mod runs;
pub mod schedule;
mod sftp;
pub mod signals;
pub mod slots;
pub mod snapshot;
pub mod status;
pub mod supervise;
pub mod swap;
pub mod synthetic;
mod ui;
mod variables;
pub mod watch;

pub use error::{Error, Exit, ProfileError};
pub use keys::Key;
pub use location::Location;
pub use output::Output;
pub use profile::{
    Alarms, Environment, Limits, Lookup, Profile, Rhythm, SHIPPED, Sensitivity, Series,
    SeriesSource,
};
pub use repository::{Pruned, Repository, Size, Sizes, chunk_size_for};
pub use ui::{LogFormat, Ui, Verbosity};
pub use variables::Variables;

use std::path::Path;

use chrono::{DateTime, Local};
use hapi_sources::Stop;

use last_run::LastRun;
use report::RunReport;
use repository_lock::Mode;

/// Takes a snapshot as [`snapshot::run`] does, and writes down how it ended, whatever that was: for
/// `status`, and for whoever reads the metrics. Everything else that wants to know how a run ended
/// belongs here.
///
/// `signal` is asked in the end whether a signal ended the run; its exit code then counts.
///
/// # Errors
/// Those of the run. What keeps its end from being written down is a warning.
pub fn take_snapshot(
    profile: &Profile,
    request: &snapshot::Request,
    clock: &dyn Fn() -> DateTime<Local>,
    signal: &dyn Fn() -> Option<Error>,
    stop: &Stop,
    ui: &Ui,
) -> Result<RunReport, Error> {
    let mut result = snapshot::run(profile, request, clock, stop, ui);
    // What was only tried, or asked for wrongly, is no run.
    if request.dry_run || matches!(result, Err(Error::Usage { .. })) {
        return result;
    }
    let exit = match &result {
        Ok(report) => report.exit(),
        Err(error) => error.exit(),
    };
    let signal = signal().filter(|_| exit != Exit::Complete);
    let ended = LastRun {
        time: clock().fixed_offset(),
        exit: signal.as_ref().map_or(exit, Error::exit) as u8,
        error: signal
            .as_ref()
            .or(result.as_ref().err())
            .map(Error::to_string),
    };
    let status = result.as_ref().ok().and_then(|r| r.status.as_ref());
    if let Err(error) = tell_metrics(profile, status, &ended, clock()) {
        let warning = format!("the metrics were not written: {error}");
        match &mut result {
            Ok(report) => report.warnings.push(warning),
            Err(_) => ui.warn(warning),
        }
    }
    result
}

fn tell_metrics(
    profile: &Profile,
    status: Option<&status::Status>,
    run: &LastRun,
    now: DateTime<Local>,
) -> Result<(), Error> {
    let Some(path) = &profile.metrics else {
        return Ok(());
    };
    let before = match status {
        Some(_) => String::new(),
        None => metrics::read(path)?,
    };
    let text = metrics::text_after_run(&profile.name, status, run, &before, now);
    metrics::write(path, &text)
}

/// Says how fresh the snapshots are, and writes metrics where they are asked for.
///
/// # Errors
/// Those of [`status::run`]; the file for the metrics cannot be written.
pub fn status(
    profile: &Profile,
    request: &status::Request,
    prometheus: Option<&Path>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<status::Status, Error> {
    let status = status::run(profile, request, now, stop, ui)?;
    if let Some(path) = prometheus {
        metrics::write(path, &metrics::text(&profile.name, &status))?;
    }
    Ok(status)
}

/// Lists the snapshots of a profile, or those of every host that has some.
///
/// # Errors
/// Those of opening and reading the repository.
pub fn list(
    profile: &Profile,
    host: Option<&str>,
    all_hosts: bool,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let repository = Repository::open(profile, stop, ui.clone())?;
    // One that is torn hides none of the others.
    let (files, unreadable) = match repository.snapshots() {
        Ok(files) => (files, None),
        Err(error @ Error::UnreadableSnapshots { .. }) => {
            (repository.readable_snapshots()?.0, Some(error))
        }
        Err(error) => return Err(error),
    };
    let snapshots = match all_hosts {
        true => choice::of_all_hosts(&files),
        false => origin::readable(&repository, &files, profile, host)?,
    };
    let mut text = report::list_text(&snapshots, now, ui.colour);
    if snapshots.is_empty() && !files.is_empty() && !profile.is_bare() {
        text += &format!(
            "{} of others are here (`--all-hosts`); ours would be of the host `{}`\n",
            files.len(),
            profile.host
        );
    }
    let mut output = Output::new(text, report::list_json(&snapshots));
    if let Some(error) = unreadable {
        output = output.ending(error.exit(), Output::of_error(&error).complaints);
    }
    Ok(output)
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
    if profile.append_only && !args.dry_run {
        return Err(Error::Usage {
            fact: format!(
                "`{}` deletes nothing that this machine asks it to: `append-only` is true in `{}`",
                profile.location,
                profile.file.display()
            ),
            hint: Some("apply retention on the server's side (docs/append-only.md); `--dry-run` shows the plan".into()),
        });
    }
    let _lock = snapshot::lock(profile, args.lock.wait(), stop)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    let wait = args.lock.wait().max(repository_lock::exclusive_wait());
    // What is deleted is planned, deleted and pruned with nobody else at it.
    let alone = || repository.lock(Mode::Exclusive, wait);
    let (applied, held) = match (args.dry_run, args.unattended) {
        (true, _) => (retention::apply(&repository, profile, &now, asked)?, None),
        (false, true) => (
            retention::apply_by_itself(&repository, profile, &now)?,
            None,
        ),
        (false, false) => {
            let held = alone()?;
            (
                retention::apply(&repository, profile, &now, asked)?,
                Some(held),
            )
        }
    };
    let mut text = report::plan_text(&applied.plan, ui.colour);
    let mut json = report::plan_json(&applied.plan, applied.postponed.is_none() && !args.dry_run);
    if let Some(why) = &applied.postponed {
        text += &format!("nothing was removed: retention is postponed, {why}\n");
        json["postponed"] = why.as_str().into();
        return Ok(Output::done(text, json));
    }
    if args.prune && !args.dry_run {
        let _held = match held {
            Some(held) => held,
            None => alone()?,
        };
        let pruned = repository.prune()?;
        text += &format!("{}\n", prune::line(&pruned));
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
