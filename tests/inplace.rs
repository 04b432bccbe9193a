//! `restore --in-place`: the hub's own files, against real processes that have them open.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use crate::common::{BusyHub, Home, sqlite3};

/// The newest snapshot's id of the main series.
fn snapshot(home: &Home) -> String {
    let said = home.snapshot().exits(0).json();
    let series = said["series"].as_array().unwrap();
    series.last().unwrap()["snapshot"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Folders with set-aside files beside the database.
fn set_aside(home: &Home) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(home.hapi(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".set-aside-"))
        .collect();
    found.sort();
    found
}

/// Runs the commands that the report names for it.
fn undo(said: &serde_json::Value) {
    let lines: Vec<&str> = said["undo"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let status = Command::new("sh")
        .args(["-ec", &lines.join("\n")])
        .status()
        .unwrap();
    assert!(status.success(), "{lines:?}");
}

#[test]
fn a_hub_that_runs_is_named_and_nothing_is_changed() {
    let home = Home::initialised();
    snapshot(&home);
    let hub = BusyHub::start(&home.database());
    let said = home
        .hapi_command(&["restore", "--in-place", "--yes"])
        .exits(1);
    assert!(
        said.stderr.contains(&format!("process {}", hub.pid())),
        "{said:?}"
    );
    assert!(said.stderr.contains("hint: "), "{said:?}");
    assert_eq!(set_aside(&home), Vec::<PathBuf>::new());

    // A dry run says who is in the way, and what would be replaced.
    let said = home
        .hapi_command(&["restore", "--in-place", "--dry-run"])
        .exits(0);
    assert!(
        said.stderr.contains(&format!("process {}", hub.pid())),
        "{said:?}"
    );
    assert!(said.stdout.contains("nothing was changed"), "{said:?}");
    // The hub was never disturbed.
    let beats = || {
        sqlite3(&home.database(), "SELECT count(*) FROM beats")
            .parse::<u64>()
            .unwrap()
    };
    let before = beats();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(beats() > before);
}

#[test]
fn rows_written_after_the_snapshot_do_not_come_back_from_a_stale_wal() {
    let home = Home::initialised();
    let id = snapshot(&home);
    let sessions = sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    let then = fs::metadata(home.database()).unwrap();
    // Killed, the hub leaves a hot WAL with rows that the snapshot does not have.
    BusyHub::start(&home.database()).kill();
    let wal = home.hapi("hapi.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0);

    let said = home
        .hapi_command(&["restore", &id[..8], "--in-place", "--json"])
        .exits(0)
        .json();
    assert!(!wal.exists());
    assert!(!home.hapi("hapi.db-shm").exists());
    assert_eq!(sqlite3(&home.database(), "PRAGMA integrity_check"), "ok");
    assert_eq!(
        sqlite3(&home.database(), "SELECT count(*) FROM sessions"),
        sessions
    );
    assert_eq!(
        sqlite3(
            &home.database(),
            "SELECT count(*) FROM sqlite_schema WHERE name = 'beats'"
        ),
        "0"
    );
    let now = fs::metadata(home.database()).unwrap();
    assert_eq!(
        (now.mode(), now.uid(), now.gid()),
        (then.mode(), then.uid(), then.gid())
    );

    // The old files are together, with what was in the WAL.
    let aside = PathBuf::from(said["files"][0]["set-aside"].as_str().unwrap());
    assert_eq!(fs::metadata(&aside).unwrap().mode() & 0o777, 0o700);
    let copy = tempfile::tempdir().unwrap();
    for name in ["hapi.db", "hapi.db-wal"] {
        fs::copy(aside.join(name), copy.path().join(name)).unwrap();
    }
    let beats = sqlite3(&copy.path().join("hapi.db"), "SELECT count(*) FROM beats");
    assert_ne!(beats, "0");

    // And back again, as it was.
    undo(&said);
    assert_eq!(
        sqlite3(&home.database(), "SELECT count(*) FROM beats"),
        beats
    );
    home.snapshot().exits(0);
}

#[test]
fn an_emptied_database_is_told_and_the_one_before_it_comes_back() {
    let home = Home::initialised();
    let sound = snapshot(&home);
    let messages = sqlite3(&home.database(), "SELECT count(*) FROM messages");
    sqlite3(&home.database(), "DELETE FROM messages");
    home.snapshot();
    let said = home
        .hapi_command(&["restore", "--in-place", "--dry-run"])
        .exits(0);
    assert!(said.stderr.contains("far less"), "{said:?}");
    assert!(said.stderr.contains(&sound[..8]), "{said:?}");
    home.hapi_command(&["restore", &sound[..8], "--in-place"])
        .exits(0);
    assert_eq!(
        sqlite3(&home.database(), "SELECT count(*) FROM messages"),
        messages
    );
}

#[test]
fn a_new_machine_has_nothing_to_set_aside() {
    let home = Home::initialised();
    snapshot(&home);
    let sessions = sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    let folder = fs::metadata(home.hapi("")).unwrap();
    fs::remove_dir_all(home.hapi("")).unwrap();
    let identity = home.dir.path().join("identity.txt");
    let said = home
        .hapi_command(&["restore", "--in-place", "--yes", "--json"])
        .exits(0)
        .json();
    assert_eq!(said["files"][0]["set-aside"], serde_json::Value::Null);
    assert_eq!(
        sqlite3(&home.database(), "SELECT count(*) FROM sessions"),
        sessions
    );
    assert_eq!(fs::metadata(home.hapi("")).unwrap().mode(), folder.mode());

    // Secrets come in plain only with an identity, and 0600.
    let said = home
        .hapi_command(&["restore", "--in-place", "--yes", "--source", "hub.env"])
        .exits(2);
    assert!(said.stderr.contains("--identity"), "{said:?}");
    assert!(!home.hapi("hub.env").exists());
    home.hapi_command(&[
        "restore",
        "--in-place",
        "--yes",
        "--source",
        "hub.env",
        "--identity",
        identity.to_str().unwrap(),
    ])
    .exits(0);
    let text = fs::read_to_string(home.hapi("hub.env")).unwrap();
    assert!(
        crate::common::CANARIES
            .iter()
            .all(|canary| text.contains(canary))
    );
    assert_eq!(
        fs::metadata(home.hapi("hub.env")).unwrap().mode() & 0o777,
        0o600
    );
    assert!(!home.hapi("hub.env.age").exists());
}

#[test]
fn one_file_of_last_week_comes_back_and_the_one_of_today_stays_beside_it() {
    let home = Home::initialised();
    let id = snapshot(&home);
    let real = home.path().join("coding/hapi/driver-manifest.yaml");
    let then = fs::read(&real).unwrap();
    fs::write(&real, "drivers: []\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let args = [
        "restore",
        &id[..8],
        "--in-place",
        "--source",
        "driver-manifest",
        "--json",
    ];
    let said = home.hapi_command(&args).exits(0).json();
    assert_eq!(fs::read(&real).unwrap(), then);
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    // The link that the hub reads it by is still one.
    let link = home.path().join(".config/hapi/driver-manifest.yaml");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let aside = said["files"][0]["set-aside"].as_str().unwrap();
    assert_eq!(fs::read_to_string(aside).unwrap(), "drivers: []\n");

    // Once more there is nothing to do.
    let again = home.hapi_command(&args).exits(0).json();
    assert_eq!(again["files"][0]["already"], true);
    undo(&said);
    assert_eq!(fs::read_to_string(&real).unwrap(), "drivers: []\n");
}

#[test]
fn a_repository_that_lies_changes_nothing() {
    let home = Home::initialised();
    snapshot(&home);
    let before = fs::read(home.database()).unwrap();
    // All data packs get other bytes in the middle.
    for entry in walk(&home.repository().join("data")) {
        let mut bytes = fs::read(&entry).unwrap();
        let third = bytes.len() / 3;
        bytes[third] ^= 0xff;
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&entry, bytes).unwrap();
    }
    let said = home.hapi_command(&["restore", "--in-place", "--yes"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(fs::read(home.database()).unwrap(), before);
    assert_eq!(set_aside(&home), Vec::<PathBuf>::new());
    let left: Vec<_> = fs::read_dir(home.hapi(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("restoring"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn what_fails_half_way_is_put_back_and_nothing_plain_is_left() {
    let home = Home::initialised();
    snapshot(&home);
    let identity = home.dir.path().join("identity.txt");
    sqlite3(&home.database(), "CREATE TABLE since(n)");
    let both = |fault: &str| {
        let mut command = home.command();
        if !fault.is_empty() {
            command.env("RUSTIC_HAPI_TEST_FAULT", fault);
        }
        command
            .args([
                "restore",
                "--in-place",
                "--yes",
                "--source",
                "hapi.db",
                "--source",
                "hub.env",
            ])
            .args(["--identity", identity.to_str().unwrap()])
            .output()
            .map(crate::common::Said::from)
            .unwrap()
    };
    // Something that is not a file is where a file is to be: known before anything is replaced.
    let env = home.hapi("hub.env");
    let live = fs::read(&env).unwrap();
    fs::remove_file(&env).unwrap();
    fs::create_dir(&env).unwrap();
    let said = both("").exits(2);
    assert!(said.stderr.contains("is not a file"), "{said:?}");
    assert_eq!(sqlite3(&home.database(), "SELECT count(*) FROM since"), "0");
    assert_eq!(set_aside(&home), Vec::<PathBuf>::new());
    fs::remove_dir(&env).unwrap();
    fs::write(&env, [live, b"LATER=1\n".to_vec()].concat()).unwrap();

    // Killed in the middle, a secret lies about in plain: until the next run.
    both("swap:linked");
    both("").exits(0);
    for entry in fs::read_dir(home.hapi("")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.contains("restoring"), "{name}");
    }
    assert!(!fs::read_to_string(&env).unwrap().contains("LATER"));
}

#[test]
fn a_link_that_leads_nowhere_is_left_and_a_folder_comes_back_whole() {
    let home = Home::initialised();
    let voice = home.path().join("voice-test-output");
    std::os::unix::fs::symlink("results.json", voice.join("latest")).unwrap();
    snapshot(&home);
    let link = home.path().join(".config/hapi/driver-manifest.yaml");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/nonexistent/m.yaml", &link).unwrap();
    let said = home
        .hapi_command(&[
            "restore",
            "--in-place",
            "--yes",
            "--source",
            "driver-manifest",
        ])
        .exits(2);
    assert!(said.stderr.contains("leads nowhere"), "{said:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    let before = fs::metadata(&voice).unwrap();
    fs::remove_dir_all(&voice).unwrap();
    home.hapi_command(&[
        "restore",
        "--in-place",
        "--yes",
        "--source",
        "voice-test-output",
    ])
    .exits(0);
    assert!(voice.join("empty").is_dir());
    assert_eq!(
        fs::read_link(voice.join("latest")).unwrap(),
        PathBuf::from("results.json")
    );
    assert_eq!(fs::metadata(&voice).unwrap().mode(), before.mode());
}

#[test]
fn on_a_new_machine_files_belong_to_whoever_has_the_folder() {
    let home = Home::initialised();
    let owner = |path: &std::path::Path, id: u32| {
        std::os::unix::fs::chown(path, Some(id), Some(id)).unwrap();
    };
    owner(&home.path(), 65534);
    snapshot(&home);
    fs::remove_dir_all(home.hapi("")).unwrap();
    fs::remove_dir_all(home.path().join("voice-test-output")).unwrap();
    owner(&home.path(), 1234);
    home.hapi_command(&["restore", "--in-place", "--yes"])
        .exits(0);
    for path in [home.hapi(""), home.database()] {
        assert_eq!(
            fs::metadata(&path).unwrap().uid(),
            1234,
            "{}",
            path.display()
        );
    }
    // The same again is nothing to do, and no second copy is set aside.
    let again = home
        .hapi_command(&["restore", "--in-place", "--yes", "--json"])
        .exits(0)
        .json();
    assert_eq!(again["files"][0]["already"], true);
    assert_eq!(set_aside(&home), Vec::<PathBuf>::new());
}

#[test]
fn a_source_that_no_snapshot_holds_is_told_and_the_others_stay() {
    let home = Home::initialised();
    home.hapi_command(&["snapshot", "--only", "hapi.db"])
        .exits(0);
    sqlite3(&home.database(), "CREATE TABLE since(n)");
    let said = home
        .hapi_command(&[
            "restore",
            "--in-place",
            "--yes",
            "--source",
            "hapi.db",
            "--source",
            "driver-manifest",
        ])
        .exits(1);
    assert!(
        said.stderr
            .contains("no snapshot has anything of `driver-manifest`"),
        "{said:?}"
    );
    assert_eq!(sqlite3(&home.database(), "SELECT count(*) FROM since"), "0");
}

#[test]
fn an_idle_hub_without_a_wal_may_be_out_of_sight_and_that_is_said() {
    let home = Home::initialised();
    snapshot(&home);
    let dry_run = || {
        home.hapi_command(&["restore", "--in-place", "--dry-run"])
            .exits(0)
    };
    sqlite3(&home.database(), "PRAGMA journal_mode = WAL");
    assert!(!dry_run().stderr.contains("rollback-journal mode"));
    sqlite3(&home.database(), "PRAGMA journal_mode = DELETE");
    assert!(dry_run().stderr.contains("rollback-journal mode"));
}

#[test]
fn what_the_settings_lost_is_no_doubt_of_the_database() {
    let home = Home::initialised();
    snapshot(&home);
    fs::write(home.hapi("settings.json"), "{}").unwrap();
    home.change();
    let shrunk = snapshot(&home);
    let into = home.dir.path().join("into");
    for said in [
        home.restore(&into, &[]),
        home.hapi_command(&["drill"]),
        home.hapi_command(&["sessions"]),
        home.hapi_command(&["restore", "--in-place", "--yes", "--source", "hapi.db"]),
    ] {
        let said = said.exits(0);
        assert!(!said.stderr.contains("hapi.db` comes"), "{said:?}");
        assert!(
            !said.stderr.contains("the newest snapshot of `hapi.db`"),
            "{said:?}"
        );
    }
    let said = home
        .hapi_command(&["restore", "--in-place", "--yes"])
        .exits(0);
    let told = format!("the snapshot {} ", &shrunk[..8]);
    let comes = "`settings.json` comes from the last good one";
    assert!(
        said.stderr.contains(&told) && said.stderr.contains(comes),
        "{said:?}"
    );
}
