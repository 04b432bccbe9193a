//! A tree is a b-tree of a database file, a table's or an index's. It is read in its own order, straight from the
//! file's pages (<https://sqlite.org/fileformat2.html>): so what is read is what that tree holds, whatever SQLite's
//! planner would rather read instead.
//!
//! That the tree is sound is for `quick_check` to say. Here it is enough that a broken one comes to an end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::at_rest::Failed;
use super::super::header;
use super::doubt::{Doubt, Halt};
use crate::stop::Stop;

/// SQLite's own limit (`BTCURSOR_MAX_DEPTH`).
const DEPTH: u32 = 20;

/// A file of pages.
pub(super) struct Pages {
    file: File,
    size: usize,
    /// A page without the bytes that are reserved at its end.
    usable: usize,
    count: u64,
}

/// Two kinds of trees: rows by rowid, or records by their own order (indexes, tables WITHOUT ROWID).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    Records,
}

/// What a cell holds.
pub(super) struct Entry<'a> {
    /// Of a row; 0 elsewhere.
    pub(super) rowid: i64,
    pub(super) payload: Payload<'a>,
}

/// A record's bytes, perhaps in several pages.
pub(super) struct Payload<'a> {
    pages: &'a Pages,
    pub(super) len: usize,
    local: &'a [u8],
    overflow: u32,
}

impl Pages {
    pub(super) fn open(path: &Path) -> Result<Self, Halt> {
        let file = File::open(path)?;
        let (header, len) = header::read(&file)?;
        let size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            size => usize::from(size),
        };
        let usable = size.saturating_sub(usize::from(header[20]));
        if !size.is_power_of_two() || usable < 480 {
            return Err(Halt::Doubt);
        }
        Ok(Self {
            file,
            size,
            usable,
            count: len / size as u64,
        })
    }

    /// Gives each entry of a tree, in the tree's order.
    pub(super) fn walk(
        &self,
        root: u32,
        kind: Kind,
        stop: &Stop,
        each: impl FnMut(Entry<'_>) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let mut walk = Walk {
            pages: self,
            kind,
            stop,
            left: self.count,
            spare: Vec::new(),
            each,
        };
        walk.page(root, 0)
    }

    fn read(&self, number: u32, bytes: &mut [u8]) -> Result<(), Halt> {
        let before = u64::from(number.checked_sub(1).ok_or(Doubt)?);
        Ok(self.file.read_exact_at(bytes, before * self.size as u64)?)
    }

    /// How much of a record is in its cell.
    fn local(&self, len: usize, kind: Kind) -> usize {
        let most = match kind {
            Kind::Rows => self.usable - 35,
            Kind::Records => (self.usable - 12) * 64 / 255 - 23,
        };
        let least = (self.usable - 12) * 32 / 255 - 23;
        match len {
            len if len <= most => len,
            len => match least + (len - least) % (self.usable - 4) {
                local if local <= most => local,
                _ => least,
            },
        }
    }
}

struct Walk<'a, F> {
    pages: &'a Pages,
    kind: Kind,
    stop: &'a Stop,
    /// Pages that may still be visited: none is twice in a tree.
    left: u64,
    /// Buffers, one for each level.
    spare: Vec<Vec<u8>>,
    each: F,
}

impl<F: FnMut(Entry<'_>) -> Result<(), Halt>> Walk<'_, F> {
    fn page(&mut self, number: u32, depth: u32) -> Result<(), Halt> {
        if self.stop.is_set() {
            return Err(Failed::Stopped.into());
        }
        self.stop.progressed();
        self.left = self.left.checked_sub(1).ok_or(Doubt)?;
        if depth > DEPTH {
            return Err(Halt::Doubt);
        }
        let buffer = self.spare.pop();
        let mut page = buffer.unwrap_or_else(|| vec![0; self.pages.size]);
        self.pages.read(number, &mut page)?;
        let start = if number == 1 { 100 } else { 0 };
        let (leaf, kind) = match page[start] {
            2 => (false, Kind::Records),
            5 => (false, Kind::Rows),
            10 => (true, Kind::Records),
            13 => (true, Kind::Rows),
            _ => return Err(Halt::Doubt),
        };
        if kind != self.kind {
            return Err(Halt::Doubt);
        }
        let pointers = start + if leaf { 8 } else { 12 };
        for i in 0..be16(&page, start + 3)? {
            let at = be16(&page, pointers + 2 * i)?;
            let mut cell = page.get(at..self.pages.usable).ok_or(Doubt)?;
            if !leaf {
                let child = be32(cell, 0)?;
                self.page(child, depth + 1)?;
                cell = &cell[4..];
            }
            if leaf || kind == Kind::Records {
                self.entry(cell)?;
            }
        }
        if !leaf {
            self.page(be32(&page, start + 8)?, depth + 1)?;
        }
        self.spare.push(page);
        Ok(())
    }

    fn entry(&mut self, mut cell: &[u8]) -> Result<(), Halt> {
        let len = usize::try_from(take_varint(&mut cell)?).map_err(|_| Doubt)?;
        if len > i32::MAX as usize {
            return Err(Halt::Doubt);
        }
        let rowid = match self.kind {
            Kind::Rows => take_varint(&mut cell)?.cast_signed(),
            Kind::Records => 0,
        };
        let local = cell.get(..self.pages.local(len, self.kind));
        let local = local.ok_or(Doubt)?;
        let overflow = match local.len() < len {
            true => be32(cell, local.len())?,
            false => 0,
        };
        (self.each)(Entry {
            rowid,
            payload: Payload {
                pages: self.pages,
                len,
                local,
                overflow,
            },
        })
    }
}

impl Payload<'_> {
    /// All of it, where it is in its cell.
    #[inline]
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.local.len() == self.len).then_some(self.local)
    }

    /// Its first bytes; those that are not in the cell are put together in the buffer.
    #[inline]
    pub(super) fn first<'b>(
        &'b self,
        len: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], Halt> {
        if let Some(local) = self.local.get(..len) {
            return Ok(local);
        }
        if len > self.len {
            return Err(Halt::Doubt);
        }
        buffer.clear();
        buffer.extend_from_slice(self.local);
        let mut page = self.overflow;
        while buffer.len() < len {
            // A page begins with the next one's number. It is read over the last bytes before, which are put
            // back: a cell has at least 4 bytes of its record.
            let at = buffer.len() - 4;
            let mut kept = [0; 4];
            kept.copy_from_slice(&buffer[at..]);
            buffer.resize(at + self.pages.usable, 0);
            self.pages.read(page, &mut buffer[at..])?;
            page = be32(buffer, at)?;
            buffer[at..at + 4].copy_from_slice(&kept);
        }
        Ok(&buffer[..len])
    }
}

fn be16(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => Ok(usize::from(u16::from_be_bytes([a, b]))),
        _ => Err(Doubt),
    }
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Doubt> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(Doubt),
    }
}

/// Takes a variable-length integer from the front: seven bits a byte, eight in the ninth.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Doubt> {
    match **bytes {
        [byte, ref rest @ ..] if byte < 0x80 => {
            *bytes = rest;
            Ok(u64::from(byte))
        }
        _ => take_long_varint(bytes),
    }
}

/// One that has more bytes than it needs is one that SQLite does not write, and compares in ways of its own.
fn take_long_varint(bytes: &mut &[u8]) -> Result<u64, Doubt> {
    let mut value = 0;
    for i in 0..8 {
        let (&byte, rest) = bytes.split_first().ok_or(Doubt)?;
        *bytes = rest;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            let is_short = i > 0 && value >> (7 * i) == 0;
            return if is_short { Err(Doubt) } else { Ok(value) };
        }
    }
    let (&byte, rest) = bytes.split_first().ok_or(Doubt)?;
    *bytes = rest;
    Ok(value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_to_nine_bytes() {
        for (bytes, value) in [
            (&[0][..], Some(0)),
            (&[0x7f], Some(127)),
            (&[0x81, 0], Some(128)),
            (&[0xff, 0xff, 0x7f], Some((1 << 21) - 1)),
            (
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xff],
                Some(255),
            ),
            (&[0xff; 9], Some(u64::MAX)),
            (&[0x80, 1], None),
            (&[0x81, 0x80], None),
            (&[], None),
        ] {
            let mut rest = bytes;
            assert_eq!(take_varint(&mut rest).ok(), value, "{bytes:x?}");
            assert!(value.is_none() || rest.is_empty());
        }
    }
}
