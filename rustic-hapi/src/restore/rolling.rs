//! A rolling copy is one file on the disk that holds what a database is in one snapshot, then what it is in the next:
//! only blobs that are not where they were are fetched. Each state is compared with its manifest before it counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustic_core::repofile::BlobType;
use rustic_core::{DataId, RusticError};
use sha2::{Digest, Sha256};

use hapi_sources::Observer;

use crate::error::Reason;
use crate::policy::manifest::EntryRecord;
use crate::restore::difference::What;
use crate::restore::fetch::{Failure, Fetch};

/// Bytes hashed between two looks at the stop flag.
const STEP: usize = 1 << 20;

/// One file that becomes what an entry is in one snapshot after the other.
pub(crate) struct Rolling {
    path: PathBuf,
    file: File,
    /// Which blob begins where.
    held: HashMap<u64, DataId>,
    /// What it holds, once that is proven.
    sha256: Option<String>,
    /// Bytes that were fetched in all.
    pub(crate) fetched: u64,
}

impl Rolling {
    /// An empty one, 0600, in a folder of ours.
    pub(crate) fn new(path: PathBuf) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            held: HashMap::new(),
            sha256: None,
            fetched: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Becomes what the entry is. Whether it was something else before.
    pub(crate) fn become_of(
        &mut self,
        fetch: Fetch<'_>,
        entry: &EntryRecord,
    ) -> Result<bool, Failure> {
        if self.sha256.is_some() && self.sha256 == entry.sha256 {
            return Ok(false);
        }
        self.sha256 = None;
        // Of what fails half way, the next one takes nothing.
        let before = std::mem::take(&mut self.held);
        if before.is_empty() {
            return self.begin(fetch, entry).map(|()| true);
        }
        let node = fetch.node(entry)?;
        let mut held = HashMap::new();
        let mut at = 0u64;
        for id in node.content.iter().flatten() {
            if fetch.stop.is_set() {
                return Err(Failure::Stopped);
            }
            let length = match before.get(&at) == Some(id) {
                true => {
                    let blob = fetch.engine.get_index_entry(id);
                    let length = blob.map_err(|error| unreadable(&error))?.data_length();
                    u64::from(length)
                }
                false => {
                    let blob = fetch.engine.get_blob_cached(&(*id).into(), BlobType::Data);
                    let blob = blob.map_err(|error| unreadable(&error))?;
                    let length = blob.len() as u64;
                    if at.saturating_add(length) > entry.size.unwrap_or(0) {
                        let what = "it is longer than the manifest says";
                        return Err(Failure::Difference(what.into()));
                    }
                    self.file.write_all_at(&blob, at).map_err(Failure::Local)?;
                    self.fetched += length;
                    length
                }
            };
            fetch.ui.advance(length);
            held.insert(at, *id);
            at = at.saturating_add(length);
        }
        self.file.set_len(at).map_err(Failure::Local)?;
        let hash = self.hash(fetch)?;
        if Some(at) != entry.size || entry.sha256.as_ref() != Some(&hash) {
            let what = "its size and SHA-256 are not the manifest's";
            return Err(Failure::Difference(what.into()));
        }
        (self.held, self.sha256) = (held, Some(hash));
        Ok(true)
    }

    /// The first state comes as any restored file does, several blobs at a time.
    fn begin(&mut self, fetch: Fetch<'_>, entry: &EntryRecord) -> Result<(), Failure> {
        self.file.set_len(0).map_err(Failure::Local)?;
        self.file.rewind().map_err(Failure::Local)?;
        fetch.into_file(entry, &mut self.file)?;
        let mut at = 0u64;
        for id in fetch.node(entry)?.content.iter().flatten() {
            let blob = fetch
                .engine
                .get_index_entry(id)
                .map_err(|error| unreadable(&error))?;
            self.held.insert(at, *id);
            at = at.saturating_add(blob.data_length().into());
        }
        self.fetched += at;
        self.sha256.clone_from(&entry.sha256);
        Ok(())
    }

    fn hash(&mut self, fetch: Fetch<'_>) -> Result<String, Failure> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; STEP];
        self.file.rewind().map_err(Failure::Local)?;
        loop {
            if fetch.stop.is_set() {
                return Err(Failure::Stopped);
            }
            match self.file.read(&mut buffer).map_err(Failure::Local)? {
                0 => return Ok(hex::encode(hash.finalize())),
                count => hash.update(&buffer[..count]),
            }
        }
    }
}

fn unreadable(error: &RusticError) -> Failure {
    Failure::Difference(What::Unreadable(Reason::of(error)))
}
