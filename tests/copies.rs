//! A second place: made by `init --copy`, brought up to date by each run, read with `--from`, judged by stock restic.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustic_core::repofile::SnapshotFile;
use serde_json::Value;

use chrono::{TimeDelta, Utc};

use crate::common::servers::{Relay, Server};
use crate::common::{Home, Said, Tmpfs, cheap, files_below};

/// A home whose profile has a copy at `attic`, its repository made.
fn with_copy(more: &str) -> Home {
    let home = Home::initialised();
    no_slot_soon(&home);
    add_copy(&home, "attic", attic(&home), more);
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic(&home), &home.password());
    home
}

/// Copying gives way to the next slot, which must not be while a test runs.
fn no_slot_soon(home: &Home) {
    let later = (Utc::now() + TimeDelta::hours(11)).format("%H:%M");
    home.edit_profile(|text| format!("{text}\n[schedule]\nat = [\"{later}\"]\n"));
}

/// The slots of the shipped profile, for a run at a time that is given.
fn usual_slots(home: &Home) {
    home.edit_profile(|text| {
        let (before, after) = text.split_once("\n[schedule]\n").unwrap();
        let (_, after) = after.split_once('\n').unwrap();
        format!("{before}\n{after}")
    });
}

fn add_copy(home: &Home, name: &str, place: impl std::fmt::Debug, more: &str) {
    home.edit_profile(|text| {
        format!(
            "{text}\n[[copy]]\nname = {name:?} # by hand\nlocation = {place:?}\nallow-same-disk = true\n{more}"
        )
    });
}

fn attic(home: &Home) -> PathBuf {
    home.dir.path().join("attic")
}

/// Stock restic on the copy.
fn restic(home: &Home, args: &[&str]) -> Said {
    let said = restic_command(home, args).output().unwrap();
    Said::from(said).exits(0)
}

fn restic_command(home: &Home, args: &[&str]) -> Command {
    let mut command = home.restic_command(args);
    command.env("RESTIC_REPOSITORY", attic(home));
    command
}

fn copied(home: &Home) -> Vec<Value> {
    let said = restic(home, &["snapshots", "--no-lock", "--json"]);
    said.json().as_array().cloned().unwrap_or_default()
}

/// The snapshot files as they are stored, by id: restic leaves out what it does not know.
fn stored(repository: &Path, password: &Path) -> BTreeMap<String, Value> {
    let backends = rustic_backend::BackendOptions::default()
        .repository(repository.to_str().unwrap())
        .to_backends()
        .unwrap();
    let mut options = rustic_core::RepositoryOptions::default();
    options.no_cache = true;
    let password = fs::read_to_string(password).unwrap();
    let engine = rustic_core::Repository::new(&options, &backends)
        .unwrap()
        .open(&rustic_core::Credentials::password(password.trim()))
        .unwrap();
    let files = engine.get_all_snapshots().unwrap();
    let of = |file: &SnapshotFile| {
        let id = file.id.to_hex().to_string();
        (id, serde_json::to_value(file).unwrap())
    };
    files.iter().map(of).collect()
}

fn stored_copies(home: &Home) -> BTreeMap<String, Value> {
    stored(&attic(home), &home.password())
}

/// Each snapshot's time and tree.
fn what(snapshots: &[Value]) -> Vec<(String, String)> {
    let text = |s: &Value, key: &str| s[key].as_str().unwrap().to_owned();
    snapshots
        .iter()
        .map(|s| (text(s, "time"), text(s, "tree")))
        .collect()
}

#[test]
fn a_run_copies_what_is_missing_and_everything_reads_it() {
    let home = Home::initialised();
    no_slot_soon(&home);
    home.snapshot().exits(0);
    home.change();
    home.snapshot().exits(0);
    add_copy(&home, "attic", attic(&home), "");
    // Before it is made, a run says how to make it; its snapshot is saved.
    home.change();
    let early = home.hapi_command(&["snapshot"]).exits(3);
    assert!(
        early.stderr.contains("`rustic-hapi init --copy attic`"),
        "{early:?}"
    );
    let made = home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    assert!(made.stdout.contains("copy        attic"), "{made:?}");
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(profile.contains("name = \"attic\" # by hand"), "{profile}");
    assert_eq!(profile.matches("\nid = ").count(), 2, "{profile}");
    cheap::cheapen(&attic(&home), &home.password());
    let again = home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    assert!(again.stdout.contains("existed already"), "{again:?}");

    home.change();
    let run = home.hapi_command(&["snapshot"]).exits(0);
    let (main, there) = (home.restic_snapshots(), copied(&home));
    assert!(
        run.stdout
            .contains(&format!("{} snapshots copied", main.len())),
        "{run:?}"
    );
    assert_eq!(what(&main), what(&there));
    for (main, copy) in main.iter().zip(&there) {
        assert_ne!(main["id"], copy["id"]);
        assert_eq!(main["tags"], copy["tags"]);
        let id = |s: &Value| s["id"].as_str().unwrap().to_owned();
        let file = &stored(&home.repository(), &home.password())[&id(main)];
        let copy = &stored_copies(&home)[&id(copy)];
        assert_eq!(copy["original"], main["id"]);
        for key in [
            "description",
            "hostname",
            "username",
            "time",
            "tree",
            "paths",
        ] {
            assert_eq!(copy[key], file[key], "{key}");
        }
        assert!(copy["description"].is_string(), "{copy}");
    }
    restic(&home, &["check", "--read-data"]);

    // restic recognises them as well.
    let mut again = restic_command(&home, &["copy"]);
    again
        .env("RESTIC_FROM_REPOSITORY", home.repository())
        .env("RESTIC_FROM_PASSWORD_FILE", home.password());
    Said::from(again.output().unwrap()).exits(0);
    assert_eq!(copied(&home).len(), there.len());

    // The next run copies only its own.
    home.change();
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(run.stdout.contains("1 snapshot copied"), "{run:?}");

    let list = home
        .hapi_command(&["snapshots", "--from", "attic", "--json"])
        .exits(0);
    let newest = list.json()["snapshots"].as_array().unwrap().last().unwrap()["id"].clone();
    assert!(copied(&home).iter().any(|s| s["id"] == newest), "{newest}");
    for args in [
        &["check", "--from", "attic"][..],
        &["drill", "--from", "attic"],
        &["status", "--from", "attic"],
        &["--from", "attic", "forget", "--dry-run"],
        &["sessions", "--from", "attic", "--search", "x"],
    ] {
        home.hapi_command(args).exits(0);
    }
    // One conversation, too, while the main place is away.
    let away = home.dir.path().join("away");
    fs::rename(home.repository(), &away).unwrap();
    let listed = home.hapi_command(&["sessions", "--from", "attic", "--json"]);
    let session = listed.exits(0).json()["sessions"][0]["id"].clone();
    let export = ["export", session.as_str().unwrap(), "--from", "attic"];
    let said = home.hapi_command(&export).exits(0);
    assert!(said.stdout.ends_with("</html>\n"), "{said:?}");
    home.hapi_command(&[&export[..], &["--live"]].concat())
        .exits(2);
    fs::rename(&away, home.repository()).unwrap();
    let env = home.hapi_command(&["env", "--from", "attic"]).exits(0);
    assert!(
        env.stdout.contains(attic(&home).to_str().unwrap()),
        "{env:?}"
    );
    let target = tempfile::tempdir().unwrap();
    home.restore(&target.path().join("r"), &["--from", "attic"])
        .exits(0);
    // Over the live files as well, while no run of the main repository may begin.
    crate::common::sqlite3(&home.database(), "DELETE FROM sessions");
    let id = copied(&home).pop().unwrap()["id"].as_str().unwrap()[..8].to_owned();
    home.hapi_command(&["restore", "--in-place", &id, "--from", "attic", "--yes"])
        .exits(0);
    let sessions = crate::common::sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    assert_ne!(sessions.trim(), "0");
    // In the shell that the copy's variables are in, too.
    let mut shell = home.command();
    shell.env("RESTIC_REPOSITORY", attic(&home));
    let said: Said = shell
        .args(["snapshots", "--from", "attic"])
        .output()
        .unwrap()
        .into();
    said.exits(0);
    let unknown = home.hapi_command(&["status", "--from", "cellar"]).exits(2);
    assert!(
        unknown.stderr.contains("the profile has attic"),
        "{unknown:?}"
    );
    let refused = home.hapi_command(&["snapshot", "--from", "attic"]).exits(2);
    assert!(refused.stderr.contains("leave it out"), "{refused:?}");
    home.hapi_command(&["status", "--from", "main"]).exits(0);
}

#[test]
fn a_place_that_is_away_costs_exit_3_and_the_next_run_catches_up() {
    let home = with_copy("");
    let told = home.dir.path().join("told");
    home.edit_profile(|text| {
        let command = format!("cat >> {}; echo >> {0}", told.display());
        text.replace(
            "[[copy]]",
            &format!("[notify]\ncommand = {command:?}\n[[copy]]"),
        )
    });
    let of_copy = || -> Vec<String> {
        let text = fs::read_to_string(&told).unwrap_or_default();
        _ = fs::remove_file(&told);
        let lines = text.lines().filter(|line| !line.is_empty());
        let messages = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        messages
            .filter(|m| m["command"] == "copy")
            .map(|m| m["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    home.snapshot().exits(0);
    assert!(of_copy().is_empty());
    let away = home.dir.path().join("away");
    fs::rename(attic(&home), &away).unwrap();
    home.change();
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert_eq!(of_copy(), ["partial"]);
    assert!(run.stdout.starts_with("hapi "), "{run:?}");
    // It was made already: nobody is told to make another.
    assert!(run.stderr.contains("is the disk mounted?"), "{run:?}");
    assert!(!run.stderr.contains("rustic-hapi init"), "{run:?}");
    assert!(
        run.stderr.contains("the copy `attic` is not up to date"),
        "{run:?}"
    );
    assert!(
        run.stderr
            .contains("snapshot in the main repository is saved"),
        "{run:?}"
    );
    // With one document, the complaints are on standard error all the same.
    home.change();
    let run = home.snapshot().exits(3);
    assert_eq!(run.json()["exit"], 0);
    assert!(run.stderr.contains("the copy `attic`"), "{run:?}");
    fs::rename(&away, attic(&home)).unwrap();
    home.change();
    of_copy();
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(run.stdout.contains("snapshots copied"), "{run:?}");
    assert_eq!(of_copy(), ["recovery"]);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
}

#[test]
fn a_wrong_password_is_told_of_the_copy() {
    let home = with_copy("");
    let other = home.dir.path().join("other-password");
    fs::write(&other, "something else\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    home.edit_profile(|text| format!("{text}password-file = {other:?}\n"));
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert!(run.stderr.contains("other-password"), "{run:?}");
    home.hapi_command(&["status", "--from", "attic"]).exits(12);
    // What helps is done to the copy, also while it is made.
    let place = home.dir.path().join("of-restic");
    let mut restic = home.restic_command(&["init", "-q"]);
    restic
        .env("RESTIC_REPOSITORY", &place)
        .env("RESTIC_PASSWORD_FILE", &other);
    Said::from(restic.output().unwrap()).exits(0);
    add_copy(&home, "stock", &place, "");
    let init = home.hapi_command(&["init", "--copy", "stock"]).exits(12);
    assert!(init.stderr.contains("--from stock"), "{init:?}");
}

#[test]
fn what_restic_copied_by_hand_is_recognised_and_completed() {
    let home = with_copy("");
    home.snapshot().exits(0);
    let away = home.dir.path().join("away");
    fs::rename(attic(&home), &away).unwrap();
    home.change();
    home.snapshot().exits(3);
    home.change();
    home.hapi_command(&["snapshot", "--tag", "mine", "--keep", "60d"])
        .exits(3);
    fs::rename(&away, attic(&home)).unwrap();
    for id in home.ids("hapi") {
        let mut copy = restic_command(&home, &["copy", &id]);
        copy.env("RESTIC_FROM_REPOSITORY", home.repository())
            .env("RESTIC_FROM_PASSWORD_FILE", home.password());
        Said::from(copy.output().unwrap()).exits(0);
    }
    let by_hand = copied(&home);
    assert_eq!(by_hand.len(), 4, "{by_hand:?}");
    let files = stored_copies(&home);
    let bare = files.values().filter(|s| s["description"].is_null());
    assert_eq!(bare.count(), 2, "{files:?}");
    home.change();
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(!run.stderr.contains("copy `attic`"), "{run:?}");
    let there = copied(&home);
    assert_eq!(what(&home.restic_snapshots()), what(&there));
    let files = stored_copies(&home);
    assert!(
        files.values().all(|s| s["description"].is_string()),
        "{files:?}"
    );
    assert!(files.values().any(|s| s["delete"].is_object()), "{files:?}");
    // Nothing is left to do.
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(run.stdout.contains("1 snapshot copied"), "{run:?}");
}

#[test]
fn its_retention_is_its_own_and_what_it_removed_does_not_come_again() {
    let home = with_copy("keep-weekly = 0\n");
    for day in 1..=20 {
        home.change();
        let now = format!("2026-03-{day:02}T06:00:10Z");
        home.at(&now, &["snapshot", "-q"]).exits(0);
    }
    let days = |snapshots: &[Value]| {
        let main = snapshots
            .iter()
            .filter(|s| s["tags"].to_string().contains("\"hapi\""));
        main.count()
    };
    let (main, there) = (days(&home.restic_snapshots()), days(&copied(&home)));
    assert!(there < main && there >= 14, "{there} of {main}");
    // And pruned as the main repository is.
    let pruned = fs::read_to_string(home.state().with_file_name("hapi@attic").join("prune.json"));
    assert!(
        !pruned.unwrap().contains("2026-03-01"),
        "never since the first day"
    );
    let run = home.at("2026-03-20T06:10:10Z", &["snapshot"]).exits(0);
    assert!(run.stdout.contains("1 snapshot copied"), "{run:?}");
}

#[test]
fn the_main_retention_waits_for_a_copy_that_keeps_more_and_was_away() {
    let home = with_copy("keep-within = \"60d\"\n");
    usual_slots(&home);
    home.edit_profile(|text| {
        let rules = "[retention]\nkeep-within = \"1d\"\nkeep-weekly = 0\n[[copy]]";
        text.replace("[[copy]]", rules)
    });
    let begin = chrono::DateTime::parse_from_rfc3339("2026-03-01T18:00:10Z").unwrap();
    let run = |day: i64| {
        home.change();
        let time = (begin + TimeDelta::days(day)).to_rfc3339();
        home.at(&time, &["snapshot"])
    };
    run(0).exits(0);
    let away = home.dir.path().join("away");
    fs::rename(attic(&home), &away).unwrap();
    for day in 1..=17 {
        run(day).exits(3);
    }
    // The first one is in the copy, and so it goes.
    assert_eq!(home.ids("hapi").len(), 17);
    let status = home.at("2026-03-18T19:00:00Z", &["status"]);
    assert!(
        status.stdout.contains("not yet in the copy `attic`"),
        "{status:?}"
    );
    fs::rename(&away, attic(&home)).unwrap();
    run(18).exits(0);
    let of_main = |s: &&Value| s["tags"][0] == "hapi";
    assert_eq!(copied(&home).iter().filter(of_main).count(), 19);
    run(19).exits(0);
    assert_eq!(home.ids("hapi").len(), 14);
}

#[test]
fn a_full_disk_leaves_nothing_half_and_the_next_run_goes_on() {
    let home = Home::initialised();
    no_slot_soon(&home);
    home.snapshot().exits(0);
    let disk = Tmpfs::mount(home.dir.path().join("disk"), "size=400k");
    let place = home.dir.path().join("disk/attic");
    std::os::unix::fs::symlink(&place, attic(&home)).unwrap();
    add_copy(&home, "attic", &place, "");
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    home.change();
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert!(run.stderr.contains("No space left on device"), "{run:?}");
    assert_eq!(files_below(&place.join("snapshots")).len(), 0);
    disk.remount("size=200m");
    home.change();
    home.hapi_command(&["snapshot"]).exits(0);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn status_tells_each_place_apart_and_doctor_and_kit_name_it() {
    let home = with_copy("");
    usual_slots(&home);
    let first = home.hapi_command(&["status", "--json"]).exits(20).json();
    assert_eq!(first["copies"][0]["name"], "attic");
    home.at("2026-03-01T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    let away = home.dir.path().join("away");
    fs::rename(attic(&home), &away).unwrap();
    for day in [1, 2] {
        home.change();
        home.at(&format!("2026-03-0{day}T18:00:10Z"), &["snapshot", "-q"])
            .exits(3);
    }
    // Fresh is the main repository; the copy is not, and out of reach besides.
    let status = home.at("2026-03-02T19:00:00Z", &["status"]).exits(20);
    assert!(
        status
            .stderr
            .contains("in the copy `attic` is 36 h old; the limit is 26 h"),
        "{status:?}"
    );
    assert!(
        status.stderr.contains("`rustic-hapi doctor --from attic`"),
        "{status:?}"
    );
    assert!(
        status.stderr.contains("could not be looked into"),
        "{status:?}"
    );
    assert!(status.stdout.contains("not reached now"), "{status:?}");
    assert!(
        !status.stderr.contains("rustic-hapi snapshot"),
        "{status:?}"
    );
    let doctor = home.hapi_command(&["doctor"]).exits(1);
    assert!(doctor.stdout.contains("copy attic"), "{doctor:?}");
    fs::rename(&away, attic(&home)).unwrap();
    let status = home.at("2026-03-02T19:00:00Z", &["status"]).exits(20);
    assert!(status.stdout.contains("lacks 2"), "{status:?}");
    home.change();
    home.at("2026-03-02T19:10:00Z", &["snapshot", "-q"])
        .exits(0);
    let status = home
        .at("2026-03-02T19:20:00Z", &["status", "--json"])
        .exits(0)
        .json();
    let metrics = home.dir.path().join("hapi.prom");
    let args = ["status", "-q", "--prometheus", metrics.to_str().unwrap()];
    home.at("2026-03-02T19:20:00Z", &args).exits(0);
    let metrics = fs::read_to_string(&metrics).unwrap();
    let sample =
        "rustic_hapi_copy_last_complete_timestamp_seconds{profile=\"hapi\",copy=\"attic\"}";
    assert!(metrics.contains(sample), "{metrics}");
    let copy = &status["copies"][0];
    assert_eq!(
        (&copy["verdict"], &copy["lacking"]),
        (&"fresh".into(), &0.into()),
        "{copy}"
    );
    home.at("2026-03-02T19:20:00Z", &["status", "--from", "attic"])
        .exits(0);
    let doctor = home.hapi_command(&["doctor", "--from", "attic", "-v"]);
    assert!(
        doctor.stdout.contains(attic(&home).to_str().unwrap()),
        "{doctor:?}"
    );
    let kit = home.hapi_command(&["recovery-kit"]).exits(0);
    assert!(kit.stdout.contains("## The copy `attic`"), "{kit:?}");
    assert!(
        kit.stdout
            .contains("`rustic-hapi --from attic recovery-kit --new-key`"),
        "{kit:?}"
    );
    let key = home.dir.path().join("attic.key");
    home.hapi_command(&[
        "recovery-kit",
        "--from",
        "attic",
        "--new-key",
        "--key-file",
        key.to_str().unwrap(),
    ])
    .exits(0);
    home.hapi_command(&[
        "recovery-kit",
        "--from",
        "attic",
        "--confirm",
        "--key-file",
        key.to_str().unwrap(),
    ])
    .exits(0);
}

#[test]
fn weekly_drills_take_turns() {
    let home = with_copy("");
    home.at("2026-03-01T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    let drilled = |state: &Path| {
        let text = fs::read_to_string(state.join("drills.jsonl")).unwrap_or_default();
        text.lines().count()
    };
    let copy = home.state().with_file_name("hapi@attic");
    for (day, counts) in [(2, (1, 0)), (3, (1, 0)), (9, (1, 1)), (16, (2, 1))] {
        home.at(
            &format!("2026-03-{day:02}T07:00:00Z"),
            &["drill", "--weekly"],
        )
        .exits(0);
        assert_eq!(
            (drilled(&home.state()), drilled(&copy)),
            counts,
            "day {day}"
        );
    }
    // One that cannot be run does not keep the others from their turn.
    let away = home.dir.path().join("away");
    fs::rename(attic(&home), &away).unwrap();
    home.at("2026-03-23T07:00:00Z", &["drill", "--weekly"])
        .exits(22);
    home.at("2026-03-23T19:00:00Z", &["drill", "--weekly"])
        .exits(0);
    assert_eq!(drilled(&home.state()), 3);
}

/// A copy behind a slow link.
fn behind_a_relay(home: &Home) -> (Server, Relay) {
    let server = Server::rest(&attic(home), &[]);
    let relay = Relay::before(server.port);
    add_copy(home, "attic", relay.location(), "");
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic(home), &home.password());
    (server, relay)
}

/// Starts a run, and waits until it is copying.
fn copying(home: &Home, relay: &Relay, now: Option<&str>) -> Child {
    let before = home.ids("hapi").len();
    let mut command = home.command();
    if let Some(now) = now {
        command.env("RUSTIC_HAPI_TEST_NOW", now);
    }
    let run = command
        .arg("snapshot")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let sent = relay.sent();
    while home.ids("hapi").len() == before || relay.sent() < sent + 20_000 {
        assert!(Instant::now() < end, "it does not copy");
        thread::sleep(Duration::from_millis(20));
    }
    run
}

#[test]
fn copying_gives_way_to_a_run_by_hand_which_goes_on_with_it() {
    let home = Home::initialised();
    no_slot_soon(&home);
    let (_server, relay) = behind_a_relay(&home);
    relay.rate(60_000);
    let slow = copying(&home, &relay, None);
    home.change();
    let mut second = home.command();
    let second = second
        .arg("snapshot")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let second = second.spawn().unwrap();
    let first: Said = slow.wait_with_output().unwrap().into();
    let first = first.exits(3);
    assert!(first.stderr.contains("the next run is due"), "{first:?}");
    relay.rate(0);
    let second: Said = second.wait_with_output().unwrap().into();
    second.exits(0);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn a_signal_ends_the_copying_and_a_server_that_is_away_is_told() {
    let home = Home::initialised();
    no_slot_soon(&home);
    let (mut server, relay) = behind_a_relay(&home);
    relay.rate(60_000);
    let run = copying(&home, &relay, None);
    crate::common::run("kill", &["-TERM".as_ref(), run.id().to_string().as_ref()]);
    let said: Said = run.wait_with_output().unwrap().into();
    said.exits(143);
    assert_eq!(copied(&home).len(), 0);
    assert_eq!(files_below(&attic(&home).join("locks")).len(), 0);
    relay.rate(0);
    server.kill();
    home.change();
    let said = home.hapi_command(&["snapshot"]).exits(3);
    assert!(said.stdout.starts_with("hapi "), "{said:?}");
    assert!(
        said.stderr.contains("the copy `attic` is not up to date"),
        "{said:?}"
    );
    server.again(&[]);
    home.change();
    home.hapi_command(&["snapshot"]).exits(0);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
}

#[test]
fn a_run_in_the_last_minutes_before_a_slot_says_that_the_copy_lacks_its_snapshot() {
    let home = with_copy("");
    usual_slots(&home);
    let said = home.at("2026-03-01T05:58:30Z", &["snapshot"]).exits(3);
    assert!(
        said.stderr
            .contains("does not have the newest snapshot yet"),
        "{said:?}"
    );
    assert!(!said.stdout.contains("up to date"), "{said:?}");
    let said = home.at("2026-03-01T06:00:10Z", &["snapshot"]).exits(0);
    assert_eq!(
        what(&home.restic_snapshots()),
        what(&copied(&home)),
        "{said:?}"
    );
}

#[test]
fn copying_ends_before_the_next_slot_and_a_later_run_goes_on() {
    let home = Home::initialised();
    let (_server, relay) = behind_a_relay(&home);
    relay.rate(60_000);
    // Systemd starts no run while one is under way.
    let run = copying(&home, &relay, Some("2026-03-01T05:57:56Z"));
    let said: Said = run.wait_with_output().unwrap().into();
    let said = said.exits(3);
    assert!(said.stderr.contains("the next run is due"), "{said:?}");
    assert_eq!(copied(&home).len(), 0);
    relay.rate(0);
    home.change();
    let sent = relay.sent();
    home.at("2026-03-01T06:00:10Z", &["snapshot"]).exits(0);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
    println!("{} bytes were sent then", relay.sent() - sent);
}

fn largest_pack(repository: &Path) -> PathBuf {
    let packs = files_below(&repository.join("data"));
    packs.into_iter().max_by_key(|(_, size)| *size).unwrap().0
}

/// All of the database is another, so that it shares no data with the snapshots before.
fn another_database(home: &Home) {
    crate::common::sqlite3(
        &home.database(),
        "UPDATE messages SET content = hex(randomblob(200)); VACUUM",
    );
}

#[test]
fn what_a_copy_lost_is_copied_again() {
    let home = with_copy("");
    for _ in 0..3 {
        home.hapi_command(&["snapshot"]).exits(0);
        home.change();
    }
    let before = what(&copied(&home));
    let pack = largest_pack(&attic(&home));
    let aside = home.dir.path().join("aside");
    fs::rename(&pack, &aside).unwrap();
    let run = home.hapi_command(&["snapshot"]).exits(3);
    let advice =
        "`eval \"$(rustic-hapi --from attic env --with-credentials)\"; restic rebuild-index`";
    assert!(run.stderr.contains(advice), "{run:?}");
    // Hours later, too, it is about the copy.
    let status = home.hapi_command(&["status"]);
    assert!(status.stderr.contains(advice), "{status:?}");
    assert!(!status.stderr.contains("rustic-hapi env"), "{status:?}");
    let status = home.hapi_command(&["status", "--json"]).json();
    let error = status["copies"][0]["last-copying"]["error"]
        .as_str()
        .unwrap();
    assert!(error.contains(advice), "{status}");
    restic(&home, &["rebuild-index"]);
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(run.stdout.contains("snapshots copied"), "{run:?}");
    restic(&home, &["check", "--read-data"]);
    home.hapi_command(&["--from", "attic", "check", "--read-data"])
        .exits(0);
    // None is there twice.
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
    let after = what(&copied(&home));
    assert!(before.iter().all(|one| after.contains(one)), "{after:?}");
    // What only the index lost is not sent again.
    for (index, _) in files_below(&attic(&home).join("index")) {
        fs::remove_file(index).unwrap();
    }
    let packs = files_below(&attic(&home).join("data")).len();
    home.hapi_command(&["snapshot", "-v"]).exits(0);
    restic(&home, &["check", "--read-data"]);
    assert!(files_below(&attic(&home).join("data")).len() <= packs + 2);
    assert_eq!(what(&home.restic_snapshots()), what(&copied(&home)));
}

#[test]
fn what_is_lost_in_both_places_is_told_until_it_is_removed() {
    let home = with_copy("");
    home.hapi_command(&["snapshot"]).exits(0);
    let old = home.ids("hapi").pop().unwrap();
    let pack = largest_pack(&attic(&home));
    another_database(&home);
    home.hapi_command(&["snapshot"]).exits(0);
    home.restic(&["forget", "--prune", &old]);
    fs::remove_file(pack).unwrap();
    restic(&home, &["rebuild-index"]);
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert!(run.stderr.contains("does not have either"), "{run:?}");
    let status = home.hapi_command(&["status"]);
    let (_, advice) = status.stderr.split_once("not have either: ").unwrap();
    let id = &advice[..8];
    let forget = format!(
        "`eval \"$(rustic-hapi --from attic env --with-credentials)\"; restic forget {id}`"
    );
    for said in [&run.stderr, &status.stderr] {
        assert!(said.contains(&forget), "{said}");
    }
    assert!(copied(&home).iter().any(|s| s["short_id"] == id), "{id}");
    restic(&home, &["forget", id]);
    home.hapi_command(&["snapshot"]).exits(0);
    let status = home.hapi_command(&["status"]);
    assert!(!status.stderr.contains("attic"), "{status:?}");
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn a_snapshot_that_is_not_whole_is_not_copied_and_the_others_are() {
    let home = Home::initialised();
    no_slot_soon(&home);
    home.snapshot().exits(0);
    let largest = largest_pack(&home.repository());
    another_database(&home);
    fs::remove_file(largest).unwrap();
    home.restic(&["rebuild-index"]);
    let old = home.ids("hapi");
    add_copy(&home, "attic", attic(&home), "");
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic(&home), &home.password());
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert!(
        run.stderr.contains("not whole in the main repository"),
        "{run:?}"
    );
    assert!(run.stderr.contains(&old[0][..8]), "{run:?}");
    assert!(
        run.stderr
            .contains("`rustic-hapi check --from main --read-data`"),
        "{run:?}"
    );
    assert!(run.stdout.contains("copied"), "{run:?}");
    assert!(copied(&home).len() < home.restic_snapshots().len());
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn damage_in_the_main_repository_costs_only_the_snapshot_that_has_it() {
    let home = Home::initialised();
    no_slot_soon(&home);
    let now = Utc::now();
    let times = [3, 2, 1].map(|minutes| (now - TimeDelta::minutes(minutes)).to_rfc3339());
    let damaged = with_damage_in_the_middle(&home, times.each_ref().map(String::as_str));
    add_copy(&home, "attic", attic(&home), "");
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic(&home), &home.password());
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let run = home.hapi_command(&["snapshot"]).exits(3);
        assert!(
            run.stderr.contains("not whole in the main repository"),
            "{run:?}"
        );
        assert!(run.stderr.contains(&damaged[..8]), "{run:?}");
        let hint = "hint: `rustic-hapi check --from main --read-data`";
        assert!(run.stderr.contains(hint), "{run:?}");
        assert_eq!(
            copied(&home).len() + 1,
            home.restic_snapshots().len(),
            "{run:?}"
        );
        let packs = files_below(&attic(&home).join("data"));
        sizes.push(packs.iter().map(|(_, size)| size).sum::<u64>());
    }
    restic(&home, &["check", "--read-data"]);
    // What can be read of the damaged one is sent once.
    assert!(sizes[1] < sizes[0] + sizes[0] / 10, "{sizes:?}");
}

/// Runs at these times, and damages what the middle one alone has; its id.
fn with_damage_in_the_middle(home: &Home, times: [&str; 3]) -> String {
    home.at(times[0], &["snapshot"]).exits(0);
    another_database(home);
    let before = files_below(&home.repository().join("data"));
    home.at(times[1], &["snapshot"]).exits(0);
    let packs = files_below(&home.repository().join("data"));
    let new = packs.into_iter().filter(|pack| !before.contains(pack));
    let (pack, _) = new.max_by_key(|(_, size)| *size).unwrap();
    let damaged = home.ids("hapi").pop().unwrap();
    another_database(home);
    home.at(times[2], &["snapshot"]).exits(0);
    let mut bytes = fs::read(&pack).unwrap();
    // The middle is of the messages; what comes before, the later ones have as well.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].copy_from_slice(b"hapi");
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    damaged
}

#[test]
fn another_of_its_day_takes_the_place_of_one_that_is_not_whole() {
    let home = Home::initialised();
    no_slot_soon(&home);
    let times = [
        "2026-03-01T06:00:10Z",
        "2026-03-01T18:00:10Z",
        "2026-03-09T06:00:10Z",
    ];
    let damaged = with_damage_in_the_middle(&home, times);
    add_copy(&home, "attic", attic(&home), "keep-within = \"1h\"\n");
    home.hapi_command(&["init", "--copy", "attic"]).exits(0);
    cheap::cheapen(&attic(&home), &home.password());
    for _ in 0..2 {
        let run = home.at("2026-03-09T18:00:10Z", &["snapshot"]).exits(3);
        assert!(run.stderr.contains(&damaged[..8]), "{run:?}");
        let days: Vec<_> = what(&copied(&home))
            .into_iter()
            .map(|(time, _)| time)
            .collect();
        assert!(
            days.iter().any(|time| time.starts_with("2026-03-01T06")),
            "{days:?}"
        );
    }
    restic(&home, &["check", "--read-data"]);
}

#[test]
fn a_copy_is_another_repository_by_whatever_name() {
    let home = Home::initialised();
    no_slot_soon(&home);
    let name = home.dir.path().join("other-name");
    std::os::unix::fs::symlink(home.repository(), &name).unwrap();
    let before = fs::read_to_string(home.profile()).unwrap();
    let it_is = "`location` in the `[[copy]]` `attic`";
    let refused = |args: &[&str], exit: i32, fact: &str| {
        let said = home.hapi_command(args).exits(exit);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains(it_is) && text.contains(fact), "{said:?}");
    };
    let main = "it is the main repository";
    add_copy(&home, "attic", &name, "");
    refused(&["init", "--copy", "attic"], 2, main);
    let id = before.lines().find(|line| line.starts_with("id = "));
    let id = id.unwrap();
    // As an earlier version made it.
    home.edit_profile(|text| format!("{text}{id}\n"));
    refused(&["snapshot"], 3, main);
    refused(&["doctor"], 1, main);
    refused(&["--from", "attic", "forget"], 2, main);
    refused(&["init", "--copy", "attic"], 2, main);
    let kept = home.restic_snapshots().len();
    assert!(kept > 0);
    // Two copies.
    fs::write(home.profile(), &before).unwrap();
    let cellar = home.dir.path().join("cellar");
    add_copy(&home, "cellar", &cellar, "");
    home.hapi_command(&["init", "--copy", "cellar"]).exits(0);
    cheap::cheapen(&cellar, &home.password());
    let name = home.dir.path().join("third-name");
    std::os::unix::fs::symlink(&cellar, &name).unwrap();
    add_copy(&home, "attic", &name, "");
    let cellar = "it is the place of the copy `cellar`";
    refused(&["init", "--copy", "attic"], 2, cellar);
    let text = fs::read_to_string(home.profile()).unwrap();
    let id = text.lines().rfind(|line| line.starts_with("id = "));
    let id = id.unwrap();
    home.edit_profile(|text| format!("{text}{id}\n"));
    refused(&["snapshot"], 3, cellar);
    refused(&["doctor"], 1, cellar);
    refused(&["--from", "attic", "forget"], 2, cellar);
    home.hapi_command(&["--from", "cellar", "status"]).exits(0);
}

#[test]
fn the_main_repositorys_password_is_not_what_a_copy_asks_to_change() {
    let home = with_copy("");
    home.hapi_command(&["snapshot"]).exits(0);
    // As docs/security.md says, but for the copy.
    let old = home.dir.path().join("OLD");
    let new = home.dir.path().join("new-password");
    fs::copy(home.password(), &old).unwrap();
    fs::write(&new, "another one\n").unwrap();
    home.restic(&["key", "add", "--new-password-file", new.to_str().unwrap()]);
    fs::write(home.password(), "another one\n").unwrap();
    let run = home.hapi_command(&["snapshot"]).exits(3);
    assert!(!run.stderr.contains("put the password of this"), "{run:?}");
    for said in [&run, &home.hapi_command(&["doctor"]).exits(1)] {
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(
            text.contains("name it as `password-file` in its `[[copy]]`"),
            "{said:?}"
        );
        assert!(text.contains("`eval \"$(rustic-hapi --from attic env --with-credentials)\"; restic --password-file OLD key add --new-password-file \"$RESTIC_PASSWORD_FILE\"`"), "{said:?}");
    }
    let mut add = restic_command(&home, &["--password-file", old.to_str().unwrap()]);
    add.args(["key", "add", "--new-password-file"])
        .arg(home.password());
    Said::from(add.output().unwrap()).exits(0);
    home.hapi_command(&["snapshot"]).exits(0);
}

#[test]
fn a_copy_on_the_hubs_disk_is_accepted_where_it_stands() {
    let home = Home::initialised();
    let disk = Tmpfs::mount(home.dir.path().join("memory"), "size=4m");
    for place in [attic(&home), home.dir.path().join("memory/attic")] {
        let before = fs::read_to_string(home.profile()).unwrap();
        let copy = format!("[[copy]]\nname = \"attic\"\nlocation = {place:?}\n");
        home.edit_profile(|text| format!("{text}\n{copy}"));
        let said = home.hapi_command(&["init", "--copy", "attic"]).exits(1);
        let hint = "; `allow-same-disk = true` in the `[[copy]]` `attic` accepts this one";
        assert!(said.stderr.contains(hint), "{said:?}");
        assert!(!said.stderr.contains("--allow-same-disk"), "{said:?}");
        home.edit_profile(|text| format!("{text}allow-same-disk = true\n"));
        home.hapi_command(&["init", "--copy", "attic"]).exits(0);
        fs::write(home.profile(), before).unwrap();
    }
    drop(disk);
}

#[test]
fn acknowledged_in_the_main_repository_counts_in_the_copy() {
    let home = with_copy("keep-within = \"1h\"\nkeep-weekly = 0\n");
    home.at("2026-03-01T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    crate::common::sqlite3(&home.database(), "DELETE FROM messages");
    home.at("2026-03-02T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    let plan = |home: &Home| {
        let args = ["--from", "attic", "forget", "--dry-run", "--json"];
        home.at("2026-03-02T07:00:00Z", &args).exits(0).stdout
    };
    assert!(
        plan(&home).contains("last good one before"),
        "{}",
        plan(&home)
    );
    // Named by its id in the main repository, as it is told.
    let shrunk = home.ids("hapi").pop().unwrap();
    let status = home.at("2026-03-02T07:00:00Z", &["--from", "attic", "status"]);
    let told = format!("add \"{}\" to `acknowledged`", &shrunk[..8]);
    assert!(status.stderr.contains(&told), "{status:?}");
    let line = format!("[retention]\nacknowledged = [{:?}]\n[[copy]]", &shrunk[..8]);
    home.edit_profile(|text| text.replace("[[copy]]", &line));
    assert!(
        !plan(&home).contains("last good one before"),
        "{}",
        plan(&home)
    );
}

#[test]
fn a_copy_takes_over_as_the_main_one() {
    let home = with_copy("");
    home.snapshot().exits(0);
    fs::remove_dir_all(home.repository()).unwrap();
    home.edit_profile(|text| {
        let (before, copy) = text.split_once("[[copy]]").unwrap();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.to_owned()
        };
        let before = before.replace(&value(before, "location"), &value(copy, "location"));
        before.replace(&value(&before, "id ="), &value(copy, "id ="))
    });
    home.change();
    let run = home.snapshot().exits(0).json();
    let added = run["series"].as_array().unwrap().last().unwrap()["added"]
        .as_u64()
        .unwrap();
    assert!(added < 100_000, "{run}");
    assert_eq!(copied(&home).len(), 3);
    home.drill(&[]).exits(0);
}

#[test]
fn a_profile_says_what_is_wrong_with_a_copy() {
    let home = with_copy("");
    for (key, text, fact) in [
        (
            "keep-daily",
            "keep-daily = 3",
            "`keep-daily` in the `[[copy]]` `attic`",
        ),
        ("keepdaily", "keepdaily = 30", "unknown field `keepdaily`"),
        (
            "password",
            "password-file = \"/a\"\npassword-command = \"b\"",
            "`password-command` in the `[[copy]]` `attic`",
        ),
        (
            "twice",
            "[[copy]]\nname = \"attic\"\nlocation = \"/x\"",
            "two copies are called `attic`",
        ),
        (
            "main",
            "[[copy]]\nname = \"main\"\nlocation = \"/x\"",
            "`main` cannot be the name of a copy",
        ),
        (
            "path",
            "[[copy]]\nname = \"a/b\"\nlocation = \"/x\"",
            "`a/b` cannot be the name of a copy",
        ),
    ] {
        let before = fs::read_to_string(home.profile()).unwrap();
        fs::write(home.profile(), format!("{before}{text}\n")).unwrap();
        let said = home.hapi_command(&["profile", "check"]).exits(2);
        assert!(said.stderr.contains(fact), "{key}: {said:?}");
        fs::write(home.profile(), before).unwrap();
    }
    let before = fs::read_to_string(home.profile()).unwrap();
    let repository = home.repository();
    for place in [
        &repository,
        &repository.join("attic"),
        repository.parent().unwrap(),
    ] {
        let text = format!("{before}[[copy]]\nname = \"same\"\nlocation = {place:?}\n");
        fs::write(home.profile(), text).unwrap();
        let said = home.hapi_command(&["profile", "check"]).exits(2);
        assert!(
            said.stderr
                .contains("it is the main repository's place, or within it"),
            "{said:?}"
        );
    }
}

#[test]
fn what_a_wrong_clock_dated_ahead_does_not_keep_a_copy_fresh() {
    let home = with_copy("");
    usual_slots(&home);
    let metrics = home.dir.path().join("m.prom");
    home.edit_profile(|text| format!("{text}\n[metrics]\ntextfile = {metrics:?}\n"));
    home.at("2026-03-01T06:00:10Z", &["snapshot"]).exits(0);
    home.at("2027-03-01T06:00:10Z", &["snapshot"]);
    home.change();
    home.at("2026-03-01T18:00:10Z", &["snapshot"]);
    // The metrics of a run have what its copying brought.
    let time = chrono::DateTime::parse_from_rfc3339("2026-03-01T18:00:10Z").unwrap();
    let text = fs::read_to_string(&metrics).unwrap();
    let of_copy = text.lines().filter(|line| line.contains("attic"));
    let of_copy: Vec<_> = of_copy.collect();
    let seconds = format!(" {}", time.timestamp());
    assert!(
        of_copy.iter().any(|line| line.ends_with(&seconds)),
        "{text}"
    );
    fs::rename(attic(&home), home.dir.path().join("away")).unwrap();
    let status = home.at("2026-03-05T18:30:00Z", &["status"]);
    let line = status
        .stdout
        .lines()
        .find(|line| line.contains("attic"))
        .unwrap();
    assert!(line.contains("96 h old"), "{status:?}");
}
