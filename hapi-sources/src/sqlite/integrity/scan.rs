//! A scan reads a table and each of its indexes once, and vouches for them where every index has exactly the
//! table's rows, is in strict order, and unique where it says so; a table WITHOUT ROWID is in the strict order of its
//! primary key, too.

use std::cmp::Ordering;
use std::mem;
use std::path::Path;

use rusqlite::Connection;

use super::super::at_rest::open;
use super::computed;
use super::doubt::{Doubt, Halt};
use super::record::{Fields, Record, Value};
use super::shape::{self, From, Index, Order, Part, Table};
use super::sum::{Key, Sum};
use super::tree::{Entry, Kind, Pages};
use crate::stop::Stop;

/// A table that the scan does not vouch for.
pub(super) struct Doubtful {
    pub(super) table: String,
    /// Partial indexes with more entries than there are rows for them, which SQLite's check does not see.
    pub(super) surplus: Vec<String>,
}

/// The tables of a database that SQLite has to look at itself. A doubt of the whole database is an error.
pub(super) fn doubtful(copy: &Path, stop: &Stop) -> Result<Vec<Doubtful>, Halt> {
    let db = open(copy, stop)?;
    let scan = Scan {
        db,
        pages: Pages::open(copy)?,
        key: Key::random()?,
        stop,
    };
    let mut doubtful = Vec::new();
    for (table, without_rowid) in shape::tables(&scan.db)? {
        let read = Table::read(&scan.db, &table, without_rowid);
        match read.and_then(|table| scan.table(&table)) {
            Ok(surplus) if surplus.is_empty() => {}
            Ok(surplus) => doubtful.push(Doubtful { table, surplus }),
            Err(Halt::Doubt) => doubtful.push(Doubtful {
                table,
                surplus: Vec::new(),
            }),
            Err(failed) => return Err(failed),
        }
    }
    Ok(doubtful)
}

struct Scan<'a> {
    db: Connection,
    pages: Pages,
    key: Key,
    stop: &'a Stop,
}

impl Scan<'_> {
    /// Returns the partial indexes that have entries for no row.
    fn table(&self, table: &Table) -> Result<Vec<String>, Halt> {
        // Where a table is read by SQL, that does for its other indexes, too; but not for the order of its key.
        let by_sql = matches!(table.order, Order::Rowid)
            && table.indexes.iter().any(|index| table.computes(index));
        let (computed, plain): (Vec<_>, Vec<_>) = table
            .indexes
            .iter()
            .partition(|index| by_sql || table.computes(index));
        let rows = self.rows(table, &plain)?;
        let computed_rows = computed::sums(&self.db, table, &computed, &self.key)?;
        let mut surplus = Vec::new();
        let indexes = plain.into_iter().chain(computed);
        for (index, rows) in indexes.zip(rows.into_iter().chain(computed_rows)) {
            let entries = self.entries(index)?;
            if index.partial && entries.count > rows.count {
                surplus.push(index.name.clone());
            } else if entries != rows {
                return Err(Halt::Doubt);
            }
        }
        Ok(surplus)
    }

    /// The entries of an index, in order.
    fn entries(&self, index: &Index) -> Result<Sum, Halt> {
        let mut sum = Sum::default();
        let mut order = InOrder::of(&index.parts, index.unique);
        let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
        let each = |entry: Entry<'_>| {
            let record = order.next();
            if !record.take(&entry.payload, index.parts.len(), &mut buffer)? {
                return Err(Halt::Doubt);
            }
            bytes.clear();
            for (i, part) in index.parts.iter().enumerate() {
                let value = record.value(i)?.ok_or(Doubt)?;
                value.encode(part.likeness(), &mut bytes);
            }
            sum.add(&self.key, &bytes);
            order.rises(|i| i)
        };
        self.pages
            .walk(index.root, Kind::Records, self.stop, each)?;
        Ok(sum)
    }

    /// What the rows of a table make of each of these indexes.
    fn rows(&self, table: &Table, indexes: &[&Index]) -> Result<Vec<Sum>, Halt> {
        let mut sums = vec![Sum::default(); indexes.len()];
        let (kind, key) = match &table.order {
            Order::Rowid if indexes.is_empty() => return Ok(sums),
            Order::Rowid => (Kind::Rows, &[][..]),
            Order::Key { parts, .. } => (Kind::Records, &parts[..]),
        };
        let field = |part: &Part| match part.from {
            From::Column(i) => table.columns.get(i).and_then(|c| c.field),
            _ => None,
        };
        let parts = || indexes.iter().flat_map(|i| &i.parts).chain(key);
        let wanted = parts().filter_map(field).max().map_or(0, |last| last + 1);
        let mut order = InOrder::of(key, true);
        let mut fields = Fields::default();
        let (mut buffer, mut other, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        let each = |entry: Entry<'_>| {
            let payload = &entry.payload;
            let (fields, record) = match kind {
                Kind::Rows => {
                    let end = fields.find(payload, wanted, &mut other)?;
                    (&fields, payload.first(end, &mut buffer)?)
                }
                Kind::Records => {
                    let record = order.next();
                    record.take(payload, wanted, &mut buffer)?;
                    (&record.fields, &record.bytes[..])
                }
            };
            let row = Row {
                table,
                rowid: entry.rowid,
                fields,
                bytes: record,
            };
            for (index, sum) in indexes.iter().zip(&mut sums) {
                bytes.clear();
                for part in &index.parts {
                    row.value(part.from)?.encode(part.likeness(), &mut bytes);
                }
                sum.add(&self.key, &bytes);
            }
            match kind {
                Kind::Rows => Ok(()),
                Kind::Records => order.rises(|i| field(&key[i]).unwrap_or(usize::MAX)),
            }
        };
        self.pages.walk(table.root, kind, self.stop, each)?;
        Ok(sums)
    }
}

struct Row<'a> {
    table: &'a Table,
    rowid: i64,
    fields: &'a Fields,
    bytes: &'a [u8],
}

impl<'a> Row<'a> {
    fn value(&self, from: From) -> Result<Value<'a>, Doubt> {
        let column = match from {
            From::Rowid => return Ok(Value::Int(self.rowid)),
            From::Column(i) => self.table.columns.get(i).ok_or(Doubt)?,
            From::Expression => return Err(Doubt),
        };
        if column.is_rowid {
            return Ok(Value::Int(self.rowid));
        }
        let field = column.field.ok_or(Doubt)?;
        match self.fields.value(field, self.bytes)? {
            Some(value) => Ok(value),
            None if column.missing_is_null => Ok(Value::Null),
            None => Err(Doubt),
        }
    }
}

/// Compares each record with the one before.
struct InOrder<'a> {
    parts: &'a [Part],
    unique: bool,
    before: Record,
    now: Record,
    is_first: bool,
}

impl<'a> InOrder<'a> {
    fn of(parts: &'a [Part], unique: bool) -> Self {
        Self {
            parts,
            unique,
            before: Record::default(),
            now: Record::default(),
            is_first: true,
        }
    }

    /// Where the next record goes.
    #[inline]
    fn next(&mut self) -> &mut Record {
        mem::swap(&mut self.before, &mut self.now);
        &mut self.now
    }

    /// Whether it comes after the one before: by its key alone where that is unique, and has no NULL.
    #[inline]
    fn rises(&mut self, field: impl Fn(usize) -> usize) -> Result<(), Halt> {
        if mem::take(&mut self.is_first) {
            return Ok(());
        }
        let mut has_null = false;
        for (i, part) in self.parts.iter().enumerate() {
            if self.unique && !has_null && !part.is_key {
                break;
            }
            let now = self.now.value(field(i))?.ok_or(Doubt)?;
            let before = self.before.value(field(i))?.ok_or(Doubt)?;
            has_null |= now.is_null();
            let order = before.compare(now, part.by);
            match if part.descending {
                order.reverse()
            } else {
                order
            } {
                Ordering::Less => return Ok(()),
                Ordering::Equal => {}
                Ordering::Greater => return Err(Halt::Doubt),
            }
        }
        Err(Halt::Doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of such a database that a scan does not vouch for.
    fn doubted(sql: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        match doubtful(&path, &Stop::default()) {
            Ok(doubtful) => doubtful.into_iter().map(|d| d.table).collect(),
            Err(Halt::Doubt) => vec!["everything".to_owned()],
            Err(Halt::Failed(e)) => panic!("{e}"),
        }
    }

    /// What a hub has must not cost a look-up for each row.
    #[test]
    fn a_hubs_tables_are_vouched_for() {
        let schema = [
            include_str!("../../../tests/hub/plain.sql"),
            include_str!("../../../tests/hub/search.sql"),
        ];
        let rows = "
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
            INSERT INTO messages (id, session_id, content, created_at, seq, local_id, invoked_at)
                SELECT hex(i), 's' || i % 7, zeroblob(i * 10), i, i, nullif('l' || i, 'l3'), nullif(i % 3, 1) FROM n;
            INSERT INTO message_content_search_short SELECT substr(id, 1, 2), seq FROM messages;
            INSERT INTO message_content_search (searchable_text) SELECT 'text ' || id FROM messages;
            INSERT INTO message_content_search_lookup (message_id, target_message_id)
                SELECT id, session_id FROM messages";
        let sql = ["PRAGMA foreign_keys = OFF;", schema[0], schema[1], rows].concat();
        assert_eq!(doubted(&sql), [""; 0]);
    }

    #[test]
    fn what_is_not_understood_is_doubted() {
        let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
            INSERT INTO t (a, b) SELECT i % 50, i * 0.5 FROM n";
        for (sql, expected) in [
            (
                "CREATE TABLE t (a, b REAL); CREATE INDEX i ON t (b DESC, a)",
                &[][..],
            ),
            (
                "CREATE TABLE t (a, b, PRIMARY KEY (b DESC, a)) WITHOUT ROWID",
                &[],
            ),
            (
                "CREATE TABLE t (a, b); CREATE INDEX i ON t (a) WHERE b > 7",
                &[],
            ),
            (
                "CREATE TABLE t (a, b, c AS (a + b)); CREATE INDEX i ON t (c)",
                &[],
            ),
            (
                "CREATE TABLE t (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID; CREATE INDEX i ON t (a + b)",
                &[],
            ),
            // An integer of 2^53 and more is not what SQL reads of it.
            (
                "CREATE TABLE t (a, b REAL); CREATE INDEX i ON t (b) WHERE a; INSERT INTO t VALUES (1, 1e17)",
                &["t"],
            ),
            (
                "PRAGMA encoding = 'UTF-16'; CREATE TABLE t (a, b UNIQUE)",
                &["everything"],
            ),
        ] {
            assert_eq!(doubted(&format!("{sql}; {rows}")), expected, "{sql}");
        }
        let late = "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2);
            ALTER TABLE t ADD COLUMN c DEFAULT 7; CREATE INDEX i ON t (c)";
        assert_eq!(doubted(late), ["t"]);
    }
}
