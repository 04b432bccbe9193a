//! A snapshot run, from profile to report: the tour of the project. [`run`] reads as the arrow in
//! ARCHITECTURE.md, a line or two a step; everything else is below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::{
    Capture, CaptureError, Capturer, Kind, Note, SecretCache, Sha256Hash, Staging, Stop,
};

use crate::archive::{Archive, Label};
use crate::collisions;
use crate::destination;
use crate::disk::{self, Relation};
use crate::error::{Error, Exit};
use crate::history::{self, DAMAGED, ONLY, PARTIAL, SHRUNK, Snapshot};
use crate::lock::{RunLock, private_folder, write_private};
use crate::manifest::{self, Description, Manifest, describe_note};
use crate::profile::{Profile, Series, SeriesSource};
use crate::readback;
use crate::report::{RunReport, SeriesReport};
use crate::repository::Repository;
use crate::repository_lock::{Mode, SHARED_WAIT};
use crate::retention;
use crate::runs;
use crate::slots;
use crate::status;
use crate::ui::Ui;

/// What a run is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these sources; the snapshots get the tag `only`.
    pub only: Vec<String>,
    /// Every series, due or not.
    pub all: bool,
    /// A further tag.
    pub tag: Option<String>,
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
/// `clock` tells the time that the snapshots get, once the lock is held. Every series is tried,
/// whatever becomes of the others.
///
/// # Errors
/// Only what keeps the whole run from starting. What happened to each series is in the report.
pub fn run(
    profile: &Profile,
    request: &Request,
    clock: &dyn Fn() -> DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<RunReport, Error> {
    let started = Instant::now();
    request.check(profile)?;
    let _lock = RunLock::take(
        &lock_folder(profile),
        &profile.location,
        request.lock_wait,
        stop,
    )?;
    let now = clock();
    let (staging, was_killed) = fresh_staging(profile, ui)?;
    destination::require_folder(&profile.location)?;
    off_the_disk(profile)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    // Nobody may prune what this run relies on until it is read back.
    let lock = repository.lock(Mode::Shared, request.lock_wait.max(SHARED_WAIT))?;
    let (files, unreadable) = match repository.snapshots() {
        Ok(files) => (files, None),
        // One that is torn keeps nothing from being added; retention does not go on with half a list. That
        // the list cannot be had is another matter: much is decided by it.
        Err(error @ Error::UnreadableSnapshots { .. }) => {
            (repository.readable_snapshots()?.0, Some(error))
        }
        Err(error) => return Err(error),
    };
    let history = history::ours(&files, profile);
    // The first upload may take days; after it, much less has to go.
    if history.iter().any(Snapshot::is_complete) {
        stop.set_at(started + profile.limits.total);
    }
    let broke_off = was_killed || may_have_broken_off(profile, &history);
    if !request.dry_run && broke_off && lock.is_alone() {
        go_on_where_it_broke_off(&repository, stop, ui)?;
    }

    let mut report = RunReport::begin(profile, &repository, now, request.dry_run);
    report.unreadable = unreadable;
    for (nth, series) in due(profile, request, &history, &now)
        .into_iter()
        .enumerate()
    {
        let sources = chosen(profile, request, series);
        let time = now + TimeDelta::milliseconds(nth as i64);
        let taken = take(
            profile,
            request,
            &repository,
            &history,
            series,
            &sources,
            time,
            &staging,
            ui,
        );
        match taken {
            Ok(None) => ui.step(format_args!("{}: nothing of it exists here", series.name)),
            Ok(Some(taken)) => report.series.push(SeriesReport::of(series, Ok(taken))),
            Err(error) => report.series.push(SeriesReport::of(series, Err(error))),
        }
    }
    drop(lock);
    if report.series.is_empty() {
        return Err(Error::NothingCaptured {
            series: profile.series[0].name.clone(),
            failures: vec!["none of its sources exists".into()],
        });
    }
    if !request.no_forget && !request.dry_run && !profile.append_only && report.saved_any() {
        report.retention = Some(match stop.is_set() {
            true => Err(CaptureError::Stopped.into()),
            false => retention::apply_by_itself(&repository, profile, &now),
        });
    }
    warn_of_quotes(profile, &mut report, ui);
    if profile.metrics.is_some() && !request.dry_run {
        match status::of(&repository, profile, &status::Request::default(), now) {
            Ok(status) => report.status = Some(status),
            Err(error) => report.warnings.push(format!(
                "the metrics say nothing new of the snapshots: {error}"
            )),
        }
    }
    Ok(report)
}

/// A series that was taken.
#[derive(Debug)]
pub struct Taken {
    /// What each source brought.
    pub manifest: Manifest,
    /// Its summary.
    pub description: Description,
    /// The snapshot's tags, the series first.
    pub tags: Vec<String>,
    /// The snapshot; `None` after `--dry-run`.
    pub snapshot: Option<Saved>,
    /// Files that quote a secret, by content.
    pub quotes: Vec<(String, Sha256Hash)>,
    /// The description of the snapshot it was compared with.
    pub before: Option<Description>,
    /// Why it is `shrunk`, if it is.
    pub shrunk: Option<String>,
    /// Whether the snapshot before it was so already, and it was told then.
    pub shrunk_before: bool,
    /// Databases that nothing is written to any more.
    pub quiet: Vec<String>,
}

/// A snapshot that is in the repository and was read back.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The id, 64 hexadecimal digits.
    pub id: String,
    /// Bytes added to the repository, compressed.
    pub added: u64,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// Whether its tree is that of the snapshot before it.
    pub unchanged: bool,
}

/// sources → captures → manifest → archive → snapshot → read back, for one series; `None` where
/// nothing of it exists and nothing has to.
#[allow(
    clippy::too_many_arguments,
    reason = "the steps of one series share the run's whole state"
)]
fn take(
    profile: &Profile,
    request: &Request,
    repository: &Repository,
    history: &[Snapshot],
    series: &Series,
    sources: &[SeriesSource],
    time: DateTime<Local>,
    staging: &Staging,
    ui: &Ui,
) -> Result<Option<Taken>, Error> {
    if repository.gate().stop().is_set() {
        return Err(CaptureError::Stopped.into());
    }
    let clock = Instant::now();
    let mut captured = capture(
        profile,
        sources,
        time,
        staging,
        repository.gate().stop(),
        ui,
    )?;
    ui.step(format_args!(
        "{}: captured after {:.1?}",
        series.name,
        clock.elapsed()
    ));
    collisions::settle(&mut captured, &profile.home.join(manifest::FILE_NAME));
    let manifest = Manifest::of(profile, &series.name, sources, &captured);
    let captures: Vec<Capture> = captured.into_iter().filter_map(Result::ok).collect();
    if !something_was_captured(&series.name, &manifest, &captures)? {
        return Ok(None);
    }

    let bytes = manifest.to_bytes();
    let description = manifest.describe(&bytes);
    let before = baseline(profile, history, &series.name, &time);
    let may_lose = profile.alarms.shrink;
    let shrunk = before.and_then(|b| why_shrunk(b.description.as_ref()?, &description, may_lose));
    // The snapshot before this one, whatever it is like: what it told need not be told again.
    let latest = history
        .iter()
        .rfind(|s| s.series == series.name && !s.has(ONLY) && s.time <= time);
    let shrunk_before = latest.is_some_and(|s| s.has(SHRUNK));
    let quiet = gone_quiet(&description, latest, time, profile.alarms.quiet);
    let tags = tags(request, series, &manifest, shrunk.is_some());
    let quotes = quotes(&captures);
    let archive = Archive::new(captures, &profile.home, bytes);

    let mut snapshot = None;
    if !request.dry_run {
        let label = Label {
            host: profile.host.clone(),
            home: profile.home.clone(),
            tags: tags.clone(),
            description: serde_json::to_string(&description).unwrap_or_default(),
            time: history::to_jiff(&time),
            keep_until: request
                .keep_hours
                .map(|hours| history::to_jiff(&(time + TimeDelta::hours(i64::from(hours))))),
        };
        let (file, written) = archive.write(repository, &label)?;
        ui.step(format_args!(
            "{}: written after {:.1?}",
            series.name,
            clock.elapsed()
        ));
        readback::prove(repository, &file, &archive, &written)?;
        ui.step(format_args!(
            "{}: read back after {:.1?}",
            series.name,
            clock.elapsed()
        ));
        let tree = file.tree.to_hex().to_string();
        snapshot = Some(Saved {
            id: file.id.to_hex().to_string(),
            added: file.summary.as_ref().map_or(0, |s| s.data_added_packed),
            bytes: archive.bytes(),
            unchanged: history
                .iter()
                .rev()
                .find(|s| s.series == series.name && s.time <= time)
                .is_some_and(|s| s.tree == tree),
        });
    }
    Ok(Some(Taken {
        manifest,
        description,
        tags,
        snapshot,
        quotes,
        before: before.and_then(|b| b.description.clone()),
        shrunk,
        shrunk_before,
        quiet,
    }))
}

/// Captures the sources of one series. What each one brought is returned; an error is one that
/// ends the run.
fn capture(
    profile: &Profile,
    sources: &[SeriesSource],
    time: DateTime<Local>,
    staging: &Staging,
    stop: &Stop,
    ui: &Ui,
) -> Result<Vec<Result<Capture, CaptureError>>, Error> {
    let cache = SecretCache::open(&profile.state.join("secrets"));
    if let Err(error) = &cache {
        ui.warn(format_args!(
            "secrets are encrypted anew by each run: {error}"
        ));
    }
    // Every source is named, so that no folder of one series opens a database or copies a secret
    // of another.
    let all = profile.everything_named();
    let capturer = Capturer::new(staging, &all)?
        .recipients(profile.recipients.as_ref())
        .secret_cache(cache.as_ref().ok())
        .observer(ui)
        .stop(stop.clone())
        .now(SystemTime::from(time));
    let mut capturer = capturer.keep_out(own_places(profile));
    for (name, error) in capturer.learn_secrets(&all) {
        // One that is to be taken tells it itself, and one that was never there is nobody's.
        let taken = sources
            .iter()
            .any(|s| s.source.name == name && s.source.required);
        if !taken && !matches!(error, CaptureError::Missing { .. }) {
            ui.warn(format_args!(
                "copies of the secret `{name}` may go unnoticed: {error}"
            ));
        }
    }
    let wanted: Vec<_> = sources.iter().map(|s| s.source.clone()).collect();
    let mut captured: Vec<_> = capturer.capture_all(&wanted);
    captured.sort_by_key(|(index, _)| *index);
    let captured: Vec<_> = captured.into_iter().map(|(_, capture)| capture).collect();
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    for capture in captured.iter().flatten() {
        for note in capture
            .notes
            .iter()
            .filter(|n| matches!(n, Note::SecretCache { .. }))
        {
            ui.step(describe_note(note));
        }
    }
    Ok(captured)
}

/// Whether an upload may have left something behind.
fn may_have_broken_off(profile: &Profile, history: &[Snapshot]) -> bool {
    let runs = runs::last(&profile.state).unwrap_or_default();
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
            ui.step(format_args!("what was sent before is not used: {error}"));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether there is anything to write; that nothing could be captured is an error.
fn something_was_captured(
    series: &str,
    manifest: &Manifest,
    captures: &[Capture],
) -> Result<bool, Error> {
    if captures.iter().any(|c| !c.entries.is_empty()) {
        return Ok(true);
    }
    let failures: Vec<String> = manifest
        .sources
        .iter()
        .flat_map(|s| {
            s.failures
                .iter()
                .map(|f| format!("{}: {}", s.name, f.error))
        })
        .collect();
    // An empty glob is a state worth a snapshot; sources that are all absent are not.
    if failures.is_empty() {
        return Ok(captures.iter().any(|c| !c.absent));
    }
    Err(Error::NothingCaptured {
        series: series.to_owned(),
        failures,
    })
}

impl Request {
    fn check(&self, profile: &Profile) -> Result<(), Error> {
        for name in &self.only {
            if profile.sources.iter().all(|s| &s.source.name != name) {
                let names: Vec<_> = profile
                    .sources
                    .iter()
                    .map(|s| s.source.name.as_str())
                    .collect();
                return Err(Error::Usage {
                    fact: format!("there is no source `{name}`"),
                    hint: Some(format!("the profile has {}", names.join(", "))),
                });
            }
        }
        if let Some(tag) = &self.tag {
            let reserved = [PARTIAL, DAMAGED, SHRUNK, ONLY].contains(&tag.as_str())
                || profile.series.iter().any(|s| &s.name == tag);
            if tag.is_empty() || tag.contains(',') || reserved {
                return Err(Error::Usage {
                    fact: format!("`{tag}` cannot be given as a tag"),
                    hint: Some("tags of ours (series, partial, damaged, shrunk, only) are taken, and a comma parts tags".into()),
                });
            }
        }
        Ok(())
    }
}

/// What is ours, and in no snapshot: state, staging, profile, password, a local repository.
fn own_places(profile: &Profile) -> Vec<std::path::PathBuf> {
    let mut places = vec![
        profile
            .state
            .parent()
            .unwrap_or(&profile.state)
            .to_path_buf(),
        profile.staging.clone(),
        profile.password_file.clone(),
    ];
    places.extend(profile.location.local().map(Path::to_path_buf));
    places
}

fn lock_folder(profile: &Profile) -> std::path::PathBuf {
    profile
        .state
        .parent()
        .unwrap_or(&profile.state)
        .join("locks")
}

/// Takes the lock that a run, or anything else that deletes, holds.
pub(crate) fn lock(profile: &Profile, wait: Duration, stop: &Stop) -> Result<RunLock, Error> {
    RunLock::take(&lock_folder(profile), &profile.location, wait, stop)
}

/// An empty folder to stage in, and whether a killed run left another.
fn fresh_staging(profile: &Profile, ui: &Ui) -> Result<(Staging, bool), Error> {
    private_folder(&profile.state)?;
    let left = Staging::sweep(&profile.staging)?;
    for left in &left {
        ui.step(format_args!(
            "removed `{}`, left by a killed run",
            left.display()
        ));
    }
    Ok((Staging::create(&profile.staging)?, !left.is_empty()))
}

/// Refuses a repository that would die with what it is to outlive.
pub(crate) fn off_the_disk(profile: &Profile) -> Result<(), Error> {
    if profile.allow_same_disk {
        return Ok(());
    }
    match disk::of_profile(profile) {
        (Relation::Same(reason), source_path) => Err(Error::SameDisk {
            location: profile.location.to_string(),
            source_path,
            reason,
        }),
        _ => Ok(()),
    }
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

fn chosen(profile: &Profile, request: &Request, series: &Series) -> Vec<SeriesSource> {
    profile
        .sources
        .iter()
        .filter(|s| s.series == series.name)
        .filter(|s| request.only.is_empty() || request.only.contains(&s.source.name))
        .cloned()
        .collect()
}

fn tags(request: &Request, series: &Series, manifest: &Manifest, shrunk: bool) -> Vec<String> {
    let mut tags = vec![series.name.clone()];
    let conditions = [
        (!manifest.is_complete(), PARTIAL),
        (manifest.is_damaged(), DAMAGED),
        (shrunk, SHRUNK),
        (!request.only.is_empty(), ONLY),
    ];
    tags.extend(
        conditions
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, tag)| (*tag).to_owned()),
    );
    tags.extend(request.tag.clone());
    tags
}

/// The snapshot that a new one is compared with: the last that is sound or accepted.
fn baseline<'a>(
    profile: &Profile,
    history: &'a [Snapshot],
    series: &str,
    now: &DateTime<Local>,
) -> Option<&'a Snapshot> {
    history
        .iter()
        .rev()
        .filter(|s| s.series == series && !s.has(ONLY) && s.description.is_some() && s.time <= *now)
        .find(|s| s.is_sound() || profile.retention.is_acknowledged(s))
}

/// Says what lost more than it may of its rows, files or bytes, if something did. A handful is no
/// evidence.
fn why_shrunk(before: &Description, now: &Description, may_lose: f64) -> Option<String> {
    const TOO_FEW_TO_TELL: u64 = 10;
    const TOO_SMALL_TO_TELL: u64 = 256 << 10;
    #[allow(clippy::cast_precision_loss, reason = "a part of it is what counts")]
    let shrank = |was: u64, is: u64| (is as f64) < (was as f64) * (1.0 - may_lose);
    for (name, old) in before.sources.iter().filter(|(_, s)| s.outcome.is_sound()) {
        // A source that failed is told as such; one that left the profile is not missed.
        let Some(source) = now.sources.get(name).filter(|s| s.outcome.is_sound()) else {
            continue;
        };
        for (table, was) in &old.rows {
            let (was, is) = (was.unwrap_or(0), source.rows.get(table).copied().flatten());
            if was >= TOO_FEW_TO_TELL && shrank(was, is.unwrap_or(0)) {
                return Some(format!(
                    "table {table} of {name} went from {was} to {} rows",
                    is.unwrap_or(0)
                ));
            }
        }
        if source.kind == Kind::Dir
            && old.files >= TOO_FEW_TO_TELL
            && shrank(old.files, source.files)
        {
            return Some(format!(
                "{name} went from {} to {} files",
                old.files, source.files
            ));
        }
        // A VACUUM makes a database smaller, too: its rows would still be there.
        if source.kind == Kind::Sqlite
            && source.rows.values().all(Option::is_none)
            && old.bytes >= TOO_SMALL_TO_TELL
            && shrank(old.bytes, source.bytes)
        {
            return Some(format!(
                "{name} went from {} to {} bytes",
                old.bytes, source.bytes
            ));
        }
    }
    None
}

/// Databases whose newest row has been the newest for longer than it should: is it still the one that
/// the hub uses? Told when it comes to that, and again after as long a time, not by each run.
fn gone_quiet(
    description: &Description,
    before: Option<&Snapshot>,
    now: DateTime<Local>,
    quiet: TimeDelta,
) -> Vec<String> {
    let mut told = Vec::new();
    for (name, source) in &description.sources {
        let newest = source.newest.values().flatten();
        let Some(newest) = newest.filter_map(crate::report::as_time).max() else {
            continue;
        };
        let periods = |at: DateTime<chrono::Utc>| {
            (at - newest)
                .num_minutes()
                .div_euclid(quiet.num_minutes().max(1))
        };
        let at_last = before.map_or(0, |s| periods(s.time.to_utc()));
        if periods(now.to_utc()) > at_last.max(0) {
            told.push(format!(
                "the newest row of {name} is {} old: is it the database that the hub uses?",
                crate::report::age(now.to_utc() - newest)
            ));
        }
    }
    told
}

fn quotes(captures: &[Capture]) -> Vec<(String, Sha256Hash)> {
    captures
        .iter()
        .flat_map(|c| &c.notes)
        .filter_map(|note| match note {
            Note::QuotesSecret { sha256, .. } => Some((describe_note(note), *sha256)),
            _ => None,
        })
        .collect()
}

/// Warns of each content that quotes a secret once, not twice a day for ever.
fn warn_of_quotes(profile: &Profile, report: &mut RunReport, ui: &Ui) {
    let quotes: Vec<_> = report
        .series
        .iter()
        .filter_map(|s| s.taken.as_ref().ok())
        .flat_map(|t| t.quotes.clone())
        .collect();
    if quotes.is_empty() {
        return;
    }
    let path = profile.state.join("quotes-told");
    let mut told = told_before(&path);
    let before = told.len();
    for (text, content) in quotes {
        if told.insert(content.to_string()) {
            report.warnings.push(text);
        }
    }
    if told.len() > before && !report.dry_run {
        let lines = told.into_iter().collect::<Vec<_>>().join("\n");
        if let Err(error) = write_private(&path, lines.as_bytes()) {
            ui.warn(error);
        }
    }
}

fn told_before(path: &Path) -> BTreeSet<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}
