//! What follows a run, however it ended: its end is written down for `status`, and told to whoever reads the
//! metrics.

use std::path::Path;

use crate::commands::context::Context;
use crate::commands::run_report::RunReport;
use crate::commands::{snapshot, status};
use crate::error::Error;
use crate::exit::Exit;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::reading::Reading;
use crate::report::metrics;
use crate::schedule::{self, Machine};
use crate::state::last_run::LastRun;

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
    signal: &dyn Fn() -> Option<Error>,
    context: &Context<'_>,
) -> Result<RunReport, Error> {
    let mut result = snapshot::run(profile, request, context);
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
        time: context.now().fixed_offset(),
        exit: signal.as_ref().map_or(exit, Error::exit) as u8,
        error: signal
            .as_ref()
            .or(result.as_ref().err())
            .map(Error::to_string),
    };
    let status = result.as_ref().ok().and_then(|r| r.status.as_ref());
    if let Some(path) = &profile.metrics
        && let Err(error) = metrics::write_after_run(path, &profile.name, status, &ended)
    {
        let warning = format!("the metrics were not written: {error}");
        match &mut result {
            Ok(report) => report.warnings.push(warning),
            Err(_) => context.ui.warn(warning),
        }
    }
    result
}

/// Says how fresh the snapshots are, and writes metrics where they are asked for.
///
/// # Errors
/// Those of [`status::run`]; the file for the metrics cannot be written.
pub fn status(
    lookup: &Lookup,
    from: Reading<'_>,
    request: &status::Request,
    prometheus: Option<&Path>,
    context: &Context<'_>,
) -> Result<status::Status, Error> {
    let mut status = status::run(from, request, context)?;
    // A machine that only looks has no runs to be called.
    if let (Some(profile), true) = (from.profile, status.run.is_some()) {
        let installed = schedule::installed(profile, lookup, &Machine::here()?);
        status.schedule = Some(installed.in_words(profile));
    }
    if let Some(path) = prometheus {
        metrics::write(
            path,
            &metrics::text(
                from.profile.map_or("hapi", |profile| &profile.name),
                &status,
            ),
        )?;
    }
    Ok(status)
}
