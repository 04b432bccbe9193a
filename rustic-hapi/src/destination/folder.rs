//! A folder of this machine's as the engine writes to it. Where this user may not do something there, the error
//! says whose the file is, and what changes that: it is no damage.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

use crate::error::Remedied;
use crate::machine::permission;

/// The engine's backend for a folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) inner: Arc<dyn WriteBackend>,
    pub(super) path: PathBuf,
}

/// Where a local repository has a file.
pub(crate) fn path_in(folder: &Path, tpe: FileType, id: &Id) -> PathBuf {
    let name = id.to_hex();
    match tpe {
        FileType::Config => folder.join("config"),
        FileType::Pack => folder.join("data").join(&name[..2]).join(name.as_str()),
        _ => folder.join(tpe.dirname()).join(name.as_str()),
    }
}

/// What helps where this user may not use a file or folder of a repository; whose the repository is, its
/// `config` says.
pub(crate) fn remedy(folder: &Path, path: &Path) -> Option<String> {
    permission::remedy(path, folder, &folder.join("config"))
}

impl Folder {
    fn told<T>(&self, tpe: FileType, id: &Id, done: RusticResult<T>) -> RusticResult<T> {
        done.map_err(|error| {
            let is_denied = |cause: &io::Error| cause.kind() == io::ErrorKind::PermissionDenied;
            let cause = error.source().and_then(|c| c.downcast_ref::<io::Error>());
            let path = path_in(&self.path, tpe, id);
            let above = path.parent().unwrap_or(&self.path);
            let remedy = || remedy(&self.path, &path).or_else(|| remedy(&self.path, above));
            match cause
                .filter(|cause| is_denied(cause))
                .and_then(|_| remedy())
            {
                Some(remedy) => error.attach_source(Remedied {
                    remedy: remedy.into(),
                    error: Some(rustix::io::Errno::ACCESS.into()),
                }),
                None => error,
            }
        })
    }
}

impl ReadBackend for Folder {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(tpe)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.told(tpe, id, self.inner.read_full(tpe, id))
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let read = self.inner.read_partial(tpe, id, cacheable, offset, length);
        self.told(tpe, id, read)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }
}

impl WriteBackend for Folder {
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
        let written = self.inner.write_bytes(tpe, id, cacheable, content);
        self.told(tpe, id, written)
    }

    fn remove(&self, tpe: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        self.told(tpe, id, self.inner.remove(tpe, id, cacheable))
    }
}
