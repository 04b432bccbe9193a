//! States of a live database in which SQLite must not be let near it: it would delete what is left,
//! read something else than the hub wrote, or lock the hub out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use hapi_sources::{Capture, CaptureError, Kind, Note, Source, Stop, probe};
use hub::{Hub, Python, content, sqlite3};

/// Commits rows, and holds the connection open.
const HOLDER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('PRAGMA wal_autocheckpoint = 0')
db.execute('CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, text)')
for n in range(500): db.execute('INSERT INTO messages (text) VALUES (?)', ('in the WAL',))
open(sys.argv[1], 'w').close()
sys.stdin.read()
";

/// Opens a database, reads, and goes on doing nothing.
const READER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
for step in sys.argv[3:] or ['SELECT * FROM messages']: db.execute(step).fetchone()
open(sys.argv[1], 'w').close()
sys.stdin.read()
";

/// A writer that dies in the middle of a transaction in a rollback journal.
const JOURNAL: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
db.execute('PRAGMA cache_size = 1')
db.execute('PRAGMA cache_spill = ON')
db.execute('CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, text)')
db.execute('INSERT INTO messages (text) VALUES (zeroblob(100000))')
db.execute('BEGIN')
db.execute('UPDATE messages SET text = hex(randomblob(90000))')
for n in range(100): db.execute('INSERT INTO messages (text) VALUES (hex(randomblob(9000)))')
open(sys.argv[1], 'w').close()
sys.stdin.read()
";

fn source(path: &Path) -> Source {
    let mut source = Source::new("hapi.db", Kind::Sqlite, path);
    source.count = vec!["messages".into()];
    source
}

fn look(path: &Path) -> Result<hapi_sources::Probe, CaptureError> {
    probe(&source(path), &Stop::default())
}

/// A killed hub, everything in its WAL.
fn killed_hub(hub: &Hub) -> (PathBuf, Vec<u8>) {
    let path = hub.at("hapi.db");
    Python::start(HOLDER, &path).kill();
    let wal = fs::read(hub.at("hapi.db-wal")).unwrap();
    assert!(wal.len() > 100_000);
    (path, wal)
}

/// Nothing was changed, the source failed, and what was left is kept under another name.
fn kept(hub: &Hub, capture: &Capture, name: &str, bytes: &[u8]) {
    let [failure] = &capture.failures[..] else {
        panic!("{capture:?}")
    };
    assert!(
        matches!(failure.error, CaptureError::DatabaseLost { .. }),
        "{}",
        failure.error
    );
    assert!(
        failure
            .error
            .hint()
            .unwrap()
            .contains("do not start the hub")
    );
    let [entry] = &capture.entries[..] else {
        panic!("{capture:?}")
    };
    assert_eq!(entry.path, hub.at(&format!("{name}.kept")));
    assert!(content(entry.bytes().unwrap()) == bytes);
    assert!(
        fs::read(hub.at(name)).unwrap() == bytes,
        "{name} was touched"
    );
}

#[test]
fn the_wal_of_an_emptied_database_is_not_deleted_by_a_look_and_its_bytes_are_kept() {
    let hub = Hub::new();
    let (path, wal) = killed_hub(&hub);
    let page_one = fs::read(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(matches!(
        look(&path),
        Err(CaptureError::DatabaseLost { missing: false, .. })
    ));
    let capture = hub.capture(&source(&path)).unwrap();
    kept(&hub, &capture, "hapi.db-wal", &wal);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    // It was worth it: an older page 1 brings everything back.
    fs::write(&path, page_one).unwrap();
    assert_eq!(sqlite3(&path, "SELECT count(*) FROM messages"), "500");
}

/// SQLite takes a file of one byte for an empty one, and deletes its WAL.
#[test]
fn a_database_of_one_byte_is_an_empty_one() {
    let hub = Hub::new();
    let (path, wal) = killed_hub(&hub);
    fs::write(&path, [0]).unwrap();
    assert!(matches!(
        look(&path),
        Err(CaptureError::DatabaseLost { .. })
    ));
    kept(
        &hub,
        &hub.capture(&source(&path)).unwrap(),
        "hapi.db-wal",
        &wal,
    );
    fs::remove_file(hub.at("hapi.db-wal")).unwrap();
    let error = hub.capture(&source(&path)).unwrap_err();
    assert!(
        matches!(error, CaptureError::EmptyDatabase { .. }),
        "{error}"
    );
}

#[test]
fn the_wal_beside_what_a_link_led_to_is_kept() {
    let hub = Hub::new();
    let (path, wal) = killed_hub(&hub);
    fs::create_dir(hub.at("data")).unwrap();
    for side in ["", "-wal", "-shm"] {
        let name = format!("hapi.db{side}");
        fs::rename(hub.at(&name), hub.at(&format!("data/{name}"))).unwrap();
    }
    std::os::unix::fs::symlink("data/hapi.db", &path).unwrap();
    for gone in [false, true] {
        match gone {
            true => fs::remove_file(hub.at("data/hapi.db")).unwrap(),
            false => fs::write(hub.at("data/hapi.db"), "").unwrap(),
        }
        let capture = hub.capture(&source(&path)).unwrap();
        assert!(content(capture.entries[0].bytes().unwrap()) == wal);
        let hint = capture.failures[0].error.hint().unwrap();
        assert!(hint.contains("data/hapi.db-wal"), "{hint}");
        assert!(!hint.contains(&format!("'{}'", path.display())), "{hint}");
        assert!(fs::read(hub.at("data/hapi.db-wal")).unwrap() == wal);
    }
}

#[test]
fn a_hub_that_still_runs_on_a_lost_database_is_named() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    let running = Python::start(HOLDER, &path);
    fs::write(&path, "").unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    let hint = capture.failures[0].error.hint().unwrap();
    assert!(
        hint.contains("still has it open") && hint.contains("kill -9"),
        "{hint}"
    );
    running.kill();
}

/// After a crash, one that may only read keeps its index in memory, without a lock on the `-shm`.
#[test]
fn a_reader_that_may_not_write_is_no_alarm() {
    let hub = Hub::new();
    let (path, _) = killed_hub(&hub);
    for folder in [hub.tmp.path().to_path_buf(), hub.home()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in ["hapi.db", "hapi.db-wal", "hapi.db-shm"] {
        fs::set_permissions(hub.at(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let script = "import sqlite3,sys,time; db=sqlite3.connect('file:'+sys.argv[1]+'?mode=ro',uri=True,isolation_level=None); db.execute('BEGIN'); db.execute('SELECT count(*) FROM messages').fetchone(); print('ready',flush=True); time.sleep(60)";
    let mut reader = Command::new("setpriv")
        .args([
            "--reuid=54399",
            "--regid=54399",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
        ])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(reader.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let captured = hub.capture(&source(&path));
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(captured.unwrap().is_complete());
}

#[test]
fn a_wal_without_any_database_is_no_absent_source() {
    let hub = Hub::new();
    let (path, wal) = killed_hub(&hub);
    fs::remove_file(&path).unwrap();
    let mut optional = source(&path);
    optional.required = false;
    let capture = hub.capture(&optional).unwrap();
    assert!(!capture.absent);
    kept(&hub, &capture, "hapi.db-wal", &wal);
    assert!(!path.exists());
}

#[test]
fn a_pattern_finds_the_wal_whose_database_is_gone_or_empty() {
    for gone in [true, false] {
        let hub = Hub::new();
        let (path, wal) = killed_hub(&hub);
        sqlite3(&hub.at("other.db"), "CREATE TABLE messages (id)");
        match gone {
            true => fs::remove_file(&path).unwrap(),
            false => fs::write(&path, "").unwrap(),
        }
        let pattern = source(&hub.at("*.db"));
        let mut capture = hub.capture(&pattern).unwrap();
        assert_eq!(capture.entries.len(), 2, "{capture:?}");
        let other = capture.entries.pop().unwrap();
        assert_eq!(other.path, hub.at("other.db"));
        kept(&hub, &capture, "hapi.db-wal", &wal);
        let probe = probe(&pattern, &Stop::default()).unwrap();
        assert_eq!(probe.failures.len(), 1);
    }
}

#[test]
fn the_journal_of_an_emptied_database_is_kept_and_that_of_a_crash_named() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    Python::start(JOURNAL, &path).kill();
    let journal = fs::read(hub.at("hapi.db-journal")).unwrap();
    assert!(journal.len() > 512);
    // Whether it is hot, SQLite says.
    match hub.capture(&source(&path)) {
        Err(error @ CaptureError::HotJournal { .. }) => {
            assert!(error.hint().unwrap().contains("start the hub once"));
        }
        other => panic!("{other:?}"),
    }
    fs::write(&path, "").unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    kept(&hub, &capture, "hapi.db-journal", &journal);
}

#[test]
fn journals_that_are_not_hot_are_in_nobodys_way() {
    for mode in ["PERSIST", "TRUNCATE"] {
        let hub = Hub::new();
        let path = hub.at("hapi.db");
        sqlite3(
            &path,
            &format!(
                "PRAGMA journal_mode = {mode}; CREATE TABLE messages (id); INSERT INTO messages VALUES (1)"
            ),
        );
        assert!(hub.at("hapi.db-journal").exists());
        assert!(hub.capture(&source(&path)).unwrap().is_complete(), "{mode}");
    }
}

#[test]
fn an_empty_file_is_no_database() {
    let hub = Hub::new();
    let path = hub.write("hapi.db", "");
    fs::write(hub.at("hapi.db-wal"), "").unwrap();
    for error in [
        hub.capture(&source(&path)).unwrap_err(),
        look(&path).unwrap_err(),
    ] {
        assert!(
            matches!(error, CaptureError::EmptyDatabase { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_wal_beside_another_name_fails_the_source_and_names_it() {
    // A hard link, and the hub uses the other one.
    let hub = Hub::new();
    let (ours, theirs) = (hub.at("hapi.db"), hub.at("data/hapi.db"));
    fs::create_dir(hub.at("data")).unwrap();
    sqlite3(
        &ours,
        "PRAGMA journal_mode = WAL; CREATE TABLE messages (id INTEGER PRIMARY KEY, text)",
    );
    fs::hard_link(&ours, &theirs).unwrap();
    let running = Python::start(HOLDER, &theirs);
    let other_wal = |error: CaptureError| match error {
        CaptureError::OtherName { wal: Some(wal), .. } => wal,
        other => panic!("{other}"),
    };
    let error = hub.capture(&source(&ours)).unwrap_err();
    assert_eq!(other_wal(error), hub.at("data/hapi.db-wal"));
    assert_eq!(
        other_wal(look(&ours).unwrap_err()),
        hub.at("data/hapi.db-wal")
    );
    // By the hub's own name it is well, and says that there is another.
    let capture = hub.capture(&source(&theirs)).unwrap();
    assert!(capture.is_complete());
    assert!(matches!(
        capture.notes[..],
        [Note::SeveralNames { links: 2, .. }]
    ));
    running.kill();
}

#[test]
fn a_database_renamed_under_the_hub_is_noticed() {
    let hub = Hub::new();
    let before = hub.at("old.db");
    let running = Python::start(HOLDER, &before);
    let path = hub.at("hapi.db");
    fs::rename(&before, &path).unwrap();
    match hub.capture(&source(&path)).unwrap_err() {
        CaptureError::OtherName { wal: Some(wal), .. } => assert_eq!(wal, hub.at("old.db-wal")),
        other => panic!("{other}"),
    }
    // And a WAL that was removed under it.
    fs::rename(&path, &before).unwrap();
    fs::remove_file(hub.at("old.db-wal")).unwrap();
    let error = hub.capture(&source(&before)).unwrap_err();
    assert!(
        error.to_string().contains("old.db-wal (deleted)"),
        "{error}"
    );
    running.kill();
}

#[test]
fn who_uses_the_database_by_our_name_or_not_at_all_is_no_alarm() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    let running = Python::start(HOLDER, &path);
    let idle = Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn();
    let mut idle = idle.unwrap();
    let reader = Python::start(READER, &path);
    fs::hard_link(&path, hub.at("copy.db")).unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    assert!(capture.is_complete());
    assert_eq!(capture.notes.len(), 1);
    for program in [running, reader] {
        program.kill();
    }
    idle.kill().unwrap();
    idle.wait().unwrap();
    // A reader in another journal mode.
    fs::remove_file(hub.at("copy.db")).unwrap();
    sqlite3(&path, "PRAGMA journal_mode = DELETE");
    let reader = Python::start(READER, &path);
    assert!(hub.capture(&source(&path)).unwrap().is_complete());
    reader.kill();
}

#[test]
fn a_wal_that_goes_between_the_look_and_the_first_read_is_kept_by_its_descriptor() {
    // The window cannot be hit at will; what follows from it can: the database is emptied while the copy
    // is made, again and again, and the WAL's bytes are either in their place or in the capture.
    let hub = Hub::new();
    let (path, wal) = killed_hub(&hub);
    let page_one = fs::read(&path).unwrap();
    for round in 0..8u64 {
        let (database, stop) = (
            path.clone(),
            std::thread::spawn({
                let path = path.clone();
                move || {
                    std::thread::sleep(std::time::Duration::from_micros(round * 400));
                    fs::write(&path, "").unwrap();
                }
            }),
        );
        let captured = hub.capture(&source(&database));
        stop.join().unwrap();
        let there = fs::read(hub.at("hapi.db-wal")).is_ok_and(|now| now == wal);
        let kept = captured.is_ok_and(|capture| {
            capture.entries.iter().any(|entry| {
                entry.path == hub.at("hapi.db-wal.kept") && content(entry.bytes().unwrap()) == wal
            })
        });
        assert!(there || kept, "round {round}");
        fs::write(&path, &page_one).unwrap();
        fs::write(hub.at("hapi.db-wal"), &wal).unwrap();
    }
}

#[test]
fn the_files_of_our_own_user_and_of_root_lock_nobody_out() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    sqlite3(
        &path,
        "PRAGMA journal_mode = WAL; CREATE TABLE messages (id)",
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&path, Some(4711), Some(4711)).unwrap();
    assert!(hub.capture(&source(&path)).unwrap().is_complete());
    for side in ["hapi.db-wal", "hapi.db-shm"] {
        if let Ok(side) = fs::metadata(hub.at(side)) {
            assert_eq!(side.uid(), 4711);
        }
    }
}
