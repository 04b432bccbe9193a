//! A readahead fetches the neighbours of a blob along with it.
//!
//! A restore asks for the blobs of a file in its order, 12 KiB each. One request a blob is an
//! opened file each on a disk, and a round trip each to a server. Blobs of one run lie beside each
//! other in a pack, in the file's order, so each pack gets a window that grows while it is read on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

/// Bytes of a pack's first window.
const FIRST: u32 = 128 << 10;
/// Windows double up to this size.
const LARGEST: u32 = 4 << 20;
/// Bytes that all windows together may hold.
const IN_ALL: usize = 48 << 20;

/// A backend whose partial reads of packs go through windows.
#[derive(Debug)]
pub(crate) struct Readahead {
    inner: Arc<dyn WriteBackend>,
    /// Sizes of the packs: a window must not reach past the end.
    sizes: BTreeMap<Id, u32>,
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    by_pack: BTreeMap<Id, Window>,
    held: usize,
    clock: u64,
}

#[derive(Debug)]
struct Window {
    start: u32,
    bytes: Bytes,
    next_size: u32,
    used: u64,
}

impl Readahead {
    /// Puts windows before a backend; `packs` are all of its packs with their sizes.
    pub(crate) fn new(
        inner: Arc<dyn WriteBackend>,
        packs: impl IntoIterator<Item = (Id, u32)>,
    ) -> Self {
        Self {
            inner,
            sizes: packs.into_iter().collect(),
            windows: Mutex::default(),
        }
    }
}

impl Windows {
    /// The wanted bytes, if a window has them.
    fn get(&mut self, id: &Id, offset: u32, length: u32) -> Option<Bytes> {
        self.clock += 1;
        let window = self.by_pack.get_mut(id)?;
        let from = offset.checked_sub(window.start)? as usize;
        let to = from + length as usize;
        if to > window.bytes.len() {
            return None;
        }
        window.used = self.clock;
        Some(window.bytes.slice(from..to))
    }

    /// How much to read from `offset` on, where a window has to be filled.
    fn size(&self, id: &Id, offset: u32, length: u32) -> u32 {
        let wanted = match self.by_pack.get(id) {
            // Read on, perhaps with a gap: what lies ahead will be wanted, too.
            Some(window)
                if offset >= window.start
                    && u64::from(offset)
                        <= u64::from(window.start)
                            + window.bytes.len() as u64
                            + u64::from(LARGEST) =>
            {
                window.next_size
            }
            Some(_) | None => FIRST,
        };
        wanted.max(length)
    }

    fn put(&mut self, id: Id, start: u32, bytes: Bytes) {
        let size = u32::try_from(bytes.len()).unwrap_or(LARGEST);
        self.held += bytes.len();
        let window = Window {
            start,
            bytes,
            next_size: size.saturating_mul(2).clamp(FIRST, LARGEST),
            used: self.clock,
        };
        if let Some(old) = self.by_pack.insert(id, window) {
            self.held -= old.bytes.len();
        }
        while self.held > IN_ALL {
            let oldest = self
                .by_pack
                .iter()
                .filter(|(other, _)| **other != id)
                .min_by_key(|(_, window)| window.used)
                .map(|(other, _)| *other);
            let Some(old) = oldest.and_then(|oldest| self.by_pack.remove(&oldest)) else {
                return;
            };
            self.held -= old.bytes.len();
        }
    }
}

impl ReadBackend for Readahead {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(tpe)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(tpe, id)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        let straight = || self.inner.read_partial(tpe, id, cacheable, offset, length);
        // Trees are few, and cached by the engine where that pays.
        let (FileType::Pack, false, Some(pack)) = (tpe, cacheable, self.sizes.get(id)) else {
            return straight();
        };
        let locked = || self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let size = {
            let mut windows = locked();
            if let Some(bytes) = windows.get(id, offset, length) {
                return Ok(bytes);
            }
            windows
                .size(id, offset, length)
                .min(pack.saturating_sub(offset))
        };
        if size < length {
            return straight();
        }
        let bytes = self.inner.read_partial(tpe, id, cacheable, offset, size)?;
        let wanted = bytes.slice(..(length as usize).min(bytes.len()));
        locked().put(*id, offset, bytes);
        Ok(wanted)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }

    fn needs_warm_up(&self) -> bool {
        self.inner.needs_warm_up()
    }

    fn warm_up(&self, tpe: FileType, id: &Id) -> RusticResult<()> {
        self.inner.warm_up(tpe, id)
    }
}

impl WriteBackend for Readahead {
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
        self.inner.write_bytes(tpe, id, cacheable, content)
    }

    fn remove(&self, tpe: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        self.inner.remove(tpe, id, cacheable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_serves_what_it_holds_and_grows_while_it_is_read_on() {
        let mut windows = Windows::default();
        let id = Id::default();
        assert_eq!(windows.size(&id, 0, 100), FIRST);
        windows.put(id, 0, Bytes::from(vec![7; FIRST as usize]));
        assert_eq!(windows.get(&id, 5, 100).map(|b| b.len()), Some(100));
        assert_eq!(windows.get(&id, FIRST - 5, 100), None);
        assert_eq!(windows.size(&id, FIRST, 100), 2 * FIRST);
        // Far ahead, or back: begin small again.
        assert_eq!(windows.size(&id, FIRST + LARGEST + 1, 100), FIRST);
    }

    #[test]
    fn the_windows_stay_within_their_share_of_memory() {
        let mut windows = Windows::default();
        for n in 0..100u8 {
            let mut id = [0; 32];
            id[0] = n;
            windows.clock += 1;
            windows.put(Id::new(id), 0, Bytes::from(vec![n; LARGEST as usize]));
        }
        assert!(windows.held <= IN_ALL);
        assert_eq!(
            windows.held,
            windows
                .by_pack
                .values()
                .map(|w| w.bytes.len())
                .sum::<usize>()
        );
    }
}
