//! What follows a snapshot run once everybody has heard of its snapshot: a prune, and the drill of the week, each when
//! it is due, and each a run with an end of its own.

use crate::commands::context::Context;
use crate::commands::{drill, prune};
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
    /// A prune.
    pub prune: bool,
    /// A drill.
    pub drill: bool,
}

/// Does what is due after a run that ended with `exit` and saved something; the exit code with that. `say` says
/// what came of a drill.
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
    let context = Context {
        clock: &process::now,
        stop: &signals.stop,
        ui,
    };
    let run = |command, say: &(dyn Fn(&mut Output) + Sync), work: &dyn Fn() -> Result<_, Error>| {
        let overrun = Overrun::default();
        let ended = || signals.error().or_else(|| overrun.error());
        let task = Task {
            command,
            lookup,
            now: context.now(),
            quietly: false,
            dry_run: false,
        };
        supervise(task, ui, &signals.stop, &overrun, &ended, say, work).exit
    };
    let mut exit = exit;
    if next.prune {
        match prune::is_due(&profile, context.now()) {
            Ok(false) => {}
            Err(error) => ui.warn(format_args!("nothing was pruned: {error}")),
            Ok(true) => {
                // That it went well is nobody's concern.
                let say =
                    |output: &mut Output| output.complaints.iter().for_each(|l| ui.complain(l));
                let pruned = run("prune", &say, &|| prune::run(&profile, &context));
                exit = exit.then(match pruned {
                    Exit::Complete => Exit::Complete,
                    signal if signal >= Exit::HungUp => signal,
                    _ => Exit::Incomplete,
                });
            }
        }
    }
    let request = drill::Request::weekly();
    let is_due = || drill::not_due(profile.reading(), &request, context.now());
    if next.drill && !signals.stop.is_set() && matches!(is_due(), Ok(None)) {
        let work = || {
            drill::run(profile.reading(), &request, None, &context)
                .map(|report| report.output(ui.colour))
        };
        exit = exit.then(run("drill", say, &work));
    }
    exit
}
