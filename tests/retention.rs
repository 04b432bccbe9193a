//! Retention through the real binary: sixty days, twice daily.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{Home, sqlite3};
use chrono::{DateTime, TimeDelta, Utc};

#[test]
fn sixty_days_twice_daily_end_with_what_the_policy_says() {
    let home = Home::initialised();
    let begin: DateTime<Utc> = "2026-03-02T06:00:00Z".parse().unwrap();
    // Somebody else's snapshot in the same repository, with a tag like ours.
    home.restic(&[
        "backup",
        "--tag",
        "hapi",
        "--host",
        "someone-else",
        "/etc/hostname",
    ]);
    for slot in 0..120 {
        let time = (begin + TimeDelta::hours(12 * slot)).to_rfc3339();
        sqlite3(
            &home.database(),
            "UPDATE sessions SET updated_at = updated_at + 1 WHERE rowid = 1",
        );
        home.at(&time, &["snapshot", "-q"]).exits(0);
    }
    let snapshots = home.restic_snapshots();
    let times = |tag: &str| -> Vec<DateTime<Utc>> {
        snapshots
            .iter()
            .filter(|s| s["hostname"] != "someone-else")
            .filter(|s| s["tags"] == serde_json::json!([tag]))
            .map(|s| s["time"].as_str().unwrap().parse().unwrap())
            .collect()
    };
    let main = times("hapi");
    let last = begin + TimeDelta::hours(12 * 119);
    // Everything of the last 14 days, twice daily; of eight weeks the newest, three of them in
    // those days.
    let recent = main
        .iter()
        .filter(|t| **t > last - TimeDelta::days(14))
        .count();
    assert_eq!(recent, 28, "{main:#?}");
    let days: BTreeSet<_> = main.iter().map(DateTime::date_naive).collect();
    assert_eq!(days.len(), 14 + 5, "{days:?}");
    assert_eq!(main.len(), 28 + 5, "{main:#?}");
    let weekly = times("hapi-weekly");
    assert_eq!(
        weekly.len(),
        9,
        "all of 8 Sundays and the first run: {weekly:#?}"
    );
    assert!(snapshots.iter().any(|s| s["hostname"] == "someone-else"));

    // All of it is readable, and what is kept is what was then.
    home.restic(&["check", "--read-data"]);
    let oldest = snapshots
        .iter()
        .find(|s| s["tags"] == serde_json::json!(["hapi"]) && s["hostname"] != "someone-else")
        .unwrap();
    let database = home.database();
    let output = home
        .restic_command(&[
            "dump",
            oldest["id"].as_str().unwrap(),
            database.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let copy = home.dir.path().join("oldest.db");
    fs::write(&copy, output.stdout).unwrap();
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM sessions"), "78");

    // Prune is its own step, and takes two.
    let pruned = home.at(&last.to_rfc3339(), &["forget", "--prune"]).exits(0);
    assert!(pruned.stdout.contains("pruned:"), "{}", pruned.stdout);
    home.restic(&["check", "--read-data"]);
    home.at(&last.to_rfc3339(), &["snapshot", "-q"]).exits(0);
}

#[test]
fn a_clock_that_leapt_ahead_removes_nothing_by_itself() {
    let home = Home::initialised();
    let begin: DateTime<Utc> = "2026-03-02T06:00:00Z".parse().unwrap();
    for slot in 0..6 {
        let time = (begin + TimeDelta::hours(6 * slot)).to_rfc3339();
        home.at(&time, &["snapshot", "-q"]).exits(0);
    }
    // Two years ahead for a few runs: whatever the rules would remove stays.
    for time in ["2028-03-02T06:00:00Z", "2028-03-03T06:00:00Z"] {
        let said = home.at(time, &["snapshot", "-q"]).exits(3);
        assert!(
            said.stderr.contains("is the clock right?"),
            "{}",
            said.stderr
        );
    }
    let main = |home: &Home| {
        home.restic_snapshots()
            .iter()
            .filter(|s| s["tags"] == serde_json::json!(["hapi"]))
            .count()
    };
    assert_eq!(main(&home), 8);
    // By hand it is applied, and a week later by itself.
    home.at("2028-03-03T07:00:00Z", &["forget"]).exits(0);
    assert!(main(&home) < 8);
    home.at("2028-03-11T06:00:00Z", &["snapshot", "-q"])
        .exits(0);
}
