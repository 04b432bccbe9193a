//! A supervised run has an id, is on record, and somebody hears how it ended: also when the profile
//! is broken, the lock is held, the code panics or a signal ends it.
//!
//! Knows: ids, ends, addresses to notify. Must not know: what a run does.

mod after_run;
pub(crate) mod notify;
pub mod watch;

pub use after_run::{status, take_snapshot};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::Stop;

use crate::destination::credentials::redacted;
use crate::error::Error;
use crate::exit::Exit;
use crate::profile::lookup::Lookup;
use crate::profile::notify::Notify;
use crate::profile::{Limits, Profile};
use crate::report::error_output;
use crate::state::runs::{self, Run};
use crate::supervise::notify::{Message, Outcome};
use crate::supervise::watch::{Verdict, Watch};
use crate::terminal::output::Output;
use crate::terminal::ui::Ui;

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
}

/// How long the work gets to end after a signal. What waits for a server that does not answer would
/// take minutes, and systemd kills after 90 s without anybody having been told.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of a short run waits for its start to have been told.
const START: Duration = Duration::from_secs(2);

/// Does the work, and sees to it that it has an end, and that its end is known. `ended` tells what asked
/// for it: a signal, or the watch's verdict. `say` says what came of it, before that is on record: what
/// could not be said is no success.
pub fn supervise(
    task: Task<'_>,
    ui: &Ui,
    stop: &Stop,
    verdict: &Verdict,
    ended: &(dyn Fn() -> Option<Error> + Sync),
    say: &(dyn Fn(&mut Output) + Sync),
    work: impl FnOnce() -> Result<Output, Error>,
) -> Output {
    let ending = Ending {
        task,
        ui,
        say,
        id: runs::new_id(),
        started: Instant::now(),
        notify: match task.quietly {
            true => Notify::default(),
            false => Notify::find(task.lookup),
        },
    };
    ui.named(&ending.id);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // That it begins is told beside the work: a server that hangs holds nothing up. A look at the
        // state is no run: only what is wrong is told of it, and that it is no more.
        let start = (!ending.notify.is_empty() && !ending.looks()).then(|| {
            let (notify, start) = (
                ending.notify.clone(),
                ending.message(Outcome::Start, 0, String::new()),
            );
            thread::spawn(move || notify.tell(&start))
        });
        let watch = scope.spawn(|| ending.watch(&done, stop, verdict, ended));
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
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
        watch.thread().unpark();
        let mut output = result.unwrap_or_else(|error| error_output(&ended().unwrap_or(error)));
        // A run that was told to stop and still has everything is complete.
        if let Some(error) = ended().filter(|_| output.exit != Exit::Complete) {
            output.ended_by(&error);
        }
        // A start that is told after the end would be a run that never ends. One that hangs is left
        // behind: what is told at the end has its own ten seconds.
        let until = Instant::now() + START;
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
    started: Instant,
    notify: Notify,
}

impl Ending<'_> {
    fn looks(&self) -> bool {
        matches!(self.task.command, "status" | "prune")
    }

    /// Ends the process itself where the work does not end after a signal.
    fn watch(
        &self,
        done: &AtomicBool,
        stop: &Stop,
        verdict: &Verdict,
        ended: &(dyn Fn() -> Option<Error> + Sync),
    ) {
        let is_done = || done.load(Ordering::SeqCst);
        // A profile that cannot be read ends the work at once, too.
        let mut limits = Profile::load_or_reach(self.task.lookup).ok().map(|found| {
            let from = found.reading();
            let limits = from
                .profile
                .map_or_else(Limits::default, |profile| profile.limits);
            Watch::new(limits, from.reach.location.to_string(), stop, verdict)
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
            let mut output = error_output(&error);
            self.tell(&mut output, Vec::new());
            std::process::exit(i32::from(output.exit as u8));
        }
    }

    fn message(&self, outcome: Outcome, exit: u8, text: String) -> Message {
        Message {
            outcome,
            exit,
            run: self.id.clone(),
            command: self.task.command,
            profile: self.task.lookup.name(),
            host: crate::machine::process::host_name(),
            text,
        }
    }

    /// Says how it ended, writes it down, and tells it.
    fn tell(&self, output: &mut Output, mut failures: Vec<String>) {
        output.named(&self.id);
        (self.say)(output);
        let state = self.task.lookup.state().map_err(Error::from);
        let before = state
            .as_ref()
            .ok()
            .and_then(|state| runs::last(state).ok())
            .and_then(|runs| {
                runs.into_iter()
                    .rfind(|run| run.command == self.task.command)
            });
        let outcome = match output.exit {
            Exit::Complete if output.odd => Outcome::Anomaly,
            Exit::Complete if before.is_some_and(|run| run.exit != 0) => Outcome::Recovery,
            Exit::Complete => Outcome::Success,
            Exit::Incomplete => Outcome::Partial,
            Exit::Stale => Outcome::Stale,
            _ => Outcome::Failure,
        };
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
        if let Err(error) = state.and_then(|state| runs::append(&state, run)) {
            self.ui
                .warn(format_args!("this run is not on record: {error}"));
        }
        let nobody_needs_to_know = self.looks() && outcome == Outcome::Success;
        if self.notify.is_empty() || nobody_needs_to_know {
            return;
        }
        let mut text = output.summary();
        let told = |line: &&String| **line != text;
        let rest: Vec<String> = output.complaints.iter().filter(told).cloned().collect();
        for line in &rest {
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
