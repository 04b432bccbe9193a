//! A restored database shows the facts that its capture noted, and is left as it was found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hapi_sources::{
    Capture, Column, Content, DatabaseFacts, ExamineError, Integrity, IntegrityCheck, Kind,
    Sha256Hash, Source, Stop, examine, tables,
};
use hub::{Hub, content, sqlite3};

type Found = Result<(Sha256Hash, u64, DatabaseFacts), ExamineError>;

/// A database of some pages in WAL mode, with an index.
fn filled(hub: &Hub) -> PathBuf {
    let path = hub.at("hapi.db");
    sqlite3(
        &path,
        "PRAGMA journal_mode = WAL; PRAGMA user_version = 7;
         CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, text, created_at);
         CREATE INDEX by_text ON messages (text); CREATE TABLE empty (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO messages SELECT i, hex(randomblob(100)), i * 0.5 FROM n",
    );
    path
}

fn source(path: &Path) -> Source {
    let mut source = Source::new("hapi.db", Kind::Sqlite, path);
    source.count = vec!["messages".into(), "empty".into(), "nowhere".into()];
    source.newest = ["messages.created_at", "messages.nothing"]
        .map(|c| c.parse::<Column>().unwrap())
        .to_vec();
    source
}

fn look(path: &Path) -> Found {
    let Source { count, newest, .. } = source(path);
    examine(
        path,
        &count,
        &newest,
        IntegrityCheck::Full,
        &Stop::default(),
    )
}

fn noted(capture: &Capture) -> (Sha256Hash, u64, DatabaseFacts) {
    match &capture.entries[0].content {
        Content::Database {
            bytes,
            sha256,
            facts,
            ..
        } => (*sha256, bytes.len(), (**facts).clone()),
        other => panic!("{other:?}"),
    }
}

/// Writes a file into a folder of its own, looks at it, and sees that nothing has changed.
fn look_alone(hub: &Hub, bytes: &[u8]) -> Found {
    let path = hub.write("alone/restored.db", bytes);
    let found = look(&path);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(hub.at("alone")).unwrap().count(), 1);
    found
}

fn damaged(found: Found) -> Vec<String> {
    match found.unwrap().2.integrity {
        Integrity::Damaged { findings } => findings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restored_copy_has_the_facts_of_its_capture() {
    let hub = Hub::new();
    let path = filled(&hub);
    for check in [IntegrityCheck::Full, IntegrityCheck::Quick] {
        let mut source = source(&path);
        source.integrity = check;
        let capture = hub.capture(&source).unwrap();
        let noted = noted(&capture);
        assert_eq!(noted.2.rows["messages"], Some(2000));
        assert_eq!(noted.2.integrity, Integrity::Ok);
        let copy = hub.write("restored.db", content(capture.entries[0].bytes().unwrap()));
        let stop = Stop::default();
        let found = examine(&copy, &source.count, &source.newest, check, &stop).unwrap();
        assert_eq!(found, noted);
        assert_eq!(tables(&copy).unwrap(), ["empty", "messages"]);
    }
}

#[test]
fn a_name_that_a_uri_would_split_is_one_name() {
    let hub = Hub::new();
    let capture = hub.capture(&source(&filled(&hub))).unwrap();
    let bytes = content(capture.entries[0].bytes().unwrap());
    for name in [&b"a b?mode=rwc&x#y%20%00;.db"[..], b"\xff\xfe\xc3\xb6.db"] {
        let path = hub.home().join(OsStr::from_bytes(name));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(look(&path).unwrap(), noted(&capture));
    }
    let link = hub.at("link.db");
    std::os::unix::fs::symlink(hub.at("hapi.db"), &link).unwrap();
    assert_eq!(look(&link).unwrap().2, noted(&capture).2);
}

#[test]
fn damage_is_a_fact() {
    let hub = Hub::new();
    let bytes = content(
        hub.capture(&source(&filled(&hub))).unwrap().entries[0]
            .bytes()
            .unwrap(),
    );
    let mut zeroed = bytes.clone();
    zeroed[4096 * 40..4096 * 41].fill(0);
    assert!(!damaged(look_alone(&hub, &zeroed)).is_empty());
    // Page 1 holds the schema: nothing can be counted then, and that is no error either.
    let mut no_schema = bytes.clone();
    no_schema[100..4096].fill(0);
    assert!(!damaged(look_alone(&hub, &no_schema)).is_empty());
    let mut no_page_size = bytes.clone();
    no_page_size[16..18].fill(0);
    assert!(!damaged(look_alone(&hub, &no_page_size)).is_empty());
    for len in [16, 99, 100, 5000, bytes.len() / 2, bytes.len() - 1] {
        let found = look_alone(&hub, &bytes[..len]);
        assert_eq!(found.as_ref().unwrap().1, len as u64);
        let findings = damaged(found);
        assert_eq!(
            findings[0].contains("within a page"),
            len >= 100 && len % 4096 != 0,
            "{len}: {findings:?}"
        );
    }
}

#[test]
fn what_is_no_database_is_an_error() {
    let hub = Hub::new();
    let none = |e: Found| matches!(e, Err(ExamineError::NotADatabase { .. }));
    for bytes in [
        &b""[..],
        b"SQLite format 3",
        b"this is no database, however long one looks",
    ] {
        assert!(none(look_alone(&hub, bytes)));
    }
    let error = look(&hub.at("nowhere.db")).unwrap_err();
    assert!(matches!(error, ExamineError::Read { .. }), "{error}");
    let error = look(&hub.home()).unwrap_err();
    assert!(matches!(error, ExamineError::WrongType { .. }), "{error}");
    assert!(error.to_string().ends_with("is a folder, not a database"));
    let error = tables(&hub.write("text", "text")).unwrap_err();
    assert!(
        matches!(error, ExamineError::NotADatabase { .. }),
        "{error}"
    );
}

#[test]
fn a_wal_header_is_read_and_a_wal_with_content_is_named() {
    let hub = Hub::new();
    // The program's last connection folds the WAL into the file, whose header still says WAL.
    let bytes = fs::read(filled(&hub)).unwrap();
    assert_eq!(bytes[18..20], [2, 2]);
    let (_, len, facts) = look_alone(&hub, &bytes).unwrap();
    assert_eq!((len, facts.integrity), (bytes.len() as u64, Integrity::Ok));
    assert_eq!(facts.rows["messages"], Some(2000));

    let path = hub.at("alone/restored.db");
    hub.write("alone/restored.db-wal", "");
    hub.write("alone/restored.db-shm", "left over");
    assert_eq!(look(&path).unwrap().2.rows["messages"], Some(2000));
    for side in ["alone/restored.db-wal", "alone/restored.db-journal"] {
        hub.write(side, "not folded in");
        let error = look(&path).unwrap_err();
        let name = hub.at(side).display().to_string();
        assert!(matches!(&error, ExamineError::SideFile { .. }), "{error}");
        assert!(error.to_string().contains(&name) && error.hint().is_some());
        fs::remove_file(hub.at(side)).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_stop_flag_ends_it() {
    let hub = Hub::new();
    let path = filled(&hub);
    let stop = Stop::default();
    stop.set();
    let error = examine(&path, &[], &[], IntegrityCheck::Full, &stop).unwrap_err();
    assert!(matches!(error, ExamineError::Stopped), "{error}");
}

/// Rows change while an index is not in the schema.
fn without_index(path: &Path, index: &str, change: &str) {
    let row = format!("FROM sqlite_schema WHERE name = '{index}'");
    let insert = sqlite3(
        path,
        &format!(
            "SELECT format('INSERT INTO sqlite_schema VALUES (%Q, %Q, %Q, %d, %Q)', type, name, tbl_name, rootpage, sql) {row}"
        ),
    );
    let schema = "PRAGMA writable_schema = ON";
    sqlite3(path, &format!("{schema}; DELETE {row}"));
    sqlite3(path, change);
    sqlite3(path, &format!("{schema}; {insert}"));
}

#[test]
fn an_index_that_disagrees_is_told_with_what_mends_it() {
    let hub = Hub::new();
    let path = filled(&hub);
    sqlite3(
        &path,
        "CREATE INDEX late ON messages (created_at) WHERE created_at > 500",
    );
    without_index(
        &path,
        "by_text",
        "UPDATE messages SET text = 'new' WHERE id = 7",
    );
    let remedy = |index| {
        format!("`REINDEX \"{index}\"` rebuilds the index from its table without losing a row")
    };
    let missing = format!("row 7 missing from index by_text; {}", remedy("by_text"));
    assert_eq!(damaged(look(&path)), [missing]);
    sqlite3(&path, "REINDEX by_text");
    assert_eq!(look(&path).unwrap().2.integrity, Integrity::Ok);
    // The SQLite within looks for each row in the index, and not for a row of each entry; 3.40 counted both.
    without_index(&path, "late", "DELETE FROM messages WHERE id = 1999");
    let surplus = format!("more entries than rows in index late; {}", remedy("late"));
    assert_eq!(damaged(look(&path)), [surplus]);
}
