//! The shape of a table is what its trees hold: which value stands where in its rows and in the entries of its
//! indexes. It is as SQLite says (`table_list`, `table_xinfo`, `index_list`, `index_xinfo`).

use rusqlite::Connection;

use super::doubt::Halt;
use super::record::Collation;

/// A table with what a scan has to compare.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) root: u32,
    pub(super) order: Order,
    pub(super) indexes: Vec<Index>,
    pub(super) columns: Vec<Column>,
}

/// In what order the rows are.
pub(super) enum Order {
    /// By rowid, which `quick_check` has looked at.
    Rowid,
    /// A table WITHOUT ROWID: by its primary key, which is an index to SQLite.
    Key { index: String, parts: Vec<Part> },
}

pub(super) struct Column {
    pub(super) name: String,
    /// Where it stands in a row's record; nowhere for a generated one that is not stored.
    pub(super) field: Option<usize>,
    /// The name of the rowid.
    pub(super) is_rowid: bool,
    /// A row that was there before the column has NULL for it.
    pub(super) missing_is_null: bool,
}

pub(super) struct Index {
    pub(super) name: String,
    pub(super) root: u32,
    pub(super) unique: bool,
    pub(super) partial: bool,
    pub(super) parts: Vec<Part>,
}

/// A value in the entries of an index.
pub(super) struct Part {
    pub(super) from: From,
    pub(super) descending: bool,
    pub(super) by: Collation,
    /// Of the key. What follows it tells the row.
    pub(super) is_key: bool,
}

/// Where a value of an index comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Rowid,
    /// The column of this number.
    Column(usize),
    Expression,
}

impl Table {
    pub(super) fn read(db: &Connection, name: &str, without_rowid: bool) -> Result<Self, Halt> {
        let mut primary = None;
        let mut indexes = Vec::new();
        let listed = rows(
            db,
            "SELECT name, \"unique\", origin = 'pk', partial FROM pragma_index_list(?1, 'main')",
            name,
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let mut has_key_index = false;
        for (index, unique, is_primary, partial) in listed {
            let index: String = index;
            let parts = parts(db, &index)?;
            has_key_index |= is_primary;
            if without_rowid && is_primary {
                primary = Some((index, parts));
            } else {
                indexes.push(Index {
                    root: root(db, "index", &index)?,
                    name: index,
                    unique,
                    partial,
                    parts,
                });
            }
        }
        let columns = columns(db, name, !has_key_index, primary.as_ref().map(|(_, p)| p))?;
        let order = match primary {
            Some((index, mut parts)) => {
                parts.retain(|part| part.is_key);
                Order::Key { index, parts }
            }
            None if without_rowid => return Err(Halt::Doubt),
            None => Order::Rowid,
        };
        Ok(Self {
            root: root(db, "table", name)?,
            name: name.to_owned(),
            order,
            indexes,
            columns,
        })
    }

    /// Whether an index has what no row has as it is: values to be computed, or only some of the rows.
    pub(super) fn computes(&self, index: &Index) -> bool {
        let is_stored = |part: &Part| match part.from {
            From::Rowid => true,
            From::Column(i) => self.columns.get(i).is_some_and(|c| c.field.is_some()),
            From::Expression => false,
        };
        index.partial || !index.parts.iter().all(is_stored)
    }
}

impl Part {
    /// The text of a key is the same as the row's by its bytes, whatever the collation. What tells the row is found
    /// by the collation.
    pub(super) fn likeness(&self) -> Collation {
        match self.is_key {
            true => Collation::Binary,
            false => self.by,
        }
    }
}

/// The tables that have trees of their own, the shadow tables of virtual ones among them, and whether they are
/// WITHOUT ROWID.
pub(super) fn tables(db: &Connection) -> Result<Vec<(String, bool)>, Halt> {
    let encoding: String = db.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    if encoding != "UTF-8" {
        return Err(Halt::Doubt);
    }
    rows(
        db,
        "SELECT name, wr FROM pragma_table_list WHERE schema = ?1 AND type IN ('table', 'shadow')",
        "main",
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// The parts of an index, in the order of its entries.
fn parts(db: &Connection, index: &str) -> Result<Vec<Part>, Halt> {
    let listed = rows(
        db,
        "SELECT cid, \"desc\", coll, key FROM pragma_index_xinfo(?1, 'main') ORDER BY seqno",
        index,
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let part = |(cid, descending, collation, is_key): (i64, _, String, _)| {
        Ok(Part {
            from: match cid {
                -1 => From::Rowid,
                -2 => From::Expression,
                cid => From::Column(cid.try_into().map_err(|_| Halt::Doubt)?),
            },
            descending,
            by: Collation::named(&collation).ok_or(Halt::Doubt)?,
            is_key,
        })
    };
    listed.into_iter().map(part).collect()
}

/// The columns, and where they are. A table WITHOUT ROWID has them in the order of its primary key's index.
fn columns(
    db: &Connection,
    table: &str,
    key_is_rowid: bool,
    primary: Option<&Vec<Part>>,
) -> Result<Vec<Column>, Halt> {
    let listed = rows(
        db,
        "SELECT name, hidden, pk, coalesce(upper(dflt_value), 'NULL') = 'NULL'
         FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
        table,
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let mut stored = 0;
    let column = |(cid, (name, hidden, pk, default_is_null)): (usize, (_, u32, u32, bool))| {
        // 2 is generated and not stored, 3 generated and stored.
        let field = match primary {
            _ if hidden == 2 => None,
            Some(parts) => parts.iter().position(|p| p.from == From::Column(cid)),
            None => Some(stored),
        };
        stored += usize::from(hidden != 2);
        Column {
            name,
            field,
            is_rowid: key_is_rowid && primary.is_none() && pk > 0,
            missing_is_null: default_is_null && hidden == 0,
        }
    };
    Ok(listed.into_iter().enumerate().map(column).collect())
}

/// The first page of a tree. A name that the schema has twice has none that could be relied on.
fn root(db: &Connection, kind: &str, name: &str) -> Result<u32, Halt> {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE type = ?1 AND name = ?2 COLLATE NOCASE";
    if kind == "table" && name.eq_ignore_ascii_case("sqlite_schema") {
        return Ok(1);
    }
    let mut statement = db.prepare(sql)?;
    let found: Vec<u32> = statement
        .query_map([kind, name], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    match found[..] {
        [root] => Ok(root),
        _ => Err(Halt::Doubt),
    }
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    parameter: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Halt> {
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([parameter], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
