//! Rows as they come: SQLite lets any column hold any type, older hubs lack columns, and others may have written it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

/// The columns to select, in this order; one that the table does not have is null.
pub(super) fn columns(db: &Connection, table: &str, names: &[&str]) -> rusqlite::Result<String> {
    let mut there = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let there: Vec<String> = there
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let listed = names
        .iter()
        .map(|name| match there.iter().any(|t| t == name) {
            true => format!("\"{name}\""),
            false => "NULL".to_owned(),
        });
    Ok(listed.collect::<Vec<_>>().join(", "))
}

/// Whether a table has a column.
pub(super) fn has_column(db: &Connection, table: &str, name: &str) -> rusqlite::Result<bool> {
    let there = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    let there: i64 = db.query_row(there, [table, name], |row| row.get(0))?;
    Ok(there > 0)
}

/// A text, whatever was stored.
pub(super) fn text(row: &Row<'_>, at: usize) -> Option<String> {
    match row.get_ref(at).ok()? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// A number, if it is one.
pub(super) fn number(row: &Row<'_>, at: usize) -> Option<i64> {
    match row.get_ref(at).ok()? {
        ValueRef::Integer(number) => Some(number),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it saturates, and no time is that large"
        )]
        ValueRef::Real(number) => Some(number as i64),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok()?.trim().parse().ok(),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}
