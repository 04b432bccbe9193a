//! A year of slots in zones with daylight saving: runs on time, late and failed, a machine that
//! sleeps and makes up with one run, chosen-source runs, a clock that was wrong. Each missed slot is
//! reported as missed, none that was filled is, and the weekly series is taken once a week.
//!
//! What the slots are is found out in another way than by the code: minute by minute, by looking at
//! the clock on the wall.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use crate::policy::history::{ONLY, PARTIAL, Snapshot};
use crate::policy::slots::{GRACE, State, Timetable, Visit, is_due};
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::sources::Rhythm;
use chrono::{
    DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc,
    Weekday,
};
use chrono_tz::{America, Asia, Australia, Europe, Pacific, Tz};
use proptest::prelude::*;
use rustic_core::Id;

/// With both changes; Lord Howe's is of half an hour, Saint John's stands half an hour off the rest.
const ZONES: [Tz; 4] = [
    Europe::Berlin,
    America::New_York,
    Australia::Lord_Howe,
    America::St_Johns,
];

const TABLES: [&[&str]; 5] = [
    &["06:00", "18:00"],
    &["02:30", "14:30"],
    &["00:00"],
    &["01:30", "02:15", "03:00", "23:59"],
    &["00:00", "06:00", "12:00", "18:00"],
];

fn times(table: &[&str]) -> Vec<NaiveTime> {
    table
        .iter()
        .map(|t| NaiveTime::parse_from_str(t, "%H:%M").unwrap())
        .collect()
}

/// Minutes, and what a clock shows in each.
type Wall = Vec<(DateTime<Utc>, NaiveDateTime)>;

/// A year with a margin, and what the clock on the wall shows in each minute of it.
static WALLS: LazyLock<Vec<Wall>> = LazyLock::new(|| {
    let begin = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
    ZONES
        .iter()
        .map(|zone| {
            (0..380 * 24 * 60)
                .map(|n| begin + TimeDelta::minutes(n))
                .map(|minute| (minute, minute.with_timezone(zone).naive_local()))
                .collect()
        })
        .collect()
});

/// The first minute at which the wall clock shows each time, or more; one run for what coincides.
fn slots_by_the_wall(zone: usize, at: &[NaiveTime], on: Option<Weekday>) -> Vec<DateTime<Utc>> {
    let wall = &WALLS[zone];
    let mut wanted = Vec::new();
    let first = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
    for day in first.iter_days().take(370) {
        if on.is_none_or(|on| day.weekday() == on) {
            let of_day = if on.is_some() { &at[..1] } else { at };
            wanted.extend(of_day.iter().map(|time| day.and_time(*time)));
        }
    }
    let mut found = BTreeSet::new();
    let mut from = 0;
    for local in wanted {
        // What the clock showed before is before: it goes back by an hour at most.
        let hit = (from..wall.len()).find(|n| wall[*n].1 >= local).unwrap();
        found.insert(wall[hit].0);
        from = hit.saturating_sub(120);
    }
    found.into_iter().collect()
}

fn snapshot(n: usize, time: DateTime<Utc>, series: &str, tags: &[&str]) -> Snapshot {
    let id: Id = format!("{n:064x}").parse().unwrap();
    Snapshot {
        host: "hub".into(),
        id: id.into(),
        original: None,
        time: time.fixed_offset(),
        series: series.to_owned(),
        tags: [series]
            .iter()
            .chain(tags)
            .map(|t| (*t).to_owned())
            .collect(),
        description: None,
        keep_until: None,
        added: None,
        tree: String::new(),
    }
}

fn profile(at: &[&str], day: &str) -> Profile {
    let text = format!(
        "[repository]\nlocation = \"/r\"\n[schedule]\nat = {at:?}\n[[series]]\nname = \"main\"\n[[series]]\nname = \"weekly\"\nevery = \"week\"\non = \"{day}\"\n[[source]]\nname = \"a\"\npath = \"/a\"\nkind = \"file\"\n[[source]]\nname = \"b\"\npath = \"/b\"\nkind = \"file\"\nseries = \"weekly\"\n"
    );
    let lookup = Lookup {
        home: Some("/home/u".into()),
        ..Lookup::default()
    };
    Profile::parse(&text, Path::new("/p.toml"), &lookup).unwrap()
}

/// What happens at a slot.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A run, so late (in thousandths of the time to the next slot).
    Run(i32),
    /// A run whose snapshot is partial.
    Partial(i32),
    /// A run that took chosen sources.
    Only(i32),
    /// The machine is off, or cron is dead.
    Nothing,
    /// The machine sleeps over so many slots, and makes up with one run when it wakes.
    Sleep(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let late = prop_oneof![5 => Just(0), 2 => 0..100, 1 => 100..990];
    let event = (late, 0..40, 1usize..9).prop_map(|(late, kind, slots)| match kind {
        0..30 => Event::Run(late),
        30..33 => Event::Partial(late),
        33 => Event::Only(late),
        34..38 => Event::Nothing,
        _ => Event::Sleep(slots),
    });
    prop::collection::vec(event, 30..1500)
}

/// What a year came to: the snapshots, and what is true of each slot.
struct Year {
    slots: Vec<DateTime<Utc>>,
    truth: Vec<State>,
    there: Vec<Snapshot>,
    now: DateTime<Utc>,
}

/// Lives through the events; stops with them, or with the year.
fn live(slots: Vec<DateTime<Utc>>, events: &[Event], profile: &Profile, zone: Tz) -> Year {
    let mut truth = vec![State::Before; slots.len()];
    let mut there: Vec<Snapshot> = Vec::new();
    let mut events = events.iter();
    let mut nth = 0;
    let mut begun = false;
    while nth + 10 < slots.len() {
        let Some(event) = events.next() else { break };
        let (nth_attended, late, tags): (usize, i32, Option<&[&str]>) = match *event {
            Event::Run(late) => (nth, late, Some(&[])),
            Event::Partial(late) => (nth, late, Some(&[PARTIAL])),
            Event::Only(late) => (nth, late, Some(&[ONLY])),
            Event::Nothing => (nth, 0, None),
            Event::Sleep(over) => (nth + over, 500, Some(&[])),
        };
        for state in &mut truth[nth..=nth_attended] {
            *state = if begun { State::Missed } else { State::Before };
        }
        if let Some(tags) = tags {
            let gap = slots[nth_attended + 1] - slots[nth_attended];
            // The last seconds before a slot are that slot's.
            let late = ((gap - TimeDelta::minutes(2)) * late / 1000).max(TimeDelta::zero());
            let time = slots[nth_attended] + late;
            if !tags.contains(&ONLY) {
                begun = true;
                truth[nth_attended] = match tags {
                    [] => State::Filled,
                    _ => State::Partial,
                };
                let local = time.with_timezone(&zone);
                if is_due(profile, &profile.series[1], &there, &local) {
                    there.push(snapshot(there.len(), time, "weekly", tags));
                }
            }
            there.push(snapshot(there.len(), time, "main", tags));
        }
        nth = nth_attended + 1;
    }
    truth.truncate(nth);
    let now = slots[nth] - TimeDelta::minutes(2);
    let slots = slots[..nth].to_vec();
    Year {
        slots,
        truth,
        there,
        now,
    }
}

fn visits(table: &Timetable, year: &Year, series: &str, zone: Tz) -> Vec<Visit<Tz>> {
    let count = year.slots.len();
    table.look_back(count, series, &year.there, &year.now.with_timezone(&zone))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn each_missed_slot_is_missed_and_no_filled_one_is(
        zone in 0..ZONES.len(),
        table in 0..TABLES.len(),
        events in events(),
    ) {
        let at = times(TABLES[table]);
        let profile = profile(TABLES[table], "sunday");
        let year = live(slots_by_the_wall(zone, &at, None), &events, &profile, ZONES[zone]);
        let timetable = Timetable::of(&profile, &profile.series[0]);
        let visits = visits(&timetable, &year, "main", ZONES[zone]);
        let seen: Vec<_> = visits.iter().map(|v| v.slot.time.to_utc()).collect();
        prop_assert_eq!(&seen, &year.slots);
        for (visit, truth) in visits.iter().zip(&year.truth) {
            let may_still_come = year.now < visit.slot.time.to_utc() + GRACE;
            let told = match visit.state {
                State::Pending if may_still_come => State::Missed,
                other => other,
            };
            prop_assert_eq!(told, *truth, "{:?}", visit);
        }
    }

    #[test]
    fn the_weekly_series_is_taken_once_a_week(
        zone in 0..ZONES.len(),
        table in 0..TABLES.len(),
        day in 0..7u8,
        events in events(),
    ) {
        let day = Weekday::try_from(day).unwrap();
        let profile = profile(TABLES[table], &day.to_string());
        let at = times(TABLES[table]);
        let year = live(slots_by_the_wall(zone, &at, None), &events, &profile, ZONES[zone]);
        let weeks = slots_by_the_wall(zone, &at, Some(day));
        for pair in weeks.windows(2).filter(|pair| pair[1] < year.now) {
            let within = |s: &&Snapshot| (pair[0]..pair[1]).contains(&s.time.to_utc());
            let complete = |series: &str| {
                year.there.iter().filter(within).filter(|s| s.series == series && s.is_complete()).count()
            };
            let runs = complete("main");
            prop_assert_eq!(complete("weekly"), usize::from(runs > 0), "{:?}: {} runs", pair, runs);
        }
    }

    #[test]
    fn a_wrong_clock_fills_no_slot_before_its_time_and_costs_no_week(
        zone in 0..ZONES.len(),
        wrong in prop::collection::btree_map(0..200usize, -400i64..400, 0..20),
    ) {
        let zone_number = zone;
        let zone = ZONES[zone_number];
        let at = ["06:00", "18:00"];
        let profile = profile(&at, "sunday");
        let timetable = Timetable::of(&profile, &profile.series[0]);
        let slots = slots_by_the_wall(zone_number, &times(&at), None);
        let mut there: Vec<Snapshot> = Vec::new();
        for (nth, slot) in slots.iter().enumerate().take(200) {
            // Only so far back that the year's slots go.
            let hours = wrong.get(&nth).copied().unwrap_or(0).max(-12 * nth as i64);
            let clock = *slot + TimeDelta::minutes(3) + TimeDelta::hours(hours);
            let local = clock.with_timezone(&zone);
            if is_due(&profile, &profile.series[1], &there, &local) {
                there.push(snapshot(there.len(), clock, "weekly", &[]));
            }
            // Whatever the clock says, the week that it says has its snapshot now.
            prop_assert!(!is_due(&profile, &profile.series[1], &there, &local));
            there.push(snapshot(there.len(), clock, "main", &[]));

            let now = *slot + TimeDelta::hours(2);
            let seen = timetable.look_back(400, "main", &there, &now.with_timezone(&zone));
            for visit in seen.iter().filter(|v| v.slot.time.to_utc() >= slots[0]) {
                let from = visit.slot.time.to_utc();
                let next = slots[slots.partition_point(|s| *s <= from)];
                let is_there = there.iter().any(|s| {
                    s.series == "main" && s.time.to_utc() >= from && s.time.to_utc() < next && s.time.to_utc() <= now
                });
                prop_assert_eq!(visit.state == State::Filled, is_there, "{:?} at {}", visit, now);
            }
        }
    }

    #[test]
    fn the_next_slot_is_the_one_that_comes(
        zone in 0..ZONES.len(),
        table in 0..TABLES.len(),
        minute in 3 * 1440..360 * 1440i64,
        weekly in any::<bool>(),
    ) {
        let at = times(TABLES[table]);
        let rhythm = if weekly { Rhythm::Weekly(Weekday::Sun) } else { Rhythm::EveryRun };
        let day = weekly.then_some(Weekday::Sun);
        let slots = slots_by_the_wall(zone, &at, day);
        let now = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap() + TimeDelta::minutes(minute);
        let local = now.with_timezone(&ZONES[zone]);
        let timetable = Timetable::new(&at, rhythm);
        let next = timetable.next(&local).unwrap().time.to_utc();
        prop_assert_eq!(next, slots[slots.partition_point(|s| *s <= now)]);
        let gap = timetable.longest_gap(&local).unwrap();
        prop_assert!(gap >= next - timetable.back(&local).next().unwrap().time.to_utc());
    }
}

fn times_of_day(zone: Tz, at: &[&str], day: (i32, u32, u32)) -> Vec<String> {
    let table = Timetable::new(&times(at), Rhythm::EveryRun);
    let date = NaiveDate::from_ymd_opt(day.0, day.1, day.2).unwrap();
    let noon = date.and_hms_opt(23, 59, 59).unwrap();
    let now = zone.from_local_datetime(&noon).latest().unwrap();
    let mut slots: Vec<_> = table
        .back(&now)
        .take_while(|slot| slot.local.date() == date)
        .map(|slot| {
            let hours = slot.time.offset().fix().local_minus_utc() / 3600;
            format!("{} {hours:+}", slot.time.format("%H:%M"))
        })
        .collect();
    slots.reverse();
    slots
}

#[test]
fn half_past_two_comes_at_three_when_clocks_go_forward_and_once_when_they_go_back() {
    let at = ["02:30", "14:30"];
    let on = |day| times_of_day(Europe::Berlin, &at, day);
    assert_eq!(on((2026, 3, 28)), ["02:30 +1", "14:30 +1"]);
    assert_eq!(on((2026, 3, 29)), ["03:00 +2", "14:30 +2"]);
    assert_eq!(on((2026, 10, 25)), ["02:30 +2", "14:30 +1"]);
}

#[test]
fn two_times_that_are_skipped_are_one_run() {
    let at = ["02:00", "02:30", "03:00"];
    assert_eq!(
        times_of_day(Europe::Berlin, &at, (2026, 3, 29)),
        ["03:00 +2"]
    );
}

#[test]
fn a_day_that_the_calendar_skips_has_no_run_of_its_own() {
    // Samoa went from 29 to 31 December 2011.
    let at = ["00:00", "06:00"];
    let table = Timetable::new(&times(&at), Rhythm::EveryRun);
    let now = Pacific::Apia
        .with_ymd_and_hms(2011, 12, 31, 12, 0, 0)
        .unwrap();
    let slots: Vec<_> = table
        .back(&now)
        .take(4)
        .map(|slot| slot.time.format("%d %H:%M").to_string())
        .collect();
    assert_eq!(slots, ["31 06:00", "31 00:00", "29 06:00", "29 00:00"]);
}

#[test]
fn the_night_with_an_hour_more_is_the_longest_gap() {
    let table = Timetable::new(&times(&["06:00", "18:00"]), Rhythm::EveryRun);
    let gap = |month, day| {
        let now = Europe::Berlin
            .with_ymd_and_hms(2026, month, day, 5, 0, 0)
            .unwrap();
        table.longest_gap(&now).unwrap().num_hours()
    };
    assert_eq!(gap(6, 1), 12);
    assert_eq!(gap(10, 25), 13);
}

#[test]
fn a_run_seconds_early_is_its_slots_also_for_the_week() {
    let profile = profile(&["06:00", "18:00"], "sunday");
    let early = Asia::Kolkata
        .with_ymd_and_hms(2026, 3, 1, 5, 59, 40)
        .unwrap();
    let weekly = &profile.series[1];
    let before = [snapshot(
        1,
        early.to_utc() - TimeDelta::days(7),
        "weekly",
        &[],
    )];
    assert!(is_due(&profile, weekly, &before, &early));
    let there = [snapshot(1, early.to_utc(), "weekly", &[])];
    assert!(!is_due(
        &profile,
        weekly,
        &there,
        &(early + TimeDelta::hours(12))
    ));
    let table = Timetable::of(&profile, weekly);
    let seen = table.look_back(1, "weekly", &there, &(early + TimeDelta::hours(3)));
    assert_eq!(seen[0].state, State::Filled);
}
