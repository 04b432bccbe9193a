//! What a file system can do. One that cannot do something at all (SMB, WebDAV, FAT, FUSE) is no failure of the
//! data: what the call would have guaranteed is had otherwise, or refused. A disk that fails, is full, or may not
//! be written to is one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

/// Whether an error says that the file system has no such thing; of what only tells how a file looks, EPERM
/// says so, too.
fn is_unable(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::PERM)
    )
}

/// What was done to a file's mode, owner or time; that there is no such thing here is well.
pub(crate) fn if_able(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| match is_unable(&error) {
        true => Ok(()),
        false => Err(error),
    })
}

/// Puts a file's bytes on the disk, as far as the file system can be asked to.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()
        .or_else(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOTSUP) => Ok(()),
            _ => Err(error),
        })
}

/// Puts the names in a folder on the disk, likewise. CIFS answers ENOENT as well.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = File::open(path)?;
    if_able(folder.sync_all()).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Gives a file a name that nothing has, on file systems that cannot rename so: by a second name, which is never
/// put in another's place.
pub(crate) fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Makes sure that what was made at a path is its owner's alone: where there are no modes, it is everybody's.
pub(crate) fn keeps_private(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "other users could read it, since this file system has no file modes",
        )),
    }
}
