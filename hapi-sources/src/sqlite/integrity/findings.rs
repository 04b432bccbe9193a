//! A finding is what SQLite says of a damage, followed by what it means and what helps.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::super::at_rest::quoted;

/// Findings that are kept; the first ones tell.
pub(super) const FINDINGS: usize = 20;

/// A table or an index, by the first page of its tree.
struct Owner {
    root: u32,
    name: String,
    is_index: bool,
}

/// SQLite's findings, with what helps where it is mentioned first.
pub(super) fn worded(db: &Connection, mut findings: Vec<String>) -> Vec<String> {
    findings.truncate(FINDINGS);
    let owners = owners(db).unwrap_or_default();
    let mut said = BTreeSet::new();
    for finding in &mut findings {
        for remedy in remedies(finding, &owners) {
            if said.insert(remedy.clone()) {
                finding.push_str("; ");
                finding.push_str(&remedy);
            }
        }
    }
    findings
}

/// What is said of an index that has more entries than its table has rows for it.
pub(super) fn surplus(index: &str) -> String {
    format!(
        "more entries than rows in index {index}; {}",
        reindex(index)
    )
}

fn owners(db: &Connection) -> rusqlite::Result<Vec<Owner>> {
    let sql = "SELECT rootpage, name, type = 'index' FROM sqlite_schema WHERE rootpage > 0";
    let owner = |row: &rusqlite::Row<'_>| {
        Ok(Owner {
            root: row.get(0)?,
            name: row.get(1)?,
            is_index: row.get(2)?,
        })
    };
    db.prepare(sql)?.query_map([], owner)?.collect()
}

fn remedies(finding: &str, owners: &[Owner]) -> Vec<String> {
    let index = |before: &str| Some(finding.split_once(before)?.1);
    if let Some(index) = index("non-unique entry in index ") {
        let reindex = quoted(index);
        return vec![format!(
            "two rows have the same key: change or delete one, then run `REINDEX {reindex}`"
        )];
    }
    for before in [
        "wrong # of entries in index ",
        " missing from index ",
        " values differ from index ",
        " of index ",
    ] {
        if let Some(index) = index(before) {
            return vec![reindex(index)];
        }
    }
    if let Some(rest) = finding.strip_prefix("index ")
        && let Some((index, _)) = rest.split_once(" stores an imprecise ")
    {
        return vec![reindex(index)];
    }
    let in_tree = |owner: &&Owner| finding.contains(&format!("Tree {} page ", owner.root));
    let owners = owners.iter().filter(in_tree);
    let of = |owner: &Owner| match owner.is_index {
        true => format!("tree {} is an index: {}", owner.root, reindex(&owner.name)),
        false => format!(
            "tree {} is the table {}: rows may be lost; `.recover` of the program `sqlite3` saves what it can",
            owner.root, owner.name
        ),
    };
    owners.map(of).collect()
}

fn reindex(index: &str) -> String {
    let name = quoted(index);
    format!("`REINDEX {name}` rebuilds the index from its table without losing a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_helps_once() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (a, b UNIQUE); CREATE INDEX \"by a\" ON t (a)")
            .unwrap();
        let said = [
            "row 1 missing from index by a",
            "row 2 missing from index by a",
            "non-unique entry in index sqlite_autoindex_t_1",
            "*** in database main ***\nTree 2 page 2: x\nTree 4 page 7: y\nPage 9: never used",
            "NULL value in t.a",
        ];
        let worded = worded(&db, said.map(str::to_owned).to_vec());
        let remedy = "`REINDEX \"by a\"` rebuilds the index from its table without losing a row";
        assert_eq!(worded[0], format!("{}; {remedy}", said[0]));
        assert_eq!(worded[1], said[1]);
        assert!(worded[2].ends_with("then run `REINDEX \"sqlite_autoindex_t_1\"`"));
        assert!(worded[3].contains("tree 2 is the table t: rows may be lost"));
        assert!(worded[3].ends_with(&format!("tree 4 is an index: {remedy}")));
        assert_eq!(worded[4], said[4]);
    }
}
