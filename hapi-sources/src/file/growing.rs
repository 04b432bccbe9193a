//! A file that grows line by line is read up to the last whole line of the size that it has when it is opened; one of
//! compressed lines up to that size, since its last frame may be torn to its reader, and a byte of it says nothing.
//!
//! Whoever writes it only appends, so what stood there then stands there for good, and it need not hold still: a
//! transcript is written all day. Where it became shorter meanwhile it is begun again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::pinned::{Links, Pinned};
use super::stable::{Reading, Stable};
use crate::error::CaptureError;
use crate::facts::{Metadata, Sha256Hash};
use crate::taking::Taking;

/// Bytes looked through at a time for the end of a line.
const STEP: u64 = 64 << 10;

/// Reads a growing file. `gate` and `pass` are those of [`stable`](super::stable::stable); `pass` is given exactly as
/// many bytes as it is to take.
pub(super) fn growing<'a, T>(
    taking: &mut Taking<'a>,
    path: &Path,
    links: Links,
    mut gate: impl FnMut(&mut Taking<'a>, &Pinned) -> Result<Option<String>, CaptureError>,
    mut pass: impl FnMut(
        &Taking<'a>,
        &mut dyn io::Read,
        u64,
        bool,
    ) -> Result<(T, u64, Sha256Hash), CaptureError>,
) -> Result<Stable<T>, CaptureError> {
    let attempts = taking.limits.rereads.saturating_add(1);
    for attempt in 0..attempts {
        taking.stop.check()?;
        let pinned = Pinned::regular(path, links, "a regular file")?;
        if let Some(secret) = gate(taking, &pinned)? {
            return Ok(Stable::Secret(secret));
        }
        let err = |e| CaptureError::read(path, e);
        let mut file = pinned.open().map_err(err)?;
        let before = file.metadata().map_err(err)?;
        let size = match is_compressed(path) {
            true => before.len(),
            false => whole_lines(&file, before.len()).map_err(err)?,
        };
        let mut whole = io::Read::take(&mut file, size);
        let (body, read, sha256) = pass(taking, &mut whole, size, attempt == 0)?;
        if read != size || file.metadata().map_err(err)?.len() < before.len() {
            continue;
        }
        let metadata = Metadata::of(&before).map_err(err)?;
        return Ok(Stable::Read(Reading {
            body,
            size,
            sha256,
            metadata,
        }));
    }
    Err(CaptureError::Unstable {
        path: path.to_owned(),
        attempts,
    })
}

/// Frames of Zstandard, of which the last may be unfinished.
fn is_compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "zstd" || end == "zst")
}

/// Bytes up to the end of the last line that ends within `size`.
fn whole_lines(file: &File, size: u64) -> io::Result<u64> {
    let mut end = size;
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        match file.read_exact_at(&mut bytes, begin) {
            // It became shorter, which is seen afterwards.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(size),
            other => other?,
        }
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
