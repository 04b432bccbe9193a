//! The full check finds what SQLite's `integrity_check` finds, and nothing else: both look at databases of many
//! shapes, in each of which something was changed. Apart from that are FTS5's comparison of its index with its text, which
//! is left out on purpose, and surplus entries of partial indexes, which SQLite does not see.
//!
//! The short form is some hundred changes; `just faults 200` makes 20,000.

mod plans;
mod subject;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hapi_sources::{Integrity, IntegrityCheck, Stop, examine};
use rusqlite::{Connection, ErrorCode};

use crate::dice::{Dice, rounds};
use plans::PLANS;
use subject::Subject;

/// What SQLite says: its findings, or that it cannot look.
fn sqlites(path: &Path, pragma: &str) -> Option<Vec<String>> {
    let db = Connection::open(path).unwrap();
    let mut findings = Vec::new();
    let mut run = || -> rusqlite::Result<()> {
        let mut statement = db.prepare(&format!("PRAGMA {pragma}(1000)"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            findings.push(String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned());
        }
        Ok(())
    };
    match run() {
        Ok(()) => {}
        Err(e)
            if matches!(
                e.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) =>
        {
            findings.push(e.to_string());
        }
        Err(_) => return None,
    }
    let fts5s_own = [
        "malformed inverted index for FTS5",
        "unable to validate the inverted index for FTS5",
        "fts5: ",
    ];
    findings.retain(|f| f != "ok" && !fts5s_own.iter().any(|own| f.starts_with(own)));
    Some(findings)
}

#[derive(Default)]
struct Tally {
    changes: u64,
    found: u64,
    beyond_quick: u64,
    surplus: u64,
    unable: u64,
}

impl Tally {
    fn compare(&mut self, path: &Path, about: &str) {
        let integrity = examine(path, &[], &[], IntegrityCheck::Full, &Stop::default())
            .unwrap_or_else(|e| panic!("{about}: {e:?}"))
            .2
            .integrity;
        let Some(expected) = sqlites(path, "integrity_check") else {
            self.unable += 1;
            return;
        };
        self.changes += 1;
        match (&expected[..], &integrity) {
            ([], Integrity::Ok) => {}
            ([], Integrity::Damaged { findings })
                if findings
                    .iter()
                    .all(|f| f.starts_with("more entries than rows in index")) =>
            {
                self.surplus += 1;
            }
            ([_, ..], Integrity::Damaged { .. }) => {
                self.found += 1;
                let quick = sqlites(path, "quick_check");
                self.beyond_quick += u64::from(quick.is_some_and(|found| found.is_empty()));
            }
            _ => {
                let kept = std::env::temp_dir().join("integrity-differs.db");
                fs::copy(path, &kept).unwrap();
                let expected = expected.first();
                panic!(
                    "{about}: SQLite says {expected:?}, we say {integrity:?}; it is in {kept:?}"
                );
            }
        }
    }
}

#[test]
fn the_full_check_finds_what_sqlites_own_finds() {
    let mut dice = Dice::new("the_full_check_finds_what_sqlites_own_finds");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subject.db");
    let plans = PLANS.iter().map(|plan| Subject::make(plan, dir.path()));
    let subjects: Vec<_> = plans.chain([Subject::fork(dir.path())]).collect();
    for subject in &subjects {
        fs::write(&path, &subject.bytes).unwrap();
        assert_eq!(
            sqlites(&path, "integrity_check").unwrap(),
            [""; 0],
            "{}",
            subject.name
        );
        Tally::default().compare(&path, subject.name);
    }
    let mut tallies = BTreeMap::<_, Tally>::new();
    for subject in &subjects {
        let rewrites = subject.rewrites.iter();
        let rewritten = rewrites.filter_map(|rewrite| subject.rewritten(*rewrite, &path));
        let rewritten: Vec<_> = rewritten.collect();
        for (bytes, what) in rewritten.into_iter().chain(subject.without_indexes(&path)) {
            fs::write(&path, bytes).unwrap();
            let about = format!("{}, {what}", subject.name);
            tallies
                .entry(subject.name)
                .or_default()
                .compare(&path, &about);
        }
    }
    let mut round = 0;
    while round < rounds(4) * 100 {
        let subject = dice.one_of(&subjects);
        let Some((bytes, what)) = subject.mutated(&mut dice) else {
            continue;
        };
        round += 1;
        fs::write(&path, bytes).unwrap();
        let about = format!("round {round}, {}, {what}", subject.name);
        tallies
            .entry(subject.name)
            .or_default()
            .compare(&path, &about);
    }
    for (name, tally) in tallies {
        println!(
            "{name}: {} changes, in {} SQLite found something, in {} of them only beyond quick_check; {} with surplus \
             entries; {} that SQLite cannot check",
            tally.changes, tally.found, tally.beyond_quick, tally.surplus, tally.unable
        );
    }
}
