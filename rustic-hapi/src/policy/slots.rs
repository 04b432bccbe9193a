//! A slot is a local time at which a run is expected.
//!
//! Whether one was attended is decided from the repository's snapshots and nothing else: no
//! timer's journal, no state of this machine. A snapshot counts for exactly one slot, the latest
//! at or before its time; so a late start, and the one run that makes up for a night asleep, count
//! for the slot they come after, and what lies further back was missed. A slot's day and time are
//! local ones: a time that daylight saving skips comes with the next instant there is, and one that
//! it doubles comes once, the first time.
//!
//! Everything here is a function of its arguments; the time zone is that of `now`.

use std::iter;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};

use crate::policy::history::{ONLY, Snapshot};
use crate::profile::Profile;
use crate::profile::sources::{Rhythm, Series};

/// How early a run may be, and how far ahead another machine's clock.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(30);

/// How long after its slot a run's snapshot may still come before the slot is called missed.
pub const GRACE: TimeDelta = TimeDelta::hours(1);

/// When runs of one series are expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    at: Vec<NaiveTime>,
    rhythm: Rhythm,
}

/// A local time at which a run is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot<Tz: TimeZone> {
    /// The day and time that the profile names, also where no clock ever shows them.
    pub local: NaiveDateTime,
    /// When it comes.
    pub time: DateTime<Tz>,
}

/// A slot that has come, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<Tz: TimeZone> {
    /// The slot.
    pub slot: Slot<Tz>,
    /// What became of it.
    pub state: State,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A complete snapshot was taken.
    Filled,
    /// Only a partial one was.
    Partial,
    /// None was.
    Missed,
    /// None yet; the run may still be under way.
    Pending,
    /// It came before the first snapshot of the series: nobody expected a run.
    Before,
    /// None is there, and retention would have removed one.
    Forgotten,
}

impl Timetable {
    /// When a series of the profile is expected.
    pub fn of(profile: &Profile, series: &Series) -> Self {
        Self::new(&profile.at, series.rhythm)
    }

    /// Runs at these local times of every day, or at the first of them, every day or on one of the week.
    pub fn new(at: &[NaiveTime], rhythm: Rhythm) -> Self {
        let mut at = at.to_vec();
        at.sort_unstable();
        if rhythm != Rhythm::EveryRun {
            at.truncate(1);
        }
        Self { at, rhythm }
    }

    /// The slots that have come at `now`, the newest first, without end.
    pub fn back<Tz: TimeZone>(&self, now: &DateTime<Tz>) -> impl Iterator<Item = Slot<Tz>> {
        let zone = now.timezone();
        let now = now.clone();
        // Where clocks go back over midnight, a slot of tomorrow has come today.
        let mut day = now.date_naive().checked_add_days(Days::new(1));
        let mut later: Option<DateTime<Tz>> = None;
        let days = iter::from_fn(move || {
            let this = day?;
            day = this.pred_opt();
            Some(this)
        });
        days.take_while(|_| !self.at.is_empty())
            .flat_map(move |day| self.on(day, &zone).into_iter().rev())
            .filter(move |slot| slot.time <= now)
            // Two times that daylight saving skips are one instant, and one run.
            .filter(move |slot| {
                let distinct = later.as_ref().is_none_or(|later| slot.time < *later);
                later = Some(slot.time.clone());
                distinct
            })
    }

    /// The first slot after `now`.
    pub fn next<Tz: TimeZone>(&self, now: &DateTime<Tz>) -> Option<Slot<Tz>> {
        let zone = now.timezone();
        let first = now.date_naive().checked_sub_days(Days::new(1))?;
        // Ten days hold one of every kind, and one that the calendar skips.
        first
            .iter_days()
            .take(10)
            .flat_map(|day| self.on(day, &zone))
            .find(|slot| slot.time > *now)
    }

    /// The last `count` slots that have come at `now`, oldest first, and what became of each by the
    /// series' snapshots (all of them; those of other series are passed over).
    pub fn look_back<Tz: TimeZone>(
        &self,
        count: usize,
        series: &str,
        snapshots: &[Snapshot],
        now: &DateTime<Tz>,
    ) -> Vec<Visit<Tz>> {
        let mut slots: Vec<_> = self.back(now).take(count).collect();
        slots.reverse();
        let counting: Vec<&Snapshot> = snapshots
            .iter()
            .filter(|s| s.series == series && !s.has(ONLY) && has_come(s, now))
            .collect();
        let first = counting.iter().map(|s| s.time).min();
        let mut states: Vec<State> = slots
            .iter()
            .map(|slot| match first {
                Some(first) if first <= slot.time => State::Missed,
                // The very first run has its slot yet to come, or no slot at all.
                _ => State::Before,
            })
            .collect();
        if let (Some(state), Some(slot)) = (states.last_mut(), slots.last())
            && *state == State::Missed
            && *now < slot.time.clone() + GRACE
        {
            *state = State::Pending;
        }
        for snapshot in counting {
            let come = slots.partition_point(|slot| slot.time <= snapshot.time + TOLERANCE);
            let Some(state) = come.checked_sub(1).and_then(|nth| states.get_mut(nth)) else {
                continue;
            };
            match (snapshot.is_complete(), *state) {
                (true, _) => *state = State::Filled,
                (false, State::Filled) => {}
                (false, _) => *state = State::Partial,
            }
        }
        slots
            .into_iter()
            .zip(states)
            .map(|(slot, state)| Visit { slot, state })
            .collect()
    }

    /// The longest time between two neighbouring slots around `now`: of the last three days or, for
    /// a weekly series, weeks. As clocks show it, so that the night with an hour more counts it.
    pub fn longest_gap<Tz: TimeZone>(&self, now: &DateTime<Tz>) -> Option<TimeDelta> {
        let window = match self.rhythm {
            Rhythm::EveryRun | Rhythm::Daily => TimeDelta::days(3),
            Rhythm::Weekly(_) => TimeDelta::weeks(3),
        };
        let since = now.clone() - window;
        let mut later = self.next(now)?.time;
        let mut longest = TimeDelta::zero();
        for slot in self.back(now).take_while(|slot| slot.time >= since) {
            longest = longest.max(later - slot.time.clone());
            later = slot.time;
        }
        Some(longest)
    }

    /// The slots of a day, in order.
    fn on<Tz: TimeZone>(&self, day: NaiveDate, zone: &Tz) -> Vec<Slot<Tz>> {
        if matches!(self.rhythm, Rhythm::Weekly(weekday) if day.weekday() != weekday) {
            return Vec::new();
        }
        self.at
            .iter()
            .filter_map(|time| {
                let local = day.and_time(*time);
                let time = first_instant(local, zone)?;
                Some(Slot { local, time })
            })
            .collect()
    }
}

/// Whether a series is to be taken at `now`.
///
/// A daily or weekly one is due when there is no complete snapshot of it since its slot, the first one of
/// its day. One dated after `now` (a wrong clock) does not count.
pub fn is_due<Tz: TimeZone>(
    profile: &Profile,
    series: &Series,
    history: &[Snapshot],
    now: &DateTime<Tz>,
) -> bool {
    if series.rhythm == Rhythm::EveryRun {
        return true;
    }
    // A run that is early within the tolerance is the slot's.
    let slot = Timetable::of(profile, series)
        .back(&(now.clone() + TOLERANCE))
        .next();
    slot.is_none_or(|slot| {
        !history.iter().any(|s| {
            s.series == series.name
                && s.is_complete()
                && s.time + TOLERANCE >= slot.time
                && has_come(s, now)
        })
    })
}

/// Whether a snapshot's time has come; another machine's clock may be a little ahead.
pub(crate) fn has_come<Tz: TimeZone>(snapshot: &Snapshot, now: &DateTime<Tz>) -> bool {
    snapshot.time <= now.clone() + TOLERANCE
}

/// The first instant at which a clock in this zone shows `local`, or more.
fn first_instant<Tz: TimeZone>(local: NaiveDateTime, zone: &Tz) -> Option<DateTime<Tz>> {
    // Clocks have skipped an hour or half of one, and islands that crossed the date line a day.
    const LONGEST_SKIP_MINUTES: i64 = 25 * 60;
    (0..=LONGEST_SKIP_MINUTES).find_map(|minutes| {
        zone.from_local_datetime(&(local + TimeDelta::minutes(minutes)))
            .earliest()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod properties;
