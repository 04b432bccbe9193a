//! A run that never ended is told: killed in every way, out of memory, without threads. One that is under way, or
//! was only tried, is none.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Home, Said, run};
use serde_json::Value;

fn marks(home: &Home) -> Vec<Value> {
    let entries = fs::read_dir(home.state().join("begun"));
    let read = |entry: fs::DirEntry| {
        // One that has no name yet is none.
        let is_unfinished = entry.file_name().to_string_lossy().starts_with('.');
        let text = fs::read(entry.path()).ok().filter(|_| !is_unfinished)?;
        serde_json::from_slice(&text).ok()
    };
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(read)
        .collect()
}

fn lines(file: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn records(home: &Home) -> Vec<Value> {
    lines(home.state().join("runs.jsonl"))
}

/// A run that waits in the middle of its archive, and has its mark.
fn paused(home: &Home, args: &[&str]) -> Child {
    let file = home.dir.path().join("pause");
    fs::write(&file, "").unwrap();
    let child = home
        .command()
        .args(args)
        .env("RUSTIC_HAPI_TEST_FAULT", "pause:hapi.db")
        .env("RUSTIC_HAPI_TEST_PAUSE", file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(1500));
    child
}

fn ended_by(child: &mut Child, signal: &str) {
    let pid = child.id().to_string();
    run("kill", &[signal.as_ref(), pid.as_ref()]);
    assert_eq!(child.wait().unwrap().code(), None, "{signal}");
}

/// Kills a command as soon as a run of this kind is marked.
fn killed_once_marked(home: &Home, mut command: Command, kind: &str) {
    let before = marks(home).len();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let is_marked = || {
        let marks = marks(home);
        marks.len() > before && marks.iter().any(|mark| mark["command"] == kind)
    };
    while !is_marked() {
        assert!(Instant::now() < end, "no mark of `{kind}`");
        thread::sleep(Duration::from_millis(1));
    }
    ended_by(&mut child, "-KILL");
}

fn status(home: &Home) -> Value {
    let said = home.hapi_command(&["status", "--json"]);
    let status = said.json();
    let left = status["never-ended"].as_array().unwrap().len();
    assert_eq!(left > 0, said.stderr.contains("never ended"), "{said:?}");
    status
}

fn never_ended(home: &Home) -> usize {
    status(home)["never-ended"].as_array().unwrap().len()
}

fn told(home: &Home) -> PathBuf {
    let file = home.dir.path().join("told");
    home.edit_profile(|text| {
        let command = format!("cat >> {}", file.display());
        format!("{text}\n[notify]\ncommand = {command:?}\n")
    });
    file
}

#[test]
fn a_run_that_a_signal_ended_is_told_once_and_shown_until_one_ends_well() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let file = told(&home);
    let signals = ["-QUIT", "-USR1", "-ALRM", "-XCPU", "-ABRT", "-KILL"];
    let mut times = Vec::new();
    for (n, signal) in signals.iter().enumerate() {
        home.change();
        let mut child = paused(&home, &["snapshot"]);
        ended_by(&mut child, signal);
        let status = status(&home);
        assert_eq!(status["never-ended"].as_array().unwrap().len(), n + 1);
        times.push(
            status["never-ended"][n]["time"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let doctor = home.hapi_command(&["doctor"]);
    assert!(doctor.stdout.contains("never ended"), "{doctor:?}");
    // All but the last were told by the run after them, though that never ended either.
    let messages = lines(file.clone());
    assert_eq!(messages.len(), 5, "{messages:?}");
    // A run that fails tells the last one, and it stays.
    let aside = home.dir.path().join("aside");
    fs::rename(home.repository(), &aside).unwrap();
    for _ in 0..2 {
        home.snapshot().exits(10);
    }
    fs::rename(&aside, home.repository()).unwrap();
    let outcomes = |messages: &[Value]| -> Vec<String> {
        let outcome = |m: &Value| m["outcome"].as_str().unwrap().to_owned();
        messages.iter().map(outcome).collect()
    };
    let messages = lines(file.clone())[5..].to_vec();
    assert_eq!(outcomes(&messages), ["anomaly", "failure", "failure"]);
    let text = messages[0]["text"].as_str().unwrap();
    let began = times[5].get(..19).unwrap().replace('T', " ");
    assert!(text.contains(&began), "{text} {began}");
    assert_eq!(messages[0]["command"], "snapshot");
    assert!(messages[1]["text"].as_str().unwrap().contains(&began));
    assert!(!messages[2]["text"].as_str().unwrap().contains(&began));
    assert_eq!(never_ended(&home), 6);
    // A dry run that ends well is no run that did, nor is a drill a snapshot.
    home.hapi_command(&["snapshot", "--dry-run"]).exits(0);
    home.drill(&[]).exits(0);
    assert_eq!(never_ended(&home), 6);
    home.snapshot().exits(0);
    assert_eq!(never_ended(&home), 0);
    assert!(marks(&home).is_empty());
    home.restic(&["check"]);
}

#[test]
fn the_next_run_says_it_on_standard_error_and_in_its_document() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    home.change();
    ended_by(&mut paused(&home, &["snapshot"]), "-KILL");
    let said = home.snapshot().exits(0);
    let warned = "warning: the `snapshot` that began ";
    assert!(said.stderr.contains(warned), "{said:?}");
    assert_eq!(said.stderr.matches("never ended").count(), 1, "{said:?}");
    assert_eq!(said.json()["never-ended"][0]["command"], "snapshot");
    let said = home.snapshot().exits(0);
    assert!(!said.stderr.contains("never ended"), "{said:?}");
    assert_eq!(said.json()["never-ended"], Value::Null);
}

#[test]
fn whoever_is_told_by_status_hears_of_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let file = told(&home);
    home.change();
    ended_by(&mut paused(&home, &["snapshot"]), "-KILL");
    for _ in 0..2 {
        let said = home.hapi_command(&["status", "--notify"]).exits(0);
        assert_eq!(said.stderr.matches("never ended").count(), 1, "{said:?}");
    }
    let messages = lines(file);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["outcome"], "anomaly");
}

#[test]
fn a_run_that_is_under_way_did_not_fail_to_end() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    home.change();
    let mut child = paused(&home, &["snapshot"]);
    assert_eq!(marks(&home).len(), 1);
    assert_eq!(never_ended(&home), 0);
    // Another one beside it, which may not begin.
    let said = home.hapi_command(&["snapshot", "--json"]).exits(11);
    assert!(!said.stderr.contains("never ended"), "{said:?}");
    assert_eq!(marks(&home).len(), 1);
    fs::remove_file(home.dir.path().join("pause")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((never_ended(&home), marks(&home).len()), (0, 0));
    // What asks for an end and gets one is on record.
    home.change();
    let mut child = paused(&home, &["snapshot"]);
    let pid = child.id().to_string();
    run("kill", &["-TERM".as_ref(), pid.as_ref()]);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!((never_ended(&home), marks(&home).len()), (0, 0));
    // A process that has the number of one that was killed is not that one.
    home.change();
    ended_by(&mut paused(&home, &["snapshot"]), "-KILL");
    let mark = fs::read_dir(home.state().join("begun")).unwrap().next();
    let mark = mark.unwrap().unwrap().path();
    let mut document: Value = serde_json::from_slice(&fs::read(&mark).unwrap()).unwrap();
    document["pid"] = std::process::id().into();
    fs::write(&mark, document.to_string()).unwrap();
    assert_eq!(never_ended(&home), 1);
}

#[test]
fn a_drill_and_a_prune_that_never_ended_are_told_and_a_dry_run_is_not() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    home.change();
    let killed = ["-s", "KILL", "0.4"];
    let said = home
        .through("timeout", &killed, &["snapshot", "--dry-run"])
        .output();
    drop(said.unwrap());
    assert_eq!((never_ended(&home), marks(&home).len()), (0, 0));
    let mut drill = home.command();
    drill.arg("drill");
    killed_once_marked(&home, drill, "drill");
    let mut snapshot = home.command();
    let later = (chrono::Local::now() + chrono::TimeDelta::days(9)).to_rfc3339();
    snapshot.arg("snapshot").env("RUSTIC_HAPI_TEST_NOW", &later);
    killed_once_marked(&home, snapshot, "prune");
    let status = home.at(&later, &["status", "--json"]).json();
    let kinds: Vec<_> = status["never-ended"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["command"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["drill", "prune"]);
    let later = (chrono::Local::now() + chrono::TimeDelta::days(10)).to_rfc3339();
    let said = home.at(&later, &["snapshot", "--json"]).exits(0);
    // Of the drill the run told that was killed while it pruned.
    assert_eq!(said.stderr.matches("never ended").count(), 1, "{said:?}");
    home.drill(&[]).exits(0);
    assert_eq!(never_ended(&home), 0);
}

#[test]
fn whatever_a_run_lacks_its_end_is_on_record_or_it_is_known_to_have_none() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    // Its processes are counted: nobody else's are to be among them.
    let owner = "54329";
    let user = [owner.as_ref(), home.dir.path().as_os_str()];
    run("chown", &["-R".as_ref(), user[0], user[1]]);
    let mut unheard = 0;
    for limit in [
        "--as=60000000",
        "--as=120000000",
        "--as=240000000",
        "--nproc=1",
        "--nproc=2",
        "--nproc=4",
        "--nproc=7",
        "--cpu=1:2",
        "--fsize=20000",
        "--fsize=1500",
        "--nofile=12",
        "--nofile=24",
    ] {
        home.change();
        run("chown", &["-R".as_ref(), user[0], user[1]]);
        let count = || records(&home).len() + marks(&home).len();
        let (before, recorded) = (count(), records(&home).len());
        let user = [
            limit,
            "setpriv",
            "--reuid",
            owner,
            "--regid",
            owner,
            "--clear-groups",
        ];
        let said = home.through("prlimit", &user, &["snapshot"]).output();
        let said = Said::from(said.unwrap());
        // One that ends well takes the marks of those before it away.
        if said.code == 0 {
            assert!(marks(&home).is_empty(), "{limit}: {said:?}");
            continue;
        }
        let is_known = count() > before;
        // With so little memory the program cannot be loaded.
        let never_began = said.stderr.contains("error while loading")
            || said.stderr.contains("failed to execute");
        assert!(is_known || never_began, "{limit}: {said:?}");
        unheard += usize::from(records(&home).len() == recorded);
        if limit.starts_with("--nproc=1") {
            assert!(said.stderr.contains("TasksMax="), "{said:?}");
            assert_eq!(records(&home).len(), recorded + 1, "{said:?}");
        }
    }
    eprintln!("{unheard} ended without a record");
    let user = ["--reuid", owner, "--regid", owner, "--clear-groups"];
    let said = home.through("setpriv", &user, &["snapshot"]).output();
    Said::from(said.unwrap()).exits(0);
    assert!(marks(&home).is_empty());
}
