//! A snapshot run, from profile to report: the tour of the project. [`run`] reads as the arrow in
//! ARCHITECTURE.md, a line or two a step; everything else is below it.
//! One file, since the tour is read from top to bottom.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::{CaptureError, Staging, Stop};

use crate::archive::capturing::{Ahead, at_once, capture, capture_ahead, chosen, concluded};
use crate::archive::proven::Proven;
use crate::archive::taken::{Saved, Taken};
use crate::archive::write::{Label, Unwritten};
use crate::archive::{beside, collisions, draft, readback};
use crate::commands::context::Context;
use crate::commands::run_report::{RunReport, SeriesReport};
use crate::commands::{status, told_once};
use crate::destination;
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::able::keeps_private;
use crate::machine::private_files::{private_folder, sweep_unfinished};
use crate::policy::description::Description;
use crate::policy::history::{CONDITIONS, ONLY, Snapshot};
use crate::policy::manifest::Beside;
use crate::policy::survival::off_the_disk;
use crate::policy::{manifest, restic_time, slots};
use crate::profile::Profile;
use crate::profile::sources::{Series, SeriesSource};
use crate::repository::Repository;
use crate::repository::gate::Written;
use crate::repository::lock::{Held, Mode, SHARED_WAIT};
use crate::restore::origin;
use crate::state::ledger::Ledger;
use crate::state::present::Present;
use crate::state::run_lock::{RunLock, lock_folder};
use crate::state::runs;
use crate::terminal::ui::Ui;

/// What a run is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these sources; the snapshots get the tag `only`.
    pub only: Vec<String>,
    /// Every series, due or not.
    pub all: bool,
    /// Further tags.
    pub tags: Vec<String>,
    /// Keep the snapshots at least this long, in hours.
    pub keep_hours: Option<u32>,
    /// Capture and check, write nothing.
    pub dry_run: bool,
    /// Leave old snapshots alone.
    pub no_forget: bool,
    /// How long to wait for another run.
    pub lock_wait: Duration,
}

/// Takes what is due, proves it, and applies retention.
///
/// The context's clock tells the time that the snapshots get, once the lock is held. Every series is tried,
/// whatever becomes of the others.
///
/// # Errors
/// Only what keeps the whole run from starting. What happened to each series is in the report.
pub fn run(
    profile: &Profile,
    request: &Request,
    context: &Context<'_>,
) -> Result<RunReport, Error> {
    let (stop, ui) = (context.stop, context.ui);
    let started = Instant::now();
    request.check(profile)?;
    profile.has_no_twin()?;
    let _lock = RunLock::take(
        &lock_folder(&profile.reach),
        &profile.reach.location,
        request.lock_wait,
        stop,
    )?;
    let now = context.now();
    let (staging, was_killed) = fresh_staging(profile, ui)?;
    destination::presence::require_folder(&profile.reach.location, profile.reach.id.is_some())?;
    off_the_disk(profile)?;
    let mut proven = Proven::load(&profile.reach.state);
    let (opened, mut ahead) = at_once(
        stop,
        |give_up| {
            let opened = Opened::new(profile, request, stop, ui)?;
            // What is staged is staged one series after the other: the disk has room for the largest,
            // and no copy lies there while another series is sent.
            if due(profile, request, &opened.history, &now).len() > 1 {
                give_up.store(true, Ordering::SeqCst);
            }
            // The first upload may take days; after it, much less has to go. The capture beside this one
            // is to end by then, too.
            if opened.history.iter().any(Snapshot::is_complete) {
                stop.set_at(started + profile.limits.total);
            }
            Ok(opened)
        },
        |stop| capture_ahead(profile, &request.only, now, &proven, &staging, &stop, ui),
    )?;
    let Opened {
        repository,
        lock,
        history,
        unreadable,
        only_others,
        present,
    } = opened;
    let broke_off = was_killed || may_have_broken_off(profile, &history);
    if !request.dry_run && broke_off && lock.is_alone() {
        go_on_where_it_broke_off(&repository, stop, ui)?;
    }

    let mut report = RunReport::begin(profile, &repository, &history, now, request.dry_run);
    report.only.clone_from(&request.only);
    let mut ledger = compare_with_ledger(
        profile,
        &repository,
        &history,
        &present,
        &now,
        &mut report,
        ui,
    );
    report.unreadable = unreadable;
    report.is_odd |= only_others.is_some();
    report.warnings.extend(only_others);
    let due = due(profile, request, &history, &now);
    if due.len() > 1 {
        ahead = None;
    }
    for (nth, series) in due.into_iter().enumerate() {
        let sources = chosen(profile, &request.only, series);
        let time = now + TimeDelta::milliseconds(nth as i64);
        let run = Run {
            profile,
            request,
            repository: &repository,
            history: &history,
            staging: &staging,
            ui,
        };
        let taken = take(
            &run,
            series,
            &sources,
            time,
            &mut proven,
            &mut ledger,
            ahead.take_if(|a| a.0 == series.name),
        );
        match taken {
            Ok(None) => ui.step(format_args!("{}: nothing of it exists here", series.name)),
            Ok(Some(taken)) => report.series.push(SeriesReport::of(series, Ok(taken))),
            Err(error) => report.series.push(SeriesReport::of(series, Err(error))),
        }
    }
    if !request.dry_run
        && let Err(error) = proven.store(&profile.reach.state, &profile.series)
    {
        ui.warn(format_args!(
            "what this run verified was not recorded, so the next run verifies it again: {}",
            error.in_a_warning()
        ));
    }
    drop(lock);
    if report.series.is_empty() {
        return Err(Error::NothingCaptured {
            series: profile.series[0].name.clone(),
            failures: vec!["none of its sources exists".into()],
            hint: Some(
                "is `hapi-home` where the hub is? `rustic-hapi doctor` looks at each source".into(),
            ),
        });
    }
    if !request.no_forget && !request.dry_run && !profile.append_only && report.saved_any() {
        report.retention = Some(match stop.is_set() {
            true => Err(CaptureError::Stopped.into()),
            false => crate::commands::retention::apply_by_itself(&repository, profile, &now),
        });
    }
    told_once::tell(profile, &mut report, ui);
    if profile.metrics.is_some() && !request.dry_run {
        match status::of(
            &repository,
            profile.reading(),
            &status::Request::default(),
            now,
        ) {
            Ok(status) => report.status = Some(status),
            Err(error) => report.warnings.push(format!(
                "the metrics of the snapshots were not updated: {error}"
            )),
        }
    }
    Ok(report)
}

/// A repository to write to, and what is in it.
struct Opened {
    repository: Repository,
    /// Nobody may prune what this run relies on until it is read back.
    lock: Held,
    history: Vec<Snapshot>,
    /// Why some of the snapshot files could not be read.
    unreadable: Option<Error>,
    /// That the hub may have moved.
    only_others: Option<String>,
    /// What the repository holds, whosever it is.
    present: Present,
}

impl Opened {
    fn new(profile: &Profile, request: &Request, stop: &Stop, ui: &Ui) -> Result<Self, Error> {
        let repository = Repository::open(&profile.reach, stop, ui.clone())?;
        let lock = repository.lock(Mode::Shared, request.lock_wait.max(SHARED_WAIT))?;
        // One that is torn keeps nothing from being added; retention does not go on with half a list.
        let (files, unreadable) = repository.snapshots_or_readable()?;
        let history = origin::ours(&repository, &files, profile);
        Ok(Self {
            only_others: origin::only_others(&repository, &files, profile, &history),
            present: Present::of(&repository, &files)?,
            history,
            repository,
            lock,
            unreadable,
        })
    }
}

/// What the steps of all series share.
struct Run<'a> {
    profile: &'a Profile,
    request: &'a Request,
    repository: &'a Repository,
    history: &'a [Snapshot],
    staging: &'a Staging,
    ui: &'a Ui,
}

/// sources → captures → manifest → archive → snapshot → read back, for one series; `None` where
/// nothing of it exists and nothing has to.
///
/// The archive begins while SQLite still checks the copies, as if it found nothing. The gate waits for
/// its verdict, and where that is another, all is drawn up and written once more.
fn take(
    run: &Run<'_>,
    series: &Series,
    sources: &[SeriesSource],
    time: DateTime<Local>,
    proven: &mut Proven,
    ledger: &mut Ledger,
    ahead: Option<Ahead>,
) -> Result<Option<Taken>, Error> {
    let stop = run.repository.gate().stop();
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    let clock = Instant::now();
    let step = |what| {
        run.ui.step(format_args!(
            "{}: {what} after {:.1?}",
            series.name,
            clock.elapsed()
        ))
    };
    let mut captured = match ahead {
        Some((_, captured)) => captured?,
        None => {
            let sound = proven.sound(&series.name, &time);
            let captured = capture(run.profile, sources, time, sound, run.staging, stop, run.ui)?;
            step("captured");
            captured
        }
    };
    collisions::settle(
        &mut captured,
        &run.profile.reach.home.join(manifest::FILE_NAME),
    );
    // What the last run could not presume, this one had better not.
    let last = run
        .history
        .iter()
        .rfind(|s| s.series == series.name && s.time <= time)
        .and_then(|s| s.description.as_ref());
    if run.request.dry_run || last.is_some_and(Description::has_unsound_databases) {
        captured = concluded(captured, stop)?;
    }
    let only = (!run.request.only.is_empty()).then(|| ONLY.to_owned());
    let more_tags: Vec<_> = only.into_iter().chain(run.request.tags.clone()).collect();
    // What a run leaves out on purpose is not missed.
    let beside = match run.request.only.is_empty() {
        true => beside::look(run.profile, series, sources, &captured, stop)?,
        false => Beside::default(),
    };
    let draft = |captured: &[_]| {
        draft::of(
            run.profile,
            &more_tags,
            run.history,
            series,
            sources,
            time,
            captured,
            &beside,
        )
    };
    let Some((mut taken, mut archive)) = draft(&captured)? else {
        return Ok(None);
    };
    if run.request.dry_run {
        return Ok(Some(taken));
    }
    ledger.writing(
        &series.name,
        time,
        &taken.tags,
        run.request.keep_until(time),
    );
    remember(ledger, run.profile, run.ui);
    let mut sent_before = Written::default();
    let known = proven.known(&series.name, run.history, &time);
    let (file, mut written, parent) = loop {
        match archive.write(run.repository, &label(run, &taken, time), known.as_ref()) {
            Ok(written) => break written,
            Err(Unwritten::Failed(error)) => {
                // If it is the parent's fault, there is none next time.
                proven.forget(&series.name);
                return Err(error);
            }
            Err(Unwritten::PresumedWrongly(sent)) => {
                step("SQLite's check did not end as presumed: it is written again");
                sent_before = sent;
                // With no verdict left to come, this is done once.
                captured = concluded(captured, stop)?;
                let Some(again) = draft(&captured)? else {
                    return Ok(None);
                };
                (taken, archive) = again;
            }
        }
    };
    step("written");
    ledger.saved(time, file.id.to_hex().as_str());
    remember(ledger, run.profile, run.ui);
    if let Some(parent) = &parent {
        run.ui.step(format_args!(
            "{}: {} files are those of snapshot {}, and were not read again",
            series.name,
            parent.same.len(),
            &parent.snapshot[..8]
        ));
    }
    let before = sent_before.bytes();
    written.packs.append(&mut sent_before.packs);
    // It takes a moment to remove a gigabyte, and the readback wants none of it.
    let outline = archive.outline();
    let read_back = thread::scope(|scope| {
        scope.spawn(|| drop((captured, archive)));
        readback::prove(run.repository, &file, &outline, &written)
    });
    if let Err(error) = read_back {
        proven.forget(&series.name);
        if matches!(error, Error::NotProven { .. }) {
            ledger.taken_back(time);
            remember(ledger, run.profile, run.ui);
        }
        return Err(error);
    }
    step("read back");
    if run.request.only.is_empty() {
        let id = file.id.to_hex();
        proven.record(
            &id,
            &taken.manifest,
            sources,
            &outline,
            parent.as_ref(),
            &time,
        );
    }
    let tree = file.tree.to_hex().to_string();
    taken.snapshot = Some(Saved {
        id: file.id.to_hex().to_string(),
        added: before + file.summary.as_ref().map_or(0, |s| s.data_added_packed),
        bytes: outline.bytes(),
        unchanged: run
            .history
            .iter()
            .rev()
            .find(|s| s.series == series.name && s.time <= time)
            .is_some_and(|s| s.tree == tree),
    });
    Ok(Some(taken))
}

/// What the snapshot of a series is called.
fn label(run: &Run<'_>, taken: &Taken, time: DateTime<Local>) -> Label {
    Label {
        host: run.profile.host.clone(),
        home: run.profile.reach.home.clone(),
        tags: taken.tags.clone(),
        description: serde_json::to_string(&taken.description).unwrap_or_default(),
        time: restic_time::zoned(&time),
        keep_until: run
            .request
            .keep_until(time)
            .as_ref()
            .map(restic_time::zoned),
    }
}

/// What this machine saved and somebody else removed, or another machine wrote, is told.
fn compare_with_ledger(
    profile: &Profile,
    repository: &Repository,
    history: &[Snapshot],
    present: &Present,
    now: &DateTime<Local>,
    report: &mut RunReport,
    ui: &Ui,
) -> Ledger {
    let id = repository.id();
    let mut ledger =
        Ledger::load(profile, &id).unwrap_or_else(|| Ledger::begin(profile, &id, history));
    match ledger.compare(profile, history, present, now) {
        Ok(difference) => {
            report.differs_from_ledger(&difference);
            if !report.dry_run {
                ledger.settle(history, present, &difference);
                remember(&mut ledger, profile, ui);
            }
        }
        Err(error) => ui.warn(format_args!(
            "cannot tell whether snapshots are missing: {}",
            error.in_a_warning()
        )),
    }
    ledger
}

fn remember(ledger: &mut Ledger, profile: &Profile, ui: &Ui) {
    if let Err(error) = ledger.store(&profile.reach.state)
        && !std::mem::replace(&mut ledger.is_told, true)
    {
        ui.warn(format_args!(
            "the record of this machine's snapshots could not be written: {}",
            error.in_a_warning()
        ));
    }
}

/// Whether an upload may have left something behind.
fn may_have_broken_off(profile: &Profile, history: &[Snapshot]) -> bool {
    let runs = runs::last(&profile.reach.state).unwrap_or_default();
    let failed = runs
        .iter()
        .rfind(|run| run.command == "snapshot")
        .is_some_and(|run| run.exit != Exit::Complete as u8);
    failed || !history.iter().any(Snapshot::is_complete)
}

/// What cannot be taken up is sent again.
fn go_on_where_it_broke_off(repository: &Repository, stop: &Stop, ui: &Ui) -> Result<(), Error> {
    match repository.take_up_loose_packs() {
        Err(_) if stop.is_set() => Err(CaptureError::Stopped.into()),
        Err(error) => {
            ui.step(format_args!(
                "what an earlier run sent is not reused: {error}"
            ));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

impl Request {
    /// Until when a snapshot of this time is to be kept, if that is asked for.
    fn keep_until(&self, time: DateTime<Local>) -> Option<DateTime<Local>> {
        let hours = TimeDelta::hours(i64::from(self.keep_hours?));
        time.checked_add_signed(hours)
    }

    pub(crate) fn check(&self, profile: &Profile) -> Result<(), Error> {
        for name in &self.only {
            if profile.sources.iter().all(|s| &s.source.name != name) {
                let names: Vec<_> = profile
                    .sources
                    .iter()
                    .map(|s| s.source.name.as_str())
                    .collect();
                return Err(Error::usage(
                    format!("there is no source `{name}`"),
                    format!("the profile has {}", names.join(", ")),
                ));
            }
        }
        for tag in &self.tags {
            let reserved =
                CONDITIONS.contains(&tag.as_str()) || profile.series.iter().any(|s| &s.name == tag);
            let odd = |c: char| c == ',' || c.is_control();
            if tag.is_empty() || tag.contains(odd) || reserved {
                return Err(Error::usage(
                    format!("`{}` cannot be given as a tag", tag.escape_debug()),
                    format!(
                        "these tags are reserved: {}, and the names of the series; a tag cannot contain a comma or a control character",
                        CONDITIONS.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// An empty folder to stage in, and whether a killed run left another.
fn fresh_staging(profile: &Profile, ui: &Ui) -> Result<(Staging, bool), Error> {
    private_folder(&profile.reach.state)?;
    for folder in [&profile.reach.state, &profile.reach.state.join("secrets")] {
        sweep_unfinished(folder);
    }
    let left = Staging::sweep(&profile.staging)?;
    for left in &left {
        ui.step(format_args!(
            "removed `{}`, left by a killed run",
            left.display()
        ));
    }
    let staging = Staging::create(&profile.staging)?;
    keeps_private(staging.path()).map_err(Error::at(staging.path()))?;
    Ok((staging, !left.is_empty()))
}

/// The series to take, weekly ones first, so that `latest` is the main one.
fn due<'a>(
    profile: &'a Profile,
    request: &Request,
    history: &[Snapshot],
    now: &DateTime<Local>,
) -> Vec<&'a Series> {
    let mut due: Vec<_> = profile
        .series
        .iter()
        .filter(|series| match request.only.is_empty() {
            true => request.all || slots::is_due(profile, series, history, now),
            false => profile
                .sources
                .iter()
                .any(|s| s.series == series.name && request.only.contains(&s.source.name)),
        })
        .collect();
    due.reverse();
    due
}
