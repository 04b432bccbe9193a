//! `doctor` lists the locks that the next run would wait for, and stock restic shows that what it names removes them.

use std::fs;
use std::process::{Command, Stdio};

use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Nonce};
use chrono::{Local, TimeDelta};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{Home, run};

/// A lock as restic writes it, which stock restic reads: so many minutes ahead, of a process on a host.
fn lock(home: &Home, minutes: i64, host: &str, pid: u32, exclusive: bool) {
    let time = (Local::now() + TimeDelta::minutes(minutes)).to_rfc3339();
    let lock = json!({
        "time": time, "exclusive": exclusive, "hostname": host, "username": "anna", "pid": pid,
        "uid": 0, "gid": 0,
    });
    let master = home.engine().key();
    let key = [&master.encrypt[..], &master.mac.k, &master.mac.r].concat();
    let cipher = Aes256CtrPoly1305Aes::new(aes256ctr_poly1305aes::Key::from_slice(&key));
    let nonce = [7; 16];
    let text = lock.to_string();
    let sealed = cipher.encrypt(Nonce::from_slice(&nonce), text.as_bytes());
    let stored = [nonce.as_slice(), &sealed.unwrap()].concat();
    let id = hex::encode(Sha256::digest(&stored));
    fs::write(home.repository().join("locks").join(&id), stored).unwrap();
    let read = home.restic(&["cat", "lock", &id, "--no-lock", "-q"]).json();
    assert_eq!(read["pid"], pid);
}

fn locks(home: &Home) -> usize {
    fs::read_dir(home.repository().join("locks"))
        .unwrap()
        .count()
}

fn findings(home: &Home) -> Vec<Value> {
    let said = home.hapi_command(&["doctor", "--json"]);
    let all = said.json()["findings"].as_array().unwrap().clone();
    all.into_iter()
        .filter(|f| f["subject"] == "locks")
        .collect()
}

fn text(finding: &Value) -> String {
    format!("{} {}", finding["fact"], finding["remedy"])
}

fn this_host() -> String {
    run("uname", &["-n".as_ref()]).stdout.trim().to_owned()
}

/// The number of a process that is gone.
fn gone() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

const AHEAD: i64 = 400 * 24 * 60;

#[test]
fn a_lock_of_the_future_is_listed_with_what_really_removes_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    assert_eq!(findings(&home)[0]["verdict"], "ok");
    // restic finds out with a SIGHUP whether a process is there.
    let mut other = Command::new("nohup")
        .args(["sleep", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (here, alive) = (this_host(), other.id());
    for (host, pid, exclusive, minutes) in [
        ("elsewhere", 4711, true, AHEAD),
        ("elsewhere", 4711, false, 60),
        (here.as_str(), alive, true, AHEAD),
    ] {
        lock(&home, minutes, host, pid, exclusive);
        let found = findings(&home);
        assert_eq!(found.len(), 1, "{found:?}");
        let verdict = if exclusive { "fail" } else { "warn" };
        assert_eq!(found[0]["verdict"], verdict);
        let text = text(&found[0]);
        let who = format!("anna@{host}, process {pid}");
        for part in [&who, "in the future", "restic unlock --remove-all"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.contains("(alive)"), pid == alive, "{text}");
        assert_eq!(text.contains("an exclusive lock"), exclusive, "{text}");
        if exclusive {
            let said = home
                .command()
                .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
                .args(["forget", "--prune"])
                .output()
                .unwrap();
            assert_eq!(said.status.code(), Some(11));
            let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(stderr.contains("restic unlock --remove-all"), "{stderr}");
        }
        home.restic(&["unlock"]);
        assert_eq!(locks(&home), 1, "`restic unlock` was enough: {text}");
        home.restic(&["unlock", "--remove-all"]);
        assert_eq!(locks(&home), 0);
        home.snapshot().exits(0);
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn of_a_process_that_is_gone_here_restic_unlock_is_enough() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    for (minutes, exclusive) in [(AHEAD, true), (AHEAD, false), (0, true), (-20, false)] {
        lock(&home, minutes, &this_host(), gone(), exclusive);
        let found = text(&findings(&home)[0]);
        assert!(found.contains("not on this machine any more"), "{found}");
        assert!(!found.contains("--remove-all"), "{found}");
        home.restic(&["unlock"]);
        assert_eq!(locks(&home), 0, "{found}");
    }
}

#[test]
fn all_are_listed_but_those_that_the_run_removes() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    lock(&home, AHEAD, "one", 1, false);
    lock(&home, 0, "two", 2, true);
    lock(&home, -31, "three", 3, true);
    let mut found: Vec<_> = findings(&home).iter().map(text).collect();
    found.sort_by_key(|text| text.contains("@two"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("anna@one") && found[1].contains("anna@two"));
    assert!(found[1].contains("wait for it"), "{found:?}");
    assert_eq!(locks(&home), 3, "doctor removes nothing");
}
