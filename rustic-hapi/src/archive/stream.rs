//! A stream is a file on its way into the engine: it tells the gate how it ended, and is compared with what was
//! captured.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use hapi_sources::{Bytes, BytesReader, Checksum, Checksummer, Sha256Hash};
use rustic_core::{
    ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult,
};
use sha2::{Digest, Sha256};

use crate::archive::{Item, ItemContent};
use crate::repository::gate::Gate;

/// The archive as the engine sees it.
pub(super) struct GatedSource {
    pub(super) items: Vec<Item>,
    pub(super) gate: Gate,
}

impl ReadSource for GatedSource {
    type Open = GatedStream;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<GatedStream>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(Some(self.items.iter().map(Item::len).sum()))
    }

    fn entries(&self) -> Self::Iter {
        let entries: Vec<_> = self
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let open = match &item.content {
                    ItemContent::File { bytes, sha256 } => Some(GatedStream {
                        index,
                        path: item.path.clone(),
                        bytes: bytes.clone(),
                        sha256: *sha256,
                        gate: self.gate.clone(),
                    }),
                    _ => None,
                };
                Ok(ReadSourceEntry {
                    path: item.path.clone(),
                    node: item.node(),
                    open,
                })
            })
            .collect();
        entries.into_iter()
    }
}

/// A stream that tells the gate how it ended.
pub(super) struct GatedStream {
    index: usize,
    path: PathBuf,
    bytes: Bytes,
    sha256: Sha256Hash,
    gate: Gate,
}

impl GatedStream {
    fn fail(&self, what: impl std::fmt::Display) -> io::Error {
        let failure = format!("the stream of `{}` {what}", self.path.display());
        self.gate.fail(failure.clone());
        io::Error::other(failure)
    }
}

impl ReadSourceOpen for GatedStream {
    type Reader = GatedReader;

    fn open(self) -> RusticResult<GatedReader> {
        let opened = fault::on_open(&self.path).and_then(|()| self.bytes.open());
        match opened {
            Ok(reader) => Ok(GatedReader::start(self, reader)),
            Err(error) => {
                let error = self.fail(format_args!("could not be opened: {error}"));
                Err(RusticError::with_source(
                    ErrorKind::InputOutput,
                    "cannot open a capture",
                    error,
                ))
            }
        }
    }
}

/// A stream on its way into the engine. A large one is read and hashed ahead, on a thread of its
/// own, while the engine cuts and hashes chunks on another: it then costs one hash of time, not two.
pub(super) struct GatedReader {
    stream: GatedStream,
    feed: Feed,
    chunk: io::Cursor<Vec<u8>>,
    seen: u64,
    done: bool,
}

enum Feed {
    Here(Box<Hashing>),
    Ahead {
        pieces: mpsc::Receiver<io::Result<Piece>>,
        /// Chunks that were used up, to be filled again.
        spare: mpsc::Sender<Vec<u8>>,
    },
}

enum Piece {
    Chunk(Vec<u8>),
    /// The end, and whether all of it was what was captured.
    End {
        same: bool,
    },
}

/// A reader that compares what it hands out with what was captured.
struct Hashing {
    reader: BytesReader,
    wanted: Wanted,
    path: PathBuf,
    length: u64,
    offset: u64,
}

/// A hash on its way, and what it should come to.
enum Wanted {
    Checksum(Checksummer, Checksum),
    Sha256(Sha256, Sha256Hash),
}

impl Wanted {
    /// The checksum where there is one: it tells as much of a disk, and takes a tenth of the time.
    fn of(bytes: &Bytes, sha256: Sha256Hash) -> Self {
        match bytes.checksum() {
            Some(checksum) => Self::Checksum(Checksummer::default(), checksum),
            None => Self::Sha256(Sha256::new(), sha256),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Checksum(hash, _) => hash.update(bytes),
            Self::Sha256(hash, _) => hash.update(bytes),
        }
    }

    fn is_met(&self) -> bool {
        match self {
            Self::Checksum(hash, wanted) => hash.finish() == *wanted,
            Self::Sha256(hash, wanted) => hash.clone().finalize()[..] == wanted.0,
        }
    }
}

impl Hashing {
    const CHUNK: usize = 1 << 20;

    /// The next chunk, in a buffer that is no longer used.
    fn next(&mut self, mut chunk: Vec<u8>) -> io::Result<Piece> {
        // A folder has thousands of small files: a buffer of a MiB for each is most of the work on them.
        let left = self.length.saturating_sub(self.offset);
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        chunk.resize(room.saturating_add(1).min(Self::CHUNK), 0);
        let mut filled = 0;
        while filled < chunk.len() {
            match self.reader.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.truncate(filled);
        fault::on_read(&self.path, self.offset, &mut chunk)?;
        if chunk.is_empty() {
            let same = self.wanted.is_met();
            return Ok(Piece::End { same });
        }
        self.offset += chunk.len() as u64;
        self.wanted.update(&chunk);
        Ok(Piece::Chunk(chunk))
    }
}

impl GatedReader {
    fn start(stream: GatedStream, reader: BytesReader) -> Self {
        let mut hashing = Hashing {
            reader,
            wanted: Wanted::of(&stream.bytes, stream.sha256),
            path: stream.path.clone(),
            length: stream.bytes.len(),
            offset: 0,
        };
        let feed = if stream.bytes.len() < 8 * Hashing::CHUNK as u64 {
            Feed::Here(Box::new(hashing))
        } else {
            let (sender, pieces) = mpsc::sync_channel(2);
            let (spare, spares) = mpsc::channel();
            thread::spawn(move || {
                loop {
                    let piece = hashing.next(spares.try_recv().unwrap_or_default());
                    let last = !matches!(piece, Ok(Piece::Chunk(_)));
                    // The engine may have given up: then nobody listens.
                    if sender.send(piece).is_err() || last {
                        return;
                    }
                }
            });
            Feed::Ahead { pieces, spare }
        };
        Self {
            stream,
            feed,
            chunk: io::Cursor::default(),
            seen: 0,
            done: false,
        }
    }

    /// Fetches the next chunk; false at the end of a stream that was exactly what it should be.
    fn refill(&mut self) -> io::Result<bool> {
        if self.stream.gate.stop().is_set() {
            return Err(self.stream.fail("was stopped"));
        }
        let used = std::mem::take(&mut self.chunk).into_inner();
        let piece = match &mut self.feed {
            Feed::Here(hashing) => hashing.next(used),
            Feed::Ahead { pieces, spare } => {
                // Nobody takes it where all is read already.
                _ = spare.send(used);
                pieces
                    .recv()
                    .unwrap_or_else(|_| Err(io::Error::other("the reading thread ended")))
            }
        };
        let declared = self.stream.bytes.len();
        match piece {
            Err(error) => Err(self
                .stream
                .fail(format_args!("broke at byte {}: {error}", self.seen))),
            Ok(Piece::Chunk(chunk)) => {
                self.stream.gate.stop().progressed();
                self.seen += chunk.len() as u64;
                if self.seen > declared {
                    return Err(self
                        .stream
                        .fail(format_args!("is longer than its {declared} bytes")));
                }
                self.chunk = io::Cursor::new(chunk);
                Ok(true)
            }
            Ok(Piece::End { .. }) if self.seen < declared => Err(self.stream.fail(format_args!(
                "ended after {} of {declared} bytes",
                self.seen
            ))),
            Ok(Piece::End { same: false }) => Err(self.stream.fail("is not what was captured")),
            Ok(Piece::End { same: true }) => {
                self.stream.gate.whole(self.stream.index);
                Ok(false)
            }
        }
    }
}

impl Read for GatedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.done && !buffer.is_empty() {
            let read = self.chunk.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.done = !self.refill()?;
        }
        Ok(0)
    }
}

/// Faults that a test asks for, in builds with debug assertions alone:
/// `RUSTIC_HAPI_TEST_FAULT=break:hapi.db` (or `short`, `long`, `open`); with `pause` it waits for as long
/// as the file `RUSTIC_HAPI_TEST_PAUSE` is there, or a minute.
mod fault {
    use std::io;
    use std::path::Path;
    use std::thread;
    use std::time::{Duration, Instant};

    pub(super) fn on_open(path: &Path) -> io::Result<()> {
        match asked(path).as_deref() {
            Some("open") => Err(io::Error::from_raw_os_error(5)),
            Some("pause") => {
                let file = std::env::var_os("RUSTIC_HAPI_TEST_PAUSE").unwrap_or_default();
                let until = Instant::now() + Duration::from_secs(60);
                while Path::new(&file).exists() && Instant::now() < until {
                    thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_read(path: &Path, offset: u64, chunk: &mut Vec<u8>) -> io::Result<()> {
        match asked(path).as_deref() {
            Some("break") if offset > 0 || chunk.len() < 1 << 20 => {
                Err(io::Error::from_raw_os_error(5))
            }
            Some("short") => {
                chunk.pop();
                Ok(())
            }
            Some("long") if chunk.is_empty() && offset < u64::MAX / 2 => {
                chunk.push(0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn asked(path: &Path) -> Option<String> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let fault = std::env::var("RUSTIC_HAPI_TEST_FAULT").ok()?;
        let (what, suffix) = fault.split_once(':')?;
        path.to_string_lossy()
            .ends_with(suffix)
            .then(|| what.to_owned())
    }
}
