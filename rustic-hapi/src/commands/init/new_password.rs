//! A password of a new repository, in a file of its own that only its owner can read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Error;
use crate::machine::able::{keeps_private, sync_file};
use crate::machine::private_files::private_folder;

/// Makes a password of 256 random bits, unless there is one; true if it did.
pub(super) fn put_password(path: &Path, given: Option<&str>) -> Result<bool, Error> {
    if path.try_exists().map_err(Error::at(path))? {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let mut random = zeroize::Zeroizing::new([0u8; 32]);
    let state = Error::at(path);
    getrandom::fill(random.as_mut())
        .map_err(|error| state(std::io::Error::other(error.to_string())))?;
    let random = zeroize::Zeroizing::new(hex::encode(*random));
    let line = zeroize::Zeroizing::new(format!("{}\n", given.unwrap_or(&random)));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(state)?;
    if let Err(error) = keeps_private(path) {
        _ = fs::remove_file(path);
        return Err(state(error));
    }
    file.write_all(line.as_bytes())
        .and_then(|()| sync_file(&file))
        .map_err(state)?;
    Ok(true)
}
