//! A record is a JSON file of ours: absent is none, and it is written whole, 0600 in a 0700 folder.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::machine::private_files::{is_absent, private_folder, write_private};

/// What a file holds, if it is there.
///
/// # Errors
/// [`Error::State`] where it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::at(path)(error)),
    }
}

/// What is on record; what makes no sense counts as nothing.
///
/// # Errors
/// As [`read`].
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    Ok(read(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Puts it on record, durable when this returns.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn store(path: &Path, record: &impl Serialize) -> Result<(), Error> {
    private_folder(path.parent().unwrap_or(path))?;
    let text = serde_json::to_vec(record).map_err(|error| Error::at(path)(error.into()))?;
    write_private(path, &text)
}
