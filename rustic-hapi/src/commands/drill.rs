//! A drill is a restore that nobody needs yet: every source comes out of the repository into a
//! scratch folder and is compared with what was captured, file by file and row by row.
//!
//! It needs the repository, its password and, to open secrets, an identity: no sources, no state.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{
    CaptureError, Column, DatabaseFacts, Identities, Integrity, IntegrityCheck, Kind, Staging,
    Stop, examine,
};

use crate::commands::restore::{Library, Restorer, SourceReport, open_secret, warnings_of};
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::boot::{self, Boot};
use crate::machine::place::Place;
use crate::policy::choice::{Choice, Which};
use crate::policy::description::SourceSummary;
use crate::policy::manifest::{EntryRecord, SourceRecord};
use crate::profile::Profile;
use crate::repository::Repository;
use crate::restore::fetch::Failure;
use crate::state::drills::{self, DrillOutcome, Record};
use crate::terminal::ui::Ui;

/// Bytes that stay free for the live hub.
const MARGIN: u64 = 64 << 20;

/// What a drill is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which snapshots.
    pub which: Which,
    /// Only where a week has passed since the last one.
    pub weekly: bool,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Where the scratch folder is made; the staging folder unless given.
    pub scratch: Option<PathBuf>,
    /// Leave what was restored.
    pub keep: bool,
    /// A program to start on the copy, and how long it may take to come up.
    pub boot: Option<(String, Duration)>,
}

/// What a drill found.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub time: DateTime<Local>,
    /// The repository's id.
    pub repository: String,
    /// By source, in the profile's order.
    pub sources: Vec<SourceDrill>,
    /// What is different and belongs to no single source.
    pub findings: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Until the last file was restored: the real recovery time.
    pub restored_after: Duration,
    /// In all.
    pub took: Duration,
    /// What became of the boot.
    pub boot: Option<Boot>,
    /// Where everything was left, if it was.
    pub kept: Option<PathBuf>,
}

/// One source as it was drilled.
#[derive(Debug)]
pub struct SourceDrill {
    /// The source's name.
    pub name: String,
    /// Its kind, where that is known.
    pub kind: Option<Kind>,
    /// Where it came from; `None` where no snapshot holds it.
    pub choice: Option<Choice>,
    /// Files restored.
    pub files: u64,
    /// Bytes restored.
    pub bytes: u64,
    /// What its manifest says of its databases.
    pub summary: Option<SourceSummary>,
    /// Its files in the scratch folder.
    pub restored_to: Vec<PathBuf>,
    /// The verdict.
    pub verdict: Verdict,
    /// What is different.
    pub findings: Vec<String>,
}

/// What a drill says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It came back as it was.
    Proven,
    /// Its ciphertext came back as it was; whether it opens was not tried.
    Unopened,
    /// There was nothing of it then, and there need not be.
    Absent,
    /// It is not, or not wholly, in the snapshot that was named.
    Missing,
    /// It did not come back as it was.
    Different,
}

impl Verdict {
    /// In a word.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unopened => "unopened",
            Self::Absent => "absent",
            Self::Missing => "missing",
            Self::Different => "DIFFERENT",
        }
    }
}

impl Report {
    /// How it ended.
    pub fn outcome(&self) -> DrillOutcome {
        let different = !self.findings.is_empty()
            || self.boot.as_ref().is_some_and(|boot| !boot.up)
            || self
                .sources
                .iter()
                .any(|s| matches!(s.verdict, Verdict::Different | Verdict::Missing));
        match different {
            true => DrillOutcome::Difference,
            false => DrillOutcome::Proven,
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self.outcome() {
            DrillOutcome::Proven => Exit::Complete,
            DrillOutcome::Difference => Exit::Difference,
            DrillOutcome::Failed => Exit::DrillFailed,
        }
    }

    /// Everything that is different, for people.
    pub fn all_findings(&self) -> Vec<String> {
        let of_sources = self
            .sources
            .iter()
            .flat_map(|s| s.findings.iter().map(|f| format!("{}: {f}", s.name)));
        let of_boot = self
            .boot
            .iter()
            .filter(|boot| !boot.up)
            .map(|boot| format!("the hub did not come up: {}", boot.how));
        self.findings
            .iter()
            .cloned()
            .chain(of_sources)
            .chain(of_boot)
            .collect()
    }

    fn record(&self) -> Record {
        Record {
            time: self.time.fixed_offset(),
            repository: Some(self.repository.clone()),
            outcome: self.outcome(),
            exit: self.exit() as u8,
            seconds: self.took.as_secs_f64(),
            restore_seconds: self.restored_after.as_secs_f64(),
            bytes: self.sources.iter().map(|s| s.bytes).sum(),
            sources: self
                .sources
                .iter()
                .map(|s| drills::SourceRecord {
                    name: s.name.clone(),
                    snapshot: s
                        .choice
                        .as_ref()
                        .map_or_else(String::new, |c| c.snapshot.id.to_hex().to_string()),
                    verdict: s.verdict.in_words().to_lowercase(),
                })
                .collect(),
            findings: self.all_findings(),
            boot: self.boot.clone(),
        }
    }
}

/// Why a weekly drill has nothing to do now, if so.
///
/// # Errors
/// The record of drills cannot be read.
pub fn not_due(
    profile: &Profile,
    request: &Request,
    now: DateTime<Local>,
) -> Result<Option<String>, Error> {
    if !request.weekly || drills::is_due(&profile.state, now) {
        return Ok(None);
    }
    let last = drills::last(profile)?;
    Ok(last.map(|last| {
        format!(
            "nothing to do: the last drill was {} ago",
            crate::words::age(now.fixed_offset() - last.time)
        )
    }))
}

/// Drills, and writes down how it went.
///
/// # Errors
/// [`Error::Drill`] around whatever kept it from being run (exit 22); what is different is in the
/// report (exit 21).
pub fn run(
    profile: &Profile,
    request: &Request,
    identities: Option<&Identities>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Report, Error> {
    let result = drill(profile, request, identities, now, stop, ui);
    let record = match &result {
        Ok(report) => report.record(),
        Err(_) if stop.is_set() => return result,
        Err(error) => Record {
            time: now.fixed_offset(),
            repository: profile.repository_id.clone(),
            outcome: DrillOutcome::Failed,
            exit: Exit::DrillFailed as u8,
            seconds: 0.0,
            restore_seconds: 0.0,
            bytes: 0,
            sources: Vec::new(),
            findings: vec![error.to_string()],
            boot: None,
        },
    };
    if let Err(error) = drills::append(profile, &record) {
        // A machine that has only the repository may have no place for it.
        ui.warn(format_args!("this drill is not on record: {error}"));
    }
    result.map_err(|error| match error {
        usage @ Error::Usage { .. } => usage,
        error => Error::Drill {
            error: Box::new(error),
        },
    })
}

fn drill(
    profile: &Profile,
    request: &Request,
    identities: Option<&Identities>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Report, Error> {
    let started = Instant::now();
    let repository = Repository::open(profile, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, profile, request.host.as_deref())?;
    let mut chosen = library.choose(profile, &request.which, &[], now);
    // In its first days a repository has no older snapshot.
    if request.weekly && matches!(chosen, Err(Error::NoSnapshot { .. })) {
        chosen = library.choose(profile, &Which::Newest, &[], now);
    }
    let chosen = chosen?;
    let scratch = Scratch::make(profile, request)?;
    let place = Place::open(&scratch.path().join("restored"))?;
    // The live hub may write to the same file system: a drill must not be what fills it.
    let needed = chosen.choices.iter().fold(0u64, |sum, choice| {
        sum.saturating_add(library.bytes(choice))
    });
    let free = place.free()?;
    let needed = needed.saturating_add(MARGIN);
    if free < needed {
        return Err(Error::NoRoom {
            path: scratch.path().to_path_buf(),
            free,
            needed,
        });
    }
    // Secrets are opened in memory, and lie in the scratch folder as ciphertext.
    let restorer = Restorer {
        place: &place,
        identities: None,
        overwrite: false,
        ui,
        stop,
    };
    let mut report = Report {
        time: now,
        repository: repository.id(),
        sources: Vec::new(),
        findings: library.unreadable.clone(),
        warnings: warnings_of(&chosen, &library.snapshots),
        restored_after: Duration::ZERO,
        took: Duration::ZERO,
        boot: None,
        kept: None,
    };

    let mut looked_into = BTreeSet::new();
    let mut restored: Vec<(SourceDrill, SourceRecord)> = Vec::new();
    for choice in chosen.choices {
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        let first_look = looked_into.insert(choice.snapshot.id);
        let contents = match library.contents(&choice.snapshot) {
            Ok(contents) => contents,
            Err(error) => {
                report.sources.push(SourceDrill::lost(choice, &error));
                continue;
            }
        };
        if first_look {
            let differences = contents.mismatches.iter().chain(&contents.differences);
            report
                .findings
                .extend(differences.map(|what| format!("{}: {what}", choice.snapshot.short_id())));
        }
        let record = match library.record(&choice) {
            Ok(record) => record.clone(),
            Err(error) => {
                report.sources.push(SourceDrill::lost(choice, &error));
                continue;
            }
        };
        let summary = library
            .contents(&choice.snapshot)?
            .description
            .sources
            .get(&choice.source)
            .cloned();
        let came = library.bring(&repository, &restorer, choice, ui, stop)?;
        restored.push((SourceDrill::of(came, summary), record));
    }
    place.sync()?;
    report.restored_after = started.elapsed();

    for (mut source, record) in restored {
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        ui.start(&format!("comparing {}", source.name), 0);
        let findings = match record.kind {
            Kind::Sqlite => databases_differ(&place, &record, stop)?,
            Kind::Secret => match (identities, &source.choice) {
                (Some(identities), Some(choice)) => {
                    let fetch = library.fetch(&choice.snapshot, ui, stop)?;
                    secrets_differ(&fetch, &record, identities)?
                }
                _ => Vec::new(),
            },
            Kind::File | Kind::Glob | Kind::Dir => Vec::new(),
        };
        hapi_sources::Observer::end(ui);
        source.findings.extend(findings);
        source.judge(
            &request.which,
            record.kind == Kind::Secret && identities.is_none(),
        );
        report.sources.push(source);
    }
    for (name, required) in chosen.nowhere {
        report.sources.push(SourceDrill::nowhere(name, required));
    }
    if let Some((command, wait)) = &request.boot {
        report.boot = Some(start_hub(profile, &place, &report, command, *wait, stop)?);
        // A hub that was given no time has proven nothing, either way.
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
    }
    report.took = started.elapsed();
    report.kept = scratch.end(place)?;
    Ok(report)
}

/// Compares restored databases with what was known of them when they were captured.
fn databases_differ(
    place: &Place,
    record: &SourceRecord,
    stop: &Stop,
) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for entry in &record.entries {
        let Some(known) = &entry.database else {
            continue;
        };
        let path = place.of(&entry.path.to_path());
        if !path.exists() {
            continue; // told when it did not come
        }
        let tables: Vec<String> = known.rows.keys().cloned().collect();
        let columns: Vec<Column> = known.newest.keys().cloned().collect();
        let found = match examine(&path, &tables, &columns, IntegrityCheck::Full, stop) {
            Ok((_, _, found)) => found,
            Err(_) if stop.is_set() => return Err(CaptureError::Stopped.into()),
            Err(error) => {
                findings.push(format!("it cannot be opened: {error}"));
                continue;
            }
        };
        findings.extend(facts_differ(known, &found));
    }
    Ok(findings)
}

/// Where two looks at one database disagree.
pub(crate) fn facts_differ(known: &DatabaseFacts, found: &DatabaseFacts) -> Vec<String> {
    let mut findings = Vec::new();
    let mut compare = |what: &str, known: String, found: String| {
        if known != found {
            findings.push(format!("{what} is {found}, the manifest says {known}"));
        }
    };
    let text = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    compare(
        "the number of pages",
        known.page_count.to_string(),
        found.page_count.to_string(),
    );
    compare(
        "user_version",
        known.user_version.to_string(),
        found.user_version.to_string(),
    );
    compare(
        "the hash of the schema",
        known.schema.clone(),
        found.schema.clone(),
    );
    for (table, rows) in &known.rows {
        let now = found.rows.get(table).copied().flatten();
        compare(
            &format!("the row count of `{table}`"),
            text(*rows),
            text(now),
        );
    }
    for (column, value) in &known.newest {
        let now = found.newest.get(column).cloned().flatten();
        let show = |v: &Option<serde_json::Value>| {
            v.as_ref()
                .map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        compare(&format!("the newest `{column}`"), show(value), show(&now));
    }
    match (&known.integrity, &found.integrity) {
        (_, Integrity::Damaged { findings: damage }) => findings.push(format!(
            "SQLite finds damage: {}",
            damage
                .first()
                .and_then(|d| d.lines().next())
                .unwrap_or("no details")
        )),
        (Integrity::Damaged { .. }, _) => {
            findings.push("the manifest says it is damaged, and SQLite finds nothing".into());
        }
        _ => {}
    }
    findings
}

/// Decrypts every secret to the last byte, in memory.
fn secrets_differ(
    fetch: &crate::restore::fetch::Fetch<'_>,
    record: &SourceRecord,
    identities: &Identities,
) -> Result<Vec<String>, Error> {
    let secrets = |entry: &&EntryRecord| entry.secret_entries.is_some();
    let mut findings = Vec::new();
    for entry in record.entries.iter().filter(secrets) {
        match open_secret(fetch, entry, identities) {
            Ok(_) => {}
            Err(Failure::Difference(what)) => findings.push(what),
            Err(Failure::Sealed) => {
                findings.push("none of the identities opens it".to_owned());
            }
            Err(Failure::Stopped) => return Err(CaptureError::Stopped.into()),
            Err(Failure::Local(error)) => {
                return Err(Error::State {
                    path: entry.path.to_path(),
                    error,
                });
            }
        }
    }
    Ok(findings)
}

fn start_hub(
    profile: &Profile,
    place: &Place,
    report: &Report,
    command: &str,
    wait: Duration,
    stop: &Stop,
) -> Result<Boot, Error> {
    // The hub's home is where its database is.
    let database = report
        .sources
        .iter()
        .filter(|s| s.kind == Some(Kind::Sqlite))
        .find_map(|s| s.summary.as_ref().and(s.restored_to.first().cloned()));
    let home = match &database {
        Some(database) => database.parent().unwrap_or(place.path()).to_path_buf(),
        None => place.of(&profile.hapi_home),
    };
    boot::boot(command, &home, database.as_deref(), wait, stop)
        .map_err(|error| Error::State { path: home, error })
}

impl SourceDrill {
    fn of(came: SourceReport, summary: Option<SourceSummary>) -> Self {
        Self {
            name: came.choice.source.clone(),
            kind: Some(came.kind),
            files: came.files.len() as u64,
            bytes: came.bytes,
            summary,
            verdict: Verdict::Different,
            findings: came.differences,
            restored_to: came.files,
            choice: Some(came.choice),
        }
    }

    fn lost(choice: Choice, error: &Error) -> Self {
        Self {
            name: choice.source.clone(),
            kind: None,
            files: 0,
            bytes: 0,
            summary: None,
            verdict: Verdict::Different,
            findings: vec![error.to_string()],
            restored_to: Vec::new(),
            choice: Some(choice),
        }
    }

    fn nowhere(name: String, required: bool) -> Self {
        let (verdict, findings) = match required {
            true => (
                Verdict::Different,
                vec!["no snapshot holds anything of it".to_owned()],
            ),
            false => (Verdict::Absent, Vec::new()),
        };
        Self {
            name,
            kind: None,
            files: 0,
            bytes: 0,
            summary: None,
            verdict,
            findings,
            restored_to: Vec::new(),
            choice: None,
        }
    }

    fn judge(&mut self, which: &Which, unopened: bool) {
        use crate::policy::description::Outcome;
        let outcome = self.choice.as_ref().map(|c| c.outcome);
        self.verdict = match outcome {
            _ if !self.findings.is_empty() => Verdict::Different,
            Some(Outcome::Absent) => Verdict::Absent,
            Some(Outcome::Complete) if unopened => Verdict::Unopened,
            Some(Outcome::Complete) => Verdict::Proven,
            // A snapshot that was named is what it is; the newest whole one should be whole.
            Some(Outcome::Partial | Outcome::Failed) if *which != Which::Newest => {
                self.findings
                    .push("it is not, or not wholly, in this snapshot".to_owned());
                Verdict::Missing
            }
            Some(outcome) if *which != Which::Newest => {
                self.findings.push(format!(
                    "it was {} when it was captured",
                    outcome.in_words()
                ));
                Verdict::Different
            }
            Some(outcome) => {
                self.findings.push(format!(
                    "no snapshot holds it whole; in this one it is {}",
                    outcome.in_words()
                ));
                Verdict::Different
            }
            None => Verdict::Different,
        };
    }
}

/// The folder of one drill, 0700. It is locked while the drill runs and removed in the end, by a later
/// run's sweep if need be; what is to be kept is moved out of it.
struct Scratch {
    staging: Staging,
    base: PathBuf,
    keep: bool,
}

impl Scratch {
    fn make(profile: &Profile, request: &Request) -> Result<Self, Error> {
        let base = match &request.scratch {
            // One that is not there is a typing error, or a disk that is not mounted.
            Some(base) if !base.is_dir() => {
                return Err(Error::Usage {
                    fact: format!("the scratch folder `{}` is not there", base.display()),
                    hint: Some("is the disk mounted? Name a folder that exists".into()),
                });
            }
            Some(base) => base.clone(),
            None => profile.staging.clone(),
        };
        let made = || -> Result<Staging, Error> {
            crate::machine::private_files::private_folder(&base)?;
            Staging::sweep(&base)?;
            Ok(Staging::create(&base)?)
        };
        let staging = made().map_err(|error| match &request.scratch {
            None => Error::NoScratch {
                error: Box::new(error),
            },
            Some(_) => error,
        })?;
        Ok(Self {
            staging,
            base,
            keep: request.keep,
        })
    }

    fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Where it was left, if it is to be.
    fn end(self, place: Place) -> Result<Option<PathBuf>, Error> {
        let from = place.path().to_path_buf();
        drop(place);
        if !self.keep {
            return Ok(None);
        }
        let state = |error| Error::State {
            path: self.base.clone(),
            error,
        };
        let kept = tempfile::Builder::new()
            .prefix("drill-")
            .tempdir_in(&self.base)
            .map_err(state)?
            .keep();
        std::fs::rename(&from, &kept).map_err(state)?;
        Ok(Some(kept))
    }
}
