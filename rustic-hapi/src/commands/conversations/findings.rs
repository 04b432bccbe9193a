//! What came of reading the hub's databases: what the operator should know, and what could not be read.

use std::path::Path;

use crate::error::Error;

/// What came of reading the databases.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// Databases, or snapshots of them, that should have been read and were not, or not to their end.
    pub(crate) unread: u64,
    /// Why the first of them was not.
    pub(super) why: Option<String>,
}

impl Findings {
    pub(super) fn unread(&mut self, warning: String) {
        self.why.get_or_insert_with(|| warning.clone());
        self.warnings.push(warning);
        self.unread += 1;
    }
}

pub(super) fn no_database(found: &Findings) -> Error {
    let why = found.why.as_ref().or(found.warnings.first());
    let why = why.map(|why| format!(": {why}"));
    Error::NoSnapshot {
        fact: format!("no hub's database was found{}", why.unwrap_or_default()),
        hint: "`rustic-hapi snapshots` lists what is there".to_owned(),
    }
}

/// What to say of a database without a hub's tables; nothing where it may well be another program's.
pub(super) fn lacks(path: &Path, tables: &[&str]) -> Option<String> {
    let tables = match tables {
        [one] => format!("table `{one}`"),
        _ if !path.ends_with("hapi.db") => return None,
        several => format!("tables `{}`", several.join("` and `")),
    };
    Some(format!("`{}` has no {tables}", path.display()))
}
