//! SQLite's own check is one of its two pragmas, `quick_check` or `integrity_check`, of a whole database or of a table.
//!
//! Rows are findings, and so is an error that says that the file is malformed. Any other error is not damage: an
//! unknown collation or function, say, keeps SQLite from even preparing the check.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::ffi::{self, ErrorCode};
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::{Connection, Statement};

use super::super::at_rest::{open, quoted, tables};
use super::findings::FINDINGS;
use crate::stop::Stop;

/// SQLite's cache, in KiB. Four times as much gains nothing: the file is in the system's cache. Without mmap:
/// mapped pages count as this process's memory, and a disk's error would be a signal.
const CACHE: i32 = 16 << 10;

/// A connection that checks, and what SQLite said so far.
pub(super) struct SqlitesOwn {
    pub(super) db: Connection,
    pub(super) said: Said,
    running: Arc<AtomicBool>,
}

#[derive(Default)]
pub(super) struct Said {
    pub(super) findings: Vec<String>,
    /// Tables that SQLite cannot check here.
    pub(super) unchecked: Vec<String>,
}

impl SqlitesOwn {
    pub(super) fn begin(copy: &Path, stop: &Stop) -> rusqlite::Result<Self> {
        let mut own = Self {
            db: open(copy, stop)?,
            said: Said::default(),
            running: Arc::default(),
        };
        own.spare_search_indexes()?;
        Ok(own)
    }

    /// Checks the whole database at once. Returns whether that could be done.
    pub(super) fn at_once(&mut self, pragma: &str) -> rusqlite::Result<bool> {
        let settings = format!("PRAGMA cache_size = -{CACHE}; PRAGMA mmap_size = 0");
        let set = self.db.execute_batch(&settings);
        match set.and_then(|()| self.run(&format!("PRAGMA {pragma}({FINDINGS})"))) {
            Ok(()) => Ok(true),
            Err(e) => Ok(!self.said.unable(e)?),
        }
    }

    /// Checks the whole database, table by table where it cannot be done at once.
    pub(super) fn all(&mut self, pragma: &str) -> rusqlite::Result<()> {
        if self.at_once(pragma)? {
            return Ok(());
        }
        match tables(&self.db) {
            Ok(tables) => tables.iter().try_for_each(|t| self.table(pragma, t)),
            Err(e) => {
                if self.said.unable(e)? {
                    self.said.unchecked.push("sqlite_schema".into());
                }
                Ok(())
            }
        }
    }

    pub(super) fn table(&mut self, pragma: &str, table: &str) -> rusqlite::Result<()> {
        if let Err(e) = self.run(&format!("PRAGMA {pragma}({})", quoted(table)))
            && self.said.unable(e)?
        {
            self.said.unchecked.push(table.to_owned());
        }
        Ok(())
    }

    /// Keeps the check to b-trees: tables, indexes and pages, the shadow tables of virtual tables
    /// among them.
    ///
    /// Since 3.44 SQLite lets virtual tables have a say at the end of a check, and FTS5 then makes
    /// its whole index anew from the text to compare it: 40 s for 0.6 GB, where everything else
    /// takes 2 s. What it would find, a writer repairs with `rebuild`. It asks by SQL, which nothing
    /// else does while the check runs, and so can be refused.
    fn spare_search_indexes(&mut self) -> rusqlite::Result<()> {
        let running = Arc::clone(&self.running);
        self.db.authorizer(Some(move |_: AuthContext<'_>| {
            if running.load(Ordering::Relaxed) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        }))
    }

    fn run(&mut self, sql: &str) -> rusqlite::Result<()> {
        let mut statement = self.db.prepare(sql)?;
        self.running.store(true, Ordering::Relaxed);
        let outcome = self.said.collect(&mut statement);
        self.running.store(false, Ordering::Relaxed);
        match outcome {
            // All b-trees were looked at before a virtual table was asked.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied) => {
                Ok(())
            }
            other => other,
        }
    }
}

impl Said {
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

/// The code of a finding that is about the reading of the copy, and not about the copy: SQLite tells an
/// I/O error or a lack of memory in the middle of a check as a row (`btree.c`, `checkTreePage`).
fn own_failure(finding: &str) -> Option<i32> {
    let code: i32 = finding.split("error code=").nth(1)?.trim().parse().ok()?;
    let is_ours = matches!(code & 0xff, ffi::SQLITE_IOERR | ffi::SQLITE_NOMEM)
        // Which a page number beyond the end is told by, too: that is the file's.
        && code != ffi::SQLITE_IOERR_SHORT_READ;
    is_ours.then_some(code)
}
