//! A status says whether the newest complete snapshots are as young as they should be, which slots
//! were filled and which were missed, and what has become of the hub's data over time.
//!
//! All of it but the last check, drill and run comes from the repository's snapshot files alone,
//! without index or trees; so it costs little, and a second machine can ask. Slots come from the
//! profile: a machine that has none is told ages only.

use chrono::{DateTime, FixedOffset, Local, TimeDelta};

use crate::commands::check;
use crate::commands::context::Context;
use crate::commands::places::Place;
use crate::commands::retention::planned;
use crate::error::Error;
use crate::exit::Exit;
use crate::policy::freshness::{self, Freshness, SeriesStatus};
use crate::policy::history::{SHRUNK, Snapshot};
use crate::policy::{uncovered, unmatched};
use crate::profile::Profile;
use crate::profile::policy::Policy;
use crate::profile::reach::Reach;
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::repository::files::Sizes;
use crate::restore::origin;
use crate::state::begun::{self, Begun};
use crate::state::drills::{self, DrillOutcome};
use crate::state::last_run::{self, LastRun};
use crate::state::ledger;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// How old the newest complete snapshot of a series that every run takes may be.
    pub max_age: Option<TimeDelta>,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
}

/// What is known of a repository's snapshots.
#[derive(Debug)]
pub struct Status {
    /// When it was asked.
    pub time: DateTime<Local>,
    /// The profile's name; `None` where the slots of these snapshots are not known.
    pub profile: Option<String>,
    /// Whose snapshots they are.
    pub host: String,
    /// The location, without credentials.
    pub location: String,
    /// The repository's id.
    pub repository: String,
    /// Local times at which runs are expected.
    pub at: Vec<chrono::NaiveTime>,
    /// One for each series, the main one first.
    pub series: Vec<SeriesStatus>,
    /// The copies, in the profile's order.
    pub copies: Vec<Place>,
    /// What the repository's files take.
    pub sizes: Sizes,
    /// Snapshots of ours.
    pub snapshots: usize,
    /// Snapshots of other people and hosts.
    pub others: usize,
    /// What retention keeps, where the profile is known.
    pub retention: Option<Retention>,
    /// The oldest snapshot of ours.
    pub oldest: Option<DateTime<FixedOffset>>,
    /// The last check of this repository on this machine.
    pub check: Option<check::Last>,
    /// The last drill of this repository on this machine.
    pub drill: Option<drills::Record>,
    /// When a drill of it last proved that everything comes back.
    pub proven: Option<DateTime<FixedOffset>>,
    /// The last run of this profile on this machine.
    pub run: Option<LastRun>,
    /// What calls the runs of this machine, in words, where it has some.
    pub schedule: Option<String>,
    /// Runs of this profile on this machine that began and never ended.
    pub never_ended: Vec<Begun>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What retention keeps.
#[derive(Debug)]
pub struct Retention {
    /// The policy.
    pub policy: Policy,
    /// The oldest snapshot that stays.
    pub oldest: Option<DateTime<FixedOffset>>,
    /// How many go with the next run.
    pub removable: usize,
    /// What stays for another reason than the policy's rules, and why.
    pub pins: Vec<(Snapshot, Vec<String>)>,
}

impl Status {
    /// The exit code: [`Exit::Stale`] where any series is, or a copy.
    pub fn exit(&self) -> Exit {
        let mut verdicts = self.series.iter().map(|s| s.verdict);
        let mut of_copies = self.copies.iter().map(|copy| copy.verdict);
        let stale = |verdict| verdict == Freshness::Stale;
        match verdicts.any(stale) || of_copies.any(stale) {
            true => Exit::Stale,
            false => Exit::Complete,
        }
    }
}

/// Opens the repository and looks.
///
/// # Errors
/// Those of opening and listing the repository; several hosts in it and none named.
pub fn run(from: Reading<'_>, request: &Request, context: &Context<'_>) -> Result<Status, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let mut status = of(&repository, from, request, now)?;
    if let (false, Some(profile)) = (status.copies.is_empty(), from.profile) {
        let (files, _) = repository.snapshots_or_readable()?;
        let ours = origin::ours(&repository, &files, profile);
        for (place, copy) in status.copies.iter_mut().zip(&profile.copies) {
            place.look(copy, &ours, now, stop);
        }
    }
    Ok(status)
}

/// Looks into an open repository; of the copies, what is on record.
///
/// # Errors
/// As [`run`].
pub fn of(
    repository: &Repository,
    from: Reading<'_>,
    request: &Request,
    now: DateTime<Local>,
) -> Result<Status, Error> {
    let mut warnings = Vec::new();
    let files = repository.snapshots().or_else(|error| {
        // One damaged file is told, and hides nothing of the others.
        let (files, unreadable) = repository.readable_snapshots()?;
        warnings.extend(unreadable.iter().map(ToString::to_string));
        match warnings.is_empty() {
            true => Err(error),
            false => Ok(files),
        }
    })?;
    let ours = origin::readable(repository, &files, from.profile, request.host.as_deref())?;
    // Another host's slots are not in this machine's profile.
    let asked = |profile: &&Profile| request.host.as_ref().is_none_or(|h| *h == profile.host);
    let known = from.profile.filter(asked);
    let series = match known {
        Some(profile) => profile
            .series
            .iter()
            .map(|series| freshness::scheduled(profile, series, &ours, request.max_age, now))
            .collect::<Result<Vec<_>, _>>()?,
        None => freshness::unscheduled(from.profile, &ours, request.max_age, now),
    };
    let id = repository.id();
    let (check, drills, run) = local_records(from.reach, &id, &mut warnings);
    let never_ended = begun::never_ended(&from.reach.state).unwrap_or_else(|error| {
        warnings.push(error.in_a_warning());
        Vec::new()
    });
    warnings.extend(
        begun::in_words(&never_ended)
            .into_iter()
            .map(|(_, fact)| fact),
    );
    warnings.extend(oddities(from, &series, drills.last()));
    if let Some(profile) = known {
        let moved = origin::only_others(repository, &files, profile, &ours);
        let unmatched = || unmatched::nothing_matches(profile, &ours, &files);
        warnings.extend(moved.or_else(unmatched));
        warnings.extend(unmatched::series_without(profile, &ours));
        warnings.extend(uncovered(profile, &series));
        warnings.extend(ledger::look(profile, repository, &files, &ours, &now)?.all());
    }
    if let Some(profile) = from.profile {
        // A storage host's copy of the profile captures nothing.
        let takes = known.filter(|_| run.is_some());
        let newest = |name: &str| {
            let mut described = series
                .iter()
                .filter_map(|s| s.newest.as_ref()?.description.as_ref());
            described.any(|d| d.sources.contains_key(name))
        };
        warnings.extend(takes.and_then(|profile| profile.about_secrets(&newest)));
        warnings.extend(crate::policy::survival::dies_with_this_machine(profile));
    }
    let host = files
        .iter()
        .find(|file| ours.first().is_some_and(|s| s.id == file.id))
        .map(|file| file.hostname.clone())
        .or_else(|| from.profile.map(|profile| profile.host.clone()))
        .unwrap_or_default();
    Ok(Status {
        time: now,
        profile: known.map(|profile| profile.name.clone()),
        host,
        location: from.reach.location.to_string(),
        repository: id,
        at: from
            .profile
            .map(|profile| profile.at.clone())
            .unwrap_or_default(),
        series,
        copies: known
            .iter()
            .flat_map(|profile| &profile.copies)
            .map(|copy| Place::on_record(copy, request.max_age, now))
            .collect(),
        sizes: repository.sizes()?,
        snapshots: ours.len(),
        others: files.len().saturating_sub(ours.len()),
        retention: known
            .map(|profile| retention(profile, &ours, now))
            .transpose()?,
        oldest: ours.first().map(|s| s.time),
        check,
        proven: drills
            .iter()
            .rev()
            .find(|record| record.outcome == DrillOutcome::Proven)
            .map(|record| record.time),
        drill: drills.into_iter().next_back(),
        run: run.filter(|_| known.is_some()),
        schedule: None,
        never_ended,
        warnings,
    })
}

/// What the newest snapshot of the main series does not have, and the profile still neither takes nor ignores.
fn uncovered(profile: &Profile, series: &[SeriesStatus]) -> Option<String> {
    let main = series.first()?;
    let newest = main.partial.as_ref().or(main.newest.as_ref())?;
    let names = &newest.description.as_ref()?.uncovered;
    let still: Vec<String> = uncovered::still(profile, names)
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect();
    (!still.is_empty()).then(|| {
        let more = match still.len() {
            0..=10 => String::new(),
            n => format!(" and {} more", n - 10),
        };
        format!(
            "in no snapshot: {}{more} in `{}`; `rustic-hapi doctor` names the lines for the profile",
            still[..still.len().min(10)].join(", "),
            profile.hapi_home.display()
        )
    })
}

type Records = (Option<check::Last>, Vec<drills::Record>, Option<LastRun>);

/// What is fresh and all the same not well.
fn oddities(
    from: Reading<'_>,
    series: &[SeriesStatus],
    drill: Option<&drills::Record>,
) -> Vec<String> {
    let newest = series.iter().filter_map(|s| s.newest.as_ref());
    let known = |s: &Snapshot| {
        from.profile
            .is_some_and(|p| s.is_acknowledged(&p.retention))
    };
    let shrunk = newest
        .filter(|s| s.has(SHRUNK) && !known(s))
        .map(|s| {
            format!(
                "the newest complete snapshot of `{}`, {s}, has far less than a good one before it; if this is right, add \"{}\" to `acknowledged` in `[retention]`",
                s.series,
                s.first_id()
            )
        });
    let different = drill
        .filter(|drill| drill.outcome == DrillOutcome::Difference)
        .map(|_| "the last drill found a difference; `rustic-hapi drill` shows it".to_owned());
    shrunk.chain(different).collect()
}

/// What this machine wrote down. It is not what was asked about, so whatever is wrong with it is
/// told and no more.
fn local_records(reach: &Reach, id: &str, warnings: &mut Vec<String>) -> Records {
    let mut told = |error: Error| {
        warnings.push(error.in_a_warning());
    };
    let check = check::last(reach).unwrap_or_else(|error| {
        told(error);
        None
    });
    let drills = drills::all(reach).unwrap_or_else(|error| {
        told(error);
        Vec::new()
    });
    let run = last_run::last(reach).unwrap_or_else(|error| {
        told(error);
        None
    });
    let check = check.filter(|last| last.repository == id);
    let of_this = |record: &drills::Record| match &record.repository {
        Some(drilled) => drilled == id,
        None => true,
    };
    (check, drills.into_iter().filter(of_this).collect(), run)
}

fn retention(
    profile: &Profile,
    ours: &[Snapshot],
    now: DateTime<Local>,
) -> Result<Retention, Error> {
    let plan = planned(profile, ours, &now)?;
    let kept = || plan.decisions.iter().filter(|d| d.keep);
    Ok(Retention {
        policy: profile.retention.clone(),
        oldest: kept().map(|d| d.snapshot.time).min(),
        removable: plan.removals().len(),
        pins: kept()
            .filter(|d| !d.pins.is_empty())
            .map(|d| (d.snapshot.clone(), d.pins.clone()))
            .collect(),
    })
}
