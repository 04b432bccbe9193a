//! What an index has that no row has as it is, SQLite computes: the values of its expressions, and which rows a partial
//! one is of. The texts of both are taken from the index's own SQL.
//!
//! The table is read for it by SQL, and the program that SQLite makes of that must open one tree, the table's, and
//! read it from end to end: an index that answered for the table would vouch for itself.

use std::ops::RangeInclusive;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::super::at_rest::quoted;
use super::doubt::Halt;
use super::record::Value;
use super::shape::{From, Index, Order, Part, Table};
use super::sum::{Key, Sum};

/// A real of SQL's that may stand for an integer that is another: it reads an integer in a column of REAL
/// affinity as a real.
const INEXACT: RangeInclusive<f64> = 9_007_199_254_740_992.0..=9_223_372_036_854_775_808.0;

/// What the rows of a table make of each of these indexes.
pub(super) fn sums(
    db: &Connection,
    table: &Table,
    indexes: &[&Index],
    key: &Key,
) -> Result<Vec<Sum>, Halt> {
    let mut sums = vec![Sum::default(); indexes.len()];
    if indexes.is_empty() {
        return Ok(sums);
    }
    let sql = select(db, table, indexes)?;
    reads_only_the_table(db, table, &sql)?;
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut bytes = Vec::new();
    while let Some(row) = rows.next()? {
        let mut at = 0;
        for (index, sum) in indexes.iter().zip(&mut sums) {
            let is_in: bool = row.get(at)?;
            let values = at + 1..;
            at += 1 + index.parts.len();
            if !is_in {
                continue;
            }
            bytes.clear();
            for (i, part) in values.zip(&index.parts) {
                value(row.get_ref(i)?)?.encode(part.likeness(), &mut bytes);
            }
            sum.add(key, &bytes);
        }
    }
    Ok(sums)
}

fn value(value: ValueRef<'_>) -> Result<Value<'_>, Halt> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Int(i),
        ValueRef::Real(r) if INEXACT.contains(&r.abs()) => return Err(Halt::Doubt),
        ValueRef::Real(r) => Value::real(r)?,
        ValueRef::Text(text) => Value::Text(text),
        ValueRef::Blob(blob) => Value::Blob(blob),
    })
}

/// For each index whether a row is in it, and its values. That is a column and no WHERE, which could be found by
/// looking up.
fn select(db: &Connection, table: &Table, indexes: &[&Index]) -> Result<String, Halt> {
    let mut results = Vec::new();
    for index in indexes {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?1 COLLATE NOCASE";
        let sql: Option<String> = db.query_row(sql, [&index.name], |row| row.get(0))?;
        // The one of a UNIQUE or a PRIMARY KEY has no text, and needs none.
        let Definition { terms, condition } = match &sql {
            Some(sql) => Definition::parse(sql).ok_or(Halt::Doubt)?,
            None => Definition::default(),
        };
        if index.partial != condition.is_some() {
            return Err(Halt::Doubt);
        }
        // A comment may be the last thing in a text.
        results.push(match condition {
            Some(condition) => format!("({condition}\n) IS TRUE"),
            None => "TRUE".to_owned(),
        });
        for (i, part) in index.parts.iter().enumerate() {
            results.push(match (part.from, terms.get(i)) {
                (From::Expression, Some(term)) => format!("({term}\n)"),
                _ => column(table, part)?,
            });
        }
    }
    let by = match &table.order {
        Order::Rowid => "NOT INDEXED".to_owned(),
        Order::Key { index, .. } => format!("INDEXED BY {}", quoted(index)),
    };
    let (results, table) = (results.join(", "), quoted(&table.name));
    Ok(format!("SELECT {results} FROM main.{table} {by}"))
}

/// The name of a column, or one of the rowid that no column has.
fn column(table: &Table, part: &Part) -> Result<String, Halt> {
    let columns = &table.columns;
    match part.from {
        From::Column(i) => Ok(quoted(&columns.get(i).ok_or(Halt::Doubt)?.name)),
        From::Expression => Err(Halt::Doubt),
        From::Rowid => ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|name| !columns.iter().any(|c| c.name.eq_ignore_ascii_case(name)))
            .map(str::to_owned)
            .ok_or(Halt::Doubt),
    }
}

/// Refuses a program that reads anything but the whole table.
fn reads_only_the_table(db: &Connection, table: &Table, sql: &str) -> Result<(), Halt> {
    let mut program = db.prepare(&format!("EXPLAIN {sql}"))?;
    let mut steps = program.query([])?;
    let mut opened = Vec::new();
    let mut from_the_first = false;
    while let Some(step) = steps.next()? {
        let (name, p2): (String, i64) = (step.get("opcode")?, step.get("p2")?);
        from_the_first |= name == "Rewind";
        if name.starts_with("Seek") || name == "Last" {
            return Err(Halt::Doubt);
        }
        if name.to_ascii_lowercase().contains("open") {
            opened.push((name, p2));
        }
    }
    match &opened[..] {
        [(name, root)]
            if name == "OpenRead" && *root == i64::from(table.root) && from_the_first =>
        {
            Ok(())
        }
        _ => Err(Halt::Doubt),
    }
}

/// `CREATE INDEX … ON table (terms) WHERE condition`, in its parts. A text that is parted wrongly makes other values
/// than the index has, so a doubt and never a vouching.
#[derive(Debug, Default, PartialEq)]
struct Definition<'a> {
    /// Without their order.
    terms: Vec<&'a str>,
    condition: Option<&'a str>,
}

impl<'a> Definition<'a> {
    fn parse(sql: &'a str) -> Option<Self> {
        let (mut depth, mut from) = (0, 0);
        let mut terms = Vec::new();
        for (at, token) in (Tokens { sql, at: 0 }) {
            match token {
                "(" => {
                    depth += 1;
                    if depth == 1 {
                        from = at + 1;
                    }
                }
                "," | ")" if depth == 1 => {
                    terms.push(without_order(sql.get(from..at)?));
                    from = at + 1;
                    if token == ")" {
                        let rest = sql.get(from..)?;
                        return Some(Self {
                            terms,
                            condition: condition(rest)?,
                        });
                    }
                }
                ")" => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

/// What follows the list: nothing, or a WHERE.
fn condition(rest: &str) -> Option<Option<&str>> {
    match (Tokens { sql: rest, at: 0 }).next() {
        None => Some(None),
        Some((at, word)) if word.eq_ignore_ascii_case("where") => {
            Some(Some(&rest[at + word.len()..]))
        }
        Some(_) => None,
    }
}

fn without_order(term: &str) -> &str {
    match (Tokens { sql: term, at: 0 }).last() {
        Some((at, word)) if ["asc", "desc"].iter().any(|o| o.eq_ignore_ascii_case(word)) => {
            &term[..at]
        }
        _ => term,
    }
}

/// Words, quoted or not, and single characters, with where they begin; no blanks or comments.
struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.sql[self.at..];
            let first = rest.chars().next()?;
            let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let end_at = |text: &str| rest.find(text).map(|i| i + text.len());
            let (len, is_token) = match first {
                c if c.is_whitespace() => (c.len_utf8(), false),
                '-' if rest.starts_with("--") => (end_at("\n").unwrap_or(rest.len()), false),
                '/' if rest.starts_with("/*") => {
                    let end = rest[2..].find("*/").map(|i| i + 4);
                    (end.unwrap_or(rest.len()), false)
                }
                // A quote that is doubled ends one and begins the next.
                '\'' | '"' | '`' => (rest[1..].find(first)? + 2, true),
                '[' => (end_at("]")?, true),
                c if in_word(c) => (rest.find(|c| !in_word(c)).unwrap_or(rest.len()), true),
                c => (c.len_utf8(), true),
            };
            let at = self.at;
            self.at += len;
            if is_token {
                return Some((at, &rest[..len]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indexs_sql_is_parted() {
        for (sql, terms, condition) in [
            ("CREATE INDEX i ON t (a, b DESC)", vec!["a", " b "], None),
            (
                "CREATE INDEX \"a(b\" ON [t(] (coalesce(a, b) desc, 'x,)' || c COLLATE NOCASE ASC)",
                vec!["coalesce(a, b) ", " 'x,)' || c COLLATE NOCASE "],
                None,
            ),
            (
                "CREATE UNIQUE INDEX i ON t(a -- )\n, /* , */ \"desc\") where b IS NOT NULL -- x",
                vec!["a -- )\n", " /* , */ \"desc\""],
                Some(" b IS NOT NULL -- x"),
            ),
            ("CREATE INDEX i ON t(a''''))", vec!["a''''"], None),
        ] {
            let parsed = Definition::parse(sql);
            match sql.ends_with("))") {
                true => assert_eq!(parsed, None),
                false => assert_eq!(parsed, Some(Definition { terms, condition }), "{sql}"),
            }
        }
        assert_eq!(Definition::parse("CREATE INDEX i ON t(a"), None);
    }

    #[test]
    fn a_program_that_reads_an_index_for_the_table_is_refused() {
        let db = Connection::open_in_memory().unwrap();
        let sql = "CREATE TABLE t (a, b); CREATE INDEX t_a ON t (a);
            CREATE TABLE w (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID; CREATE INDEX w_b ON w (b)";
        db.execute_batch(sql).unwrap();
        for (name, sql, is_read) in [
            ("t", "SELECT a FROM t NOT INDEXED", true),
            ("t", "SELECT a FROM t INDEXED BY t_a", false),
            ("t", "SELECT a FROM t ORDER BY a", false),
            ("t", "SELECT a FROM t WHERE rowid > 7", false),
            ("t", "SELECT count(*) FROM t", false),
            ("w", "SELECT a FROM w INDEXED BY sqlite_autoindex_w_1", true),
            // This one reads w_b.
            ("w", "SELECT a FROM w NOT INDEXED", false),
            ("w", "SELECT a FROM w, t", false),
        ] {
            let Ok(table) = Table::read(&db, name, name == "w") else {
                panic!("{name}");
            };
            let read = reads_only_the_table(&db, &table, sql);
            assert_eq!(read.is_ok(), is_read, "{sql}");
        }
    }
}
