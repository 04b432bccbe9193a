//! The examples of both crates do what they say.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{Home, sqlite3};

/// An example, which `cargo test` builds beside the tests (`--examples` where targets are chosen).
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let built: PathBuf = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        built.exists(),
        "{} is not built: add --examples",
        built.display()
    );
    Command::new(built)
}

#[test]
fn a_snapshot_is_taken_and_drilled() {
    let home = Home::initialised();
    let output = example("snapshot_and_drill")
        .arg(home.profile())
        .env("HOME", home.path())
        .env_remove("HAPI_HOME")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("hapi.db: proven"), "{said}");
    // Both series were due.
    assert_eq!(home.restic_snapshots().len(), 2, "{said}");
}

#[test]
fn any_programs_database_is_copied_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("other.db");
    let writer = rusqlite::Connection::open(&live).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2), (3);",
        )
        .unwrap();
    let copy = folder.path().join("copy.db");
    let run = |copy: &PathBuf| {
        let status = example("copy_database").arg(&live).arg(copy).status();
        status.unwrap().success()
    };
    assert!(run(&copy));
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM t"), "3");
    assert!(!run(&copy), "a copy that is there is not written over");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    // The database with its two side files, the copy, and nothing that was staged.
    assert_eq!(names.len(), 4, "{names:?}");
    drop(writer);
}
