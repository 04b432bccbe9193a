//! What follows a snapshot run once everybody has heard of its snapshot: the copies, a prune, and the drill of the week,
//! each when it is due, and each a run with an end of its own.

use std::cell::Cell;
use std::time::Instant;

use hapi_sources::Stop;

use crate::commands::context::Context;
use crate::commands::{copy, drill, prune, status};
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::process;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::supervise::watch::Overrun;
use crate::supervise::{Task, supervise};
use crate::terminal::output::Output;
use crate::terminal::signals::Signals;
use crate::terminal::ui::Ui;

/// What may follow.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    /// The copies are brought up to date.
    pub copy: bool,
    /// Retention is applied to them, and a prune.
    pub prune: bool,
    /// A drill.
    pub drill: bool,
}

/// Does what is due after a run that ended with `exit` and saved something; the exit code with that. `say` says
/// what came of each.
pub fn follow(
    next: Follow,
    lookup: &Lookup,
    signals: &Signals,
    exit: Exit,
    ui: &Ui,
    say: &(dyn Fn(&mut Output) + Sync),
) -> Exit {
    let saved = matches!(exit, Exit::Complete | Exit::Incomplete);
    if !saved || signals.stop.is_set() {
        return exit;
    }
    let Ok(profile) = Profile::load(lookup) else {
        return exit;
    };
    let after = After { lookup, signals };
    let mut exit = exit;
    if next.copy {
        for place in &profile.copies {
            if signals.stop.is_set() {
                return exit;
            }
            let ui = &of(place, ui);
            let gave_way = Cell::new(false);
            let copied = after.run("copy", place, ui, None, say, &|context| {
                let report = copy::run(&profile, place, next.prune, context)?;
                gave_way.set(report.gave_way);
                Ok(report.output())
            });
            exit = exit.then(incomplete_unless_done(copied));
            if !signals.stop.is_set() {
                after.tell_metrics(&profile, ui);
            }
            // The next run is about to begin, and does what else is due.
            if gave_way.get() {
                return exit;
            }
            if next.prune {
                exit = exit.then(after.prune(place, ui));
            }
        }
    }
    if next.prune && !signals.stop.is_set() {
        exit = exit.then(after.prune(&profile, ui));
    }
    let request = drill::Request::weekly();
    let now = process::now();
    if next.drill
        && !signals.stop.is_set()
        && let Ok(None) = drill::not_due(profile.reading(), &request, now)
    {
        let place = drill::whose_turn(&profile, &request);
        let ui = &of(place, ui);
        let limit = Some(Instant::now() + profile.limits.total);
        let drilled = after.run("drill", place, ui, limit, say, &|context| {
            drill::run(place.reading(), &request, None, context)
                .map(|report| report.output(ui.colour))
        });
        exit = exit.then(drilled);
    }
    exit
}

/// Advice of what is done to a copy is about that place.
fn of(place: &Profile, ui: &Ui) -> Ui {
    match &place.copy {
        Some(name) => ui.clone().called(ui.call.of_copy(name)),
        None => ui.clone(),
    }
}

fn incomplete_unless_done(exit: Exit) -> Exit {
    match exit {
        Exit::Complete => Exit::Complete,
        signal if signal >= Exit::HungUp => signal,
        _ => Exit::Incomplete,
    }
}

/// What all that follows shares.
struct After<'a> {
    lookup: &'a Lookup,
    signals: &'a Signals,
}

impl After<'_> {
    /// Each has a limit of its own: the run's may have been used up by what came before.
    fn run(
        &self,
        command: &'static str,
        place: &Profile,
        ui: &Ui,
        limit: Option<Instant>,
        say: &(dyn Fn(&mut Output) + Sync),
        work: &dyn Fn(&Context<'_>) -> Result<Output, Error>,
    ) -> Exit {
        let stop: Stop = self.signals.stop.part();
        if let Some(limit) = limit {
            stop.set_at(limit);
        }
        let overrun = Overrun::default();
        let ended = || self.signals.error().or_else(|| overrun.error());
        let lookup = &Lookup {
            from: place.copy.clone(),
            ..self.lookup.clone()
        };
        let context = Context {
            clock: &process::now,
            stop: &stop,
            ui,
        };
        let task = Task {
            command,
            lookup,
            now: context.now(),
            quietly: false,
            dry_run: false,
        };
        supervise(task, ui, &stop, &overrun, &ended, say, || work(&context)).exit
    }

    /// What the copies have belongs to the metrics, which were written before.
    fn tell_metrics(&self, profile: &Profile, ui: &Ui) {
        let Some(file) = &profile.metrics else {
            return;
        };
        let context = &Context {
            clock: &process::now,
            stop: &self.signals.stop,
            ui,
        };
        let (reading, request) = (profile.reading(), status::Request::default());
        let told = super::status(self.lookup, reading, &request, Some(file), context);
        if let Err(error) = told {
            ui.warn(format_args!(
                "the metrics of the copies were not updated: {error}"
            ));
        }
    }

    /// A prune, where one is due.
    fn prune(&self, place: &Profile, ui: &Ui) -> Exit {
        match prune::is_due(place, process::now()) {
            Ok(false) => Exit::Complete,
            Err(error) => {
                ui.warn(format_args!("nothing was pruned: {error}"));
                Exit::Complete
            }
            Ok(true) => {
                // That it went well is nobody's concern.
                let say =
                    |output: &mut Output| output.complaints.iter().for_each(|l| ui.complain(l));
                let limit = Some(Instant::now() + place.limits.total);
                let pruned = self.run("prune", place, ui, limit, &say, &|context| {
                    prune::run(place, context)
                });
                incomplete_unless_done(pruned)
            }
        }
    }
}
