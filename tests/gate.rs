//! The commit gate: a stream that fails in any way leaves no snapshot, a repository that restic
//! finds clean, and a next run that works.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::Home;

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
