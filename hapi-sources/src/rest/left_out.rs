//! What is left out is what lies in a folder, is in no source, and was not taken with the rest.

use std::path::PathBuf;

/// Something that no source takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// A file, a folder, or a symbolic link, as it was found.
    pub path: PathBuf,
    /// Whether it is a folder, or a link that leads to one.
    pub is_folder: bool,
    /// Why it was not taken.
    pub why: Why,
    /// SQLite databases that it is, or that are in it: reading one as a file tears it.
    pub databases: Vec<PathBuf>,
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No source takes the rest of this folder.
    NoSource,
    /// There is more than fits (see [`LARGEST_REST`](crate::LARGEST_REST)).
    TooLarge,
    /// There are more files than fit (see [`MOST_REST`](crate::MOST_REST)).
    TooMany,
    /// It is a SQLite database.
    Database,
    /// It is a symbolic link to something outside that no source takes.
    LeadsOut,
    /// It is on another file system.
    OtherFileSystem,
    /// It changed whenever it was read.
    Unstable,
    /// It could not be read, and why.
    Unreadable(String),
}
