//! What is known of a database at rest: SQLite's own check, counts, and the file's hash.
//!
//! The check runs beside everything else, on a read-only handle of its own: it is the slower part.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::ffi::{self, ErrorCode};
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement};
use sha2::{Digest, Sha256};

use super::hash::Hashed;
use super::header;
use crate::facts::{DatabaseFacts, Integrity, Sha256Hash};
use crate::source::{Column, IntegrityCheck};
use crate::stop::Stop;

/// Findings that are kept; the first ones tell.
const FINDINGS: usize = 20;
/// Virtual-machine steps between two looks at the stop flag.
const STEPS: i32 = 5_000;
/// SQLite's cache, in KiB. Four times as much gains nothing: the file is in the system's cache. Without mmap:
/// mapped pages count as this process's memory, and a disk's error would be a signal.
const CACHE: i32 = 16 << 10;

/// What to look for in a database.
pub(super) struct Wanted<'a> {
    pub(super) count: &'a [String],
    pub(super) newest: &'a [Column],
}

/// Why a look came to nothing.
#[derive(thiserror::Error, Debug)]
pub(super) enum Failed {
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Hash, length and facts of a database that no one changes meanwhile, SQLite's check among them.
pub(super) fn look(
    copy: &Path,
    wanted: &Wanted<'_>,
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<(Sha256Hash, u64, DatabaseFacts), Failed> {
    let (verdict, facts) = thread::scope(|scope| {
        let facts = scope.spawn(|| presumed(copy, None, wanted, stop));
        (integrity(copy, check, stop), facts.join())
    });
    let broken = |_| io::Error::other("the thread that hashes it panicked");
    let (hashed, mut facts) = facts.map_err(broken)??;
    facts.judge(verdict?);
    Ok((hashed.sha256, hashed.len, facts))
}

/// The same without SQLite's check: as if that found nothing. The hash is taken where it is not known.
pub(super) fn presumed(
    copy: &Path,
    hashed: Option<Hashed>,
    wanted: &Wanted<'_>,
    stop: &Stop,
) -> Result<(Hashed, DatabaseFacts), Failed> {
    let (hashed, facts) = thread::scope(|scope| {
        let facts = scope.spawn(|| facts(copy, wanted, stop));
        let hashed = hashed.map_or_else(|| Hashed::of(copy, stop), Ok);
        (hashed, facts.join())
    });
    let hashed = hashed?;
    if stop.is_set() {
        return Err(Failed::Stopped);
    }
    let broken = |_| io::Error::other("the thread that counts panicked");
    let mut facts = facts.map_err(broken)??;
    let len = hashed.len;
    // SQLite reads what is missing of the last page as zeros, and may find nothing wrong.
    if len.checked_rem(u64::from(facts.page_size)).unwrap_or(0) != 0 {
        facts.add_damage("the file ends within a page".to_owned());
    }
    Ok((hashed, facts))
}

/// The names of its tables, as far as the schema can be read.
pub(super) fn tables_of(copy: &Path) -> rusqlite::Result<Vec<String>> {
    let db = open(copy, &Stop::default())?;
    db.execute_batch("PRAGMA writable_schema = ON")?;
    tables(&db)
}

fn open(copy: &Path, stop: &Stop) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let mut db = Connection::open_with_flags(immutable(copy), flags)?;
    let stop = stop.clone();
    let step = move || {
        stop.progressed();
        stop.is_set()
    };
    db.progress_handler(STEPS, Some(step))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

/// Tells SQLite that the file does not change (<https://sqlite.org/uri.html>): it takes no locks,
/// which the closing of the hash's handle would drop, and makes no side files.
fn immutable(copy: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in copy.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02x}")),
        }
    }
    uri + "?immutable=1"
}

/// Everything but the verdict. Fields of the header come from the file itself (offsets after
/// <https://sqlite.org/fileformat2.html>): they are there however damaged the rest is.
fn facts(copy: &Path, wanted: &Wanted<'_>, stop: &Stop) -> Result<DatabaseFacts, Failed> {
    let (header, len) = header::read(&File::open(copy)?)?;
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        n => u32::from(n),
    };
    let user_version = i32::from_be_bytes([header[60], header[61], header[62], header[63]]);
    let page_count = len.checked_div(u64::from(page_size)).unwrap_or(0);
    let db = open(copy, stop)?;
    // As far as it goes: in a damaged database the rest of the schema still counts.
    db.execute_batch("PRAGMA writable_schema = ON")?;
    let rows = wanted
        .count
        .iter()
        .map(|table| (table.clone(), rows(&db, table)));
    let newest = wanted
        .newest
        .iter()
        .map(|c| (c.clone(), newest(&db, &c.table, &c.column)));
    Ok(DatabaseFacts {
        page_size,
        page_count: u32::try_from(page_count).unwrap_or(u32::MAX),
        user_version,
        schema: schema(&db).unwrap_or_default(),
        integrity: Integrity::Ok,
        rows: rows.collect::<BTreeMap<_, _>>(),
        newest: newest.collect(),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the schema has such a table or view. Asked first, because SQLite takes a quoted name
/// that it does not know for a string.
fn exists(db: &Connection, table: &str) -> bool {
    let sql =
        "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
    db.query_row(sql, [table], |_| Ok(())).is_ok()
}

pub(super) fn rows(db: &Connection, table: &str) -> Option<u64> {
    if !exists(db, table) {
        return None;
    }
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    db.query_row(&sql, [], |r| r.get::<_, i64>(0))
        .ok()
        .and_then(|n| n.try_into().ok())
}

pub(super) fn newest(db: &Connection, table: &str, column: &str) -> Option<serde_json::Value> {
    let known = "SELECT 1 FROM pragma_table_xinfo(?1, 'main') WHERE name = ?2 COLLATE NOCASE";
    db.query_row(known, [table, column], |_| Ok(())).ok()?;
    let sql = format!("SELECT max({}) FROM main.{}", quoted(column), quoted(table));
    let value = |r: &rusqlite::Row<'_>| {
        Ok(match r.get_ref(0)? {
            ValueRef::Integer(n) => Some(n.into()),
            ValueRef::Real(f) => serde_json::Number::from_f64(f).map(Into::into),
            ValueRef::Text(t) => Some(String::from_utf8_lossy(t).into_owned().into()),
            ValueRef::Null | ValueRef::Blob(_) => None,
        })
    };
    db.query_row(&sql, [], value).ok().flatten()
}

/// A name for the schema: `user_version` means different things to different forks of a hub.
fn schema(db: &Connection) -> rusqlite::Result<String> {
    let mut rows =
        db.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2, 3")?;
    let mut rows = rows.query([])?;
    let mut hash = Sha256::new();
    while let Some(row) = rows.next()? {
        for i in 0..4 {
            // A byte that UTF-8 does not have ends each field; another stands for NULL.
            match row.get_ref(i)? {
                ValueRef::Text(t) | ValueRef::Blob(t) => hash.update(t),
                _ => hash.update([0xfe]),
            }
            hash.update([0xff]);
        }
    }
    Ok(Sha256Hash(hash.finalize().into()).to_string())
}

#[derive(Default)]
struct Tally {
    findings: Vec<String>,
    unchecked: Vec<String>,
    running: Arc<AtomicBool>,
}

/// Rows are findings, and so is an error that says that the file is malformed. Any other error is
/// not damage: an unknown collation or function, say, keeps SQLite from even preparing the check.
pub(super) fn integrity(
    copy: &Path,
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<Integrity, Failed> {
    let verdict = checked(copy, check, stop);
    match stop.is_set() {
        true => Err(Failed::Stopped),
        false => Ok(verdict?),
    }
}

fn checked(copy: &Path, check: IntegrityCheck, stop: &Stop) -> rusqlite::Result<Integrity> {
    let pragma = match check {
        IntegrityCheck::Full => "integrity_check",
        IntegrityCheck::Quick => "quick_check",
    };
    let mut tally = Tally::default();
    let mut db = open(copy, stop)?;
    tally.spare_search_indexes(&mut db)?;
    let whole = db
        .execute_batch(&format!(
            "PRAGMA cache_size = -{CACHE}; PRAGMA mmap_size = 0"
        ))
        .and_then(|()| tally.run(&db, &format!("PRAGMA {pragma}({FINDINGS})")));
    if let Err(e) = whole
        && tally.unable(e)?
    {
        match tables(&db) {
            Ok(tables) => tables.iter().try_for_each(|table| {
                let sql = format!("PRAGMA {pragma}({})", quoted(table));
                if let Err(e) = tally.run(&db, &sql)
                    && tally.unable(e)?
                {
                    tally.unchecked.push(table.clone());
                }
                Ok::<_, rusqlite::Error>(())
            })?,
            Err(e) => {
                if tally.unable(e)? {
                    tally.unchecked.push("sqlite_schema".into());
                }
            }
        }
    }
    tally.findings.truncate(FINDINGS);
    tally.unchecked.sort();
    tally.unchecked.dedup();
    Ok(match tally {
        Tally { findings, .. } if !findings.is_empty() => Integrity::Damaged { findings },
        Tally { unchecked, .. } if !unchecked.is_empty() => {
            Integrity::Unchecked { tables: unchecked }
        }
        _ => Integrity::Ok,
    })
}

/// The code of a finding that is about the reading of the copy, and not about the copy: SQLite tells an
/// I/O error or a lack of memory in the middle of a check as a row (`btree.c`, `checkTreePage`).
fn own_failure(finding: &str) -> Option<i32> {
    let code: i32 = finding.split("error code=").nth(1)?.trim().parse().ok()?;
    let is_ours = matches!(code & 0xff, ffi::SQLITE_IOERR | ffi::SQLITE_NOMEM)
        // Which a page number beyond the end is told by, too: that is the file's.
        && code != ffi::SQLITE_IOERR_SHORT_READ;
    is_ours.then_some(code)
}

fn tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")?;
    names.query_map([], |r| r.get(0))?.collect()
}

impl Tally {
    /// Keeps the check to b-trees: tables, indexes and pages, the shadow tables of virtual tables
    /// among them.
    ///
    /// Since 3.44 SQLite lets virtual tables have a say at the end of a check, and FTS5 then makes
    /// its whole index anew from the text to compare it: 40 s for 0.6 GB, where everything else
    /// takes 2 s. What it would find, a writer repairs with `rebuild`. It asks by SQL, which nothing
    /// else does while the check runs, and so can be refused.
    fn spare_search_indexes(&self, db: &mut Connection) -> rusqlite::Result<()> {
        let running = Arc::clone(&self.running);
        db.authorizer(Some(move |_: AuthContext<'_>| {
            if running.load(Ordering::Relaxed) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }))
    }

    fn run(&mut self, db: &Connection, sql: &str) -> rusqlite::Result<()> {
        let mut statement = db.prepare(sql)?;
        self.running.store(true, Ordering::Relaxed);
        let outcome = self.collect(&mut statement);
        self.running.store(false, Ordering::Relaxed);
        match outcome {
            // All b-trees were looked at before a virtual table was asked.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied) => {
                Ok(())
            }
            other => other,
        }
    }

    fn collect(&mut self, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
            // FTS5 says so when it cannot look at all: a tokenizer that is not here, say.
            let unable = "unable to validate the inverted index for FTS";
            if text.starts_with(unable) {
                let table = text.split(" table ").nth(1).unwrap_or(&text);
                let table = table.split(": ").next().unwrap_or(table);
                self.unchecked
                    .push(table.strip_prefix("main.").unwrap_or(table).to_owned());
            } else if let Some(code) = own_failure(&text) {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(code),
                    Some(text),
                ));
            } else if text != "ok" {
                self.findings.push(text);
            }
        }
        Ok(())
    }

    /// Whether the error says nothing of the file, only that SQLite is unable to check it here. A
    /// malformed file is a finding; only an interruption, or the failure of our own disk, stays an
    /// error: a copy that SQLite stumbles over is still kept.
    fn unable(&mut self, e: rusqlite::Error) -> rusqlite::Result<bool> {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                self.findings.push(e.to_string());
                Ok(false)
            }
            Some(
                ErrorCode::OperationInterrupted
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Err(e),
            _ => Ok(true),
        }
    }
}
