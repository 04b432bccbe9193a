//! The integrity of a database: all that SQLite's `integrity_check` finds, at the speed of reading.
//!
//! What `integrity_check` proves beyond `quick_check`, read in SQLite 3.54.1 (`pragma.c`, "Case: integrity_check",
//! where `isQuick` stands; both run the same `sqlite3BtreeIntegrityCheck` and count the entries of full
//! indexes), is of each table:
//!
//! - WITHOUT ROWID: each row comes after the one before, by the primary key (`OP_IdxGT`);
//! - for each index and each row for which its WHERE is true: the index has the row's values with its rowid or
//!   primary key, by the collations (`OP_Found`); the rowid is the end of the entry; text in the key has the
//!   row's bytes, also where the collation is not BINARY (`OP_Ne`); in a UNIQUE index the next entry has another
//!   key, unless a value of it is NULL.
//!
//! That is a look-up in random order for each row and index. Here both are read once, in their own order (`scan.rs`):
//! an index that is in strict order and has the same entries as the table's rows make passes every look-up. The scans
//! only vouch. Whatever they do not vouch for, since they do not understand it (UTF-16, collations of others, …) or since
//! something is wrong, SQLite checks itself, table by table, and its word counts. It sees no surplus entries in a
//! partial index; of those alone the scan's count does.

mod computed;
mod doubt;
mod findings;
mod record;
mod scan;
mod shape;
mod sqlites_own;
mod sum;
mod tree;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::at_rest::Failed;
use crate::facts::Integrity;
use crate::source::IntegrityCheck;
use crate::stop::Stop;
use doubt::Halt;
use scan::Doubtful;
use sqlites_own::{Said, SqlitesOwn};

const FULL: &str = "integrity_check";
const QUICK: &str = "quick_check";

/// Checks a database that nobody changes.
pub(super) fn integrity(
    copy: &Path,
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<Integrity, Failed> {
    let verdict = checked(copy, check, stop);
    match stop.is_set() {
        true => Err(Failed::Stopped),
        false => verdict,
    }
}

fn checked(copy: &Path, check: IntegrityCheck, stop: &Stop) -> Result<Integrity, Failed> {
    let mut own = SqlitesOwn::begin(copy, stop)?;
    match check {
        IntegrityCheck::Quick => own.all(QUICK)?,
        IntegrityCheck::Full => full(&mut own, copy, stop)?,
    }
    let Said {
        findings,
        mut unchecked,
    } = own.said;
    unchecked.sort();
    unchecked.dedup();
    Ok(match (&findings[..], &unchecked[..]) {
        ([], []) => Integrity::Ok,
        ([], _) => Integrity::Unchecked { tables: unchecked },
        _ => Integrity::Damaged {
            findings: findings::worded(&own.db, findings),
        },
    })
}

/// The scans beside `quick_check`. Where that finds anything, or cannot look, SQLite has the word on all of it.
fn full(own: &mut SqlitesOwn, copy: &Path, stop: &Stop) -> Result<(), Failed> {
    let in_vain = Arc::new(AtomicBool::new(false));
    let scans_stop = stop.clone().or(Arc::clone(&in_vain));
    let (is_sound, doubtful) = thread::scope(|scope| {
        let scans = thread::Builder::new();
        let scans = scans.spawn_scoped(scope, || scan::doubtful(copy, &scans_stop));
        let quick = own.at_once(QUICK);
        let is_sound = quick.map(|done| done && own.said.findings.is_empty());
        if !matches!(is_sound, Ok(true)) {
            in_vain.store(true, Ordering::SeqCst);
        }
        // Where there is no thread, or it comes to grief, SQLite looks at everything.
        let doubtful = scans.ok().and_then(|scans| scans.join().ok());
        (is_sound, doubtful.unwrap_or(Err(Halt::Doubt)))
    });
    if !is_sound? {
        own.said = Said::default();
        return Ok(own.all(FULL)?);
    }
    match doubtful {
        Err(Halt::Failed(failed)) => Err(failed),
        Err(Halt::Doubt) => Ok(own.all(FULL)?),
        Ok(doubtful) => doubtful.iter().try_for_each(|d| settle(own, d)),
    }
}

fn settle(own: &mut SqlitesOwn, Doubtful { table, surplus }: &Doubtful) -> Result<(), Failed> {
    let before = own.said.findings.len();
    own.table(FULL, table)?;
    if own.said.findings.len() == before {
        let surplus = surplus.iter().map(|index| findings::surplus(index));
        own.said.findings.extend(surplus);
    }
    Ok(())
}
