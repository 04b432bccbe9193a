//! An SFTP server as the engine sees it, and as locks and a reach for a destination do.

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};
use std::sync::Arc;

use crate::destination::lock_files::LockStore;
use crate::destination::presence::{Presence, at_account};
use crate::destination::server::Server;
use crate::destination::sftp::Sftp;
use crate::error::Error;

impl ReadBackend for Sftp {
    fn location(&self) -> String {
        self.name.clone()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if tpe == FileType::Config {
            let there = self.look("config")?.is_some();
            return Ok(there.then(|| (Id::default(), 0)).into_iter().collect());
        }
        let files = self.files(tpe.dirname())?.into_iter();
        Ok(files
            .filter_map(|(name, size)| {
                // Strangers among the files are nobody's business here.
                let id = name.parse::<Id>().ok()?;
                Some((id, u32::try_from(size).unwrap_or(u32::MAX)))
            })
            .collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        Ok(self.read(&path_of(tpe, id))?.into())
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let (from, size) = (offset.into(), length.into());
        Ok(self.read_part(&path_of(tpe, id), from, size)?.into())
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        path_of(tpe, id)
    }
}

impl WriteBackend for Sftp {
    fn create(&self) -> RusticResult<()> {
        Ok(self.make_folders()?)
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        Ok(self.write(&path_of(tpe, id), &content)?)
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        Ok(Self::remove(self, &path_of(tpe, id))?)
    }
}

impl LockStore for Sftp {
    fn list(&self) -> Result<Vec<Id>, Error> {
        let files = match self.files("locks") {
            // A copy of a repository may lack its empty folders.
            Err(failure) if failure.is_missing() => Vec::new(),
            listed => listed?,
        };
        Ok(files
            .iter()
            .filter_map(|(name, _)| name.parse().ok())
            .collect())
    }

    fn read(&self, id: &Id) -> Result<Option<Vec<u8>>, Error> {
        match Self::read(self, &lock_of(id)) {
            Err(failure) if failure.is_missing() => Ok(None),
            read => Ok(Some(read?)),
        }
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Error> {
        Ok(Self::write(self, &lock_of(id), &BytesList::from(content))?)
    }

    fn remove(&self, id: &Id) -> Result<(), Error> {
        Ok(Self::remove(self, &lock_of(id))?)
    }
}

impl Server for Sftp {
    fn locks(&self) -> Arc<dyn LockStore> {
        Arc::new(self.unwatched())
    }

    fn presence(&self) -> Result<Presence, Error> {
        at_account(self)
    }

    fn keys(&self) -> Result<Vec<String>, Error> {
        match self.files("keys") {
            Err(failure) if failure.is_missing() => Ok(Vec::new()),
            listed => Ok(listed?.into_iter().map(|(name, _)| name).collect()),
        }
    }

    fn remove_key(&self, name: &str) -> Result<(), Error> {
        Ok(Self::remove(self, &format!("keys/{name}"))?)
    }
}

fn path_of(tpe: FileType, id: &Id) -> String {
    let name = id.to_hex();
    let name = name.as_str();
    match tpe {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{name}", &name[..2]),
        _ => format!("{}/{name}", tpe.dirname()),
    }
}

fn lock_of(id: &Id) -> String {
    format!("locks/{}", id.to_hex().as_str())
}
