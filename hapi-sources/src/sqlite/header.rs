//! The header is the first 100 bytes of a database (<https://sqlite.org/fileformat2.html>).
//!
//! It can be read however damaged the rest is. It is changed in copies only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The header, zeros where the file is shorter, and the file's length.
pub(super) fn read(file: &File) -> io::Result<([u8; 100], u64)> {
    let len = file.metadata()?.len();
    let mut header = [0; 100];
    if len >= header.len() as u64 {
        file.read_exact_at(&mut header, 0)?;
    }
    Ok((header, len))
}

/// Whether a database's header says WAL (bytes 18 and 19).
pub(super) fn is_wal(database: &File) -> bool {
    let mut versions = [0; 2];
    database.read_exact_at(&mut versions, 18).is_ok() && versions == [2, 2]
}

/// Sets the header's versions, so that the copy opens anywhere, also where nothing can be written beside
/// it. `PRAGMA journal_mode = DELETE` does the same, but wants a schema without damage.
pub(super) fn opens_anywhere(copy: &Path) -> io::Result<u64> {
    let file = File::options().read(true).write(true).open(copy)?;
    let (mut header, len) = read(&file)?;
    // From WAL to rollback journal (bytes 18 and 19).
    if header[18..20] == [2, 2] {
        header[18..20].fill(1);
        file.write_all_at(&header, 0)?;
    }
    Ok(len)
}
