//! Freshness is whether the newest complete snapshots of a series are as young as they should be, by its
//! slots where they are known, and what has become of its main database over time.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset, Local, TimeDelta, Utc};
use hapi_sources::Kind;

use crate::error::Error;
use crate::policy::description::{CONTENT, SourceSummary};
use crate::policy::history::{ONLY, Snapshot};
use crate::policy::retention::Plan;
use crate::policy::slots::{self, Slot, State, Timetable, Visit};
use crate::profile::Profile;
use crate::profile::sources::{Rhythm, Series};

/// How many slots and snapshots are looked back at.
const LOOK_BACK: usize = 28;

/// How old a snapshot may be where no schedule is known: a day and what a run takes.
const WITHOUT_SLOTS: TimeDelta = TimeDelta::hours(26);

/// How old one of a weekly series may be: it is taken by the first run of its day, or a later one.
const WEEKLY: TimeDelta = TimeDelta::days(8);

/// What is known of one series.
#[derive(Debug)]
pub struct SeriesStatus {
    pub name: String,
    /// Whether it is as young as it should be.
    pub verdict: Freshness,
    /// How old its newest complete snapshot may be.
    pub max_age: TimeDelta,
    /// The newest complete snapshot.
    pub newest: Option<Snapshot>,
    /// A newer one that is partial.
    pub partial: Option<Snapshot>,
    /// How many complete and partial ones there are.
    pub counts: (usize, usize),
    /// How many are dated in the future.
    pub ahead: usize,
    /// The last [`LOOK_BACK`] slots, oldest first; none where they are not known.
    pub slots: Vec<Visit<Local>>,
    /// Whether it has one slot a week.
    pub weekly: bool,
    pub next: Option<Slot<Local>>,
    /// The sources of the newest complete snapshot, in the profile's order.
    pub sources: Vec<(String, SourceSummary)>,
    /// The main database over time.
    pub database: Option<Database>,
}

/// The main database of a series over its last complete snapshots, oldest first.
#[derive(Debug)]
pub struct Database {
    pub source: String,
    /// The tables whose rows are told.
    pub tables: Vec<String>,
    /// One for each snapshot.
    pub points: Vec<Point>,
    /// The newest value there was, over all columns that are noted.
    pub newest: Option<DateTime<Utc>>,
    /// How many of the last snapshots in a row have that same newest value.
    pub still: usize,
}

/// A database as a snapshot has it.
#[derive(Clone, Debug)]
pub struct Point {
    /// The snapshot's time.
    pub time: DateTime<FixedOffset>,
    pub bytes: u64,
    /// Rows, for each of the tables that are told; `None` where the table is missing.
    pub rows: Vec<Option<u64>>,
}

/// Whether a series is as young as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// Its last slot has a complete snapshot.
    Fresh,
    /// It has none; the newest complete snapshot is young enough all the same.
    Late,
    /// The newest complete snapshot is too old, or there is none.
    Stale,
    /// There is none, and none of its sources has to exist.
    Empty,
}

impl Freshness {
    /// In a word.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Late => "late",
            Self::Stale => "STALE",
            Self::Empty => "empty",
        }
    }
}

impl SeriesStatus {
    /// How old the newest complete snapshot is.
    pub fn age(&self, now: DateTime<Local>) -> Option<TimeDelta> {
        let newest = self.newest.as_ref()?;
        Some((now.to_utc() - newest.time.to_utc()).max(TimeDelta::zero()))
    }

    /// How many of the slots are in this state.
    pub fn slots_that_are(&self, state: State) -> usize {
        self.slots.iter().filter(|v| v.state == state).count()
    }

    /// What needs no schedule.
    fn of(name: &str, max_age: TimeDelta, ours: &[Snapshot], now: DateTime<Local>) -> Self {
        let all = || ours.iter().filter(|s| s.series == name && !s.has(ONLY));
        let come = || all().filter(|s| slots::has_come(s, &now));
        let newest = come().rfind(|s| s.is_complete()).cloned();
        let partial = come().next_back().filter(|s| !s.is_complete()).cloned();
        let complete = come().filter(|s| s.is_complete()).count();
        let described = newest.as_ref().and_then(|s| s.description.clone());
        let mut status = Self {
            name: name.to_owned(),
            verdict: Freshness::Stale,
            max_age,
            newest,
            partial,
            counts: (complete, come().count() - complete),
            ahead: all().count() - come().count(),
            slots: Vec::new(),
            weekly: false,
            next: None,
            sources: described
                .map(|d| d.sources.into_iter().collect())
                .unwrap_or_default(),
            database: None,
        };
        if status.age(now).is_some_and(|age| age <= max_age) {
            status.verdict = Freshness::Fresh;
        }
        status
    }

    /// The first database of the series over its last complete snapshots.
    fn main_database(&self, ours: &[Snapshot], now: DateTime<Local>) -> Option<Database> {
        let (name, summary) = self
            .sources
            .iter()
            .find(|(_, summary)| summary.kind == Kind::Sqlite)?;
        let tables = tables_to_tell(&summary.rows);
        let complete: Vec<(&Snapshot, &SourceSummary)> = ours
            .iter()
            .filter(|s| s.series == self.name && s.is_complete() && slots::has_come(s, &now))
            .filter_map(|s| Some((s, s.description.as_ref()?.sources.get(name)?)))
            .collect();
        let newest = summary.newest_time();
        let still = complete
            .iter()
            .rev()
            .take_while(|(_, summary)| newest.is_some() && summary.newest_time() == newest)
            .count();
        let skipped = complete.len().saturating_sub(LOOK_BACK);
        let points = complete[skipped..]
            .iter()
            .map(|(snapshot, summary)| Point {
                time: snapshot.time,
                bytes: summary.bytes,
                rows: tables
                    .iter()
                    .map(|table| summary.rows.get(table).copied().flatten())
                    .collect(),
            })
            .collect();
        Some(Database {
            source: name.clone(),
            tables,
            points,
            newest,
            still,
        })
    }
}

/// A series whose slots are known. `asked` is how old its newest complete snapshot may be, where that was
/// said.
pub(crate) fn scheduled(
    profile: &Profile,
    series: &Series,
    ours: &[Snapshot],
    asked: Option<TimeDelta>,
    now: DateTime<Local>,
) -> Result<SeriesStatus, Error> {
    let table = Timetable::of(profile, series);
    let weekly = matches!(series.rhythm, Rhythm::Weekly(_));
    let max_age = limit(profile, series, asked, &now);
    let mut status = SeriesStatus::of(&series.name, max_age, ours, now);
    status.weekly = weekly;
    status.next = table.next(&now);
    status.slots = table.look_back(LOOK_BACK, &series.name, ours, &now);
    for visit in &mut status.slots {
        let time = &visit.slot.time;
        if visit.state == State::Missed
            && !Plan::would_keep(ours, &profile.retention, &series.name, time, &now)?
        {
            visit.state = State::Forgotten;
        }
    }
    let order = |name: &String| {
        profile
            .sources
            .iter()
            .position(|s| s.source.name == *name)
            .unwrap_or(usize::MAX)
    };
    status.sources.sort_by_key(|(name, _)| order(name));
    status.database = status.main_database(ours, now);
    let last = status
        .slots
        .iter()
        .rev()
        .find(|visit| visit.state != State::Pending);
    if status.verdict == Freshness::Fresh
        && last.is_some_and(|visit| matches!(visit.state, State::Missed | State::Partial))
    {
        status.verdict = Freshness::Late;
    }
    // A run leaves such a series out where nothing of it exists, and it is no less fresh for that.
    let optional = profile
        .sources
        .iter()
        .filter(|s| s.series == series.name)
        .all(|s| !s.source.required);
    let first = profile.series.first().map(|s| &s.name);
    if optional && status.counts == (0, 0) && first != Some(&series.name) {
        status.verdict = Freshness::Empty;
    }
    Ok(status)
}

/// How old the newest complete snapshot may be. A copy follows the main repository, a slot later where it takes
/// long: twice that.
pub(crate) fn limit(
    profile: &Profile,
    series: &Series,
    asked: Option<TimeDelta>,
    now: &DateTime<Local>,
) -> TimeDelta {
    let weekly = matches!(series.rhythm, Rhythm::Weekly(_));
    let gap = Timetable::of(profile, series).longest_gap(now);
    let usual = match (weekly, gap) {
        (true, _) => WEEKLY,
        (false, Some(gap)) => gap + slots::GRACE,
        (false, None) => WITHOUT_SLOTS,
    };
    let usual = match profile.copy {
        Some(_) => usual * 2,
        None => usual,
    };
    // What is asked is about the series that every run takes.
    let asked = asked.filter(|_| series.rhythm == Rhythm::EveryRun);
    asked.unwrap_or(usual)
}

/// The series there are, where nobody says which there should be and how often.
pub(crate) fn unscheduled(
    profile: Option<&Profile>,
    ours: &[Snapshot],
    asked: Option<TimeDelta>,
    now: DateTime<Local>,
) -> Vec<SeriesStatus> {
    let names: BTreeSet<&str> = ours
        .iter()
        .filter(|s| !s.has(ONLY))
        .map(|s| s.series.as_str())
        .collect();
    let of = |name: &str| {
        let mut times: Vec<_> = ours
            .iter()
            .filter(|s| s.series == name && !s.has(ONLY))
            .map(|s| s.time)
            .collect();
        times.sort_unstable();
        times
    };
    // The main one has the most snapshots; of one run's, the last.
    let main = names
        .iter()
        .max_by_key(|name| {
            let times = of(name);
            (times.len(), times.last().copied())
        })
        .map_or_else(
            || {
                let first = profile.and_then(|profile| profile.series.first());
                first.map_or("", |s| s.name.as_str())
            },
            |name| *name,
        );
    let mut names: Vec<&str> = names.iter().copied().collect();
    names.sort_by_key(|name| (*name != main, *name));
    if names.is_empty() {
        names.push(main);
    }
    names
        .iter()
        .map(|name| {
            let mut gaps: Vec<_> = of(name).windows(2).map(|pair| pair[1] - pair[0]).collect();
            gaps.sort_unstable();
            let often = gaps
                .get(gaps.len() / 2)
                .is_some_and(|gap| *gap < TimeDelta::days(3));
            let max_age = match *name == main || often {
                true => asked.unwrap_or(WITHOUT_SLOTS),
                false => WEEKLY,
            };
            let mut status = SeriesStatus::of(name, max_age, ours, now);
            status.database = status.main_database(ours, now);
            status
        })
        .collect()
}

/// The two an operator thinks in, or the first two there are.
fn tables_to_tell(rows: &BTreeMap<String, Option<u64>>) -> Vec<String> {
    let known: Vec<String> = CONTENT
        .iter()
        .filter(|table| rows.contains_key(**table))
        .map(|table| (*table).to_owned())
        .collect();
    match known.is_empty() {
        true => rows.keys().take(2).cloned().collect(),
        false => known,
    }
}
