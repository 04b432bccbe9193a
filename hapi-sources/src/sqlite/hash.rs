//! The hash of a database's copy, taken while SQLite still writes it where that can be.
//!
//! The backup API writes page after page and the first one last, with a header of its own. So the first
//! page is foreseen, and the rest is read at a distance behind the copy. What was foreseen is compared
//! with what stands there in the end; where it is something else, the hash is taken anew.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::capture::{Sha256Hash, Stop};
use crate::checksum::{Checksum, Checksummer};

/// Bytes that SQLite may keep of the copy before it writes them. It writes the oldest first.
pub(super) const CACHE: u64 = 1 << 20;
/// Bytes between the end of the copy and what is read of it: far more than SQLite keeps.
const DISTANCE: u64 = 4 * CACHE;

/// What one reading of a whole file gives.
pub(super) struct Hashed {
    pub(super) sha256: Sha256Hash,
    pub(super) checksum: Checksum,
    pub(super) len: u64,
}

impl Hashed {
    /// Of a file that nobody writes any more. Ends early, with whatever hash, when it is to stop.
    pub(super) fn of(copy: &Path, stop: &Stop) -> io::Result<Self> {
        let file = File::open(copy)?;
        let mut hashing = Hashing::default();
        hashing.read(&file, u64::MAX, stop)?;
        Ok(hashing.finish())
    }
}

#[derive(Default)]
struct Hashing {
    sha256: Sha256,
    checksum: Checksummer,
    at: u64,
    buffer: Vec<u8>,
}

impl Hashing {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.checksum.update(bytes);
        self.at += bytes.len() as u64;
    }

    /// Goes on to `end`, or to the end of the file.
    fn read(&mut self, file: &File, end: u64, stop: &Stop) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(1 << 20, 0);
        while self.at < end && !stop.is_set() {
            let want = buffer
                .len()
                .min(usize::try_from(end - self.at).unwrap_or(usize::MAX));
            let n = file.read_at(&mut buffer[..want], self.at)?;
            if n == 0 {
                break;
            }
            self.update(&buffer[..n]);
            stop.progressed();
        }
        self.buffer = buffer;
        Ok(())
    }

    fn finish(self) -> Hashed {
        Hashed {
            sha256: Sha256Hash(self.sha256.finalize().into()),
            checksum: self.checksum.finish(),
            len: self.at,
        }
    }
}

/// The first page that the copy of a pinned database will have, where this SQLite can tell
/// (`sqlite_dbpage` is compiled in by `.cargo/config.toml`, and wants a schema without damage).
pub(super) fn foresee(live: &Connection, pages: u32) -> Option<Vec<u8>> {
    let sql = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = 1";
    let mut page: Vec<u8> = live.query_row(sql, [], |row| row.get(0)).ok()?;
    let header = page.get_mut(..100)?;
    // Offsets after <https://sqlite.org/fileformat2.html>. The copy is a new file with one transaction.
    let mut set = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_be_bytes());
    set(24, 1); // file change counter
    set(28, pages);
    set(40, 1); // schema cookie
    set(92, 1); // the change counter for which the version is valid
    set(96, u32::try_from(rusqlite::version_number()).ok()?);
    super::rollback_journal(&mut page);
    Some(page)
}

/// Hashes a copy beside SQLite, which writes it.
pub(super) struct Behind {
    /// Bytes that have been copied, then those of the whole file.
    written: Option<Sender<Written>>,
    thread: Option<JoinHandle<io::Result<Option<Hashed>>>>,
}

enum Written {
    Part(u64),
    All(u64),
}

impl Behind {
    /// Begins, with the first page that was foreseen.
    pub(super) fn begin(copy: &Path, first: Vec<u8>, stop: &Stop) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (copy, stop) = (PathBuf::from(copy), stop.clone());
        let thread = thread::spawn(move || follow(&copy, &first, &receiver, &stop));
        Self {
            written: Some(sender),
            thread: Some(thread),
        }
    }

    /// So many bytes have been copied so far.
    pub(super) fn copied(&self, bytes: u64) {
        self.tell(Written::Part(bytes.saturating_sub(DISTANCE)));
    }

    /// The copy is done and closed. `None` where the first page is not the one that was foreseen.
    pub(super) fn finish(mut self, len: u64) -> io::Result<Option<Hashed>> {
        self.tell(Written::All(len));
        let thread = self.thread.take().map(JoinHandle::join);
        thread.map_or(Ok(None), |joined| {
            joined.unwrap_or_else(|_| Err(io::Error::other("the thread that hashes it panicked")))
        })
    }

    fn tell(&self, written: Written) {
        if let Some(sender) = &self.written {
            // It ended with an error, which `finish` returns.
            _ = sender.send(written);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        drop(self.written.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn follow(
    copy: &Path,
    first: &[u8],
    written: &Receiver<Written>,
    stop: &Stop,
) -> io::Result<Option<Hashed>> {
    // Open until SQLite has closed the copy, whose locks this process would lose otherwise.
    let file = File::open(copy)?;
    let mut hashing = Hashing::default();
    hashing.update(first);
    while let Ok(written) = written.recv() {
        let len = match written {
            Written::Part(end) => {
                hashing.read(&file, end, stop)?;
                continue;
            }
            Written::All(len) => len,
        };
        hashing.read(&file, len, stop)?;
        let mut page = vec![0; first.len()];
        let as_foreseen = file.read_at(&mut page, 0)? == first.len() && page == first;
        return Ok((as_foreseen && hashing.at == len).then(|| hashing.finish()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::capture::Capturer;
    use crate::sqlite::{Copied, Live, copy};
    use crate::staging::Staging;

    /// A live database that is made by these statements, and its copy.
    fn copied(folder: &Path, sql: &str) -> (Connection, Staging, Copied) {
        let path = folder.join("hapi.db");
        let live = Connection::open(&path).unwrap();
        live.execute_batch(sql).unwrap();
        let staging = Staging::create(&folder.join("staging")).unwrap();
        let mut capturer = Capturer::new(&staging, &[]).unwrap();
        let copied = copy(&mut capturer, &Live::look(&path).unwrap()).unwrap();
        (live, staging, copied)
    }

    fn megabytes(n: u32) -> String {
        format!(
            "CREATE TABLE m (id INTEGER PRIMARY KEY, text);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n})
             INSERT INTO m (text) SELECT hex(randomblob(500000)) FROM n;"
        )
    }

    #[test]
    fn a_copy_is_hashed_on_the_way_whatever_its_header_says() {
        let many = megabytes(12);
        let deleted = format!("{many} DELETE FROM m WHERE id % 3 = 0;");
        let migrated = format!("{many} ALTER TABLE m ADD COLUMN x; PRAGMA user_version = 7;");
        let tables: String = (0..400)
            .map(|i| format!("CREATE TABLE t{i} (a, b UNIQUE);"))
            .collect();
        let cases = [
            ("PRAGMA journal_mode = WAL;", megabytes(1)),
            ("PRAGMA journal_mode = WAL;", many.clone()),
            ("PRAGMA journal_mode = WAL;", deleted.clone()),
            ("PRAGMA journal_mode = DELETE;", migrated),
            (
                "PRAGMA page_size = 512; PRAGMA journal_mode = WAL;",
                many.clone(),
            ),
            (
                "PRAGMA page_size = 65536; PRAGMA journal_mode = WAL;",
                many.clone(),
            ),
            (
                "PRAGMA encoding = 'UTF-16be'; PRAGMA journal_mode = WAL;",
                many.clone(),
            ),
            (
                "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;",
                deleted,
            ),
            (
                "PRAGMA application_id = 9; PRAGMA journal_mode = WAL;",
                tables,
            ),
        ];
        for (pragmas, content) in cases {
            let tmp = tempfile::tempdir().unwrap();
            let (_live, _staging, copied) = copied(tmp.path(), &format!("{pragmas}{content}"));
            let hashed = copied.hashed.expect("is `.cargo/config.toml` in effect?");
            let whole = Hashed::of(copied.staged.path(), &Stop::default()).unwrap();
            assert_eq!(hashed.sha256, whole.sha256, "{pragmas}");
            assert_eq!(hashed.checksum, whole.checksum);
            assert_eq!((hashed.len, copied.len), (whole.len, whole.len));
        }
    }

    #[test]
    fn another_first_page_or_length_is_no_hash() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("copy");
        let content: Vec<u8> = (0..3 * DISTANCE).map(|i| (i / 4096) as u8).collect();
        fs::write(&path, &content).unwrap();
        let behind = |first: &[u8], len: u64| {
            let behind = Behind::begin(&path, first.to_vec(), &Stop::default());
            behind.copied(2 * DISTANCE);
            behind.finish(len).unwrap()
        };
        let len = content.len() as u64;
        let sha256 = Hashed::of(&path, &Stop::default()).unwrap().sha256;
        assert_eq!(behind(&content[..4096], len).unwrap().sha256, sha256);
        assert!(behind(&[1; 4096], len).is_none());
        assert!(behind(&content[..4096], len + 1).is_none());
    }
}
