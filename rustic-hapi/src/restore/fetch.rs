//! A fetch brings one file out of the repository: its bytes in order, hashed on the way, compared
//! with what the manifest says, and on the disk before it counts.
//!
//! The engine's own restore writes in place and trusts size and time; its `dump` returns errors and
//! keeps order, so the hash costs no second reading.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc;
use std::thread;

use rustic_core::repofile::Node;
use sha2::{Digest, Sha256};

use hapi_sources::{Observer, Stop};

use crate::error::Reason;
use crate::policy::manifest::EntryRecord;
use crate::repository::Engine;
use crate::restore::contents::Contents;
use crate::restore::difference::What;
use crate::terminal::ui::Ui;

/// A secret's ciphertext is opened in memory, so a large one is no secret of ours.
const LARGEST_SECRET: u64 = 64 << 20;
/// Bytes of a large file after which what is there is sent to the disk.
const FLUSH: u64 = 64 << 20;

/// Why a file did not come.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The repository does not hold what the manifest says.
    Difference(What),
    /// This machine could not take it.
    Local(io::Error),
    /// The end was asked for.
    Stopped,
}

/// Brings files of one snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Fetch<'a> {
    pub engine: &'a Engine,
    pub contents: &'a Contents,
    pub ui: &'a Ui,
    pub stop: &'a Stop,
}

impl Fetch<'_> {
    /// Writes an entry's bytes to a file, and compares them with the manifest.
    pub(crate) fn into_file(self, entry: &EntryRecord, file: &mut File) -> Result<(), Failure> {
        if entry.size.unwrap_or(0) < 2 * FLUSH {
            return self.stream(entry, file);
        }
        let flushed = file.try_clone().map_err(Failure::Local)?;
        let (more, told) = mpsc::sync_channel::<()>(1);
        thread::scope(|scope| {
            // What is written goes to the disk beside the decrypting of the rest. Its errors are those
            // of the last sync, too, which is the caller's.
            scope.spawn(move || {
                while told.recv().is_ok() {
                    _ = flushed.sync_data();
                }
            });
            // The engine brings some KiB at a time.
            let mut early = BufWriter::with_capacity(
                1 << 20,
                Early {
                    file,
                    written: 0,
                    more,
                },
            );
            self.stream(entry, &mut early)?;
            early.flush().map_err(Failure::Local)
        })
    }

    /// An entry's bytes in memory.
    pub(crate) fn into_memory(self, entry: &EntryRecord) -> Result<Vec<u8>, Failure> {
        if entry.size.unwrap_or(0) > LARGEST_SECRET {
            return Err(Failure::Difference("it is too large for a secret".into()));
        }
        let mut bytes = Vec::new();
        self.stream(entry, &mut bytes)?;
        Ok(bytes)
    }

    fn stream(&self, entry: &EntryRecord, out: &mut dyn Write) -> Result<(), Failure> {
        let node = self.node(entry)?;
        let mut proof = Proof {
            out,
            hash: Sha256::new(),
            length: 0,
            limit: entry.size.unwrap_or(0),
            failed: None,
            too_long: false,
            stop: self.stop,
            ui: self.ui,
        };
        let dumped = self.engine.dump(node, &mut proof);
        if self.stop.is_set() {
            return Err(Failure::Stopped);
        }
        if let Some(error) = proof.failed {
            return Err(Failure::Local(error));
        }
        if proof.too_long {
            return Err(Failure::Difference(
                "it is longer than the manifest says".into(),
            ));
        }
        if let Err(error) = dumped {
            return Err(Failure::Difference(What::Unreadable(Reason::of(&error))));
        }
        if Some(proof.length) != entry.size {
            let (came, said) = (proof.length, entry.size.unwrap_or(0));
            return Err(Failure::Difference(
                format!("it has {came} bytes, the manifest says {said}").into(),
            ));
        }
        let hash = hex::encode(proof.hash.finalize());
        if entry.sha256.as_deref() != Some(&hash) {
            return Err(Failure::Difference(
                "its SHA-256 is not the manifest's".into(),
            ));
        }
        Ok(())
    }

    /// The node of an entry.
    pub(crate) fn node(&self, entry: &EntryRecord) -> Result<&Node, Failure> {
        self.contents
            .node(&entry.path.to_path())
            .ok_or_else(|| Failure::Difference("its entry in the tree is wrong".into()))
    }
}

/// Has what was written flushed every now and then.
struct Early<'a> {
    file: &'a mut File,
    written: u64,
    more: mpsc::SyncSender<()>,
}

impl Write for Early<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        if self.written >= FLUSH {
            self.written = 0;
            // One that is still at it will hear of the next.
            _ = self.more.try_send(());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hashes what goes through, and lets no more through than there should be.
struct Proof<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    length: u64,
    limit: u64,
    failed: Option<io::Error>,
    too_long: bool,
    stop: &'a Stop,
    ui: &'a Ui,
}

impl Write for Proof<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return Err(io::Error::other("stopped"));
        }
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            self.too_long = true;
            return Err(io::Error::other("too long"));
        }
        self.hash.update(bytes);
        if let Err(error) = self.out.write_all(bytes) {
            self.failed = Some(error);
            return Err(io::Error::other("cannot be written"));
        }
        self.ui.advance(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
