//! The commit gate: a stream that fails in any way leaves no snapshot, a repository that restic
//! finds clean, and a next run that works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{Home, files_below, sqlite3};
use sha2::{Digest, Sha256};

fn refuses(fault: &str, told: &str) {
    let home = Home::initialised();
    let said = home.faulty(fault).exits(1);
    assert!(said.stderr.contains(told), "{fault}: {}", said.stderr);
    assert!(
        home.restic_snapshots()
            .iter()
            .all(|s| !s["tags"].to_string().contains("\"hapi\"")),
        "{fault}: a snapshot was written"
    );
    home.restic(&["check", "--read-data"]);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

/// Only the main series has the file that fails; the weekly one was already saved.
fn refuses_the_main_series(fault: &str, told: &str) {
    let home = Home::initialised();
    let said = home.faulty(fault).exits(3);
    assert!(said.stderr.contains(told), "{fault}: {}", said.stderr);
    let snapshots = home.restic_snapshots();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0]["tags"], serde_json::json!(["hapi-weekly"]));
    home.restic(&["check", "--read-data"]);
    home.snapshot().exits(0);
    assert_eq!(home.restic_snapshots().len(), 2);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_stream_that_breaks_in_the_middle() {
    refuses_the_main_series("break:hapi.db", "broke at byte");
}

#[test]
fn a_stream_that_ends_early() {
    refuses_the_main_series("short:hapi.db", "ended after");
}

#[test]
fn a_stream_that_is_longer_than_declared() {
    refuses_the_main_series("long:hapi.db", "is longer than");
}

#[test]
fn a_stream_that_cannot_be_opened() {
    refuses_the_main_series("open:hapi.db", "could not be opened");
}

#[test]
fn a_small_file_that_fails_counts_as_much() {
    refuses_the_main_series("short:hub.env.age", "ended after");
}

#[test]
fn when_no_series_is_saved_the_run_has_failed() {
    // The manifest is in every series.
    refuses("open:.hapi-manifest.json", "could not be opened");
}

#[test]
fn what_sqlite_finds_beside_the_archive_is_in_the_snapshot_and_costs_no_second_copy() {
    let home = Home::initialised();
    let database = home.database();
    // As large as to be told from all else, and of what does not compress.
    sqlite3(
        &database,
        "CREATE TABLE noise(n INTEGER PRIMARY KEY, b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) INSERT INTO noise SELECT i, randomblob(1000) FROM n; PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let mut bytes = fs::read(&database).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0);
    fs::write(&database, &bytes).unwrap();

    let said = home.hapi_command(&["-v", "snapshot"]).exits(3);
    assert!(
        said.stderr
            .contains("did not end as presumed: it is written again"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("DAMAGED"), "{}", said.stderr);
    assert_eq!(
        home.ids("hapi").len(),
        1,
        "the one that presumed is not there"
    );
    let manifest = home.manifest("hapi");
    let sources = manifest["sources"].as_array().unwrap();
    let hub = sources.iter().find(|s| s["name"] == "hapi.db").unwrap();
    let entry = &hub["entries"][0];
    assert_eq!(hub["outcome"], "damaged");
    assert_eq!(entry["database"]["integrity"]["verdict"], "damaged");
    let stored = home.dump("hapi", &database);
    assert_eq!(
        hex::encode(Sha256::digest(&stored)),
        entry["sha256"].as_str().unwrap()
    );
    home.restic(&["check", "--read-data"]);
    let packs = files_below(&home.repository().join("data"));
    let packs: u64 = packs.iter().map(|(_, size)| size).sum();
    assert!(
        packs < bytes.len() as u64 * 3 / 2,
        "{packs} bytes for {}",
        bytes.len()
    );
}

/// Whether the database was read into the repository once more: a run in which its stream breaks then fails.
fn reads_the_database(home: &Home, time: Option<&str>) -> bool {
    let mut command = home.command();
    command
        .env("RUSTIC_HAPI_TEST_FAULT", "break:hapi.db")
        .args(["snapshot", "--no-forget"]);
    if let Some(time) = time {
        command.env("RUSTIC_HAPI_TEST_NOW", time);
    }
    let said = crate::common::Said::from(command.output().unwrap());
    match said.code {
        0 => false,
        _ => {
            assert!(said.stderr.contains("broke at byte"), "{said:?}");
            true
        }
    }
}

/// What the last run proved to be in the repository is not read again, and nothing but its hash counts.
#[test]
fn bytes_on_record_are_not_read_again() {
    let home = Home::initialised();
    assert!(reads_the_database(&home, None), "there is no record yet");
    home.snapshot().exits(0);
    assert!(!reads_the_database(&home, None));
    let record = home.state().join("proven.json");
    assert_eq!(
        fs::metadata(&record).unwrap().permissions().mode() & 0o777,
        0o600
    );

    // Same size, same times, other bytes.
    let status = home.hapi("driver-status.json");
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let (before, text) = (time(&status), fs::read_to_string(&status).unwrap());
    fs::write(&status, text.replace("idle", "busy")).unwrap();
    let file = fs::File::options().write(true).open(&status).unwrap();
    file.set_modified(before).unwrap();
    assert!(
        reads_the_database(&home, None),
        "the engine would take the old file for the new one"
    );
    home.snapshot().exits(0);
    assert_eq!(
        home.dump("hapi", &status),
        text.replace("idle", "busy").as_bytes()
    );
    let before = time(&home.database());
    sqlite3(
        &home.database(),
        "UPDATE sessions SET updated_at = updated_at + 1 WHERE rowid = 1; PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let file = fs::File::open(home.database()).unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    assert!(reads_the_database(&home, None));
    home.snapshot().exits(0);
    let copy = home.dir.path().join("copy.db");
    fs::write(&copy, home.dump("hapi", &home.database())).unwrap();
    let sum = "SELECT sum(updated_at) FROM sessions";
    assert_eq!(sqlite3(&copy, sum), sqlite3(&home.database(), sum));

    // With a file that is new in its size or time, the rest is still known.
    fs::write(&status, "{\"state\":\"another\"}\n").unwrap();
    assert!(!reads_the_database(&home, None));
    assert_eq!(home.dump("hapi", &status), b"{\"state\":\"another\"}\n");

    // After a week all is read, and a record that is odd is none.
    let in_days = |days| (chrono::Utc::now() + chrono::TimeDelta::days(days)).to_rfc3339();
    assert!(!reads_the_database(&home, Some(&in_days(6))));
    assert!(reads_the_database(&home, Some(&in_days(8))));
    assert!(
        reads_the_database(&home, Some(&in_days(-1))),
        "a record of the future"
    );
    fs::write(&record, "{\"version\":1,\"series\":{").unwrap();
    assert!(reads_the_database(&home, None));
    home.snapshot().exits(0);
    // Nor is one whose snapshot is gone.
    let all = home.ids("hapi");
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    home.restic(&[&["forget", "-q"], &all[..]].concat());
    assert!(reads_the_database(&home, None));
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

/// The engine does not look whether a tree that it takes from a parent is still there.
#[test]
fn a_tree_that_is_gone_is_written_anew() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let packs = |home: &Home| files_below(&home.repository().join("data"));
    let first = packs(&home);
    // Its database has other chunks, and the folders that nothing happened in are those of the first.
    home.change();
    home.snapshot().exits(0);
    // All that the first run wrote is lost.
    for (pack, _) in &first {
        fs::remove_file(pack).unwrap();
    }
    home.restic(&["rebuild-index", "-q"]);
    home.hapi_command(&["snapshot", "--all"]).exits(0);
    home.hapi_command(&["drill"]).exits(0);
}
