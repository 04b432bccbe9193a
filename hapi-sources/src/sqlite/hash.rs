//! Hashes a database's copy while SQLite writes it.
//!
//! The backup API writes page 1 last, with a header of its own. So we predict that page, hash the rest
//! 4 MiB behind the writer, and compare page 1 at the end; on a mismatch the file is hashed again. SQLite
//! appends, so what it has not written yet is beyond the end of the file; the distance is a margin in case it
//! ever writes elsewhere.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::header;
use crate::checksum::{Checksum, Checksummer};
use crate::facts::Sha256Hash;
use crate::stop::Stop;

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
    let fields = page.get_mut(..100)?;
    // Offsets after <https://sqlite.org/fileformat2.html>. The copy is a new file with one transaction.
    let mut set = |at: usize, value: u32| fields[at..at + 4].copy_from_slice(&value.to_be_bytes());
    set(24, 1); // file change counter
    set(28, pages);
    set(40, 1); // schema cookie
    set(92, 1); // the change counter for which the version is valid
    set(96, u32::try_from(rusqlite::version_number()).ok()?);
    header::rollback_journal(&mut page);
    Some(page)
}

/// Hashes a copy beside SQLite, which writes it.
pub(super) struct HashBesideCopy {
    /// Bytes that have been copied, then those of the whole file.
    written: Sender<Written>,
    /// Nobody wants it any more.
    given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Option<Hashed>>>>,
}

/// Those that this process may use.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

enum Written {
    Part(u64),
    All(u64),
}

impl HashBesideCopy {
    /// Begins, with the first page that was foreseen. `None` where that would only be in the way of the
    /// copy: the live database is pinned meanwhile.
    pub(super) fn begin(copy: &Path, first: Vec<u8>, stop: &Stop) -> Option<Self> {
        if cores() == 1 {
            return None;
        }
        Self::spawn(copy, first, stop)
    }

    fn spawn(copy: &Path, first: Vec<u8>, stop: &Stop) -> Option<Self> {
        let (written, receiver) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let (copy, stop) = (copy.to_owned(), stop.clone().or(Arc::clone(&given_up)));
        let thread = thread::Builder::new()
            .spawn(move || follow(&copy, &first, &receiver, &stop))
            .ok()?;
        Some(Self {
            written,
            given_up,
            thread: Some(thread),
        })
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
        // It may have ended with an error, which `finish` returns.
        _ = self.written.send(written);
    }
}

impl Drop for HashBesideCopy {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
        // That is looked at when it hears of something.
        self.tell(Written::Part(0));
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
    // Until SQLite has closed the copy: its locks go with any handle. Where the copy fails they may go
    // sooner, and nobody else asks for them.
    let file = File::open(copy)?;
    let mut hashing = Hashing::default();
    hashing.update(first);
    for written in written {
        if stop.is_set() {
            break;
        }
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
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    /// A file of pages that differ, and its hash.
    fn file(folder: &Path, len: u64) -> (PathBuf, Vec<u8>, Sha256Hash) {
        let path = folder.join("copy");
        let content: Vec<u8> = (0..len).map(|i| (i / 4096 + i) as u8).collect();
        fs::write(&path, &content).unwrap();
        let sha256 = Hashed::of(&path, &Stop::default()).unwrap().sha256;
        (path, content, sha256)
    }

    fn begin(copy: &Path, first: &[u8], stop: &Stop) -> HashBesideCopy {
        HashBesideCopy::spawn(copy, first.to_vec(), stop).unwrap()
    }

    /// Until the thread has moved so often.
    fn wait_for(stop: &Stop, times: u64) {
        let start = Instant::now();
        while stop.progress() < times {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn another_first_page_or_length_is_no_hash() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, content, sha256) = file(tmp.path(), 3 * DISTANCE);
        let behind = |first: &[u8], len: u64| {
            let behind = begin(&path, first, &Stop::default());
            behind.copied(2 * DISTANCE);
            behind.finish(len).unwrap()
        };
        let len = content.len() as u64;
        assert_eq!(behind(&content[..4096], len).unwrap().sha256, sha256);
        assert!(behind(&[1; 4096], len).is_none());
        assert!(behind(&content[..4096], len + 1).is_none());
    }

    #[test]
    fn it_reads_while_the_copy_grows_and_keeps_its_distance() {
        let tmp = tempfile::tempdir().unwrap();
        let (path, content, sha256) = file(tmp.path(), 4 * DISTANCE);
        let file = File::options().write(true).open(&path).unwrap();
        let late = content.len() - DISTANCE as usize;
        // Not there yet, though the file has its length.
        let zeros = vec![0; DISTANCE as usize];
        file.write_all_at(&zeros, late as u64).unwrap();
        let stop = Stop::default();
        let behind = begin(&path, &content[..4096], &stop);
        behind.copied(content.len() as u64);
        wait_for(&stop, late as u64 >> 20);
        file.write_all_at(&content[late..], late as u64).unwrap();
        let hashed = behind.finish(content.len() as u64).unwrap().unwrap();
        assert_eq!(hashed.sha256, sha256);
    }

    #[test]
    fn given_up_it_ends_at_once_and_is_waited_for() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("copy");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let stop = Stop::default();
        let behind = begin(&path, &[0; 4096], &stop);
        behind.copied(1 << 39);
        behind.copied(1 << 40);
        wait_for(&stop, 1);
        drop(behind);
        let moved = stop.progress();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(stop.progress(), moved);
    }
}
