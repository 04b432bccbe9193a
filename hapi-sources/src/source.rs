//! A source is one row of a profile, with its path made absolute: what to take, and how.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::SourceError;

/// How a source's path is turned into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file that is encrypted to age recipients before anything else sees it.
    Secret,
    /// A live SQLite database, copied by SQLite's online backup API.
    Sqlite,
    /// One file, symbolic links followed to its content.
    File,
    /// All files that match a pattern.
    Glob,
    /// A folder with everything below it.
    Dir,
}

/// What a glob leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Only what git cannot give back: untracked, ignored, or changed since `HEAD`.
    GitUntracked,
    /// The unfinished line at the end of a file that grows line by line: what it had when it was opened is taken, up
    /// to its last whole line, however it goes on. A compressed one (`.zstd`, `.zst`) is taken up to that size.
    WholeLines,
}

/// How much a copy of a database is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IntegrityCheck {
    /// All that `PRAGMA integrity_check` finds: indexes are compared with their tables.
    #[default]
    Full,
    /// What `PRAGMA quick_check` finds: the same without that comparison.
    Quick,
}

impl IntegrityCheck {
    /// Whether what this check finds nothing in is nothing to the other one, either.
    pub fn covers(self, other: Self) -> bool {
        self == Self::Full || self == other
    }
}

/// Which files the path of a [`Kind::Secret`] stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The file itself.
    #[default]
    File,
    /// The file that this member of the JSON object in it names. Nothing, where there is no such member, or where
    /// another source names that file by its path.
    NamedBy {
        /// The member.
        key: String,
        /// What a leading `~` of its value stands for.
        home: PathBuf,
    },
    /// Every regular file below the folder that no other source takes, up to [`LARGEST_REST`](crate::LARGEST_REST)
    /// bytes. `exclude` counts.
    Rest,
}

/// A column of a table, written `table.column`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Column {
    /// The table's name, as in the schema.
    pub table: String,
    /// The column's name.
    pub column: String,
}

impl FromStr for Column {
    type Err = SourceError;

    fn from_str(s: &str) -> Result<Self, SourceError> {
        match s.split_once('.') {
            Some((table, column)) if !table.is_empty() && !column.is_empty() => Ok(Self {
                table: table.to_owned(),
                column: column.to_owned(),
            }),
            _ => Err(SourceError::NotAColumn(s.to_owned())),
        }
    }
}

impl TryFrom<String> for Column {
    type Error = SourceError;

    fn try_from(s: String) -> Result<Self, SourceError> {
        s.parse()
    }
}

impl From<Column> for String {
    fn from(c: Column) -> Self {
        c.to_string()
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.column)
    }
}

/// One row of a profile: what to take, and how.
///
/// `path` is absolute. For [`Kind::Glob`], and for [`Kind::Sqlite`] where it holds one of `*?[`,
/// it is a pattern: `*` does not cross folders, `**` does, a leading dot is not special.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Unique within a profile; the name in manifests and reports.
    pub name: String,
    /// How the path is turned into bytes.
    pub kind: Kind,
    /// The absolute path, or pattern.
    pub path: PathBuf,
    /// What the path begins with that is no pattern, whatever its characters: somebody's home.
    pub literal: PathBuf,
    /// For secrets: which files that means.
    pub scope: Scope,
    /// For globs: what to leave out.
    pub filter: Option<Filter>,
    /// For globs, folders and [`Scope::Rest`]: patterns, relative to the folder, of what is left out.
    pub exclude: Vec<String>,
    /// Whether absence is a failure.
    pub required: bool,
    /// For databases: the tables whose rows are counted.
    pub count: Vec<String>,
    /// For databases: the columns whose newest value is noted.
    pub newest: Vec<Column>,
    /// For databases: which check the copy goes through.
    pub integrity: IntegrityCheck,
}

impl Source {
    /// A required source with no filter, counts or exclusions.
    pub fn new(name: impl Into<String>, kind: Kind, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            kind,
            path: path.into(),
            literal: PathBuf::new(),
            scope: Scope::File,
            filter: None,
            exclude: Vec::new(),
            required: true,
            count: Vec::new(),
            newest: Vec::new(),
            integrity: IntegrityCheck::Full,
        }
    }

    /// Whether the path is a pattern rather than one path.
    pub fn is_pattern(&self) -> bool {
        self.kind == Kind::Glob
            || (self.kind == Kind::Sqlite
                && self
                    .path
                    .strip_prefix(&self.literal)
                    .unwrap_or(&self.path)
                    .as_os_str()
                    .as_encoded_bytes()
                    .iter()
                    .any(|b| b"*?[".contains(b)))
    }
}
