//! A REST server as the engine sees it: a backend that reads, writes and removes files by their ids.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

use crate::destination::lock_files::LockStore;
use crate::destination::presence::{Presence, at_server};
use crate::destination::rest::failure::What;
use crate::destination::rest::{Listed, Rest};
use crate::destination::server::Server;
use crate::error::Error;

impl ReadBackend for Rest {
    fn location(&self) -> String {
        self.name.clone()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if tpe == FileType::Config {
            let there = self.has_config()?;
            return Ok(there.then(|| (Id::default(), 0)).into_iter().collect());
        }
        Ok(self
            .list(tpe.dirname())?
            .into_iter()
            .filter_map(|(name, size)| {
                // Strangers among the files are nobody's business here.
                let id = name.parse::<Id>().ok()?;
                Some((id, u32::try_from(size).unwrap_or(u32::MAX)))
            })
            .collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = path_of(tpe, id);
        let read = self.persist(|| {
            let response = self.send(&self.bulk, Method::GET, &path, |r| r)?;
            self.body(response, &path)
        })?;
        Ok(read.into())
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = path_of(tpe, id);
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(length));
        let read = self.persist(|| {
            let response = self.send(&self.bulk, Method::GET, &path, |request| {
                request.header("Range", format!("bytes={start}-{}", end - 1))
            })?;
            let partial = response.status() == StatusCode::PARTIAL_CONTENT;
            let mut body = Bytes::from(self.body(response, &path)?);
            // A server may give all of it instead.
            if !partial && body.len() as u64 >= end {
                let (start, end) = (offset as usize, (offset + length) as usize);
                body = body.slice(start..end);
            }
            match body.len() as u64 == u64::from(length) {
                true => Ok(body),
                false => Err(self.failure(
                    What::Broken(format!("received {} of {length} bytes", body.len())),
                    format!("GET {path}"),
                )),
            }
        })?;
        Ok(read)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        path_of(tpe, id)
    }
}

impl WriteBackend for Rest {
    fn create(&self) -> RusticResult<()> {
        self.persist(|| self.send(&self.quick, Method::POST, "?create=true", |r| r))?;
        Ok(())
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

impl Server for Rest {
    fn locks(&self) -> Arc<dyn LockStore> {
        Arc::new(self.unwatched())
    }

    fn presence(&self) -> Result<Presence, Error> {
        at_server(self)
    }

    fn keys(&self) -> Result<Vec<String>, Error> {
        match self.look("keys")? {
            Listed::Files(1..) => Ok(self
                .list("keys")?
                .into_iter()
                .map(|(name, _)| name)
                .collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn remove_key(&self, name: &str) -> Result<(), Error> {
        Ok(Self::remove(self, &format!("keys/{name}"))?)
    }
}

fn path_of(tpe: FileType, id: &Id) -> String {
    match tpe {
        FileType::Config => "config".to_owned(),
        _ => format!("{}/{}", tpe.dirname(), id.to_hex().as_str()),
    }
}
