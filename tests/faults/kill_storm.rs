//! SIGKILL at random moments of everything that writes, while a hub commits.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::common::{BusyHub, Home, Said, sqlite3};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Snapshot,
    Forget,
    Prune,
    Restore,
    InPlace,
    Drill,
    Init,
}

const ACTS: [Act; 10] = [
    Act::Snapshot,
    Act::Snapshot,
    Act::Snapshot,
    Act::Forget,
    Act::Prune,
    Act::Restore,
    Act::InPlace,
    Act::InPlace,
    Act::Drill,
    Act::Init,
];

/// Starts a command and kills it after a while; `None` if it was faster.
fn killed(mut command: Command, after: Duration) -> Option<Said> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + after;
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return Some(child.wait_with_output().unwrap().into());
        }
        thread::sleep(Duration::from_micros(300));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn nothing_is_lost_by_kills_at_any_moment() {
    let mut dice = Dice::new("kill storm");
    let rounds = rounds(8);
    let home = Home::initialised();
    let mut judge = Judge::default();
    let mut now: DateTime<Utc> = "2026-03-02T06:00:10Z".parse().unwrap();
    let at = |command: &mut Command, now: DateTime<Utc>| {
        command.env("RUSTIC_HAPI_TEST_NOW", now.to_rfc3339());
    };
    let snapshot = |judge: &mut Judge, now: DateTime<Utc>| {
        let said = home.at(&now.to_rfc3339(), &["snapshot", "--json"]).exits(0);
        judge.hear(&home, &said);
    };
    let begun = Instant::now();
    snapshot(&mut judge, now);
    let usual = begun.elapsed();
    // How long each takes, as far as is known.
    let mut lengths: BTreeMap<Act, Duration> = BTreeMap::new();
    let mut tally: BTreeMap<Act, (u64, u64)> = BTreeMap::new();
    let begun = Instant::now();
    for round in 1..=rounds {
        now += TimeDelta::hours(12);
        let act = *dice.one_of(&ACTS);
        let longest = *lengths.entry(act).or_insert(usual);
        let after = dice.moment(longest);
        println!("round {round}: {act:?} killed after {after:?}");
        // Or an idle one, of which nothing has to be read again.
        let busy = act != Act::InPlace && dice.below(3) > 0;
        let hub = busy.then(|| BusyHub::start(&home.database()));
        let target = home.dir.path().join("target");
        let mut command = home.command();
        at(&mut command, now);
        match act {
            Act::Snapshot => command.args(["snapshot", "--json"]),
            Act::Forget => command.arg("forget"),
            Act::Prune => command.args(["forget", "--prune"]),
            Act::Restore => command.args(["restore", "--target", target.to_str().unwrap()]),
            Act::InPlace => command.args(["restore", "--in-place", "--yes"]),
            Act::Drill => command.arg("drill"),
            Act::Init => &mut command,
        };
        if matches!(act, Act::Restore | Act::Drill) && dice.below(2) == 0 {
            command.arg("--identity").arg(home.identity());
        }
        if matches!(act, Act::Forget | Act::Prune | Act::Snapshot) {
            judge.expect_removals(&home, &now.to_rfc3339());
        }
        let before = sessions(&home);
        let begun = Instant::now();
        let said = match act {
            Act::Init => init(after),
            _ => killed(command, after),
        };
        drop(hub);
        let counts = tally.entry(act).or_default();
        counts.0 += 1;
        match said {
            None => {
                counts.1 += 1;
                if act == Act::Snapshot {
                    judge.expect_retention();
                }
            }
            Some(said) => {
                said_well(&said, act);
                if act == Act::Snapshot {
                    judge.hear(&home, &said);
                }
                lengths.insert(act, begun.elapsed());
            }
        }
        // Either database, and one that opens.
        if act == Act::InPlace {
            let mut again = home.command();
            at(&mut again, now);
            let healed = again
                .args(["restore", "--in-place", "--yes"])
                .output()
                .unwrap();
            Said::from(healed).exits(0);
        }
        assert_eq!(sqlite3(&home.database(), "PRAGMA integrity_check"), "ok");
        assert_eq!(sessions(&home), before, "{act:?}");
        judge.judge(&home, &mut |n| dice.below(n), 3);
        // What is in it may be a secret, in clear: that is what was asked for.
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        now += TimeDelta::minutes(5);
        snapshot(&mut judge, now);
        Judge::clean(&home);
    }
    println!(
        "{rounds} rounds in {:.0?}, {} snapshots in the end, nothing lost; each act with its rounds and kills: {tally:?}",
        begun.elapsed(),
        judge.count()
    );
}

fn sessions(home: &Home) -> String {
    // A link that a kill left is followed; SQLite finds the WAL beside what it points to.
    sqlite3(&home.database(), "SELECT count(*) FROM sessions")
}

/// What came to its end before the kill did so well.
fn said_well(said: &Said, act: Act) {
    assert_eq!(said.code, 0, "{act:?}: {said:?}");
}

/// A first `init`, killed, and another that puts it right.
fn init(after: Duration) -> Option<Said> {
    let home = Home::new();
    let place = home.repository();
    let said = killed(home.init_command(place.to_str().unwrap()), after);
    home.init().exits(0);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
    let keys = fs::read_dir(place.join("keys")).unwrap().count();
    assert_eq!(keys, 1, "a key that opens nothing is in the way of others");
    said
}
