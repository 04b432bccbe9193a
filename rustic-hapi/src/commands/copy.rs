//! Copying brings a second place up to date after a run has reported: every snapshot that it lacks, the newest
//! first, each read back; then the place's own retention. Nothing about the main snapshot depends on it.
//!
//! One file, since each step waits for the one before it.
//!
//! It gives way to the next run, whether that comes by the schedule or by hand, and the run after goes on with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset, Local, TimeDelta};
use hapi_sources::CaptureError;
use rustic_core::repofile::{SnapshotFile, SnapshotId};

use crate::archive::copy::{CopySource, NotCopied};
use crate::commands::context::Context;
use crate::commands::retention::{self, Applied};
use crate::destination;
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::private_files::private_folder;
use crate::policy::choice::is_ahead;
use crate::policy::copying::{copies, lacking, superseded};
use crate::policy::history::{ONLY, Snapshot};
use crate::policy::slots::Timetable;
use crate::policy::survival::off_the_disk;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::repository::lock::{Mode, SHARED_WAIT, exclusive_wait};
use crate::repository::whole_trees::{Flaw, WholeTrees};
use crate::restore::origin;
use crate::state::copying::LastCopying;
use crate::state::ledger::{self, Ledger};
use crate::state::present::Present;
use crate::state::run_lock;
use crate::terminal::call::Call;

/// How long before the next slot it ends: systemd starts no run while this one is under way.
const BEFORE_SLOT: TimeDelta = TimeDelta::minutes(2);

/// How long it waits for one that is giving way, or for another hub's.
const WAIT: Duration = SHARED_WAIT;

/// What copying did.
#[derive(Debug)]
pub struct Report {
    /// The copy.
    pub name: String,
    /// Where it is, without credentials.
    pub location: String,
    /// Its id, where it opened.
    pub repository: Option<String>,
    /// What was copied, the newest first.
    pub copied: Vec<Copied>,
    /// Whether it came to find out what the copy lacks.
    pub looked: bool,
    /// Snapshots that it still lacks.
    pub lacking: Vec<Snapshot>,
    /// The time of the newest that it has.
    pub newest: Option<DateTime<FixedOffset>>,
    /// Why not all was copied, if so.
    pub failed: Option<Error>,
    /// Whether that is about the main repository.
    pub in_main: bool,
    /// Snapshots that are not whole in the main repository, and why.
    pub flawed: Vec<String>,
    /// Snapshots of the copy whose data it lost, and which the main repository does not have either.
    pub lost: Vec<Snapshot>,
    /// Whether the next run is about to begin.
    pub gave_way: bool,
    /// What became of the copy's retention, if it was applied.
    pub retention: Option<Result<Applied, Error>>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One snapshot that was copied and read back.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The snapshot of the main repository.
    pub snapshot: Snapshot,
    /// Its id in the copy, 64 hexadecimal digits.
    pub id: String,
    /// Bytes that were sent.
    pub sent: u64,
}

impl Report {
    /// The exit code: [`Exit::Incomplete`] where something was not done that the profile asks for. That older
    /// snapshots follow with a later run is no failure.
    pub fn exit(&self) -> Exit {
        let retained = self.retention.as_ref().is_none_or(Result::is_ok);
        let whole = self.flawed.is_empty() && self.lost.is_empty();
        let done = self.failed.is_none() && whole && retained;
        match done && !self.lacks_the_newest() {
            true => Exit::Complete,
            false => Exit::Incomplete,
        }
    }

    /// Whoever reads of it elsewhere has to know which repository is meant.
    pub(crate) fn advice(&self) -> Call {
        Call::default().of_copy(match self.in_main {
            true => "main",
            false => &self.name,
        })
    }

    /// Notes that what failed is about the main repository.
    fn of_main<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        self.in_main |= done.is_err();
        done
    }

    /// Whether it gave way before it had what this run saved.
    pub fn lacks_the_newest(&self) -> bool {
        let newer = |s: &Snapshot| Some(s.time) > self.newest;
        self.gave_way && (!self.looked || self.lacking.iter().any(newer))
    }
}

/// Brings a copy up to date, and applies its retention where `retain` says so.
///
/// # Errors
/// Only that it was told to stop by a signal: everything else is in the report.
pub fn run(
    main: &Profile,
    copy: &Profile,
    retain: bool,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let now = context.now();
    let give_way = Arc::new(AtomicBool::new(false));
    let stop = context.stop.clone().or(Arc::clone(&give_way));
    let mut report = Report {
        name: copy.place().to_owned(),
        location: copy.reach.location.to_string(),
        repository: None,
        copied: Vec::new(),
        looked: false,
        lacking: Vec::new(),
        newest: None,
        failed: None,
        in_main: false,
        flawed: Vec::new(),
        lost: Vec::new(),
        gave_way: false,
        retention: None,
        warnings: Vec::new(),
    };
    let before = LastCopying::load(&copy.reach.state).ok().flatten();
    let mut last = LastCopying {
        time: now.fixed_offset(),
        unfinished: true,
        error: None,
        lacking: None,
        lost: before.as_ref().map_or_else(Vec::new, |b| b.lost.clone()),
        newest: before.as_ref().and_then(|before| before.newest),
    };
    let done = AtomicBool::new(false);
    let copied = thread::scope(|scope| {
        // Without the watcher it would not give way, and then it had better not begin.
        let watcher = thread::Builder::new().spawn_scoped(scope, || {
            let until = until_slot(main, &now);
            while !done.load(Ordering::SeqCst) {
                if until.is_some_and(|at| Instant::now() >= at)
                    || run_lock::is_taken_over(&main.reach)
                {
                    give_way.store(true, Ordering::SeqCst);
                    return;
                }
                thread::park_timeout(Duration::from_millis(500));
            }
        });
        let copied = match &watcher {
            Err(error) => Err(Error::Internal {
                what: format!("failed to spawn thread: {error}"),
            }),
            Ok(_) => {
                let copying = Copying {
                    main,
                    copy,
                    context: Context {
                        stop: &stop,
                        ..*context
                    },
                    now,
                    broke_off: before.is_none_or(|before| before.unfinished),
                };
                copying.bring_up_to_date(&mut report, &mut last, retain)
            }
        };
        done.store(true, Ordering::SeqCst);
        if let Ok(watcher) = &watcher {
            watcher.thread().unpark();
        }
        copied
    });
    if context.stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    report.gave_way = give_way.load(Ordering::SeqCst);
    // What follows from giving way is no failure.
    report.failed = copied.err().filter(|_| !report.gave_way);
    let error = report.failed.as_ref().map(ToString::to_string);
    last.error = error.map(|error| report.advice().complete(&error));
    last.unfinished = report.failed.is_some() || report.gave_way;
    if let Err(error) = last.store(&copy.reach.state) {
        report.warnings.push(format!(
            "what became of the copying was not recorded: {}",
            error.in_a_warning()
        ));
    }
    Ok(report)
}

/// When it has to be over for the next slot.
fn until_slot(main: &Profile, now: &DateTime<Local>) -> Option<Instant> {
    let series = main.series.first()?;
    let slot = Timetable::of(main, series).next(now)?.time;
    let left = (slot - now - BEFORE_SLOT).to_std().unwrap_or_default();
    Some(Instant::now() + left)
}

/// What its steps share.
struct Copying<'a> {
    main: &'a Profile,
    copy: &'a Profile,
    context: Context<'a>,
    now: DateTime<Local>,
    /// Whether the last one left something behind.
    broke_off: bool,
}

impl Copying<'_> {
    fn bring_up_to_date(
        &self,
        report: &mut Report,
        last: &mut LastCopying,
        retain: bool,
    ) -> Result<(), Error> {
        let (copy, stop, ui) = (self.copy, self.context.stop, self.context.ui);
        if copy.reach.id.is_none() {
            return Err(Error::usage(
                format!(
                    "{} has no `id`, so its repository was never made",
                    copy.table()
                ),
                format!("`rustic-hapi init --copy {}` makes it", copy.place()),
            ));
        }
        private_folder(&copy.reach.state)?;
        let _lock = run_lock::lock(&copy.reach, WAIT, stop)?;
        destination::presence::require_folder(&copy.reach.location, copy.reach.id.is_some())?;
        off_the_disk(copy)?;
        let there = Repository::open(&copy.reach, stop, ui.clone())?;
        report.repository = Some(there.id());
        let here = report.of_main(Repository::open(&self.main.reach, stop, ui.clone()))?;
        copy.is_no_other(&there.id(), self.main, Some(&here.id()))?;
        let held = there.lock(Mode::Shared, SHARED_WAIT)?;
        let _reading = report.of_main(here.lock_to_read())?;

        let (files, unreadable) = report.of_main(here.snapshots_or_readable())?;
        report
            .warnings
            .extend(unreadable.map(|error| error.to_string()));
        let ours = origin::ours(&here, &files, self.main);
        // Half a list would make twins.
        let listed = there.snapshots()?;
        let known = origin::ours(&there, &listed, copy);
        let mut ledger = self.compare_with_ledger(&there, &listed, &ours, &known, report)?;
        let mut broken = self.broken(&there, &listed, &known, report)?;
        if !broken.is_empty() && held.is_alone() {
            // What an index lost may still be in the packs.
            self.go_on_where_it_broke_off(&there)?;
            broken = self.broken(&there, &listed, &known, report)?;
        }
        let is_broken = |s: &Snapshot| broken.contains(&s.id);
        let (lost, mut whole): (Vec<_>, Vec<_>) = known.into_iter().partition(is_broken);
        let mut wanted = lacking(&ours, &whole, &copy.retention, &self.now)?;
        report.looked = true;
        report.lacking = wanted.iter().copied().cloned().collect();
        last.lacking = Some(wanted.len());
        last.newest = self.newest(&whole, true);
        report.newest = self.newest(&whole, false);
        // From here on something may be left behind.
        last.store(&copy.reach.state)?;
        if self.broke_off && !wanted.is_empty() && held.is_alone() {
            self.go_on_where_it_broke_off(&there)?;
        }
        let mut source = None;
        let mut flawed = BTreeSet::new();
        while !wanted.is_empty() {
            let source = match &mut source {
                Some(source) => source,
                none => none.insert(report.of_main(CopySource::open(&here))?),
            };
            let known = flawed.len();
            for snapshot in wanted {
                let file = files.iter().find(|file| file.id == snapshot.id);
                let Some(file) = file else { continue };
                let copied = self.copy_one(source, snapshot, file, &there, &mut ledger, report)?;
                let Some(copied) = copied else {
                    flawed.insert(snapshot.id);
                    // All of them look damaged where the whole repository is away.
                    report.of_main(here.snapshot_ids())?;
                    if held.is_alone() {
                        self.go_on_where_it_broke_off(&there)?;
                    }
                    continue;
                };
                whole.push(Snapshot {
                    id: copied,
                    ..snapshot.clone()
                });
                report.newest = self.newest(&whole, false);
                report.lacking.retain(|left| left.id != snapshot.id);
                last.lacking = Some(report.lacking.len());
                last.newest = self.newest(&whole, true);
            }
            // Another of its day or week takes the place of one that is not whole.
            wanted = match flawed.len() > known {
                false => Vec::new(),
                true => {
                    let others = ours.iter().filter(|s| !flawed.contains(&s.id));
                    let others = lacking(others, &whole, &copy.retention, &self.now)?;
                    report.lacking.extend(others.iter().copied().cloned());
                    others
                }
            };
        }
        if !lost.is_empty() {
            // What was copied brought the data of some of them.
            let still = self.broken(&there, &listed, &lost, report)?;
            report.lost = lost.into_iter().filter(|s| still.contains(&s.id)).collect();
            let may_come = copies(&report.lacking, &report.lost);
            let may_come: BTreeSet<_> = may_come.into_iter().map(|s| s.id).collect();
            report.lost.retain(|s| !may_come.contains(&s.id));
        }
        last.lost = hex_ids(&report.lost);
        drop(held);
        if copy.append_only {
            return Ok(());
        }
        self.remove_superseded(&there, &broken)?;
        if retain {
            let applied = retention::apply_by_itself(&there, copy, &self.now);
            match applied {
                Err(_) if stop.is_set() => return Err(CaptureError::Stopped.into()),
                applied => report.retention = Some(applied),
            }
            if let Some(Ok(applied)) = &report.retention {
                let gone = |s: &Snapshot| applied.removed.iter().any(|r| r.id == s.id);
                report.lost.retain(|s| !gone(s));
                last.lost = hex_ids(&report.lost);
            }
        }
        Ok(())
    }

    /// `None` where it is not whole in the main repository: others may be.
    fn copy_one(
        &self,
        source: &mut CopySource,
        snapshot: &Snapshot,
        file: &SnapshotFile,
        there: &Repository,
        ledger: &mut Ledger,
        report: &mut Report,
    ) -> Result<Option<SnapshotId>, Error> {
        let time = snapshot.time.with_timezone(&Local);
        let until = snapshot.keep_until.map(|until| until.with_timezone(&Local));
        ledger.writing(&snapshot.series, time, &snapshot.tags, until);
        self.remember(ledger, report);
        let copied = source.copy(snapshot, file, there);
        match copied {
            Ok((id, sent)) => {
                let hex = id.to_hex().to_string();
                ledger.saved(time, &hex);
                self.remember(ledger, report);
                self.context
                    .ui
                    .step(format_args!("copied {snapshot} as {}", &hex[..8]));
                report.copied.push(Copied {
                    snapshot: snapshot.clone(),
                    id: hex,
                    sent,
                });
                Ok(Some(id))
            }
            Err(error) => {
                ledger.taken_back(time);
                self.remember(ledger, report);
                match error {
                    NotCopied::Flawed(reason) => {
                        report.flawed.push(format!("{snapshot}: {reason}"));
                        Ok(None)
                    }
                    NotCopied::Failed(error) => Err(error),
                }
            }
        }
    }

    /// The time of the newest that a copy has, or of the newest complete one of the main series. What a wrong clock
    /// dated ahead would be that for ever.
    fn newest(&self, snapshots: &[Snapshot], complete: bool) -> Option<DateTime<FixedOffset>> {
        let main = self.copy.series.first()?;
        let of_main = |s: &Snapshot| s.series == main.name && s.is_complete() && !s.has(ONLY);
        let counts = |s: &&Snapshot| !is_ahead(s, self.now) && (!complete || of_main(s));
        snapshots.iter().filter(counts).map(|s| s.time).max()
    }

    fn compare_with_ledger(
        &self,
        there: &Repository,
        files: &[SnapshotFile],
        ours: &[Snapshot],
        known: &[Snapshot],
        report: &mut Report,
    ) -> Result<Ledger, Error> {
        let id = there.id();
        let mut ledger =
            Ledger::load(self.copy, &id).unwrap_or_else(|| Ledger::begin(self.copy, &id, known));
        // What `restic copy` brought is no other writer's.
        ledger.adopt(copies(ours, known));
        let present = Present::of(there, files)?;
        let difference = ledger.compare(self.copy, known, &present, &self.now)?;
        report.warnings.extend(difference.news());
        ledger.settle(known, &present, &difference);
        self.remember(&mut ledger, report);
        Ok(ledger)
    }

    fn remember(&self, ledger: &mut Ledger, report: &mut Report) {
        let state: &Path = &self.copy.reach.state;
        if let Err(error) = ledger.store(state)
            && !std::mem::replace(&mut ledger.is_told, true)
        {
            report.warnings.push(format!(
                "the record of the copy's snapshots could not be written: {}",
                error.in_a_warning()
            ));
        }
    }

    fn go_on_where_it_broke_off(&self, there: &Repository) -> Result<(), Error> {
        match there.take_up_loose_packs() {
            Err(_) if self.context.stop.is_set() => Err(CaptureError::Stopped.into()),
            Err(error) => {
                let ui = self.context.ui;
                ui.step(format_args!("what was sent before is not reused: {error}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The snapshots of the copy that miss data: by then counted as not there, so that they are copied again.
    fn broken(
        &self,
        there: &Repository,
        files: &[SnapshotFile],
        known: &[Snapshot],
        report: &mut Report,
    ) -> Result<BTreeSet<SnapshotId>, Error> {
        let mut trees = WholeTrees::of(there)?;
        let mut broken = BTreeSet::new();
        for snapshot in known {
            let Some(file) = files.iter().find(|file| file.id == snapshot.id) else {
                continue;
            };
            match trees.flaw(file.tree, self.context.stop)? {
                None => {}
                Some(Flaw::Missing(_)) => _ = broken.insert(snapshot.id),
                // Copied again it would have the same tree.
                Some(Flaw::Unreadable(reason)) => {
                    let warning = format!(
                        "{snapshot} cannot be read there: {reason}; hint: `rustic-hapi check --read-data` reports what helps"
                    );
                    if !report.warnings.contains(&warning) {
                        report.warnings.push(warning);
                    }
                }
            }
        }
        Ok(broken)
    }

    /// What a whole copy is beside. Where others use the place, a later run does it.
    fn remove_superseded(
        &self,
        there: &Repository,
        before: &BTreeSet<SnapshotId>,
    ) -> Result<(), Error> {
        let listed = || -> Result<_, Error> {
            let files = there.snapshots()?;
            Ok(superseded(&origin::ours(there, &files, self.copy), before))
        };
        if listed()?.is_empty() {
            return Ok(());
        }
        let _held = match there.lock(Mode::Exclusive, exclusive_wait()) {
            Err(Error::RepositoryLocked { .. }) => return Ok(()),
            held => held?,
        };
        let doomed = listed()?;
        ledger::removing(self.copy, &there.id(), &doomed)?;
        there.delete_snapshots(&doomed)
    }
}

/// Their ids, 64 hexadecimal digits.
pub(crate) fn hex_ids(snapshots: &[Snapshot]) -> Vec<String> {
    let ids = snapshots.iter().map(|s| s.id.to_hex().to_string());
    ids.collect()
}
