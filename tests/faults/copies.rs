//! Copying under kills on both sides: of the run that copies, and of the server that it copies to.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::servers::Server;
use crate::common::{Home, Said, cheap};
use crate::dice::{Dice, rounds};

fn restic(home: &Home, args: &[&str]) -> Said {
    let mut command = home.restic_command(args);
    command.env("RESTIC_REPOSITORY", home.dir.path().join("attic"));
    Said::from(command.output().unwrap()).exits(0)
}

fn snapshots(said: &Said) -> Vec<(Value, Value)> {
    let listed = said.json().as_array().cloned().unwrap_or_default();
    let each = listed
        .iter()
        .map(|s| (s["time"].clone(), s["tree"].clone()));
    each.collect()
}

#[test]
fn nothing_is_half_copied_by_kills_on_either_side() {
    const LIST: [&str; 3] = ["snapshots", "--no-lock", "--json"];
    let mut dice = Dice::new("copies");
    let rounds = rounds(10);
    let home = Home::initialised();
    let attic = home.dir.path().join("attic");
    let mut server = Server::rest(&attic, &[]);
    home.edit_profile(|text| {
        format!(
            "{text}\n[[copy]]\nname = \"attic\"\nlocation = {:?}\n",
            server.location()
        )
    });
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic, &home.password());
    let mut longest = Duration::from_secs(2);
    let mut now: chrono::DateTime<chrono::Utc> = "2026-03-02T06:00:10Z".parse().unwrap();
    let mut seen: Vec<(Value, Value)> = Vec::new();
    for round in 1..=rounds {
        now += chrono::TimeDelta::hours(12);
        home.change();
        let after = dice.moment(longest);
        let kills_server = dice.below(2) == 0;
        println!(
            "round {round}: {} killed after {after:?}",
            if kills_server { "server" } else { "run" }
        );
        let mut command: Command = home.command();
        let begun = Instant::now();
        let mut run = command
            .env("RUSTIC_HAPI_TEST_NOW", now.to_rfc3339())
            .arg("snapshot")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // From the moment on that the copying may have begun.
        thread::sleep(after);
        if kills_server {
            server.kill();
            // What is tried again finds it soon.
            thread::sleep(dice.moment(Duration::from_secs(1)));
            server.again(&[]);
            let said: Said = run.wait_with_output().unwrap().into();
            assert!([0, 3].contains(&said.code), "{said:?}");
            assert!(
                said.stdout.starts_with("hapi"),
                "the main snapshot is saved: {said:?}"
            );
        } else {
            run.kill().unwrap();
            let said = run.wait_with_output().unwrap();
            if said.status.success() {
                longest = begun.elapsed();
            }
        }
        // Whatever is there is whole.
        // Retention of the main repository may have removed its original meanwhile.
        seen.extend(snapshots(&home.restic(&LIST)));
        for copy in snapshots(&restic(&home, &LIST)) {
            assert!(seen.contains(&copy), "{copy:?}");
        }
        restic(&home, &["check", "--read-data", "--no-lock"]);
        if dice.below(2) == 0 {
            now += chrono::TimeDelta::minutes(5);
            let begun = Instant::now();
            home.at(&now.to_rfc3339(), &["snapshot", "-q"]).exits(0);
            longest = begun.elapsed();
            assert_eq!(
                snapshots(&home.restic(&LIST)),
                snapshots(&restic(&home, &LIST))
            );
        }
    }
    now += chrono::TimeDelta::minutes(5);
    home.at(&now.to_rfc3339(), &["snapshot", "-q"]).exits(0);
    assert_eq!(
        snapshots(&home.restic(&LIST)),
        snapshots(&restic(&home, &LIST))
    );
    let target = home.dir.path().join("target");
    home.restore(&target, &["--from", "attic"]).exits(0);
    fs::remove_dir_all(&target).unwrap();
    home.drill(&["--from", "attic"]).exits(0);
}
