//! Retention applied: the plan is made, checked, and carried out by whoever has the repository alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use rustic_core::repofile::SnapshotId;

use crate::error::Error;
use crate::machine::private_files::{private_folder, write_private};
use crate::policy::history::Snapshot;
use crate::policy::retention::Plan;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::repository::lock::{Mode, exclusive_wait};
use crate::restore::origin;
use crate::state::ledger::{self, Ledger};

/// How far apart two snapshots are when the clock is suspected rather than a pause.
const LEAP: TimeDelta = TimeDelta::days(30);

/// For how long after a leap nothing is removed by itself.
const DOUBT: TimeDelta = TimeDelta::days(7);

/// Says when the clock leapt ahead lately: every rule is counted from a time that may be wrong, and
/// what is removed by it does not come back when the clock does.
fn leap<Tz: TimeZone>(snapshots: &[Snapshot], now: &DateTime<Tz>) -> Option<String> {
    let mut times: Vec<_> = snapshots.iter().map(|s| s.time.to_utc()).collect();
    times.retain(|time| *time <= now.to_utc());
    times.push(now.to_utc());
    times.sort_unstable();
    times
        .windows(2)
        .rev()
        .take_while(|pair| now.to_utc() - pair[1] < DOUBT)
        .find(|pair| pair[1] - pair[0] > LEAP)
        .map(|pair| {
            format!(
                "no snapshot was taken between {} and {}; is the clock right?",
                pair[0].format("%Y-%m-%d"),
                pair[1].format("%Y-%m-%d")
            )
        })
}

/// Who asked for retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A run, with nobody watching.
    ByItself,
    /// The operator.
    ByHand,
    /// The operator, to see the plan.
    DryRun,
}

/// What an applied plan did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The plan.
    pub plan: Plan,
    /// The ids that were deleted, in order.
    pub removed: Vec<Snapshot>,
    /// Why nothing was deleted now, where something was to be.
    pub postponed: Option<String>,
}

/// Notes since when retention waits for others.
const WAITING: &str = "retention-postponed";

/// For how long retention may be postponed by others' locks before it is told as a failure.
const PATIENCE: TimeDelta = TimeDelta::days(3);

/// Applies the plan as a run does that nobody watches: with the repository to itself, for which it does
/// not wait long.
///
/// # Errors
/// As [`apply`]; [`Error::Postponed`] too where others have kept it from being applied for days.
pub fn apply_by_itself<Tz: TimeZone>(
    repository: &Repository,
    profile: &Profile,
    now: &DateTime<Tz>,
) -> Result<Applied, Error> {
    let waiting = profile.reach.state.join(WAITING);
    let mut planned = apply(repository, profile, now, Asked::DryRun)?;
    if planned.plan.removals().is_empty() {
        forget_waiting(&waiting)?;
        return Ok(planned);
    }
    let holder = match repository.lock(Mode::Exclusive, exclusive_wait()) {
        Ok(_held) => {
            // Planned anew: who held the lock may have changed anything.
            let applied = apply(repository, profile, now, Asked::ByItself)?;
            forget_waiting(&waiting)?;
            return Ok(applied);
        }
        Err(Error::RepositoryLocked { holder, .. }) => holder,
        Err(error) => return Err(error),
    };
    let since = waiting_since(&waiting, &now.to_utc())?;
    if now.to_utc() - since > PATIENCE {
        return Err(Error::Postponed {
            fact: format!(
                "other programs have had the repository locked at each run since {}; now {holder}",
                since.format("%Y-%m-%d")
            ),
            hint: "`rustic-hapi doctor` lists the locks and what removes each (`restic unlock` where its process is gone)",
        });
    }
    planned.postponed = Some(format!("the repository is locked: {holder}"));
    Ok(planned)
}

/// Since when it is waited; from now on, if it was not.
fn waiting_since(path: &Path, now: &DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let written = fs::read_to_string(path).ok();
    let since = written.and_then(|text| DateTime::parse_from_rfc3339(text.trim()).ok());
    // One from the future is no time to wait from.
    match since
        .map(|since| since.to_utc())
        .filter(|since| since <= now)
    {
        Some(since) => Ok(since),
        None => {
            private_folder(path.parent().unwrap_or(path))?;
            write_private(path, format!("{}\n", now.to_rfc3339()).as_bytes())?;
            Ok(*now)
        }
    }
}

fn forget_waiting(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::at(path)(error)),
        _ => Ok(()),
    }
}

/// The plan for the snapshots of a place. What a copy's rules keep, and the copy has not got yet, is not removed: a disk
/// that was away for weeks brings no hole into its history.
///
/// # Errors
/// Those of the engine's rules.
pub(crate) fn planned<Tz: TimeZone>(
    profile: &Profile,
    ours: &[Snapshot],
    now: &DateTime<Tz>,
) -> Result<Plan, Error> {
    let mut plan = Plan::make(ours, &profile.retention, now)?;
    for copy in &profile.copies {
        // One that was never reached may never be.
        let id = copy.reach.id.as_ref();
        let Some(ledger) = id.and_then(|id| Ledger::load(copy, id)) else {
            continue;
        };
        let there = ledger
            .snapshots()
            .filter(|s| !ours.iter().any(|o| o.is_at(s)));
        let all: Vec<Snapshot> = there.chain(ours.iter().cloned()).collect();
        let of_copy = Plan::make(&all, &copy.retention, now)?;
        let kept = of_copy.decisions.into_iter().filter(|d| d.keep);
        let wanted: BTreeSet<SnapshotId> = kept
            .map(|d| d.snapshot)
            .filter(|s| !ledger.has(s))
            .map(|s| s.id)
            .collect();
        plan.hold(&wanted, &format!("not yet in the copy `{}`", copy.place()));
    }
    Ok(plan)
}

/// Plans, checks, lists again, and deletes. Whoever deletes holds the exclusive lock.
///
/// # Errors
/// [`Error::Floor`] when the plan does not pass its check, [`Error::Postponed`] when the
/// repository is no longer what was planned for; nothing was deleted then.
pub fn apply<Tz: TimeZone>(
    repository: &Repository,
    profile: &Profile,
    now: &DateTime<Tz>,
    asked: Asked,
) -> Result<Applied, Error> {
    let before = repository.snapshot_ids()?;
    let files = repository.snapshots()?;
    let ours = origin::seen(repository, &files, profile);
    let plan = planned(profile, &ours, now)?;
    plan.check(&now.timezone())?;
    let doomed: Vec<SnapshotId> = plan.removals().iter().map(|s| s.id).collect();
    if asked == Asked::DryRun || doomed.is_empty() {
        return Ok(Applied {
            plan,
            removed: Vec::new(),
            postponed: None,
        });
    }
    if asked == Asked::ByItself
        && let Some(fact) = leap(&ours, now)
    {
        return Err(Error::Postponed {
            fact,
            hint: "check the clock; `rustic-hapi forget` applies the plan now, and after a week a run applies it",
        });
    }
    let again = repository.snapshot_ids()?;
    if before != again || files.len() != again.len() {
        return Err(Error::Postponed {
            fact: "the list of snapshots changed while the plan was made".to_owned(),
            hint: "the next run tries again",
        });
    }
    // Somebody may have had our lock removed, and be at work.
    repository
        .gate()
        .confirm()
        .map_err(|fact| Error::Postponed {
            fact,
            hint: "the next run tries again",
        })?;
    // Before: what a killed run removed is not missed by the next one.
    ledger::removing(profile, &repository.id(), &doomed)?;
    repository.delete_snapshots(&doomed)?;
    forget_waiting(&profile.reach.state.join(WAITING))?;
    let left = repository.snapshot_ids()?;
    if let Some(stayed) = doomed.iter().find(|id| left.contains(id)) {
        return Err(Error::Engine {
            doing: "removing snapshots",
            reason: format!("{} is still listed", &stayed.to_hex()[..8]).into(),
        });
    }
    let removed = plan.removals().into_iter().cloned().collect();
    Ok(Applied {
        plan,
        removed,
        postponed: None,
    })
}
