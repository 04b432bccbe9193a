//! A hub's database at rest: its sessions, and the messages of each. It is a copy of ours, which SQLite opens
//! read-only; what a schema that is not a hub's would have SQLite do, it does not do.

use std::collections::BTreeMap;
use std::path::Path;

use hapi_sources::Stop;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::row::{columns, has_column, number, text};
use super::session::{self, Note, Session};
use super::stored::{self, Message};

/// Virtual-machine steps between two looks at the stop flag.
const STEPS: i32 = 5_000;

/// The tables that make it a hub's.
const TABLES: [&str; 2] = ["sessions", "messages"];

/// A hub's database at rest.
pub(crate) struct Database {
    db: Connection,
    /// The time by which messages are ordered, as SQL has it in this schema.
    time: &'static str,
    /// And what decides where two have the same.
    then: &'static str,
}

/// A copy that was opened.
pub(crate) enum Opened {
    Hubs(Database),
    /// It is no hub's: these tables are missing.
    Lacks(Vec<&'static str>),
}

impl Database {
    /// Opens a copy.
    pub(crate) fn open(copy: &Path, stop: &Stop) -> rusqlite::Result<Opened> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(copy, flags)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        let stop = stop.clone();
        db.progress_handler(STEPS, Some(move || stop.is_set()))?;
        let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let mut lacks = Vec::new();
        for table in TABLES {
            let there: i64 = db.query_row(there, [table], |row| row.get(0))?;
            if there == 0 {
                lacks.push(table);
            }
        }
        if !lacks.is_empty() {
            return Ok(Opened::Lacks(lacks));
        }
        let has = |name: &str| has_column(&db, "messages", name);
        // The expression of the hub's index `idx_messages_session_position`, which then is all that is read.
        let time = match (has("invoked_at")?, has("created_at")?) {
            (true, true) => "COALESCE(invoked_at, created_at)",
            (false, true) => "created_at",
            (true, false) => "invoked_at",
            (false, false) => "NULL",
        };
        let then = if has("seq")? { ", seq" } else { "" };
        Ok(Opened::Hubs(Self { db, time, then }))
    }

    /// All sessions, the one with the latest message first. Messages whose session is gone make one, too.
    pub(crate) fn sessions(&self) -> rusqlite::Result<Vec<Session>> {
        let mut counts = self.counts(None)?;
        let list = columns(&self.db, "sessions", &session::COLUMNS)?;
        let mut statement = self.db.prepare(&format!("SELECT {list} FROM sessions"))?;
        let sessions = statement.query_map([], |row| Ok(Session::of(row)))?;
        let mut sessions = sessions.collect::<rusqlite::Result<Vec<_>>>()?;
        for session in &mut sessions {
            if let Some(counted) = counts.remove(&session.id) {
                counted.put_into(session);
            }
        }
        sessions.extend(counts.into_iter().map(|(id, counted)| orphan(id, &counted)));
        sessions.sort_by_key(|session| std::cmp::Reverse(session.last.or(session.created_at)));
        Ok(sessions)
    }

    /// Sessions whose id begins so.
    pub(crate) fn sessions_like(&self, beginning: &str) -> rusqlite::Result<Vec<Session>> {
        let list = columns(&self.db, "sessions", &session::COLUMNS)?;
        let sql = format!("SELECT {list} FROM sessions WHERE substr(id, 1, length(?1)) = ?1");
        let mut statement = self.db.prepare(&sql)?;
        let sessions = statement.query_map([beginning], |row| Ok(Session::of(row)))?;
        let mut sessions = sessions.collect::<rusqlite::Result<Vec<_>>>()?;
        let orphans =
            "SELECT DISTINCT session_id FROM messages WHERE substr(session_id, 1, length(?1)) = ?1
             AND NOT EXISTS (SELECT 1 FROM sessions WHERE id = session_id)";
        let mut orphans = self.db.prepare(orphans)?;
        let orphans = orphans.query_map([beginning], |row| Ok(text(row, 0).unwrap_or_default()))?;
        for id in orphans {
            sessions.push(orphan(id?, &Counted::default()));
        }
        for session in &mut sessions {
            if let Some(counted) = self.counts(Some(&session.id))?.remove(&session.id) {
                counted.put_into(session);
            }
        }
        Ok(sessions)
    }

    /// Hands out the messages of a session in the hub's order, one at a time, until `each` is told enough. What cannot
    /// be read any more is one last message that says why.
    pub(crate) fn messages<E>(
        &self,
        session: &str,
        each: &mut dyn FnMut(Message) -> Result<bool, E>,
    ) -> Result<(), E> {
        let lost = |error: rusqlite::Error| {
            Message::the_rest_is_lost(format!("the rest of the messages cannot be read: {error}"))
        };
        if let Ok(false) = has_column(&self.db, "messages", stored::CONTENT) {
            let any = "SELECT EXISTS (SELECT 1 FROM messages WHERE session_id = ?1)";
            if let Ok(false) = self.db.query_row(any, [session], |row| row.get(0)) {
                return Ok(());
            }
            let reason = "no message can be read: the table `messages` has no column `content`";
            return each(Message::the_rest_is_lost(reason.to_owned())).map(drop);
        }
        let prepared = columns(&self.db, "messages", &stored::COLUMNS).and_then(|list| {
            let (time, then) = (self.time, self.then);
            self.db.prepare(&format!(
                "SELECT {list} FROM messages WHERE session_id = ?1 ORDER BY {time}{then}"
            ))
        });
        let mut statement = match prepared {
            Ok(statement) => statement,
            Err(error) => return each(lost(error)).map(drop),
        };
        let mut rows = match statement.query([session]) {
            Ok(rows) => rows,
            Err(error) => return each(lost(error)).map(drop),
        };
        loop {
            match rows.next() {
                Ok(None) => return Ok(()),
                Ok(Some(row)) => {
                    if !each(Message::of(row))? {
                        return Ok(());
                    }
                }
                Err(error) => return each(lost(error)).map(drop),
            }
        }
    }

    /// The scratchlist of a session, oldest first. Older hubs have none.
    pub(crate) fn notes(&self, session: &str) -> rusqlite::Result<Vec<Note>> {
        let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'session_scratchlist'";
        let there: i64 = self.db.query_row(there, [], |row| row.get(0))?;
        if there == 0 {
            return Ok(Vec::new());
        }
        let list = columns(&self.db, "session_scratchlist", &Note::COLUMNS)?;
        let mut statement = self.db.prepare(&format!(
            "SELECT {list} FROM session_scratchlist WHERE session_id = ?1 ORDER BY created_at, entry_id"
        ))?;
        statement
            .query_map([session], |row| Ok(Note::of(row)))?
            .collect()
    }

    fn counts(&self, session: Option<&str>) -> rusqlite::Result<BTreeMap<String, Counted>> {
        let time = self.time;
        let only = session.map_or("", |_| "WHERE session_id = ?1");
        let mut statement = self.db.prepare(&format!(
            "SELECT session_id, count(*), min({time}), max({time}) FROM messages {only} GROUP BY session_id"
        ))?;
        let rows = statement.query_map(rusqlite::params_from_iter(session), |row| {
            let counted = Counted {
                messages: number(row, 1).unwrap_or(0).unsigned_abs(),
                first: number(row, 2),
                last: number(row, 3),
            };
            Ok((text(row, 0).unwrap_or_default(), counted))
        })?;
        rows.collect()
    }
}

/// What the messages of a session come to.
#[derive(Clone, Copy, Default)]
struct Counted {
    messages: u64,
    first: Option<i64>,
    last: Option<i64>,
}

impl Counted {
    fn put_into(self, session: &mut Session) {
        (session.messages, session.first, session.last) = (self.messages, self.first, self.last);
    }
}

/// Messages that are there without their session's row.
fn orphan(id: String, counted: &Counted) -> Session {
    let mut session = Session::of_messages_alone(id);
    counted.put_into(&mut session);
    session
}
