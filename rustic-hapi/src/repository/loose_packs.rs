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
    BytesList, Credentials, ErrorKind, FileType, Id, ReadBackend, RepairIndexOptions, RusticError,
    RusticResult, WriteBackend,
};

use crate::error::Error;
use crate::repository::Repository;
use crate::repository::name::is_hash_of;
use crate::repository::open::engine;
use crate::terminal::ui::Ui;

/// The index files that can be read, and those that are not what they are called.
pub(crate) fn indexes(backend: &dyn WriteBackend) -> RusticResult<(Vec<Id>, Vec<Id>)> {
    let (mut sound, mut torn) = (Vec::new(), Vec::new());
    for id in backend.list(FileType::Index)? {
        let content = backend.read_full(FileType::Index, &id)?;
        match is_hash_of(&id, &content) {
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
        content.is_ok_and(|content| is_hash_of(id, &content))
    };
    let ids = loose.iter().map(|(id, _)| id);
    ids.filter(|id| !is_whole(id)).copied().collect()
}

impl Repository {
    /// Takes up what uploads that broke off left, so that it is not sent again. Nobody else may be at
    /// work here: what another run has just sent looks the same.
    ///
    /// # Errors
    /// Those of reading and writing indexes; nothing is lost by them.
    pub(crate) fn take_up_loose_packs(&self) -> Result<(), Error> {
        let doing = || Error::engine("taking up what was sent before");
        let (sound, torn_indexes) = indexes(&*self.backend).map_err(doing())?;
        let files = sound
            .into_iter()
            .map(|id| self.inner.get_file::<IndexFile>(&id.into()));
        let mut loose = among(self.packs()?, files).map_err(doing())?;
        if loose.is_empty() && torn_indexes.is_empty() {
            return Ok(());
        }
        let torn = torn(&*self.backend, &loose);
        loose.retain(|(id, _)| !torn.contains(id));
        let size = loose.iter().map(|(_, size)| u64::from(*size)).sum();
        self.ui.step(format_args!(
            "reuses {} packs ({}) that an earlier run sent; a prune removes {} torn ones",
            loose.len(),
            crate::words::bytes(size),
            torn.len()
        ));
        let backend: Arc<dyn WriteBackend> =
            Arc::new(OnlyThese::new(Arc::clone(&self.backend), loose));
        // Without a cache, which would take the indexes that it is not shown for gone.
        engine(&backend, self.location(), false, Ui::silent())?
            .open(&Credentials::Masterkey(self.inner.key()))
            .and_then(|engine| engine.repair_index(&RepairIndexOptions::default(), false))
            .map_err(doing())?;
        for id in torn_indexes {
            self.backend
                .remove(FileType::Index, &id, true)
                .map_err(doing())?;
            self.ui.warn(format_args!(
                "removed the index file {}, torn by an interrupted upload; another index lists its content",
                &id.to_hex()[..8]
            ));
        }
        Ok(())
    }
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
            "the file {id} must not be removed here; it is one of {kind}",
        )
        .attach_context("id", id.to_hex().to_string())
        .attach_context("kind", tpe.to_string()))
    }
}
