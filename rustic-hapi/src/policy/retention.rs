//! Retention decides which snapshots stay. Its plan is a pure function of snapshots, policy and
//! now; it is checked before anything is deleted, and other people's snapshots are no part of it.
//!
//! The engine's own rules (restic's `forget`) are applied per series, and there to complete,
//! partial and `only` snapshots apart: together, a partial one would shadow the complete one of
//! its day. On top come pins, which are derived and never written: the last sound snapshot before
//! one that is `shrunk`, `damaged` or `wal-kept`, and the latter itself, until that is acknowledged, and the last one before a change
//! of schema, for 90 days.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use rustic_core::KeepOptions;
use rustic_core::repofile::{SnapshotFile, SnapshotId};

use crate::error::Error;
use crate::policy::history::{DAMAGED, ONLY, SHRUNK, Snapshot, WAL_KEPT};
use crate::policy::losses::Losses;
use crate::profile::policy::Policy;

/// For how long the last snapshot before a change of schema is pinned.
const SCHEMA_PIN: TimeDelta = TimeDelta::days(90);

/// What stays and what goes, newest first within each series.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// One for each snapshot of ours.
    pub decisions: Vec<Decision>,
}

/// What happens to one snapshot, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether it stays.
    pub keep: bool,
    /// The rules and pins that keep it; empty for one that goes.
    pub reasons: Vec<String>,
    /// Those of the reasons that are no rule of the policy: pins.
    pub pins: Vec<String>,
}

impl Plan {
    /// Makes a plan. Days are those of `now`'s time zone, for every snapshot.
    ///
    /// # Errors
    /// Those of the engine's rules.
    pub fn make<Tz: TimeZone>(
        snapshots: &[Snapshot],
        policy: &Policy,
        now: &DateTime<Tz>,
    ) -> Result<Self, Error> {
        let mut by_series: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            by_series
                .entry(&snapshot.series)
                .or_default()
                .push(snapshot);
        }
        let mut decisions = Vec::new();
        for (_, mut series) in by_series {
            series.sort_by_key(|s| (s.time, s.id));
            let pinned = pins(&series, policy, now);
            let mut kept = pinned.clone();
            for class in [Class::Complete, Class::Partial, Class::Only] {
                let members: Vec<_> = series
                    .iter()
                    .copied()
                    .filter(|s| Class::of(s) == class)
                    .collect();
                for (id, mut reasons) in apply_rules(&members, policy, now)? {
                    kept.entry(id).or_default().append(&mut reasons);
                }
            }
            decisions.extend(series.iter().rev().map(|snapshot| {
                let reasons = kept.remove(&snapshot.id).unwrap_or_default();
                Decision {
                    snapshot: (*snapshot).clone(),
                    keep: !reasons.is_empty(),
                    reasons,
                    pins: pinned.get(&snapshot.id).cloned().unwrap_or_default(),
                }
            }));
        }
        Ok(Self { decisions })
    }

    /// Keeps some that would go.
    pub(crate) fn hold(&mut self, ids: &BTreeSet<SnapshotId>, reason: &str) {
        let goes = |d: &&mut Decision| !d.keep && ids.contains(&d.snapshot.id);
        for decision in self.decisions.iter_mut().filter(goes) {
            decision.keep = true;
            decision.reasons.push(reason.to_owned());
            decision.pins.push(reason.to_owned());
        }
    }

    /// The snapshots that go.
    pub fn removals(&self) -> Vec<&Snapshot> {
        self.decisions
            .iter()
            .filter(|d| !d.keep)
            .map(|d| &d.snapshot)
            .collect()
    }

    /// Whether a complete snapshot of a series, had one been taken at `time`, would still be there
    /// beside these. Where it would and none is, none was taken; else nobody can tell any more.
    ///
    /// # Errors
    /// Those of the engine's rules.
    pub fn would_keep<Tz: TimeZone>(
        snapshots: &[Snapshot],
        policy: &Policy,
        series: &str,
        time: &DateTime<Tz>,
        now: &DateTime<Tz>,
    ) -> Result<bool, Error> {
        let supposed = Snapshot {
            host: String::new(),
            // No file is called so: an id is a hash.
            id: SnapshotId::default(),
            original: None,
            time: time.with_timezone(&time.offset().fix()),
            series: series.to_owned(),
            tags: vec![series.to_owned()],
            description: None,
            keep_until: None,
            added: None,
            tree: String::new(),
        };
        let id = supposed.id;
        let mut all: Vec<Snapshot> = snapshots
            .iter()
            .filter(|s| s.series == series)
            .cloned()
            .collect();
        all.push(supposed);
        let plan = Self::make(&all, policy, now)?;
        Ok(plan.decisions.iter().any(|d| d.keep && d.snapshot.id == id))
    }

    /// Checks the plan without trusting how it was made: each series keeps the floor's days, of
    /// all snapshots and of complete ones, its newest snapshot and its newest complete one.
    ///
    /// # Errors
    /// [`Error::Floor`] with the fact.
    pub fn check<Tz: TimeZone>(&self, zone: &Tz) -> Result<(), Error> {
        let series: BTreeSet<&str> = self
            .decisions
            .iter()
            .map(|d| d.snapshot.series.as_str())
            .collect();
        for name in series {
            for complete in [false, true] {
                let members = || {
                    self.decisions.iter().filter(move |d| {
                        d.snapshot.series == name
                            && !d.snapshot.has(ONLY)
                            && (!complete || d.snapshot.is_complete())
                    })
                };
                let day = |d: &Decision| -> NaiveDate {
                    d.snapshot.time.with_timezone(zone).date_naive()
                };
                let there: BTreeSet<_> = members().map(day).collect();
                let left: BTreeSet<_> = members().filter(|d| d.keep).map(day).collect();
                let floor = usize::from(Policy::FLOOR_DAYS).min(there.len());
                if left.len() < floor {
                    return Err(Error::Floor {
                        fact: format!(
                            "series `{name}` would keep {} days, not {floor}",
                            left.len()
                        ),
                    });
                }
                if members()
                    .max_by_key(|d| d.snapshot.time)
                    .is_some_and(|newest| !newest.keep)
                {
                    return Err(Error::Floor {
                        fact: format!("series `{name}` would lose its newest snapshot"),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Planned apart, with the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Complete,
    Partial,
    Only,
}

impl Class {
    fn of(snapshot: &Snapshot) -> Self {
        if snapshot.has(ONLY) {
            Self::Only
        } else if snapshot.is_complete() {
            Self::Complete
        } else {
            Self::Partial
        }
    }
}

/// Runs the engine's rules over snapshots of one class.
fn apply_rules<Tz: TimeZone>(
    members: &[&Snapshot],
    policy: &Policy,
    now: &DateTime<Tz>,
) -> Result<Vec<(SnapshotId, Vec<String>)>, Error> {
    // One dated in the future would drag `keep-within`, which counts from the newest, away from
    // everything else. It stays, and the others are planned without it.
    let limit = now.clone() + TimeDelta::hours(24);
    let (present, future): (Vec<&Snapshot>, Vec<&Snapshot>) =
        members.iter().partition(|s| s.time <= limit);
    let mut kept: Vec<_> = future
        .iter()
        .map(|s| (s.id, vec!["has a date in the future".to_owned()]))
        .collect();

    let files = present
        .iter()
        .map(|s| stand_in(s, &now.timezone()))
        .collect();
    let mut rules = KeepOptions::default();
    rules.keep_daily = Some(i32::from(policy.keep_daily));
    rules.keep_within = Some(jiff::Span::new().hours(i64::from(policy.keep_within_hours)));
    // The engine takes 0 for none.
    rules.keep_weekly = Some(i32::from(policy.keep_weekly));
    rules.keep_monthly = Some(i32::from(policy.keep_monthly));
    let decided = rules
        .apply(files, &to_engine(now.naive_local()))
        .map_err(Error::engine("planning retention"))?;
    kept.extend(
        decided
            .into_iter()
            .filter(|d| d.keep)
            .map(|d| (d.snapshot.id, d.reasons)),
    );
    Ok(kept)
}

/// A snapshot as the engine's rules see it: its id, and its local time in one zone for all, so
/// that neither a change of zone nor of daylight saving splits or merges days.
fn stand_in<Tz: TimeZone>(snapshot: &Snapshot, zone: &Tz) -> SnapshotFile {
    SnapshotFile {
        id: snapshot.id,
        time: to_engine(snapshot.time.with_timezone(zone).naive_local()),
        ..SnapshotFile::default()
    }
}

fn to_engine(local: NaiveDateTime) -> jiff::Zoned {
    jiff::Timestamp::from_second(local.and_utc().timestamp())
        .unwrap_or_default()
        .to_zoned(jiff::tz::TimeZone::UTC)
}

/// The snapshots of one series, oldest first, that something besides the rules keeps.
fn pins<Tz: TimeZone>(
    series: &[&Snapshot],
    policy: &Policy,
    now: &DateTime<Tz>,
) -> BTreeMap<SnapshotId, Vec<String>> {
    let mut pins: BTreeMap<SnapshotId, Vec<String>> = BTreeMap::new();
    let mut pin = |snapshot: &Snapshot, reason: String| {
        let reasons = pins.entry(snapshot.id).or_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    // Who accepts a snapshot accepts what came before it.
    let acknowledged = series
        .iter()
        .rev()
        .find(|s| s.is_acknowledged(policy))
        .map(|s| s.time);
    let mut last_sound: Option<&Snapshot> = None;
    // A hub of which something is always missing has no other.
    let mut last_partial: Option<&Snapshot> = None;
    let mut last_schemas: Option<(&Snapshot, Schemas<'_>)> = None;
    // What a wrong clock dated in the future is no neighbour of anything.
    let limit = now.clone() + TimeDelta::hours(24);
    for snapshot in series.iter().filter(|s| s.time <= limit) {
        if snapshot
            .keep_until
            .is_some_and(|until| until > now.to_utc())
        {
            pin(snapshot, "kept by --keep".to_owned());
        }
        let open = acknowledged.is_none_or(|until| snapshot.time > until);
        if open && snapshot.has(WAL_KEPT) {
            pin(snapshot, "has a WAL that lost its database".to_owned());
        }
        let suspicion = [DAMAGED, WAL_KEPT, SHRUNK]
            .into_iter()
            .find(|tag| snapshot.has(tag));
        if open && let Some(what) = suspicion {
            for sound in [last_sound, last_partial].into_iter().flatten() {
                pin(sound, format!("last good one before {what}"));
            }
        }
        if snapshot.is_sound() {
            (last_sound, last_partial) = (Some(*snapshot), None);
        } else if snapshot.is_unsuspected() {
            last_partial = Some(*snapshot);
        }
        let Some(schemas) = schemas_of(snapshot) else {
            continue;
        };
        if let Some((before, known)) = &last_schemas
            && *known != schemas
            && snapshot.time + SCHEMA_PIN > *now
        {
            pin(before, "last one before a change of schema".to_owned());
        }
        last_schemas = Some((*snapshot, schemas));
    }
    let present = series.iter().copied().filter(|s| s.time <= limit);
    for snapshot in Losses::of(present, policy).before_losses() {
        pin(
            snapshot,
            match snapshot.is_unsuspected() {
                true => format!("last good one before {SHRUNK}"),
                false => "last one before another loss".to_owned(),
            },
        );
    }
    pins
}

/// `user_version` and schema hash of each database, by source.
type Schemas<'a> = Vec<(&'a str, &'a [(i32, String)])>;

/// The schemas of a snapshot's databases, where it has any and says so.
fn schemas_of(snapshot: &Snapshot) -> Option<Schemas<'_>> {
    let description = snapshot.description.as_ref()?;
    let schemas: Vec<_> = description
        .sources
        .iter()
        .filter(|(_, source)| !source.schema.is_empty())
        .map(|(name, source)| (name.as_str(), source.schema.as_slice()))
        .collect();
    (!schemas.is_empty()).then_some(schemas)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod properties;
