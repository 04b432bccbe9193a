//! A loose pack is in no index: an upload that broke off left it. Taken up into an index, what it holds
//! need not be sent again.
//!
//! Only packs whose content has the hash they are called by are taken up. An index file that an upload left
//! torn goes once the packs it may have listed are in another.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rustic_core::repofile::IndexFile;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};
use sha2::{Digest, Sha256};

/// The index files that can be read, and those that are not what they are called.
pub(crate) fn indexes(backend: &dyn WriteBackend) -> RusticResult<(Vec<Id>, Vec<Id>)> {
    let (mut sound, mut torn) = (Vec::new(), Vec::new());
    for id in backend.list(FileType::Index)? {
        let content = backend.read_full(FileType::Index, &id)?;
        match hex::encode(Sha256::digest(&content)) == id.to_hex().as_str() {
            true => sound.push(id),
            false => torn.push(id),
        }
    }
    Ok((sound, torn))
}

/// The packs of `packs` that none of these indexes lists.
pub(crate) fn among(
    packs: Vec<(Id, u32)>,
    indexes: impl Iterator<Item = RusticResult<IndexFile>>,
) -> RusticResult<Vec<(Id, u32)>> {
    let mut listed = BTreeSet::new();
    for file in indexes {
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

/// A backend to make an index through: it shows these packs and no index, so that the engine, which would
/// change indexes that it finds fault with, writes one for these packs and touches none.
#[derive(Debug)]
pub(crate) struct OnlyThese {
    inner: Arc<dyn WriteBackend>,
    packs: Vec<(Id, u32)>,
}

impl OnlyThese {
    /// Before a backend.
    pub(crate) fn new(inner: Arc<dyn WriteBackend>, packs: Vec<(Id, u32)>) -> Self {
        Self { inner, packs }
    }
}

impl ReadBackend for OnlyThese {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        match tpe {
            FileType::Pack => Ok(self.packs.clone()),
            FileType::Index => Ok(Vec::new()),
            _ => self.inner.list_with_size(tpe),
        }
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

impl WriteBackend for OnlyThese {
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
            "the file {id} is not to be removed here; it is one of {kind}",
        )
        .attach_context("id", id.to_hex().to_string())
        .attach_context("kind", tpe.to_string()))
    }
}
