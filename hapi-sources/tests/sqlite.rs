//! Live databases in all the states that a hub leaves them in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hapi_sources::{
    Capture, CaptureError, Content, DatabaseFacts, Integrity, IntegrityCheck, Kind, Limits, Note,
    SoundDatabase, Source, Stop,
};
use hub::{Hub, Python, content, sqlite3};

/// Commits as fast as it can.
const WRITER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, text, created_at)')
db.execute('PRAGMA synchronous = OFF')
n = 0
while True:
    db.execute('INSERT INTO messages (text, created_at) VALUES (?, ?)', ('x' * 500, n))
    n += 1
    if n == 200: open(sys.argv[1], 'w').close()
";

/// Commits once, and holds the connection open.
const HOLDER: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[2], isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, text)')
db.execute('INSERT INTO messages (text) VALUES (?)', ('in the WAL',))
open(sys.argv[1], 'w').close()
sys.stdin.read()
";

fn source(path: &Path) -> Source {
    let mut source = Source::new("hapi.db", Kind::Sqlite, path);
    source.count = vec!["messages".into(), "nowhere".into()];
    source.newest = vec![
        "messages.id".parse().unwrap(),
        "messages.nothing".parse().unwrap(),
    ];
    source
}

fn facts(capture: &Capture) -> (&DatabaseFacts, PathBuf) {
    match &capture.entries[..] {
        [entry] => match &entry.content {
            Content::Database { bytes, facts, .. } => {
                (facts, bytes.staged_path().unwrap().to_owned())
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The copy is sound, opens where nothing can be written, and has no side files.
fn sound(hub: &Hub, capture: &Capture) -> DatabaseFacts {
    let (facts, copy) = facts(capture);
    assert_eq!(facts.integrity, Integrity::Ok);
    assert!(!capture.damaged());
    let bytes = fs::read(&copy).unwrap();
    assert_eq!(bytes[18..20], [1, 1]);
    assert_eq!(
        u64::from(facts.page_size) * u64::from(facts.page_count),
        bytes.len() as u64
    );
    let alone = hub.tmp.path().join("alone.db");
    fs::write(&alone, bytes).unwrap();
    assert_eq!(sqlite3(&alone, "PRAGMA integrity_check"), "ok");
    assert_eq!(hub.staged(), 1);
    facts.clone()
}

fn damaged(capture: &Capture) -> Vec<String> {
    assert!(capture.damaged());
    match &facts(capture).0.integrity {
        Integrity::Damaged { findings } => findings.clone(),
        other => panic!("{other:?}"),
    }
}

/// A database of some pages, with an index.
fn filled(hub: &Hub, rows: u32) -> PathBuf {
    let path = hub.at("hapi.db");
    sqlite3(
        &path,
        &format!(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, text); CREATE INDEX by_text ON messages (text);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO messages SELECT i, hex(randomblob(100)) FROM n"
        ),
    );
    path
}

#[test]
fn a_busy_writer_in_another_process_does_not_keep_the_copy_from_ending() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    let _writer = Python::start(WRITER, &path);
    for _ in 0..3 {
        let start = Instant::now();
        let facts = sound(&hub, &hub.capture(&source(&path)).unwrap());
        assert!(start.elapsed() < Duration::from_secs(20));
        let rows = facts.rows["messages"].unwrap();
        assert!(rows >= 200);
        assert_eq!(
            facts.newest[&"messages.id".parse().unwrap()],
            Some(rows.into())
        );
        assert_eq!(facts.rows["nowhere"], None);
        assert_eq!(facts.newest[&"messages.nothing".parse().unwrap()], None);
    }
}

#[test]
fn a_killed_hubs_wal_is_read_and_left_as_it_is() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    Python::start(HOLDER, &path).kill();
    let wal = fs::read(hub.at("hapi.db-wal")).unwrap();
    assert!(wal.len() > 1000);
    let before = fs::read(&path).unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    assert_eq!(sound(&hub, &capture).rows["messages"], Some(1));
    assert_eq!(fs::read(hub.at("hapi.db-wal")).unwrap(), wal);
    assert_eq!(fs::read(&path).unwrap(), before);
    let mtime = fs::metadata(hub.at("hapi.db-wal"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(capture.entries[0].metadata.mtime, mtime);
}

#[test]
fn a_wal_without_its_shm_is_read_or_named() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    Python::start(HOLDER, &path).kill();
    fs::remove_file(hub.at("hapi.db-shm")).unwrap();
    match hub.capture(&source(&path)) {
        Ok(capture) => assert_eq!(sound(&hub, &capture).rows["messages"], Some(1)),
        Err(CaptureError::CannotOpen { reason, .. }) => {
            assert!(reason.contains("-shm"), "{reason}")
        }
        Err(e) => panic!("{e}"),
    }
    assert!(hub.staged() == 0);
}

#[test]
fn the_same_state_is_the_same_bytes_before_and_after_a_checkpoint() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    let holder = Python::start(HOLDER, &path);
    let look = || {
        let capture = hub.capture(&source(&path)).unwrap();
        (
            sound(&hub, &capture).rows["messages"],
            capture.entries[0].sha256(),
        )
    };
    let first = look();
    assert_eq!(look(), first);
    sqlite3(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    assert_eq!(look(), first);
    holder.kill();
    assert_eq!(look(), first);
    // Cleanly closed: no side files but those our own reading makes.
    sqlite3(&path, "SELECT 1");
    let mtime = |c: Capture| c.entries[0].metadata.mtime;
    assert_eq!(look(), first);
    let once = mtime(hub.capture(&source(&path)).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(mtime(hub.capture(&source(&path)).unwrap()), once);
}

#[test]
fn rollback_journals_and_page_sizes_work() {
    for size in [512, 1024, 4096, 16384, 65536] {
        let hub = Hub::new();
        let path = hub.at("hapi.db");
        sqlite3(
            &path,
            &format!(
                "PRAGMA page_size = {size}; CREATE TABLE messages (id); PRAGMA user_version = -7"
            ),
        );
        let capture = hub.capture(&source(&path)).unwrap();
        let facts = sound(&hub, &capture);
        assert_eq!((facts.page_size, facts.user_version), (size, -7));
        assert_eq!(facts.rows["messages"], Some(0));
        assert_eq!(facts.newest[&"messages.id".parse().unwrap()], None);
    }
}

#[test]
fn full_text_search_is_checked_too() {
    let hub = Hub::new();
    let path = hub.at("hapi.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE VIRTUAL TABLE messages USING fts5 (text, tokenize = 'trigram');
         INSERT INTO messages VALUES ('find me')",
    )
    .unwrap();
    assert_eq!(
        sound(&hub, &hub.capture(&source(&path)).unwrap()).rows["messages"],
        Some(1)
    );
}

#[test]
fn an_unknown_module_harms_nothing() {
    let hub = Hub::new();
    let path = filled(&hub, 10);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema
         VALUES ('table', 'vec', 'vec', 0, 'CREATE VIRTUAL TABLE vec USING vec0 (x)')",
    )
    .unwrap();
    drop(db);
    let mut source = source(&path);
    source.count.push("vec".into());
    let facts = sound(&hub, &hub.capture(&source).unwrap());
    assert_eq!(
        (facts.rows["messages"], facts.rows["vec"]),
        (Some(10), None)
    );
}

#[test]
fn what_cannot_be_checked_is_named_and_is_not_damage() {
    let hub = Hub::new();
    let path = filled(&hub, 10);
    let code = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.create_collation('nowhere_else', lambda a, b: (a > b) - (a < b))
db.execute('CREATE TABLE odd (x COLLATE nowhere_else PRIMARY KEY)')
db.execute('INSERT INTO odd VALUES (1)')
db.commit()";
    hub::run("python3", &["-c", code, path.to_str().unwrap()]);
    let capture = hub.capture(&source(&path)).unwrap();
    assert_eq!(
        facts(&capture).0.integrity,
        Integrity::Unchecked {
            tables: vec!["odd".into()]
        }
    );
    assert!(!capture.damaged() && capture.is_complete());
    assert_eq!(facts(&capture).0.rows["messages"], Some(10));
}

#[test]
fn an_unknown_tokenizer_is_not_damage() {
    let hub = Hub::new();
    let path = filled(&hub, 10);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE VIRTUAL TABLE search USING fts5 (text); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE VIRTUAL TABLE search USING fts5 (text, tokenize = ''bigram'')'
         WHERE name = 'search'",
    )
    .unwrap();
    drop(db);
    let capture = hub.capture(&source(&path)).unwrap();
    // SQLite passes over a virtual table that it cannot connect to.
    assert!(!capture.damaged() && capture.is_complete());
    assert_eq!(facts(&capture).0.rows["messages"], Some(10));
}

#[test]
fn damage_is_found_and_the_copy_kept() {
    let hub = Hub::new();
    let path = filled(&hub, 2000);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 * 40..4096 * 41].fill(0);
    fs::write(&path, &bytes).unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    assert!(!damaged(&capture).is_empty());
    let copy = content(capture.entries[0].bytes().unwrap());
    assert_eq!(
        copy[4096..],
        bytes[4096..],
        "what is damaged is copied as it is"
    );
}

#[test]
fn a_verdict_may_come_later_and_says_what_it_would_have_said() {
    let hub = Hub::new();
    let path = filled(&hub, 2000);
    let sources = [source(&path)];
    let presumed = || {
        let mut capturer = hub.capturer(&sources).presume_sound(true);
        capturer.capture(&sources[0]).unwrap()
    };
    let capture = presumed();
    assert_eq!(facts(&capture).0.integrity, Integrity::Ok);
    let (on, verdict) = capture.verdicts().next().unwrap();
    assert_eq!((on, verdict.wait()), (path.as_path(), Ok(Integrity::Ok)));
    let capture = capture.conclude().unwrap();
    assert_eq!(capture.verdicts().count(), 0);
    assert_eq!(facts(&capture).0.integrity, Integrity::Ok);
    drop(capture);

    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 * 40..4096 * 41].fill(0);
    fs::write(&path, &bytes).unwrap();
    let capture = presumed();
    assert!(!capture.damaged(), "it is presumed, until it is known");
    assert!(capture.verdicts().next().unwrap().1.wait() != Ok(Integrity::Ok));
    let capture = capture.conclude().unwrap();
    let at_once = hub.capture(&sources[0]).unwrap();
    assert_eq!(damaged(&capture), damaged(&at_once));
    assert_eq!(capture.entries[0].sha256(), at_once.entries[0].sha256());
    // Its checksum was taken with the hash, of the same bytes.
    let checksum = |capture: &Capture| {
        let mut checksum = hapi_sources::Checksummer::default();
        checksum.update(&content(capture.entries[0].bytes().unwrap()));
        assert_eq!(
            capture.entries[0].bytes().unwrap().checksum(),
            Some(checksum.finish())
        );
    };
    checksum(&capture);
    checksum(&at_once);
}

#[test]
fn the_same_bytes_are_not_checked_twice_and_others_are() {
    let hub = Hub::new();
    let path = filled(&hub, 2000);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 * 40..4096 * 41].fill(0);
    fs::write(&path, &bytes).unwrap();
    let full = source(&path);
    let quick = Source {
        integrity: IntegrityCheck::Quick,
        ..source(&path)
    };
    // That this one is called sound would be found out, if it were looked at.
    let hash = hub.capture(&full).unwrap().entries[0].sha256().unwrap();
    let other = hapi_sources::Sha256Hash([0; 32]);
    for (source, hash, check, damaged) in [
        (&full, hash, IntegrityCheck::Full, false),
        (&quick, hash, IntegrityCheck::Full, false),
        (&quick, hash, IntegrityCheck::Quick, false),
        (&full, hash, IntegrityCheck::Quick, true),
        (&full, other, IntegrityCheck::Full, true),
    ] {
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        // The time decides when it is checked, and not whether.
        for mtime in [mtime, SystemTime::UNIX_EPOCH] {
            for presume in [false, true] {
                let known = SoundDatabase {
                    sha256: hash,
                    mtime,
                    check,
                };
                let mut capturer = hub.capturer(std::slice::from_ref(source));
                capturer = capturer
                    .sound([(path.clone(), known)].into())
                    .presume_sound(presume);
                let capture = capturer.capture(source).unwrap();
                assert_eq!(
                    capture.verdicts().count(),
                    usize::from(presume && damaged),
                    "{check:?}"
                );
                assert_eq!(capture.conclude().unwrap().damaged(), damaged, "{check:?}");
            }
        }
    }
    assert_eq!(
        hub.staged(),
        0,
        "a check that was given up lets its copy go"
    );
}

#[test]
fn a_verdict_that_nobody_waits_for_or_that_is_stopped_is_none() {
    let hub = Hub::new();
    let path = filled(&hub, 2000);
    let sources = [source(&path)];
    let stop = hapi_sources::Stop::default();
    let mut capturer = hub
        .capturer(&sources)
        .presume_sound(true)
        .stop(stop.clone());
    let capture = capturer.capture(&sources[0]).unwrap();
    let verdict = capture.verdicts().next().unwrap().1.clone();
    stop.set();
    // It may have been faster.
    let known = verdict.wait();
    assert!(
        [Ok(Integrity::Ok), Err(hapi_sources::Unknown::Stopped)].contains(&known),
        "{known:?}"
    );
    assert_eq!(verdict.wait(), known);
    drop((capture, capturer, verdict));
    for _ in 0..500 {
        if hub.staged() == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the check goes on with a copy that nobody wants");
}

#[test]
fn a_database_cut_short_is_kept() {
    let hub = Hub::new();
    let path = filled(&hub, 2000);
    let len = fs::metadata(&path).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len / 2 / 4096 * 4096)
        .unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    assert!(damaged(&capture)[0].contains("shorter"));
    assert_eq!(capture.bytes(), len / 2 / 4096 * 4096);
}

#[test]
fn a_broken_schema_is_kept() {
    let hub = Hub::new();
    let path = filled(&hub, 100);
    let sql = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX nonsense' WHERE type = 'index'";
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
    let capture = hub.capture(&source(&path)).unwrap();
    assert!(damaged(&capture)[0].contains("malformed"));
    assert_eq!(facts(&capture).0.rows["messages"], Some(100));
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let hub = Hub::new();
    let path = filled(&hub, 100);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..16].fill(b'x');
    fs::write(&path, bytes).unwrap();
    let error = hub.capture(&source(&path)).unwrap_err();
    assert!(
        matches!(error, CaptureError::NotADatabase { .. }),
        "{error}"
    );
    assert_eq!(hub.staged(), 0);
}

#[test]
fn an_exclusive_lock_is_waited_for_and_then_named() {
    let hub = Hub::new();
    let path = filled(&hub, 10);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let limits = Limits {
        busy: Duration::from_millis(300),
        ..Limits::default()
    };
    let sources = [source(&path)];
    let start = Instant::now();
    let error = hub
        .capturer(&sources)
        .limits(limits)
        .capture(&sources[0])
        .unwrap_err();
    assert!(matches!(error, CaptureError::Locked { .. }), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    db.execute_batch("COMMIT").unwrap();
    sound(&hub, &hub.capture(&sources[0]).unwrap());
}

#[test]
fn the_deadline_and_the_stop_flag_leave_nothing_behind() {
    let hub = Hub::new();
    let path = filled(&hub, 10);
    let limits = Limits {
        copy: Duration::ZERO,
        ..Limits::default()
    };
    let sources = [source(&path)];
    let error = hub
        .capturer(&sources)
        .limits(limits)
        .capture(&sources[0])
        .unwrap_err();
    assert!(matches!(error, CaptureError::Deadline { .. }), "{error}");
    assert_eq!(hub.staged(), 0);

    struct At(Stop, &'static str);
    impl hapi_sources::Observer for At {
        fn advance(&self, _: u64) {
            if self.1 == "copy" {
                self.0.set();
            }
        }
        fn step(&self, _: &str) {
            self.0.set();
        }
    }
    for when in ["copy", "check"] {
        let at = At(Stop::default(), when);
        let stop = at.0.clone();
        let error = hub
            .capturer(&sources)
            .observer(&at)
            .stop(stop)
            .capture(&sources[0])
            .unwrap_err();
        assert!(matches!(error, CaptureError::Stopped), "{when}: {error}");
        assert_eq!(hub.staged(), 0, "{when}");
    }
}

#[test]
fn a_pattern_takes_each_database_and_names_those_it_cannot() {
    let hub = Hub::new();
    let holder = Python::start(HOLDER, &hub.at("b.db"));
    sqlite3(&hub.at("a.db"), "CREATE TABLE messages (id)");
    hub.write("c.db", "this is no database, however long one looks at it");
    let pattern = source(&hub.at("*.db*"));
    let capture = hub.capture(&pattern).unwrap();
    let names: Vec<_> = capture
        .entries
        .iter()
        .map(|e| e.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["a.db", "b.db"]);
    let [failure] = &capture.failures[..] else {
        panic!("{:?}", capture.failures)
    };
    assert!(matches!(failure.error, CaptureError::NotADatabase { .. }));
    drop(holder);
    for name in ["a.db", "b.db", "b.db-wal", "b.db-shm"] {
        fs::remove_file(hub.at(name)).unwrap();
    }
    assert!(matches!(
        hub.capture(&pattern),
        Err(CaptureError::NotADatabase { .. })
    ));
    fs::remove_file(hub.at("c.db")).unwrap();
    let none = source(&hub.at("*.db"));
    assert!(matches!(
        hub.capture(&none),
        Err(CaptureError::NoMatch { .. })
    ));
    let optional = Source {
        required: false,
        ..none
    };
    assert!(hub.capture(&optional).unwrap().absent);
}

#[test]
fn a_link_to_a_database_is_followed_under_its_own_name() {
    let hub = Hub::new();
    let holder = Python::start(HOLDER, &hub.write("real/hapi.db", ""));
    symlink(hub.at("real/hapi.db"), hub.at("link.db")).unwrap();
    let capture = hub.capture(&source(&hub.at("link.db"))).unwrap();
    assert_eq!(capture.entries[0].path, hub.at("link.db"));
    assert_eq!(sound(&hub, &capture).rows["messages"], Some(1));
    drop(holder);
}

/// The one that would corrupt a hub's database: closing a handle drops our own SQLite's locks.
#[test]
fn no_walk_opens_a_live_database_by_any_name() {
    let hub = Hub::new();
    let path = hub.write("home/hapi.db", "");
    let holder = Python::start(HOLDER, &path);
    fs::create_dir(hub.at("other")).unwrap();
    fs::hard_link(&path, hub.at("other/hard")).unwrap();
    fs::hard_link(hub.at("home/hapi.db-shm"), hub.at("other/shm")).unwrap();
    symlink(&path, hub.at("other/soft")).unwrap();
    hub.write("other/plain", "taken");
    let sources = [
        source(&path),
        Source::new("home", Kind::Dir, hub.at("home")),
        Source::new("other", Kind::Glob, hub.at("other/*")),
        Source::new("file", Kind::File, hub.at("other/soft")),
    ];
    // A lock of ours on the database must survive all captures.
    let ours = rusqlite::Connection::open(&path).unwrap();
    ours.execute_batch("BEGIN; SELECT * FROM messages").unwrap();
    // Of these files alone: other tests of this process have locks, too.
    let inodes = ["hapi.db", "hapi.db-wal", "hapi.db-shm"].map(|name| {
        let file = fs::metadata(hub.at("home").join(name)).unwrap();
        format!(":{}", file.ino())
    });
    let locks = || {
        let me = std::process::id().to_string();
        let all = fs::read_to_string("/proc/locks").unwrap();
        // File, first and last byte.
        let mine = all.lines().filter_map(|lock| {
            let fields: Vec<&str> = lock.split_whitespace().collect();
            let mine = fields[1] == "POSIX"
                && fields[4] == me
                && inodes.iter().any(|inode| fields[5].ends_with(inode));
            mine.then(|| fields[5..].join(" "))
        });
        mine.collect::<BTreeSet<_>>()
    };
    // The list is not read at one moment, so that locks which come and go elsewhere hide some of it.
    let settles_at = |wanted: &dyn Fn(&BTreeSet<String>) -> bool| {
        for _ in 0..100 {
            let locks = locks();
            if wanted(&locks) {
                return locks;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        locks()
    };
    // SQLite's shared lock on the database, and those in the index of the WAL.
    let before = settles_at(&|locks| locks.len() >= 2);
    assert!(before.len() >= 2, "{before:?}");
    let captures = hub.capturer(&sources).capture_all(&sources);
    let after = settles_at(&|locks| locks.is_superset(&before));
    assert!(after.is_superset(&before), "{before:?}, then {after:?}");
    let names = |i: usize| {
        let capture = captures[i].as_ref().unwrap();
        assert!(capture.is_complete());
        let live = capture
            .notes
            .iter()
            .filter(|n| matches!(n, Note::LiveDatabase { .. }));
        (
            capture
                .entries
                .iter()
                .filter(|e| e.bytes().is_some())
                .count(),
            live.count(),
        )
    };
    assert_eq!(names(0), (1, 0));
    assert_eq!(names(1), (0, 3));
    assert_eq!(names(2), (1, 3));
    assert!(matches!(
        captures[3],
        Err(CaptureError::LiveDatabase { .. })
    ));
    drop(holder);
}

#[test]
fn too_little_space_is_known_before_the_copy() {
    assert!(
        rustix::process::geteuid().is_root(),
        "mounting a small file system needs root"
    );
    let hub = Hub::new();
    let path = filled(&hub, 40_000);
    let small = hub.tmp.path().join("small");
    fs::create_dir(&small).unwrap();
    let mount = small.to_str().unwrap();
    hub::run("mount", &["-t", "tmpfs", "-o", "size=6m", "none", mount]);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let staging = hapi_sources::Staging::create(&small).unwrap();
        let file = hub.write("small.txt", "fits");
        let sources = [source(&path), Source::new("small", Kind::File, file)];
        let mut capturer = hapi_sources::Capturer::new(&staging, &sources).unwrap();
        let captures = capturer.capture_all(&sources);
        let CaptureError::Staging(hapi_sources::StagingError::NoSpace { free, needed, .. }) =
            captures[0].as_ref().unwrap_err()
        else {
            panic!("{:?}", captures[0])
        };
        assert!(free < needed);
        assert!(captures[1].is_ok(), "what fits is taken all the same");
        assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0);
    }));
    hub::run("umount", &[mount]);
    outcome.unwrap();
}
