//! Words of a conversation that somebody looks for: mistyped, deleted, or damaged where they are stored.

use crate::common::sqlite3;
use crate::evenings::{Evening, suggested};

/// The one suggested command that has these words.
#[track_caller]
fn that_has(said: &crate::common::Said, words: &str) -> String {
    let all = suggested(said);
    let found = all.iter().find(|s| s.contains(words));
    found.unwrap_or_else(|| panic!("{words}: {all:?}")).clone()
}

#[test]
fn a_conversation_is_found_as_the_hints_say() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let first = home.ids("hapi").pop().unwrap();
    let of = "SELECT session_id FROM messages GROUP BY session_id ORDER BY count(*) DESC";
    let id = sqlite3(&home.database(), &format!("{of} LIMIT 1"));
    let id = id.trim();

    // Too little of an id, and one that there never was.
    let said = evening.says(&["export", &id[..2]]).exits(2);
    let listed = evening.follows(&that_has(&said, "sessions"), &[]).exits(0);
    assert!(listed.stdout.contains(&id[..8]), "{listed:?}");
    let said = evening.says(&["export", "zzzz", "--all-snapshots"]);
    assert_ne!(said.code, 0);
    evening
        .follows(&that_has(&said, "sessions --all-snapshots"), &[])
        .exits(0);

    // What is stored cannot be read any more: an older snapshot has it.
    sqlite3(
        &home.database(),
        &format!(
            "UPDATE messages SET content = x'28b52ffd0011' WHERE rowid = (SELECT min(rowid) FROM messages WHERE session_id = '{id}')"
        ),
    );
    evening.says(&["snapshot"]).exits(0);
    let said = evening.says(&["sessions", "--search", "nobody said this"]);
    let why = evening.follows(&that_has(&said, "export "), &[]).exits(1);
    assert!(why.stdout.contains("cannot be read: "), "{why:?}");
    let said = evening.says(&["export", id]).exits(1);
    let older = that_has(&said, "--snapshot ID");
    evening.follows(&older, &[("ID", &first)]).exits(0);

    // It was deleted, and then everything was.
    sqlite3(
        &home.database(),
        &format!(
            "DELETE FROM sessions WHERE id = '{id}'; DELETE FROM messages WHERE session_id = '{id}'"
        ),
    );
    evening.says(&["snapshot"]).exits(0);
    let said = evening.says(&["export", id]);
    assert_ne!(said.code, 0);
    // The newest that has it is the one with the message that cannot be read.
    let found = evening.follows(&that_has(&said, "--all-snapshots"), &[]);
    assert!(found.stdout.contains("<!doctype html>"), "{found:?}");
    sqlite3(
        &home.database(),
        "DELETE FROM messages; DELETE FROM sessions",
    );
    evening.says(&["snapshot"]).exits(0);
    let said = evening.says(&["sessions", "--all-snapshots"]).exits(0);
    let named = suggested(&said);
    let named = named.iter().find(|s| s.contains("sessions ")).unwrap();
    evening.follows(named, &[]).exits(0);
}
