//! Several at once on one repository: two hosts of ours, a further command of ours on one of them, and restic's
//! backup, forget, prune, rebuild-index and check, each begun at a random moment.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, Home, Said};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

#[test]
fn several_at_once_harm_nobody() {
    let mut dice = Dice::new("together");
    let rounds = rounds(5);
    let one = Home::initialised();
    let two = Home::new();
    fs::create_dir_all(two.profile().parent().unwrap()).unwrap();
    fs::copy(one.password(), two.password()).unwrap();
    let place = one.repository();
    let mut init = two.init_command(place.to_str().unwrap());
    Said::from(init.args(["--host", "second"]).output().unwrap()).exits(0);
    // A check would call them strangers.
    one.edit_profile(|text| {
        text.replace(
            "[repository]\n",
            "[repository]\nother-hosts = [\"second\"]\n",
        )
    });
    let mut judge = Judge::default();
    let begun = Instant::now();
    for home in [&one, &two] {
        let said = home.snapshot().exits(0);
        judge.hear_on(&one, home, &said);
    }
    // So that they meet, however fast they are here.
    let longest = begun.elapsed();
    let restic: [&[&str]; 5] = [
        &["backup", "-q", "--host", "someone-else", "/etc"],
        &["forget", "-q", "--host", "someone-else", "--keep-last", "1"],
        &["prune", "-q"],
        &["rebuild-index", "-q"],
        &["check", "-q"],
    ];
    let ours: [&[&str]; 5] = [
        &["snapshot", "--json"],
        &["forget"],
        &["forget", "--prune"],
        &["drill"],
        &["check"],
    ];
    let (mut refused, mut turned_away) = (0, 0);
    for round in 0..rounds {
        let hubs = [&one, &two].map(|home| BusyHub::start(&home.database()));
        let mut waits: Vec<Duration> = (0..6).map(|_| dice.moment(longest)).collect();
        waits.sort_unstable();
        let theirs = [
            dice.one_of(&restic),
            dice.one_of(&restic),
            dice.one_of(&restic),
        ];
        let further = *dice.one_of(&ours);
        println!("round {round}: {further:?}, {theirs:?} at {waits:?}");
        let mut running: Vec<(String, Child)> = Vec::new();
        let mut slept = Duration::ZERO;
        for (nth, wait) in waits.iter().enumerate() {
            thread::sleep(*wait - slept);
            slept = *wait;
            let (name, mut command) = match nth {
                0 => ("one".to_owned(), one.command()),
                2 => ("two".to_owned(), two.command()),
                5 => {
                    let mut command = one.command();
                    command.args(further);
                    ("further".to_owned(), command)
                }
                n => {
                    let args = theirs[n / 2];
                    (args.join(" "), one.restic_command(args))
                }
            };
            if nth % 2 == 0 && nth < 4 {
                command.args(["snapshot", "--json"]);
            }
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            running.push((name, command.spawn().unwrap()));
        }
        // All of them first: who asks restic without a lock must not be in the way of its prune.
        let ended: Vec<(String, Said)> = running
            .into_iter()
            .map(|(name, child)| (name, child.wait_with_output().unwrap().into()))
            .collect();
        for (name, said) in ended {
            match name.as_str() {
                "one" => judge.hear_on(&one, &one, &said.exits(0)),
                "two" => judge.hear_on(&one, &two, &said.exits(0)),
                // Runs of one hub exclude each other, and what deletes excludes all.
                "further" => {
                    assert!([0, 11].contains(&said.code), "{further:?}: {said:?}");
                    turned_away += u64::from(said.code == 11);
                    judge.hear_on(&one, &one, &said);
                }
                _ if said.code == 0 => {}
                _ => {
                    // Refused, and nothing worse.
                    assert!(said.stderr.contains("already locked"), "{name}: {said:?}");
                    refused += 1;
                }
            }
        }
        drop(hubs);
        judge.leave_out("someone-else");
        judge.judge(&one, &mut |n| dice.below(n), 3);
        Judge::clean(&one);
    }
    for home in [&one, &two] {
        home.drill(&[]).exits(0);
    }
    println!(
        "{rounds} rounds, {refused} of restic's commands and {turned_away} of ours were refused, nothing lost"
    );
}
