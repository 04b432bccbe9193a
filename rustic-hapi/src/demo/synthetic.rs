//! A synthetic hub is a HAPI database made up from a seed: the same seed, shape and calls give the
//! same rows in the same pages, on any day and any machine. The demo, the tests and the benchmark
//! feed on it, so that none of them needs anybody's private messages.
//!
//! Two things decide how well a repository can store a hub, and both are imitated with care. Keys
//! are random hex, so that a few thousand new messages touch index pages all over the file. And the
//! content is compressed already, so that a repository cannot do much about its size.
//!
//! ```
//! use rustic_hapi::synthetic::{Hub, SESSIONS, Shape};
//!
//! let dir = tempfile::tempdir().unwrap();
//! let mut hub = Hub::create(&dir.path().join("hapi.db"), Shape::Plain, 1).unwrap();
//! hub.add_messages(100, 10).unwrap();
//! assert_eq!((hub.messages(), SESSIONS), (100, 78));
//! ```

mod files;
mod words;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};

use words::{SplitMix64, Words};

pub use files::{write_notes, write_wav};

/// How many sessions a synthetic hub has.
pub const SESSIONS: u64 = 78;

/// The time of the first message, in milliseconds since 1970: 2025-01-01 00:00 UTC.
pub const EPOCH_MS: i64 = 1_735_689_600_000;

/// Longer contents are stored as zstd BLOBs, shorter ones as TEXT, as a hub does it.
const COMPRESS_ABOVE: usize = 256;

/// A day's work happens in about a dozen sessions, not in all of them.
const ACTIVE_SESSIONS: u64 = 12;

/// Which hub's database is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A stock hub: nearly all of the file is compressed message content. About 3.7 KB a message.
    Plain,
    /// A fork with full-text search: FTS5 trigrams, and bigrams in a table of their own, are most
    /// of the file. About 21 KB a message.
    Search,
}

impl Shape {
    /// The number of messages that half a day's use adds.
    pub fn half_day(self) -> u64 {
        match self {
            Shape::Plain => 2_000,
            Shape::Search => 500,
        }
    }

    /// The mean length of a message's text, in bytes.
    fn text_len(self) -> u64 {
        match self {
            Shape::Plain => 3_950,
            Shape::Search => 1_600,
        }
    }

    /// Of ten words of a message, how many are no words.
    fn noise(self) -> u64 {
        match self {
            Shape::Plain => 4,
            Shape::Search => 2,
        }
    }
}

/// An open hub database that can be written to. It is the only writer: two at a time would make up
/// the same messages.
pub struct Hub {
    db: Connection,
    author: Author,
}

impl Hub {
    /// Makes a new database with its schema, sessions, machines and users, and no messages.
    ///
    /// # Errors
    /// Fails where SQLite cannot write, and where there are tables already.
    pub fn create(path: &Path, shape: Shape, seed: u64) -> rusqlite::Result<Self> {
        let mut db = Connection::open(path)?;
        db.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = WAL")?;
        let tx = db.transaction()?;
        tx.execute_batch(include_str!("synthetic/plain.sql"))?;
        if shape == Shape::Search {
            tx.execute_batch(include_str!("synthetic/search.sql"))?;
        }
        insert_fixtures(&tx, shape, seed)?;
        tx.commit()?;
        drop(db);
        Self::open(path, shape, seed)
    }

    /// Opens a database that [`Hub::create`] made, to go on where it ended.
    ///
    /// # Errors
    /// Fails when SQLite cannot open it or the tables are not there.
    pub fn open(path: &Path, shape: Shape, seed: u64) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536")?;
        let messages: i64 = db.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
        let sessions = db
            .prepare("SELECT id, seq FROM sessions ORDER BY rowid")?
            .query_map([], |row| {
                Ok(Session {
                    id: row.get(0)?,
                    seq: row.get(1)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let author = Author::new(shape, seed, messages.cast_unsigned(), sessions)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(Self { db, author })
    }

    /// Sets the time of the next message, in milliseconds since 1970. Without it the first is of [`EPOCH_MS`], and half
    /// a day's messages take half a day.
    pub fn set_time(&mut self, ms: i64) {
        let author = &mut self.author;
        author.epoch_ms = ms - author.messages.cast_signed() * author.step_ms;
    }

    /// Adds messages to about a dozen sessions and updates their rows, `per_commit` messages in
    /// each transaction. A hub commits every message by itself; larger transactions are for making
    /// a large database in bearable time.
    ///
    /// # Errors
    /// Fails when SQLite does. What was committed by then stays; open the hub again to go on.
    pub fn add_messages(&mut self, n: u64, per_commit: u64) -> rusqlite::Result<()> {
        let shape = self.author.shape;
        let mut left = n;
        while left > 0 {
            let now = left.min(per_commit.max(1));
            let tx = self.db.transaction()?;
            for _ in 0..now {
                self.author.next_message().insert(&tx, shape)?;
            }
            tx.commit()?;
            left -= now;
        }
        Ok(())
    }

    /// The number of messages in the database.
    pub fn messages(&self) -> u64 {
        self.author.messages
    }

    /// The size of the database in bytes, as it is once the WAL has been written back.
    ///
    /// # Errors
    /// Fails when SQLite cannot read the header.
    pub fn size(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        self.db
            .query_row(sql, [], |row| row.get(0))
            .map(i64::cast_unsigned)
    }
}

/// Whoever writes the messages: knows what the next one says, and in which session.
struct Author {
    shape: Shape,
    seed: u64,
    epoch_ms: i64,
    step_ms: i64,
    messages: u64,
    sessions: Vec<Session>,
    words: Words,
    zstd: zstd::bulk::Compressor<'static>,
}

/// A session's key and the number of its newest message.
struct Session {
    id: String,
    seq: i64,
}

struct Message<'a> {
    id: String,
    session: &'a Session,
    role: &'static str,
    content: Value,
    text: String,
    created_at: i64,
    invoked_at: Option<i64>,
    local_id: Option<String>,
}

impl Author {
    fn new(shape: Shape, seed: u64, messages: u64, sessions: Vec<Session>) -> io::Result<Self> {
        let half_day_ms = 12 * 3_600 * 1_000;
        Ok(Self {
            shape,
            seed,
            epoch_ms: EPOCH_MS,
            step_ms: half_day_ms / shape.half_day().cast_signed(),
            messages,
            sessions,
            words: Words::new(),
            zstd: zstd::bulk::Compressor::new(3)?,
        })
    }

    /// Everything about a message follows from the seed and its number, so that a hub that was
    /// closed and opened again goes on as if it had not been.
    fn next_message(&mut self) -> Message<'_> {
        let number = self.messages;
        let mut rng = SplitMix64::for_item(self.seed, number);
        let first_active = number / self.shape.half_day() * 5;
        let session = (first_active + rng.below(ACTIVE_SESSIONS)) % self.sessions.len() as u64;
        let session = &mut self.sessions[usize::try_from(session).unwrap_or_default()];
        session.seq += 1;
        self.messages += 1;

        let by_user = rng.below(10) == 0;
        let len = match (by_user, self.shape.text_len()) {
            (true, _) => rng.within(20, 150),
            (false, mean) => rng.within(mean / 2, mean * 3 / 2),
        };
        let text = self.words.text(&mut rng, len, self.shape.noise());
        let id = rng.hex(32);
        let role = if by_user { "user" } else { "assistant" };
        let uuid = rng.hex(32);
        let json = format!(
            r#"{{"role":"{role}","content":{{"type":"text","text":"{text}"}},"uuid":"{uuid}"}}"#
        );
        let content = if json.len() > COMPRESS_ABOVE {
            // Compressing from memory to memory fails for want of memory only.
            self.zstd
                .compress(json.as_bytes())
                .map_or(Value::Text(json), Value::Blob)
        } else {
            Value::Text(json)
        };
        let created_at = self.epoch_ms + number.cast_signed() * self.step_ms;
        Message {
            id,
            session,
            role,
            content,
            text,
            created_at,
            invoked_at: by_user.then_some(created_at + 1_500),
            local_id: by_user.then(|| rng.hex(16)),
        }
    }
}

impl Message<'_> {
    fn insert(&self, tx: &Transaction<'_>, shape: Shape) -> rusqlite::Result<()> {
        let Session { id: session, seq } = self.session;
        tx.prepare(
            "INSERT INTO messages (id, session_id, content, created_at, seq, local_id, invoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            self.id,
            session,
            self.content,
            self.created_at,
            seq,
            self.local_id,
            self.invoked_at
        ])?;
        tx.prepare("UPDATE sessions SET updated_at = ?2, seq = ?3 WHERE id = ?1")?
            .execute(params![session, self.created_at, seq])?;
        match shape {
            Shape::Plain => Ok(()),
            Shape::Search => self.index(tx),
        }
    }

    /// Makes the message findable, as the fork does it: trigrams by FTS5, bigrams by hand, and a
    /// lookup table between them and the message.
    fn index(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.prepare(
            "INSERT INTO message_content_search_lookup (message_id, target_message_id)
             VALUES (?1, ?1)",
        )?
        .execute([&self.id])?;
        let row = tx.last_insert_rowid();
        tx.prepare(
            "INSERT INTO message_content_search
             (rowid, searchable_text, message_id, session_id, seq, created_at, role)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            row,
            self.text,
            self.id,
            self.session.id,
            self.session.seq,
            self.created_at,
            self.role
        ])?;
        let text = self.text.to_lowercase();
        let bigrams: BTreeSet<&str> = (1..text.len())
            .filter_map(|i| text.get(i - 1..=i))
            .collect();
        let mut insert = tx.prepare(
            "INSERT INTO message_content_search_short (gram, search_rowid) VALUES (?1, ?2)",
        )?;
        for bigram in bigrams {
            insert.execute(params![bigram, row])?;
        }
        Ok(())
    }
}

/// Rows that are there before the first message.
fn insert_fixtures(tx: &Transaction<'_>, shape: Shape, seed: u64) -> rusqlite::Result<()> {
    let mut rng = SplitMix64(seed);
    let machine = rng.hex(32);
    tx.execute(
        "INSERT INTO machines (id, created_at, updated_at, metadata, active)
         VALUES (?1, ?2, ?2, '{\"host\":\"synthetic\",\"platform\":\"linux\"}', 1)",
        params![machine, EPOCH_MS],
    )?;
    tx.execute(
        "INSERT INTO users (platform, platform_user_id, created_at) VALUES ('telegram', ?1, ?2)",
        params![rng.below(1 << 30).to_string(), EPOCH_MS],
    )?;
    for number in 0..SESSIONS {
        tx.execute(
            "INSERT INTO sessions (id, tag, machine_id, created_at, updated_at, metadata, active)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5, 1)",
            params![
                rng.hex(32),
                rng.hex(12),
                machine,
                EPOCH_MS,
                format!(r#"{{"path":"/home/user/project-{number}","flavor":"claude"}}"#)
            ],
        )?;
    }
    if shape == Shape::Search {
        tx.execute(
            "INSERT INTO fcm_devices (token, platform, created_at) VALUES (?1, 'android', ?2)",
            params![rng.hex(152), EPOCH_MS],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_pages() {
        let dir = tempfile::tempdir().unwrap();
        let pages = |name: &str, shape, seed| {
            let path = dir.path().join(name);
            let mut hub = Hub::create(&path, shape, seed).unwrap();
            hub.add_messages(40, 40).unwrap();
            hub.add_messages(40, 1).unwrap();
            drop(hub);
            let pages = fs::read(&path).unwrap();
            fs::remove_file(path).unwrap();
            pages
        };
        for shape in [Shape::Plain, Shape::Search] {
            let first = pages("a.db", shape, 7);
            assert!(first == pages("b.db", shape, 7), "{shape:?}");
            assert!(first != pages("c.db", shape, 8), "{shape:?}");
        }
    }

    #[test]
    fn a_reopened_hub_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let rows = |name: &str, reopen: bool| {
            let path = dir.path().join(name);
            let mut hub = Hub::create(&path, Shape::Search, 3).unwrap();
            hub.add_messages(30, 10).unwrap();
            if reopen {
                hub = Hub::open(&path, Shape::Search, 3).unwrap();
            }
            hub.add_messages(30, 10).unwrap();
            let sql = "SELECT group_concat(id || session_id || hex(content) || created_at || seq) \
                       FROM messages";
            hub.db
                .query_row(sql, [], |row| row.get::<_, String>(0))
                .unwrap()
        };
        assert_eq!(rows("a.db", false), rows("b.db", true));
    }

    #[test]
    fn a_database_is_sound_and_has_the_layout_of_a_hub() {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = Hub::create(&dir.path().join("hapi.db"), Shape::Search, 1).unwrap();
        hub.add_messages(50, 1).unwrap();
        let ask = |sql: &str| {
            hub.db
                .query_row(sql, [], |row| row.get::<_, String>(0))
                .unwrap()
        };
        for (sql, answer) in [
            ("PRAGMA integrity_check", "ok"),
            ("PRAGMA journal_mode", "wal"),
            ("SELECT page_size || '' FROM pragma_page_size", "4096"),
            ("SELECT count(*) || '' FROM sessions", "78"),
            (
                "SELECT count(DISTINCT session_id) || '' FROM messages",
                "12",
            ),
            (
                "SELECT count(DISTINCT typeof(content)) || '' FROM messages",
                "2",
            ),
            (
                "SELECT count(*) || '' FROM message_content_search_lookup",
                "50",
            ),
        ] {
            assert_eq!(ask(sql), answer, "{sql}");
        }
    }
}
