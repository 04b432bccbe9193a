//! A mark stands for as long as a run is under way; one that is left is of a run that never ended.

use chrono::{DateTime, Local};

use crate::error::Error;
use crate::profile::lookup::Lookup;
use crate::state::begun::{self, Begun, Mark};
use crate::terminal::ui::Ui;

/// Writes down that a command begins.
pub(super) fn mark(
    lookup: &Lookup,
    command: &str,
    time: DateTime<Local>,
    id: &str,
) -> Result<Mark, Error> {
    let begun = Begun {
        run: id.to_owned(),
        command: command.to_owned(),
        time: time.fixed_offset(),
        pid: std::process::id(),
        told: false,
    };
    begun::begin(&lookup.state()?, &begun)
}

/// The runs that never ended and of which nobody heard yet.
pub(super) fn missed(lookup: &Lookup, ui: &Ui) -> Vec<Begun> {
    let state = lookup.state().map_err(Error::from);
    match state.and_then(|state| begun::never_ended(&state)) {
        Ok(runs) => runs.into_iter().filter(|run| !run.told).collect(),
        Err(error) => {
            let error = error.in_a_warning();
            ui.warn(format_args!("cannot tell whether all runs ended: {error}"));
            Vec::new()
        }
    }
}
