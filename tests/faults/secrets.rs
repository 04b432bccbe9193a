//! The plaintext of a secret is nowhere but where it lives: looked for in every file, in the whole of the
//! repository, and in the arguments and the environment of every process, while all commands run,
//! fail and are killed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, CANARIES, Home, Said, files_with};
use crate::dice::{Dice, rounds};

/// Looks through all processes' arguments and environments, again and again, until it is asked what it
/// found.
struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<BTreeSet<String>>>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(BTreeSet::new()));
        let (told, tell) = (Arc::clone(&stop), Arc::clone(&found));
        let thread = thread::spawn(move || {
            let mut looks = 0;
            while !told.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    for what in ["cmdline", "environ"] {
                        let Ok(bytes) = fs::read(entry.path().join(what)) else {
                            continue;
                        };
                        if holds_one(&bytes) {
                            let path = entry.path().join(what);
                            tell.lock().unwrap().insert(path.display().to_string());
                        }
                    }
                }
                looks += 1;
                thread::sleep(Duration::from_millis(2));
            }
            looks
        });
        Self {
            stop,
            found,
            thread: Some(thread),
        }
    }

    /// What was found, and how often it was looked for.
    fn end(mut self) -> (BTreeSet<String>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let looks = self.thread.take().unwrap().join().unwrap();
        (self.found.lock().unwrap().clone(), looks)
    }
}

fn holds_one(bytes: &[u8]) -> bool {
    CANARIES
        .iter()
        .any(|canary| bytes.windows(canary.len()).any(|w| w == canary.as_bytes()))
}

/// Every file below these folders that holds a canary, the live secrets aside.
fn quoted_in(home: &Home, folders: &[&Path]) -> BTreeSet<PathBuf> {
    let live = home.hapi("hub.env");
    folders
        .iter()
        .flat_map(|folder| CANARIES.map(|canary| files_with(folder, canary)))
        .flatten()
        .filter(|path| *path != live)
        .collect()
}

/// The search finds what is planted; beside the real one it would find this.
fn the_search_finds_one() {
    let home = Home::new();
    let planted = home.state().join("deep/down/log");
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    fs::write(&planted, format!("x{}\n", CANARIES[1])).unwrap();
    assert_eq!(
        quoted_in(&home, &[home.dir.path()]),
        BTreeSet::from([planted])
    );
    for in_environment in [false, true] {
        let watch = Watch::start();
        let mut command = Command::new("sh");
        match in_environment {
            true => command.args(["-c", "sleep 0.1"]).env("KEY", CANARIES[0]),
            false => command.args(["-c", "sleep 0.1", CANARIES[0]]),
        };
        assert!(command.status().unwrap().success());
        let (found, _) = watch.end();
        assert!(!found.is_empty(), "in the environment: {in_environment}");
    }
}

#[test]
fn no_secret_is_anywhere_after_all_commands_failures_and_kills() {
    let mut dice = Dice::new("secrets");
    the_search_finds_one();
    let home = Home::new();
    let dir = home.dir.path();
    let watch = Watch::start();
    let mut heard: Vec<(String, Said)> = Vec::new();
    let mut hear = |what: &str, said: Said| heard.push((what.to_owned(), said));

    hear("init", home.init());
    home.cheapen();
    let told = dir.join("told");
    let script = dir.join("tell.sh");
    fs::write(
        &script,
        format!("#!/bin/sh\ncat >> {}\nenv >> {0}\n", told.display()),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let metrics = dir.join("metrics.prom");
    home.edit_profile(|text| {
        format!("{text}\n[notify]\ncommand = {script:?}\n\n[metrics]\ntextfile = {metrics:?}\n")
    });
    let hub = BusyHub::start(&home.database());
    let ours = |args: &[&str]| -> Said {
        let mut all = args.to_vec();
        all.push("-v");
        home.hapi_command(&all)
    };
    let target = dir.join("target");
    let key = home.identity();
    let (target_text, key_text) = (target.to_str().unwrap(), key.to_str().unwrap());
    let kit = dir.join("kit.md");
    let all: [&[&str]; 18] = [
        &["doctor"],
        &["snapshot"],
        &["snapshot", "--json"],
        &["snapshot", "--dry-run"],
        &["snapshot", "--only", "hub.env"],
        &["snapshots", "--json"],
        &["status"],
        &["status", "--markdown"],
        &["drill", "--json"],
        &["drill", "--identity", key_text],
        &["restore", "--target", target_text],
        &["check", "--read-data"],
        &["forget"],
        &["forget", "--prune"],
        &["schedule", "--cron"],
        &["env", "--with-credentials"],
        &["recovery-kit", "--output", kit.to_str().unwrap()],
        &["profile", "show"],
    ];
    for args in all {
        let said = ours(args);
        // `doctor` finds that the repository is on the same disk.
        let well = said.code == 0 || args[0] == "doctor" && said.code == 1;
        assert!(well, "{args:?}: {said:?}");
        hear(&args.join(" "), said);
    }
    fs::remove_dir_all(&target).unwrap();
    // What fails.
    let env = home.hapi("hub.env");
    let text = fs::read(&env).unwrap();
    for broken in [
        [&text[..], &[0xff, 0xfe, b'\n'][..]].concat(),
        [&text[..], b"UNFINISHED='"].concat(),
        text.iter().copied().cycle().take(20_000_000).collect(),
    ] {
        fs::write(&env, broken).unwrap();
        hear("snapshot of a broken secret", ours(&["snapshot", "--all"]));
    }
    fs::write(&env, &text).unwrap();
    let whole = fs::read_to_string(home.profile()).unwrap();
    home.edit_profile(|text| text.replace("age1", "age1q"));
    hear("a wrong recipient", ours(&["snapshot"]));
    home.edit_profile(|_| whole.replace("[secrets]\n", "[secrets]\nAPI_KEY = 1\n"));
    hear("a key that is none", ours(&["snapshot"]));
    home.edit_profile(|_| whole.clone());
    let password = fs::read(home.password()).unwrap();
    fs::write(home.password(), "another\n").unwrap();
    hear("a wrong password", ours(&["snapshot"]));
    fs::write(home.password(), password).unwrap();

    // And kills, at each step of a run that encrypts anew.
    let longest = {
        let begun = Instant::now();
        hear("snapshot", ours(&["snapshot", "--all"]));
        begun.elapsed()
    };
    let steps = rounds(8).max(4);
    for step in 0..steps {
        fs::write(
            &env,
            [&text[..], format!("ROUND={step}\n").as_bytes()].concat(),
        )
        .unwrap();
        let mut command = home.command();
        command.args(["snapshot", "--all", "-v"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let share =
            f64::from(u32::try_from(step).unwrap()) / f64::from(u32::try_from(steps).unwrap());
        thread::sleep(longest.mul_f64(share) + dice.moment(longest.div_f64(12.0)));
        child.kill().unwrap();
        hear("a killed run", child.wait_with_output().unwrap().into());
        assert_eq!(
            quoted_in(&home, &[dir]),
            BTreeSet::new(),
            "after a kill at {share}"
        );
    }
    drop(hub);
    hear("snapshot", ours(&["snapshot"]).exits(0));

    // All of them ran, and none panicked.
    for (what, said) in &heard {
        assert_ne!(said.code, 101, "{what}: {said:?}");
        assert!(
            said.code != 2 || what == "a wrong recipient" || what == "a key that is none",
            "{what}: {said:?}"
        );
        let output = [said.stdout.as_bytes(), said.stderr.as_bytes()].concat();
        assert!(!holds_one(&output), "{what}");
    }
    assert!(fs::read_to_string(&told).unwrap().contains("snapshot"));
    assert!(metrics.exists() && kit.exists());

    // The repository restored whole, as somebody with the password can: each snapshot of it.
    let whole = dir.join("whole");
    for (nth, snapshot) in home.restic_snapshots().iter().enumerate() {
        let into = whole.join(nth.to_string());
        let id = snapshot["id"].as_str().unwrap();
        home.restic(&["restore", "-q", id, "--target", into.to_str().unwrap()]);
    }
    assert!(files_with(&whole, "age-encryption.org").len() > 1);
    assert_eq!(quoted_in(&home, &[dir]), BTreeSet::new());
    let (found, looks) = watch.end();
    assert_eq!(found, BTreeSet::new(), "processes that hold a secret");
    println!(
        "{} commands, {steps} of them killed; {looks} looks at all processes: no secret",
        heard.len()
    );
}
