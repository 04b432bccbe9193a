//! A supervised run has an id, is on record, and somebody hears how it ended: also when the profile
//! is broken, the lock is held, the code panics or a signal ends it.
//!
//! Knows: ids, ends, addresses to notify. Must not know: what a run does.

mod after_run;
pub mod follow;
mod marks;
pub(crate) mod notify;
mod test_message;
pub mod watch;

pub use after_run::{status, take_snapshot};
pub use test_message::test_notification;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::Stop;
use serde_json::json;

use crate::destination::credentials::redacted;
use crate::error::Error;
use crate::exit::Exit;
use crate::profile::lookup::Lookup;
use crate::profile::notify::Notify;
use crate::profile::{Limits, Profile};
use crate::report::error_output;
use crate::state::begun::{self, Begun, Mark};
use crate::state::runs::{self, Run};
use crate::supervise::marks::{mark, missed};
use crate::supervise::notify::{Message, Outcome};
use crate::supervise::watch::{Overrun, Watch};
use crate::terminal::output::Output;
use crate::terminal::ui::Ui;
use crate::words::age;

/// What is supervised.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// `snapshot`, `drill`, `prune`.
    pub command: &'static str,
    /// Where the profile is looked for.
    pub lookup: &'a Lookup,
    /// When it begins.
    pub now: DateTime<Local>,
    /// Whether anybody is told.
    pub quietly: bool,
    /// Whether nothing is to come of it: then it matters to nobody that it began.
    pub dry_run: bool,
}

/// How long the work gets to end after a signal. What waits for a server that does not answer would
/// take minutes, and systemd kills after 90 s without anybody having been told.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of a short run waits for its start to have been told.
const START: Duration = Duration::from_secs(2);

/// Does the work, and sees to it that it has an end, and that its end is known. `ended` tells what asked
/// for it: a signal, or the watch's finding. `say` says what came of it, before that is on record: what
/// could not be said is no success.
pub fn supervise(
    task: Task<'_>,
    ui: &Ui,
    stop: &Stop,
    overrun: &Overrun,
    ended: &(dyn Fn() -> Option<Error> + Sync),
    say: &(dyn Fn(&mut Output) + Sync),
    work: impl FnOnce() -> Result<Output, Error>,
) -> Output {
    let id = runs::new_id();
    ui.named(&id);
    // Before any thread: there may be none to be had.
    // A look at the state that never ends is missed by whoever looks.
    let mark = match task.dry_run || task.command == "status" {
        true => Ok(None),
        false => mark(task.lookup, task.command, task.now, &id).map(Some),
    };
    // A prune, or copying, follows a run that said so.
    let missed = match task.dry_run || matches!(task.command, "prune" | "copy") {
        true => Vec::new(),
        false => missed(task.lookup, ui),
    };
    if task.command != "status" {
        for (_, fact) in begun::in_words(&missed) {
            ui.warn(fact);
        }
    }
    let ending = Ending {
        task,
        ui,
        say,
        id,
        mark: Mutex::new(Some(mark)),
        missed,
        started: Instant::now(),
        notify: match task.quietly {
            true => Notify::default(),
            false => Notify::find(task.lookup),
        },
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let start = ending.tell_start();
        let watch = thread::Builder::new()
            .spawn_scoped(scope, || ending.watch(&done, stop, overrun, ended));
        let watched = || {
            // Without a watch nothing would end a run that hangs.
            watch.as_ref().map_err(|error| Error::Internal {
                what: format!("failed to spawn thread: {error}"),
            })?;
            work()
        };
        let result = catch_unwind(AssertUnwindSafe(watched)).unwrap_or_else(|panic| {
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::Internal {
                what: what.chars().take(200).collect(),
            })
        });
        done.store(true, Ordering::SeqCst);
        if let Ok(watch) = &watch {
            watch.thread().unpark();
        }
        let mut output = result
            .unwrap_or_else(|error| error_output(&ended().unwrap_or(error)))
            .in_a_call(&ui.call);
        // A run that was told to stop and still has everything is complete.
        if let Some(error) = ended().filter(|_| output.exit != Exit::Complete) {
            output.ended_by(&error);
        }
        // A start that is told after the end would be a run that never ends. One that hangs is left
        // behind: what is told at the end has its own ten seconds.
        let until = Instant::now()
            + match ending.missed.is_empty() {
                true => START,
                false => START + notify::LIMIT,
            };
        while start.as_ref().is_some_and(|start| !start.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let failures = start
            .filter(thread::JoinHandle::is_finished)
            .and_then(|start| start.join().ok())
            .unwrap_or_default();
        ending.tell(&mut output, failures);
        output
    })
}

/// What is to be done at the end of a run.
struct Ending<'a> {
    task: Task<'a>,
    ui: &'a Ui,
    say: &'a (dyn Fn(&mut Output) + Sync),
    id: String,
    /// Taken by whoever ends it: the work, or the watch.
    mark: Mutex<Option<Result<Option<Mark>, Error>>>,
    missed: Vec<Begun>,
    started: Instant,
    notify: Notify,
}

impl Ending<'_> {
    fn looks(&self) -> bool {
        matches!(self.task.command, "status" | "prune" | "copy")
    }

    /// Tells beside the work that it begins, and which runs before it never ended: this one may not end, either.
    /// `status`, `prune` and copying are not runs, so their start is not reported.
    fn tell_start(&self) -> Option<thread::JoinHandle<Vec<String>>> {
        let start = self.message(Outcome::Start, 0, String::new());
        let start = (!self.looks()).then_some(start);
        let anomalies = begun::in_words(&self.missed)
            .into_iter()
            .map(|(run, fact)| Message {
                run: run.run.clone(),
                command: run.command.clone(),
                ..self.message(Outcome::Anomaly, Exit::Failed as u8, fact)
            });
        let messages: Vec<_> = start.into_iter().chain(anomalies).collect();
        let (notify, missed) = (self.notify.clone(), self.missed.clone());
        let state = self.task.lookup.state();
        let tell = move || {
            let mut failures = Vec::new();
            for message in &messages {
                failures.extend(notify.tell(message));
            }
            if failures.is_empty()
                && let Ok(state) = state
                && let Err(error) = begun::told(&state, &missed)
            {
                failures.push(error.to_string());
            }
            failures
        };
        if self.task.quietly || (self.notify.is_empty() && self.missed.is_empty()) {
            return None;
        }
        // Where no thread is to be had, the end is told without one.
        thread::Builder::new().spawn(tell).ok()
    }

    /// Ends the process itself where the work does not end after a signal.
    fn watch(
        &self,
        done: &AtomicBool,
        stop: &Stop,
        overrun: &Overrun,
        ended: &(dyn Fn() -> Option<Error> + Sync),
    ) {
        let is_done = || done.load(Ordering::SeqCst);
        // A profile that cannot be read ends the work at once, too.
        let mut limits = Profile::load_or_reach(self.task.lookup).ok().map(|found| {
            let from = found.reading();
            let limits = from
                .profile
                .map_or_else(Limits::default, |profile| profile.limits);
            Watch::new(limits, from.reach.location.to_string(), stop, overrun)
        });
        let mut asked: Option<Instant> = None;
        while !is_done() {
            thread::park_timeout(Duration::from_millis(250));
            if let Some(watch) = &mut limits {
                watch.look();
            }
            let Some(error) = ended() else { continue };
            if asked.get_or_insert_with(Instant::now).elapsed() < PATIENCE || is_done() {
                continue;
            }
            crate::machine::process::end_children();
            if let Ok(profile) = Profile::load(self.task.lookup) {
                crate::machine::process::remove_own_folders(&profile.staging);
            }
            let mut output = error_output(&error).in_a_call(&self.ui.call);
            self.tell(&mut output, Vec::new());
            std::process::exit(i32::from(output.exit as u8));
        }
    }

    fn message(&self, outcome: Outcome, exit: u8, text: String) -> Message {
        Message {
            outcome,
            exit,
            run: self.id.clone(),
            command: self.task.command.to_owned(),
            profile: self.task.lookup.name(),
            host: crate::machine::process::host_name(),
            text,
        }
    }

    /// What is told of it; `before` are the runs of the same command on record.
    fn outcome(&self, output: &Output, before: &[Run]) -> Outcome {
        let recovers = || {
            let failed = before.last().is_some_and(|run| run.exit != 0);
            let same = |run: &Begun| run.command == self.task.command;
            failed || self.missed.iter().any(same)
        };
        match output.exit {
            Exit::Complete if output.odd => Outcome::Anomaly,
            Exit::Complete if recovers() => Outcome::Recovery,
            Exit::Complete => Outcome::Success,
            Exit::Incomplete => Outcome::Partial,
            Exit::Stale => Outcome::Stale,
            _ => Outcome::Failure,
        }
    }

    /// Whose run it was and how it ended: the first line of a mail.
    fn opening(&self, outcome: Outcome, exit: Exit) -> String {
        let code = match exit {
            Exit::Complete => String::new(),
            exit => format!(" (exit code {})", exit as u8),
        };
        let ended = match outcome {
            Outcome::Start | Outcome::Success => "complete",
            Outcome::Recovery => "complete again",
            Outcome::Anomaly => "complete, with a warning",
            Outcome::Partial => "partial",
            Outcome::Failure => "failed",
            Outcome::Stale => "stale",
        };
        format!(
            "{}, profile {}: {} {ended}{code}",
            crate::machine::process::host_name(),
            self.task.lookup.name(),
            self.task.command,
        )
    }

    /// How long ago the command did all that it should.
    fn last_good(&self, good: Option<&Run>) -> Option<String> {
        if self.looks() {
            return None;
        }
        let command = self.task.command;
        Some(match good {
            Some(run) => format!(
                "note: the last complete {command} run was {} ago ({})",
                age(self.task.now.to_utc() - run.time.to_utc()),
                run.time.format("%Y-%m-%d %H:%M")
            ),
            None => {
                format!("note: no {command} run was complete yet, as far as this machine knows")
            }
        })
    }

    /// Says how it ended, writes it down, and tells it.
    fn tell(&self, output: &mut Output, mut failures: Vec<String>) {
        output.named(&self.id);
        // What a status knows of them, it says itself.
        let is_told = self.missed.is_empty() || self.task.command == "status";
        if !is_told {
            output.json["never-ended"] = json!(self.missed);
        }
        let state = self.task.lookup.state().map_err(Error::from);
        let before: Vec<Run> = state.as_ref().map_or_else(
            |_| Vec::new(),
            |state| runs::last(state).unwrap_or_default(),
        );
        let before: Vec<Run> = before
            .into_iter()
            .filter(|run| run.command == self.task.command)
            .collect();
        let good = before.iter().rfind(|run| run.exit == 0);
        if output.exit != Exit::Complete && !self.task.dry_run {
            let opening = self.opening(self.outcome(output, &before), output.exit);
            output.opening = Some(format!("error: {opening}"));
            output.complaints.extend(self.last_good(good));
        }
        (self.say)(output);
        if !is_told {
            // Said at the start.
            let facts = begun::in_words(&self.missed).into_iter();
            let lines = facts.map(|(_, fact)| format!("warning: {fact}"));
            output.complaints.extend(lines);
        }
        let outcome = self.outcome(output, &before);
        let run = Run {
            id: self.id.clone(),
            command: self.task.command.to_owned(),
            time: self.task.now.fixed_offset(),
            seconds: self.started.elapsed().as_secs_f64(),
            exit: output.exit as u8,
            line: output.summary(),
            complaints: output
                .complaints
                .iter()
                .map(|line| redacted(line))
                .collect(),
        };
        let mark = self
            .mark
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let recorded = state
            .and_then(|state| runs::append(&state, run))
            .and_then(|()| mark.transpose())
            .and_then(|mark| match mark.flatten() {
                Some(mark) => mark.ended(output.exit == Exit::Complete),
                None => Ok(()),
            });
        if let Err(error) = recorded {
            let error = error.in_a_warning();
            self.ui
                .warn(format_args!("this run was not recorded: {error}"));
        }
        let nobody_needs_to_know = self.looks() && outcome == Outcome::Success;
        if self.notify.is_empty() || nobody_needs_to_know {
            return;
        }
        let summary = output.summary();
        let mut text = self.opening(outcome, output.exit);
        let rest = output.complaints.iter().filter(|line| **line != summary);
        for line in [&summary].into_iter().chain(rest) {
            text.push('\n');
            text += line;
        }
        failures.extend(
            self.notify
                .tell(&self.message(outcome, output.exit as u8, text)),
        );
        failures.dedup();
        for failure in failures {
            self.ui.warn(failure);
        }
    }
}
