//! A supervised run has an id, is on record, and somebody hears how it ended: also when the profile
//! is broken, the lock is held, the code panics or a signal ends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use chrono::{DateTime, Local};

use crate::error::{Error, Exit};
use crate::notify::{self, Message, Notify, Outcome};
use crate::output::Output;
use crate::profile::Lookup;
use crate::runs::{self, Run};
use crate::ui::Ui;

/// What is supervised.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// `snapshot`, `drill`.
    pub command: &'static str,
    /// Where the profile is looked for.
    pub lookup: &'a Lookup,
    /// When it begins.
    pub now: DateTime<Local>,
    /// Whether anybody is told.
    pub quietly: bool,
}

/// Does the work, and sees to it that its end is known. `signal` tells whether one ended it.
pub fn supervise(
    task: Task<'_>,
    ui: &Ui,
    signal: &dyn Fn() -> Option<Error>,
    work: impl FnOnce() -> Result<Output, Error>,
) -> Output {
    let started = Instant::now();
    let id = runs::new_id();
    ui.named(&id);
    let notify = match task.quietly {
        true => Notify::default(),
        false => Notify::find(task.lookup),
    };
    let message = |outcome, exit, text| Message {
        outcome,
        exit,
        run: id.clone(),
        command: task.command,
        profile: notify::name_of(task.lookup),
        host: crate::host_name(),
        text,
    };

    // That it begins is told beside the work: a server that hangs holds nothing up.
    let start = (!notify.is_empty()).then(|| {
        let (notify, start) = (notify.clone(), message(Outcome::Start, 0, String::new()));
        thread::spawn(move || notify.tell(&start))
    });
    let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Error::Internal {
            what: what.chars().take(200).collect(),
        })
    });
    let mut output = ended.unwrap_or_else(|error| Output::of_error(&signal().unwrap_or(error)));
    // A run that was told to stop and still has everything is complete.
    if let Some(error) = signal().filter(|_| output.exit != Exit::Complete) {
        output.ended_by(&error);
    }
    output.named(&id);

    let before = task
        .lookup
        .state()
        .ok()
        .and_then(|state| runs::last(&state).ok())
        .and_then(|runs| runs.into_iter().rfind(|run| run.command == task.command));
    let outcome = match output.exit {
        Exit::Complete if before.is_some_and(|run| run.exit != 0) => Outcome::Recovery,
        Exit::Complete => Outcome::Success,
        Exit::Incomplete => Outcome::Partial,
        _ => Outcome::Failure,
    };
    let run = Run {
        id: id.clone(),
        command: task.command.to_owned(),
        time: task.now.fixed_offset(),
        seconds: started.elapsed().as_secs_f64(),
        exit: output.exit as u8,
        line: output.summary(),
        complaints: output
            .complaints
            .iter()
            .map(|line| notify::redacted(line))
            .collect(),
    };
    let recorded = task.lookup.state().map_err(Error::from);
    if let Err(error) = recorded.and_then(|state| runs::append(&state, run)) {
        ui.warn(format_args!("this run is not on record: {error}"));
    }

    if !notify.is_empty() {
        let mut text = output.summary();
        let told = |line: &&String| **line != text;
        let rest: Vec<String> = output.complaints.iter().filter(told).cloned().collect();
        for line in &rest {
            text.push('\n');
            text += line;
        }
        let mut failures = start
            .and_then(|start| start.join().ok())
            .unwrap_or_default();
        failures.extend(notify.tell(&message(outcome, output.exit as u8, text)));
        failures.dedup();
        for failure in failures {
            ui.warn(failure);
        }
    }
    output
}
