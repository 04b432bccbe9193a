//! Clocks that leap, and zones that change between runs: retention goes by times that may be wrong.
//! `faketime` gives each run its own.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::common::{Home, Said};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

/// With daylight saving in either half of the year, without, and the farthest from each other.
const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
];

/// A program at a time of its own and in a zone of its own.
fn run_at(home: &Home, time: DateTime<Utc>, zone: &str, args: &[&str]) -> Said {
    let offset = (time - Utc::now()).num_seconds();
    let before = ["-f".to_owned(), format!("{offset:+}")];
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let mut command = home.through("faketime", &before, args);
    command.env("TZ", zone).output().unwrap().into()
}

/// The days, in UTC, of all snapshots of the main series.
fn days(home: &Home) -> BTreeSet<String> {
    home.restic_snapshots()
        .iter()
        .filter(|s| s["tags"].to_string().contains("\"hapi\""))
        .map(|s| {
            let time = s["time"].as_str().unwrap();
            let time = DateTime::parse_from_rfc3339(time).unwrap().to_utc();
            time.format("%Y-%m-%d").to_string()
        })
        .collect()
}

/// What was saved, and is listed by the run that says so.
fn saved(home: &Home, said: &Said) -> String {
    let report = said.json();
    let series = report["series"].as_array().unwrap();
    let main = series.iter().find(|s| s["name"] == "hapi").unwrap();
    let id = main["snapshot"].as_str().unwrap().to_owned();
    assert!(home.ids("hapi").contains(&id), "removed by its own run");
    id
}

#[test]
fn the_floor_holds_while_the_clock_leaps_and_zones_change() {
    let mut dice = Dice::new("time");
    let rounds = rounds(16);
    let home = Home::initialised();
    let mut judge = Judge::default();
    // Both of the year's changes lie within the rounds and the weeks after them.
    let mut truth: DateTime<Utc> = "2026-10-19T05:00:00Z".parse().unwrap();
    let mut leaps = 0;
    // The most there ever were.
    let mut most = 0;
    for round in 1..=rounds {
        truth += TimeDelta::hours(12);
        let error = match dice.below(8) {
            0 => TimeDelta::days(-1),
            1 => TimeDelta::days(365),
            2 => TimeDelta::hours(-(dice.below(40 * 24).cast_signed())),
            3 => TimeDelta::hours(dice.below(40 * 24).cast_signed()),
            _ => TimeDelta::zero(),
        };
        leaps += u64::from(!error.is_zero());
        let zone = *dice.one_of(&ZONES);
        let now = truth + error;
        let said = run_at(&home, now, zone, &["snapshot", "--json"]);
        println!(
            "round {round}: {now} in {zone}, off by {error}: exit {}",
            said.code
        );
        // 3: that retention waits since the clock leapt.
        assert!([0, 3].contains(&said.code), "{said:?}");
        if said.code == 3 {
            assert!(said.stderr.contains("is the clock right?"), "{said:?}");
        }
        saved(&home, &said);
        judge.hear(&home, &said);
        let newest = home.restic_snapshots().pop().unwrap();
        let newest = DateTime::parse_from_rfc3339(newest["time"].as_str().unwrap()).unwrap();
        if newest.to_utc() - now > TimeDelta::hours(25) {
            assert!(said.stderr.contains("is the clock right?"), "{said:?}");
        }
        // A day is a day of the run's zone: the same snapshots may make one more of them, or one less,
        // in another.
        let after = days(&home).len();
        most = most.max(after);
        assert!(after + 1 >= most.min(14), "{most} days, then {after}");
    }
    judge.judge(&home, &mut |n| dice.below(n), 3);

    // The clock is right again. What the wrong times left takes nothing from what follows.
    let mut exit = -1;
    for _ in 0..32 {
        truth += TimeDelta::hours(12);
        let said = run_at(&home, truth, "Europe/Berlin", &["snapshot", "--json"]);
        assert!([0, 3].contains(&said.code), "{said:?}");
        saved(&home, &said);
        judge.hear(&home, &said);
        exit = said.code;
    }
    assert_eq!(exit, 0, "after two weeks retention is in order by itself");
    let there = days(&home);
    for back in 0..14 {
        let day = (truth - TimeDelta::days(back))
            .format("%Y-%m-%d")
            .to_string();
        assert!(there.contains(&day), "{day} is missing in {there:?}");
    }
    judge.judge(&home, &mut |n| dice.below(n), 3);
    let status = run_at(
        &home,
        truth + TimeDelta::hours(1),
        "Europe/Berlin",
        &["status"],
    );
    assert!([0, 20].contains(&status.code), "{status:?}");
    println!("{rounds} rounds, {leaps} with a clock that was wrong, nothing lost");
}
