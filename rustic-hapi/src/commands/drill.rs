//! A drill is a restore that nobody needs yet: every source comes out of the repository into a
//! scratch folder and is compared with what was captured, file by file and row by row.
//!
//! It needs the repository, its password and, to open secrets, an identity: no sources, no state.

mod report;
mod scratch;
mod source;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, Identities, Kind, Observer, Stop};

pub use self::report::Report;
pub use self::source::{SourceDrill, Verdict};
use crate::commands::context::Context;
use crate::commands::drill::scratch::Scratch;
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::boot::{self, Boot};
use crate::machine::target::Target;
use crate::policy::choice::Which;
use crate::policy::manifest::SourceRecord;
use crate::profile::Profile;
use crate::profile::reach::Reach;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::difference::Difference;
use crate::restore::library::{Library, may_not_read, warnings_of};
use crate::restore::proof::{databases_differ, secrets_differ};
use crate::restore::restorer::Restorer;
use crate::state::drills::{self, DrillOutcome, Record};

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

impl Request {
    /// What a timer asks for: an older snapshot, at random, once a week.
    pub fn weekly() -> Self {
        Self {
            which: Which::Older,
            weekly: true,
            host: None,
            scratch: None,
            keep: false,
            boot: None,
        }
    }
}

/// Why a weekly drill has nothing to do now, if so.
///
/// # Errors
/// The record of drills cannot be read.
pub fn not_due(
    from: Reading<'_>,
    request: &Request,
    now: DateTime<Local>,
) -> Result<Option<String>, Error> {
    let copies = from.profile.iter().flat_map(|profile| &profile.copies);
    let reaches: Vec<&Reach> = std::iter::once(from.reach)
        .chain(copies.map(|copy| &copy.reach))
        .collect();
    if !request.weekly
        || reaches
            .iter()
            .all(|reach| drills::is_due(&reach.state, now))
    {
        return Ok(None);
    }
    let mut drilled = Vec::new();
    for reach in reaches {
        drilled.extend(drills::last(reach)?);
    }
    let last = drilled.into_iter().max_by_key(|record| record.time);
    Ok(last.map(|last| {
        format!(
            "nothing to do: the last drill was {} ago",
            crate::words::age(now.fixed_offset() - last.time)
        )
    }))
}

/// The place that a weekly drill is of: the main repository and the copies take turns. It is the one whose last
/// drill, however it ended, is the longest ago.
pub fn whose_turn<'a>(profile: &'a Profile, request: &Request) -> &'a Profile {
    if !request.weekly {
        return profile;
    }
    let tried = |place: &Profile| {
        let last = drills::last(&place.reach).ok().flatten();
        last.map(|record| record.time)
    };
    // Never is the longest ago; the main one comes first.
    std::iter::once(profile)
        .chain(profile.copies.iter().filter(|copy| copy.reach.id.is_some()))
        .min_by_key(|place| tried(place))
        .unwrap_or(profile)
}

/// Drills, and writes down how it went.
///
/// # Errors
/// [`Error::Drill`] around whatever kept it from being run (exit 22); what is different is in the
/// report (exit 21).
pub fn run(
    from: Reading<'_>,
    request: &Request,
    identities: Option<&Identities>,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let result = drill(from, request, identities, now, context);
    let record = match &result {
        Ok(report) => report.record(),
        Err(_) if stop.is_set() => return result,
        Err(error) => Record {
            time: now.fixed_offset(),
            repository: from.reach.id.clone(),
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
    if let Err(error) = drills::append(from.reach, &record) {
        // A machine that has only the repository may have no place for it.
        let error = error.in_a_warning();
        ui.warn(format_args!("this drill was not recorded: {error}"));
    }
    result.map_err(|error| match error {
        usage @ Error::Usage { .. } => usage,
        error => Error::Drill {
            error: Box::new(error),
        },
    })
}

fn drill(
    from: Reading<'_>,
    request: &Request,
    identities: Option<&Identities>,
    now: DateTime<Local>,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let (stop, ui) = (context.stop, context.ui);
    let started = Instant::now();
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, from.profile, request.host.as_deref())?;
    // What this user may not read is not different.
    if let Some(reason) = library.denied.take() {
        return Err(may_not_read(reason));
    }
    let mut chosen = library.choose(from.profile, &request.which, &[], now);
    // In its first days a repository has no older snapshot.
    if request.weekly && matches!(chosen, Err(Error::NoSnapshot { .. })) {
        chosen = library.choose(from.profile, &Which::Newest, &[], now);
    }
    let chosen = chosen?;
    let scratch = Scratch::make(request.scratch.as_deref(), &from.staging(), request.keep)?;
    let target = Target::open(&scratch.path().join("restored"))?;
    // The live hub may write to the same file system: a drill must not be what fills it.
    let needed = chosen.choices.iter().fold(0u64, |sum, choice| {
        sum.saturating_add(library.bytes(choice))
    });
    let free = target.free()?;
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
        target: &target,
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
            Err(error @ Error::Engine { .. }) => return Err(error),
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
        report.warnings.extend(record.rows_without_file());
        let came = restorer.bring(&repository, &mut library, choice)?;
        if let Some(reason) = came.differences.iter().find_map(Difference::denied) {
            return Err(may_not_read(reason.clone()));
        }
        restored.push((SourceDrill::of(came, summary), record));
    }
    target.sync()?;
    report.restored_after = started.elapsed();

    for (mut source, record) in restored {
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        ui.start(&format!("comparing {}", source.name), 0);
        let findings = match record.kind {
            Kind::Sqlite => databases_differ(&target, &record, stop)?,
            Kind::Secret => match (identities, &source.choice) {
                (Some(identities), Some(choice)) => {
                    let fetch = library.fetch(&choice.snapshot, ui, stop)?;
                    secrets_differ(&fetch, &record, identities)?
                }
                _ => Vec::new(),
            },
            Kind::File | Kind::Glob | Kind::Dir => Vec::new(),
        };
        ui.end();
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
        report.boot = Some(start_hub(from, &target, &report, command, *wait, stop)?);
        // A hub that was given no time has proven nothing, either way.
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
    }
    report.took = started.elapsed();
    report.kept = scratch.end(target)?;
    Ok(report)
}

fn start_hub(
    from: Reading<'_>,
    target: &Target,
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
        Some(database) => database.parent().unwrap_or(target.path()).to_path_buf(),
        None => target.of(&from.hapi_home()),
    };
    boot::boot(command, &home, database.as_deref(), wait, stop).map_err(Error::at(&home))
}
