//! Small things that mislead: a word, a place, a call that was mistyped.

use std::fs;

use serde_json::Value;

use crate::common::sqlite3;
use crate::evenings::{Evening, suggested};

#[test]
fn what_was_mistyped_is_no_run() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let told = home.dir.path().join("told");
    let line = format!("\n[notify]\ncommand = \"cat >> {}\"\n", told.display());
    home.edit_profile(|text| text + &line);
    home.snapshot().exits(0);
    let before = fs::read_to_string(&told).unwrap();
    for wrong in [
        &["snapshot", "--only", "nonsense"][..],
        &["snapshot", "--tag", "a,b"],
        &["snapshot", "--keep", "60d"],
    ] {
        evening.says(wrong).exits(2);
    }
    assert_eq!(fs::read_to_string(&told).unwrap(), before);
    let status = evening.says(&["status", "--json"]).json();
    assert_eq!(status["last-run"]["exit"], 0, "{status}");
}

#[test]
fn a_snapshot_of_one_source_is_not_called_complete() {
    let evening = Evening::of_root();
    let said = evening.says(&["snapshot", "--only", "hapi.db"]).exits(0);
    assert!(said.stdout.contains("only hapi.db"), "{said:?}");
    assert!(!said.stdout.contains("complete"), "{said:?}");
    let said = evening.says(&["-v", "snapshot", "--only", "hapi.db"]);
    assert!(said.stdout.contains("only hapi.db"), "{said:?}");
}

#[test]
fn each_line_of_a_json_log_is_json() {
    let evening = Evening::of_root();
    let said = evening
        .says(&["--log-format", "json", "-v", "snapshot"])
        .exits(0);
    for line in said.stdout.lines().chain(said.stderr.lines()) {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "{line}");
    }
}

#[test]
fn a_page_that_was_filled_in_is_not_written_over() {
    let evening = Evening::of_root();
    let page = evening.home.dir.path().join("kit.md");
    let call = ["recovery-kit", "--output", page.to_str().unwrap()];
    evening.says(&call).exits(0);
    let filled = fs::read_to_string(&page)
        .unwrap()
        .replace("____", "the safe");
    fs::write(&page, &filled).unwrap();
    evening.says(&call).exits(2);
    assert_eq!(fs::read_to_string(&page).unwrap(), filled);
}

#[test]
fn a_timer_that_calls_what_is_gone_fails_the_doctor() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["schedule", "--install"]);
    let finding = || {
        let said = evening.says(&["doctor", "--json"]).json();
        let all = said["findings"].as_array().unwrap().clone();
        all.into_iter()
            .find(|f| f["subject"] == "schedule")
            .unwrap()
    };
    let service = home
        .path()
        .join(".config/systemd/user/rustic-hapi-hapi.service");
    let there = fs::read_to_string(&service).unwrap();
    assert!(there.contains("snapshot --drill\n"), "{there}");
    let profile = home.profile();
    let gone = profile.with_file_name("before.toml");
    let moved = there.replace(profile.to_str().unwrap(), gone.to_str().unwrap());
    fs::write(&service, moved).unwrap();
    let found = finding();
    assert_eq!(found["verdict"], "fail", "{found}");
    assert!(found["fact"].as_str().unwrap().contains("before.toml"));
}

#[test]
fn a_timer_drills_once_a_week_after_its_snapshot() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let drills = || {
        let text = fs::read_to_string(home.state().join("drills.jsonl"));
        text.unwrap_or_default().lines().count()
    };
    let said = evening.says(&["snapshot", "--drill"]).exits(0);
    assert!(said.stdout.contains("proven"), "{said:?}");
    assert_eq!(drills(), 1);
    evening.says(&["-q", "snapshot", "--drill"]).exits(0);
    assert_eq!(drills(), 1);
    home.change();
    home.at("2037-01-01T06:00:00Z", &["-q", "snapshot", "--drill"]);
    assert_eq!(drills(), 2);
}

#[test]
fn a_password_in_a_variable_opens_where_nothing_else_says() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let password = fs::read_to_string(home.password()).unwrap();
    // The profile names no file, and the usual one is there: it counts, and that is said.
    let mut command = home.command();
    command.env("RESTIC_PASSWORD", "another").arg("snapshots");
    let said: crate::common::Said = command.output().unwrap().into();
    let said = said.exits(0);
    assert!(
        said.stderr.contains("RESTIC_PASSWORD is not used"),
        "{said:?}"
    );
    fs::remove_file(home.password()).unwrap();
    home.edit_profile(|text| {
        let of_it = |line: &&str| !line.starts_with("password-file");
        text.lines().filter(of_it).collect::<Vec<_>>().join("\n")
    });
    let with = |args: &[&str]| -> crate::common::Said {
        let mut command = home.command();
        command.env("RESTIC_PASSWORD", password.trim()).args(args);
        command.output().unwrap().into()
    };
    with(&["snapshot"]).exits(0);
    let said = with(&["schedule", "--install"]).exits(2);
    assert!(said.stderr.contains("RESTIC_PASSWORD"), "{said:?}");
    // `init` puts it where a timer finds it.
    with(&["init"]).exits(0);
    assert_eq!(fs::read_to_string(home.password()).unwrap(), password);
    home.snapshot().exits(0);
    assert_eq!(
        sqlite3(&home.database(), "SELECT count(*) > 0 FROM sessions"),
        "1"
    );
}

#[test]
fn a_source_that_was_never_captured_is_not_different() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    fs::write(home.path().join("notes"), "text").unwrap();
    let row = "[[source]]\nname = \"notes\"\npath = \"~/notes\"\nkind = \"file\"\n";
    home.edit_profile(|text| format!("{text}\n{row}"));
    let said = evening.says(&["drill"]).exits(21);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("NOT WHOLE"), "{said:?}");
    assert!(all.contains("notes: it is in no snapshot"), "{said:?}");
    for lie in ["DIFFERENT", "check --read-data", "--older"] {
        assert!(!all.contains(lie), "{lie}: {said:?}");
    }
    evening.followed(&said, &[]).pop().unwrap().exits(0);
    evening.says(&["drill"]).exits(0);
}

#[test]
fn a_database_that_is_gone_is_brought_back_and_not_left_out() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let count = || sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    let before = count();
    for end in ["", "-wal", "-shm"] {
        _ = fs::remove_file(format!("{}{end}", home.database().display()));
    }
    let said = evening.says(&["snapshot"]).exits(3);
    // What it names first needs a yes, and says so.
    let said = evening.follows(&suggested(&said)[0], &[]).exits(2);
    evening.follows(&suggested(&said)[0], &[]).exits(0);
    assert_eq!(count(), before);
    evening.says(&["snapshot"]).exits(0);
}

#[test]
fn a_mistyped_profile_is_told_which_there_are() {
    let evening = Evening::of_root();
    let said = evening.says(&["--profile", "hapii", "status"]).exits(2);
    assert!(
        said.stderr.contains("there are the profiles `hapi`"),
        "{said:?}"
    );
}
