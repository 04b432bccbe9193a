//! Live files that a run must not open, or not as this user: a WAL that lost its database, a database
//! under another name, side files that would lock the hub out.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{BusyHub, Home, Said, run, sqlite3};
use serde_json::Value;

/// A hub that was killed with rows in its WAL, and an accident that emptied or removed the database.
fn accident(home: &Home, gone: bool) -> Vec<u8> {
    BusyHub::start(&home.database()).kill();
    let wal = fs::read(home.hapi("hapi.db-wal")).unwrap();
    match gone {
        true => fs::remove_file(home.database()).unwrap(),
        false => fs::write(home.database(), "").unwrap(),
    }
    wal
}

fn main_series(said: &Said) -> Value {
    let series = said.json()["series"].as_array().unwrap().clone();
    series.into_iter().find(|s| s["name"] == "hapi").unwrap()
}

#[test]
fn a_wal_that_lost_its_database_is_left_alone_kept_and_pinned() {
    for gone in [false, true] {
        let home = Home::initialised();
        home.snapshot().exits(0);
        let page_one = fs::read(home.database()).unwrap();
        let wal = accident(&home, gone);
        let untouched = || {
            assert!(fs::read(home.hapi("hapi.db-wal")).unwrap() == wal);
            assert_eq!(home.database().exists(), !gone);
        };
        let said = home.hapi_command(&["doctor", "--json"]).exits(1);
        let line = said.json()["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["subject"] == "source hapi.db")
            .unwrap()
            .to_string();
        assert!(
            line.contains("hapi.db-wal") && line.contains("do not start the hub"),
            "{line}"
        );
        untouched();
        for command in [
            &["status"][..],
            &["drill"],
            &["check"],
            &["profile", "check"],
        ] {
            home.hapi_command(command);
            untouched();
        }

        let said = home.snapshot().exits(3);
        assert!(said.stderr.contains("do not start the hub"), "{said:?}");
        untouched();
        let series = main_series(&said);
        assert!(
            series["tags"].to_string().contains("wal-kept"),
            "{series:#}"
        );
        let id = series["snapshot"].as_str().unwrap().to_owned();
        let kept = home.hapi("hapi.db-wal.kept");
        assert!(home.dump("hapi", &kept) == wal);
        // Both it and the last sound one stay, however old they get.
        let plan = |home: &Home| {
            home.at("2027-06-01T06:00:00Z", &["forget", "--dry-run", "--json"])
                .exits(0)
                .stdout
        };
        let reasons = plan(&home);
        assert!(reasons.contains("lost its database"), "{reasons}");
        assert!(
            reasons.contains("last good one before wal-kept"),
            "{reasons}"
        );
        // It is never put beside a database, and comes into a folder as what it is.
        let target = home.dir.path().join("restored");
        let source = ["--source", "hapi.db", &id[..8]];
        home.restore(&target, &source).exits(3);
        let below = |path: &Path| target.join(path.strip_prefix("/").unwrap());
        assert!(fs::read(below(&kept)).unwrap() == wal);
        assert!(!below(&home.database()).exists());
        let drilled = home.drill(&[&id[..8]]).exits(21);
        assert!(drilled.stdout.contains("NOT WHOLE"), "{drilled:?}");
        let named = [&["restore", "--in-place"], &source[..]].concat();
        assert_ne!(home.hapi_command(&named).code, 0);
        untouched();

        // The remedy: what the last snapshot has comes back, the WAL is set aside, and together with an
        // older page 1 it is everything there was.
        let said = home
            .hapi_command(&["restore", "--in-place", "--yes"])
            .exits(0);
        assert!(!home.hapi("hapi.db-wal").exists(), "{said:?}");
        assert!(
            said.stderr.contains("do not open the database beside it"),
            "{said:?}"
        );
        assert_eq!(sqlite3(&home.database(), "PRAGMA integrity_check"), "ok");
        let aside = fs::read_dir(home.hapi(""))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(".set-aside-"))
            .unwrap();
        assert!(fs::read(aside.join("hapi.db-wal")).unwrap() == wal);
        let trial = home.dir.path().join("trial.db");
        fs::write(&trial, page_one).unwrap();
        fs::write(home.dir.path().join("trial.db-wal"), &wal).unwrap();
        let beats = sqlite3(&trial, "SELECT count(*) > 10 FROM beats");
        assert_eq!(beats, "1");
        home.snapshot().exits(0);

        home.edit_profile(|text| {
            format!("{text}\n[retention]\nacknowledged = [\"{}\"]\n", &id[..8])
        });
        assert!(!plan(&home).contains("before wal-kept"), "acknowledged");
    }
}

#[test]
fn an_empty_database_is_never_complete() {
    let home = Home::initialised();
    fs::write(home.database(), "").unwrap();
    for side in ["-wal", "-shm"] {
        _ = fs::remove_file(home.hapi(&format!("hapi.db{side}")));
    }
    let said = home.snapshot().exits(3);
    assert!(said.stderr.contains("is empty"), "{said:?}");
    assert_eq!(home.hapi_command(&["doctor"]).code, 1);
}

/// A hub in a mount namespace of its own that sees the database alone, as a container does to which the
/// file is given.
fn contained(home: &Home) -> Child {
    let data = home.dir.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("hapi.db"), "").unwrap();
    let script = r#"
mount --bind "$1" "$2" && exec python3 -c '
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE IF NOT EXISTS beats (n INTEGER PRIMARY KEY)")
for n in range(500): db.execute("INSERT INTO beats VALUES (?)", (n,))
print("ready", flush=True)
time.sleep(600)
' "$2""#;
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([home.database(), data.join("hapi.db")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0u8; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_database_that_a_container_has_under_another_name_is_no_complete_snapshot() {
    let home = Home::initialised();
    let hub = contained(&home);
    let other = home.dir.path().join("data/hapi.db-wal");
    let said = home.snapshot().exits(3);
    assert!(
        said.stderr.contains("in use under another name"),
        "{said:?}"
    );
    assert!(said.stderr.contains(other.to_str().unwrap()), "{said:?}");
    assert!(
        said.stderr.contains("the folder, never the database alone"),
        "{said:?}"
    );
    let doctor = home.hapi_command(&["doctor"]).exits(1);
    assert!(
        doctor.stdout.contains("in use under another name"),
        "{doctor:?}"
    );

    // Another user sees no open files of the hub's, but its lock.
    give(&home, 54_321);
    let said = as_user(&home, 54_321, 54_321, &[], &["snapshot", "--json"]).exits(3);
    assert!(
        said.stderr.contains("in use under another name"),
        "{said:?}"
    );
    end(hub);
}

#[test]
fn a_second_link_is_a_warning_once() {
    let home = Home::initialised();
    fs::hard_link(home.database(), home.dir.path().join("copy.db")).unwrap();
    let first = home.snapshot().exits(0);
    assert!(first.stderr.contains("2 hard links"), "{first:?}");
    home.change();
    let second = home.snapshot().exits(0);
    assert!(!second.stderr.contains("hard links"), "{second:?}");
}

/// Home and repository are this user's.
fn give(home: &Home, user: u32) {
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in [home.path(), home.repository()] {
        let owner = format!("{user}:{user}");
        run(
            "chown",
            &["-R".as_ref(), owner.as_ref(), folder.as_os_str()],
        );
    }
}

fn as_user(home: &Home, user: u32, group: u32, groups: &[u32], args: &[&str]) -> Said {
    let groups = match groups {
        [] => "--clear-groups".to_owned(),
        some => {
            let some: Vec<_> = some.iter().map(u32::to_string).collect();
            format!("--groups={}", some.join(","))
        }
    };
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    home.through("setpriv", &[&user, &group, &groups], args)
        .output()
        .unwrap()
        .into()
}

#[test]
fn no_run_makes_side_files_that_the_hub_cannot_write() {
    const HUB: u32 = 54_321;
    const BACKUP: u32 = 54_322;
    // Mode of the folder and of the database, the run's group and further groups, whether it may.
    let cases = [
        (0o777, 0o644, BACKUP, &[][..], false),
        (0o775, 0o664, HUB, &[], true),
        (0o775, 0o664, BACKUP, &[HUB], false),
        (0o2775, 0o664, BACKUP, &[HUB], true),
        (0o2775, 0o644, BACKUP, &[HUB], false),
    ];
    for (folder, mode, group, groups, allowed) in cases {
        let case = format!("{folder:o} {mode:o} {group} {groups:?}");
        let home = Home::initialised();
        give(&home, BACKUP);
        // The hub was stopped, and closed its database.
        sqlite3(&home.database(), "PRAGMA wal_checkpoint(TRUNCATE)");
        for side in ["-wal", "-shm"] {
            _ = fs::remove_file(home.hapi(&format!("hapi.db{side}")));
        }
        for path in [home.hapi(""), home.database()] {
            chown(&path, Some(HUB), Some(HUB)).unwrap();
        }
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&home.hapi(""), folder);
        set(&home.database(), mode);
        let doctor = as_user(&home, BACKUP, group, groups, &["doctor", "--json"]).json();
        let line = doctor["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["subject"] == "source hapi.db")
            .unwrap()
            .clone();
        let said = as_user(&home, BACKUP, group, groups, &["snapshot", "--json"]);
        let sides: Vec<_> = ["-wal", "-shm"]
            .iter()
            .filter_map(|side| fs::metadata(home.hapi(&format!("hapi.db{side}"))).ok())
            .collect();
        if allowed {
            assert_eq!(said.code, 0, "{case}: {said:?}");
            assert!(
                sides
                    .iter()
                    .all(|side| side.gid() == HUB && side.mode() & 0o060 == 0o060)
            );
        } else {
            assert_eq!(said.code, 3, "{case}: {said:?}");
            assert!(said.stderr.contains("sudo -u '#54321'"), "{case}: {said:?}");
            assert!(!said.stderr.contains("writable"), "{case}: {said:?}");
            assert!(sides.is_empty(), "{case}");
            assert_eq!(line["verdict"], "fail", "{case}: {line:#}");
        }
        // Either way the hub starts.
        let write = "import sqlite3,sys; sqlite3.connect(sys.argv[1],isolation_level=None).execute('UPDATE sessions SET updated_at = 1')";
        let hub = Command::new("setpriv")
            .args([format!("--reuid={HUB}"), format!("--regid={HUB}")])
            .args(["--clear-groups", "python3", "-c", write])
            .arg(home.database())
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert!(hub.status.success(), "{case}: {hub:?}");
    }
}
