//! What is known of a database at rest: its integrity, counts, and the file's hash.
//!
//! The check runs beside everything else, on read-only handles of its own: it is the slower part.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::at_rest::{Failed, open, quoted, tables};
use super::hash::Hashed;
use super::header;
use super::integrity::integrity;
use crate::facts::{DatabaseFacts, Integrity, Sha256Hash};
use crate::source::{Column, IntegrityCheck};
use crate::stop::Stop;

/// What to look for in a database.
pub(super) struct Wanted<'a> {
    pub(super) count: &'a [String],
    pub(super) newest: &'a [Column],
}

/// Hash, length and facts of a database that no one changes meanwhile, SQLite's check among them.
pub(super) fn look(
    copy: &Path,
    wanted: &Wanted<'_>,
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<(Sha256Hash, u64, DatabaseFacts), Failed> {
    let (verdict, facts) = thread::scope(|scope| {
        let facts = scope.spawn(|| presumed(copy, wanted, stop));
        (integrity(copy, check, stop), facts.join())
    });
    let broken = |_| io::Error::other("the thread that hashes it panicked");
    let (hashed, mut facts) = facts.map_err(broken)??;
    facts.judge(verdict?);
    Ok((hashed.sha256, hashed.len, facts))
}

/// The same without SQLite's check: as if that found nothing.
pub(super) fn presumed(
    copy: &Path,
    wanted: &Wanted<'_>,
    stop: &Stop,
) -> Result<(Hashed, DatabaseFacts), Failed> {
    let (hashed, facts) = thread::scope(|scope| {
        let facts = scope.spawn(|| facts(copy, wanted, stop));
        (Hashed::of(copy, stop), facts.join())
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
        attachments: attachments(&db).unwrap_or_default(),
    })
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

/// The files that notes name: a JSON list of objects with a `path` of the hub's own notation.
fn attachments(db: &Connection) -> rusqlite::Result<Vec<String>> {
    const IN_THE_HUB: &str = "hapi-hub:scratchlist/";
    let sql = "SELECT attachments FROM main.session_scratchlist WHERE typeof(attachments) = 'text'";
    let mut rows = db.prepare(sql)?;
    let mut rows = rows.query([])?;
    let mut paths = Vec::new();
    while let Some(row) = rows.next()? {
        let list = row.get_ref(0)?.as_str().unwrap_or_default();
        let list: Vec<serde_json::Value> = serde_json::from_str(list).unwrap_or_default();
        let named = list.iter().filter_map(|one| one["path"].as_str());
        let kept = named.filter_map(|path| path.strip_prefix(IN_THE_HUB));
        paths.extend(kept.map(|key| key.trim().to_owned()));
    }
    paths.retain(|path| !path.is_empty());
    paths.sort();
    paths.dedup();
    Ok(paths)
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
