//! Files and folders for nobody but their owner: written whole or not at all, read only where they are private.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use hapi_sources::Staging;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::machine::able::{if_able, keeps_private, sync_file, sync_folder};
use crate::machine::permission;

/// Makes a folder of ours, 0700, with whatever is missing above it. What root makes in another user's folder is that
/// user's, who could not pass otherwise.
///
/// # Errors
/// [`Error::State`] with the folder.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    let make = || -> io::Result<()> {
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(path)?;
        for made in missing.iter().rev().filter(|p| p.parent().is_some()) {
            let above = made.parent().filter(|p| !p.as_os_str().is_empty());
            give_to_owner_of(above.unwrap_or(Path::new(".")), &fs::File::open(made)?)?;
        }
        match missing.is_empty() {
            true => Ok(()),
            false => keeps_private(path),
        }
    };
    make().map_err(Error::at(path))
}

/// A folder of this run, 0700, for copies that are gone when it ends; what killed runs left there is swept first.
///
/// # Errors
/// Those of the folder that it is made in.
pub(crate) fn private_staging(base: &Path) -> Result<Staging, Error> {
    private_folder(base)?;
    Staging::sweep(base)?;
    let staging = Staging::create(base)?;
    keeps_private(staging.path()).map_err(Error::at(staging.path()))?;
    Ok(staging)
}

/// Why a file with a secret in it cannot be used, and what helps.
pub(crate) struct Unfit {
    pub(crate) fact: String,
    pub(crate) hint: String,
}

/// Reads a file that nobody but its owner may read. `missing` is the hint where it cannot be found.
pub(crate) fn read_private(path: &Path, missing: &str) -> Result<Zeroizing<String>, Unfit> {
    let unfit = |fact: String, hint: &str| Unfit {
        fact,
        hint: hint.to_owned(),
    };
    let denied = |otherwise: &str| {
        let remedy = permission::remedy(path, path, path);
        remedy.unwrap_or_else(|| otherwise.to_owned())
    };
    let metadata = fs::metadata(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => denied(missing),
            _ => missing.to_owned(),
        };
        unfit(format!("cannot be read: {error}"), &hint)
    })?;
    if metadata.file_type().is_fifo() {
        return Err(unfit(
            "is a pipe, which can be read once".into(),
            "name a file; for a password, `RESTIC_PASSWORD_COMMAND` or `password-command` in `[repository]` may name the program that prints it",
        ));
    }
    if !metadata.is_file() {
        return Err(unfit("is not a file".into(), "name a file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(unfit(
            format!("can be read by others (mode {mode:04o})"),
            &format!("`chmod 600 '{}'`", path.display()),
        ));
    }
    let bytes = fs::read(path).map(Zeroizing::new).map_err(|error| {
        unfit(
            format!("cannot be read: {error}"),
            &denied("run this as its owner"),
        )
    })?;
    decoded(&bytes).ok_or_else(|| {
        unfit(
            "is not a text file in UTF-8 or UTF-16".into(),
            "save it as UTF-8, without a BOM",
        )
    })
}

/// The byte order mark of UTF-8, as a character.
pub(crate) const BOM: char = '\u{feff}';

/// The text of a file, as restic reads the same file: a byte order mark decides between UTF-8 and UTF-16, and
/// is no part of the text. `None` for what is neither.
pub(crate) fn decoded(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let (rest, unit): (_, fn([u8; 2]) -> u16) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?;
            let text = text.strip_prefix(BOM).unwrap_or(text);
            return Some(Zeroizing::new(text.to_owned()));
        }
    };
    let (pairs, []) = rest.as_chunks::<2>() else {
        return None;
    };
    let units = pairs.iter().map(|pair| unit(*pair));
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * rest.len()));
    for character in char::decode_utf16(units) {
        text.push(character.ok()?);
    }
    Some(text)
}

/// How the name begins of a file that is not whole yet.
pub(crate) const UNFINISHED: &str = ".tmp-";

/// Removes what killed processes left of files in a folder of ours. What is younger than an hour may still
/// be written; what cannot be removed is in nobody's way.
pub(crate) fn sweep_unfinished(folder: &Path) {
    const AGE: Duration = Duration::from_secs(60 * 60);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            continue;
        }
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > AGE) {
            _ = fs::remove_file(entry.path());
        }
    }
}

/// Puts a file of ours down, 0600, whole or not at all.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let put = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(folder)
            .map_err(of_the_system)?;
        file.write_all(content).map_err(of_the_system)?;
        give_to_owner_of(folder, file.as_file())?;
        sync_file(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    put().map_err(Error::at(path))
}

/// What the system said, without the temporary name that the library adds to it: the message has the file's own.
fn of_the_system(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|error| error.source());
    let inner = inner.and_then(|error| error.downcast_ref::<io::Error>());
    match inner.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

/// Gives what root makes in another user's folder to that user, who could not use it otherwise.
pub(crate) fn give_to_owner_of(folder: &Path, file: &fs::File) -> io::Result<()> {
    let stat = fs::metadata(folder)?;
    match rustix::process::geteuid().is_root() && stat.uid() != 0 {
        true => if_able(std::os::unix::fs::fchown(
            file,
            Some(stat.uid()),
            Some(stat.gid()),
        )),
        false => Ok(()),
    }
}

/// Whether reading failed only because nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
