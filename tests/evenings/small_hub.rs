//! A hub with a handful of sessions that is emptied: nine are as much to their owner as nine thousand.

use crate::common::sqlite3;
use crate::evenings::{Evening, suggested};

#[test]
fn a_small_hub_that_is_emptied_is_noticed_and_one_phone_that_unregisters_is_not() {
    let evening = Evening::of_root();
    let home = &evening.home;
    sqlite3(
        &home.database(),
        "DELETE FROM messages WHERE rowid NOT IN (SELECT rowid FROM messages LIMIT 1);
         DELETE FROM sessions WHERE rowid NOT IN (SELECT rowid FROM sessions LIMIT 9)",
    );
    home.snapshot().exits(0);
    // The last machine of a hub that is well.
    sqlite3(&home.database(), "DELETE FROM machines");
    let said = evening.says(&["snapshot"]).exits(0);
    assert!(!said.stderr.contains("shrunk"), "{said:?}");
    evening.says(&["restore", "--in-place", "--yes"]).exits(0);

    for (table, rows) in [("messages", 1), ("sessions", 9)] {
        let count = || sqlite3(&home.database(), &format!("SELECT count(*) FROM {table}"));
        sqlite3(&home.database(), &format!("DELETE FROM {table}"));
        let said = evening.says(&["snapshot"]).exits(0);
        let fact = format!("table {table} of hapi.db went from {rows} to 0 rows");
        assert!(said.stderr.contains(&fact), "{said:?}");
        let plan = evening.says(&["forget", "--dry-run"]).exits(0);
        assert!(
            plan.stdout.contains("last good one before shrunk"),
            "{plan:?}"
        );
        let said = evening.says(&["restore", "--in-place", "--yes"]).exits(2);
        evening.follows(&suggested(&said)[0], &[]).exits(0);
        assert_eq!(count(), rows.to_string());
        evening.says(&["snapshot"]).exits(0);
    }
}

#[test]
fn a_hub_of_which_something_is_always_missing_is_not_emptied_unseen() {
    let evening = Evening::of_root();
    let home = &evening.home;
    // Every snapshot is partial.
    home.edit_profile(|text| {
        text + "\n[[source]]\nname = \"gone\"\npath = \"~/gone\"\nkind = \"file\"\nrequired = true\n"
    });
    evening.says(&["snapshot"]).exits(3);
    home.change();
    evening.says(&["snapshot"]).exits(3);
    let count = || sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    let before = count();
    sqlite3(
        &home.database(),
        "DELETE FROM messages; DELETE FROM sessions",
    );
    let said = evening.says(&["snapshot"]).exits(3);
    assert!(said.stderr.contains("shrunk"), "{said:?}");
    let plan = evening.says(&["forget", "--dry-run"]).exits(0);
    assert!(
        plan.stdout.contains("last good one before shrunk"),
        "{plan:?}"
    );
    let said = evening.says(&["restore", "--in-place", "--yes"]).exits(2);
    evening.follows(&suggested(&said)[0], &[]).exits(0);
    assert_eq!(count(), before);
}
