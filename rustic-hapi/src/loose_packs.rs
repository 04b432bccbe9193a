//! A loose pack is in no index: an upload that broke off left it. Taken up into an index, what it holds
//! need not be sent again.
//!
//! Only packs whose content has the hash they are called by are taken up, and no index file is changed
//! or removed: one that lists a pack which is gone is damage, and for `check` to tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rustic_core::repofile::IndexFile;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};
use sha2::{Digest, Sha256};

/// The packs of `packs` that no index lists.
pub(crate) fn among(
    packs: Vec<(Id, u32)>,
    index: impl Iterator<Item = RusticResult<IndexFile>>,
) -> RusticResult<Vec<(Id, u32)>> {
    let mut listed = BTreeSet::new();
    for file in index {
        let file = file?;
        let all = file.packs.iter().chain(&file.packs_to_delete);
        listed.extend(all.map(|pack| *pack.id));
    }
    let loose = packs.into_iter().filter(|(id, _)| !listed.contains(id));
    Ok(loose.collect())
}

/// Those of the loose packs that are not what they are called: torn, or not to be read.
pub(crate) fn torn(backend: &dyn WriteBackend, loose: &[(Id, u32)]) -> BTreeSet<Id> {
    let is_whole = |id: &Id| {
        let content = backend.read_full(FileType::Pack, id);
        content.is_ok_and(|content| hex::encode(Sha256::digest(&content)) == id.to_hex().as_str())
    };
    let ids = loose.iter().map(|(id, _)| id);
    ids.filter(|id| !is_whole(id)).copied().collect()
}

/// A backend to make an index anew through, which shows no torn pack and keeps each index file.
#[derive(Debug)]
pub(crate) struct WithoutTorn {
    inner: Arc<dyn WriteBackend>,
    torn: BTreeSet<Id>,
}

impl WithoutTorn {
    /// Before a backend.
    pub(crate) fn new(inner: Arc<dyn WriteBackend>, torn: BTreeSet<Id>) -> Self {
        Self { inner, torn }
    }
}

impl ReadBackend for WithoutTorn {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let mut files = self.inner.list_with_size(tpe)?;
        if tpe == FileType::Pack {
            files.retain(|(id, _)| !self.torn.contains(id));
        }
        Ok(files)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(tpe, id)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.inner.read_partial(tpe, id, cacheable, offset, length)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }
}

impl WriteBackend for WithoutTorn {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        self.inner.write_bytes(tpe, id, cacheable, content)
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        Err(RusticError::new(
            ErrorKind::Backend,
            "the index file {id} lists what is not there; {kind} files are not removed here",
        )
        .attach_context("id", id.to_hex().to_string())
        .attach_context("kind", tpe.to_string()))
    }
}
