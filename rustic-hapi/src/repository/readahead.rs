//! A readahead fetches the neighbours of a blob along with it.
//!
//! A restore asks for the blobs of a file in its order, 12 KiB each. One request a blob is an
//! opened file each on a disk, and a round trip each to a server. Blobs of one run lie beside each
//! other in a pack, in the file's order, so each pack gets a window that grows while it is read on, and
//! the next one comes while this one is used. Several readers want neighbours at a time, and one of them fetches.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

/// Bytes of a pack's first window.
const FIRST: u32 = 128 << 10;
/// How fast they grow.
const GROWTH: u32 = 4;
/// The size up to which they do.
const LARGEST: u32 = 2 << 20;
/// So many of a pack are kept: a blob may begin in one and end in the next.
const KEPT: usize = 2;
/// So many more of a server's are on their way while one is used, so that nobody waits for its answers.
const AHEAD: usize = 2;
/// Bytes that all windows together may hold.
const IN_ALL: usize = 48 << 20;

/// A backend whose partial reads of packs go through windows.
#[derive(Debug)]
pub(crate) struct Readahead {
    inner: Arc<dyn WriteBackend>,
    /// Sizes of the packs: a window must not reach past the end.
    sizes: BTreeMap<Id, u32>,
    windows: Arc<Shared>,
}

/// The windows, and a bell that rings when one came, or did not.
#[derive(Debug, Default)]
struct Shared {
    windows: Mutex<Windows>,
    bell: Condvar,
    /// Whether they come from a server, and so ahead of their use.
    far: bool,
}

#[derive(Debug, Default)]
struct Windows {
    /// The one in use, and its neighbours.
    by_pack: BTreeMap<Id, Vec<Window>>,
    /// What is being fetched: where it begins and ends.
    coming: Vec<(Id, u32, u32)>,
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

impl Window {
    fn end(&self) -> u32 {
        // A window is no larger than a pack, whose size is such a number.
        self.start
            .saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> usize {
        KEPT + if self.far { AHEAD - 1 } else { 0 }
    }
}

/// A window that is being fetched. What comes is there for everybody; where nothing does, nobody waits any more.
struct Fetch {
    windows: Arc<Shared>,
    id: Id,
    start: u32,
    end: u32,
    came: Option<Bytes>,
}

impl Fetch {
    /// Of as much as a pack has from here on.
    fn begin(windows: &Arc<Shared>, now: &mut Windows, id: Id, start: u32, end: u32) -> Self {
        now.coming.push((id, start, end));
        Self {
            windows: Arc::clone(windows),
            id,
            start,
            end,
            came: None,
        }
    }

    /// Whether all of it came.
    fn run(mut self, inner: &dyn WriteBackend) -> RusticResult<bool> {
        let size = self.end - self.start;
        let read = inner.read_partial(FileType::Pack, &self.id, false, self.start, size)?;
        self.came = Some(read).filter(|bytes| bytes.len() == size as usize);
        Ok(self.came.is_some())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut windows = self.windows.lock();
        let this = (self.id, self.start, self.end);
        windows.coming.retain(|other| *other != this);
        if let Some(bytes) = self.came.take() {
            windows.put(self.id, self.start, bytes, self.windows.kept());
        }
        drop(windows);
        self.windows.bell.notify_all();
    }
}

impl Readahead {
    /// Puts windows before a backend, which is `far` where a server is asked; `packs` are all of its packs with
    /// their sizes.
    pub(crate) fn new(
        inner: Arc<dyn WriteBackend>,
        packs: impl IntoIterator<Item = (Id, u32)>,
        far: bool,
    ) -> Self {
        Self {
            inner,
            sizes: packs.into_iter().collect(),
            windows: Arc::new(Shared {
                far,
                ..Shared::default()
            }),
        }
    }
}

impl Windows {
    /// The wanted bytes, if the windows have them; else where what they lack begins.
    fn get(&mut self, id: &Id, offset: u32, length: u32) -> Result<Bytes, u32> {
        self.clock += 1;
        let windows = self.by_pack.get_mut(id).ok_or(offset)?;
        let (mut at, end) = (offset, offset.saturating_add(length));
        let mut parts = Vec::new();
        while at < end {
            let window = windows
                .iter_mut()
                .find(|window| (window.start..window.end()).contains(&at))
                .ok_or(at)?;
            window.used = self.clock;
            let from = (at - window.start) as usize;
            at = end.min(window.end());
            let to = (at - window.start) as usize;
            parts.push(window.bytes.slice(from..to));
        }
        // One that begins in a window may end in the next.
        Ok(match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => parts.into_iter().chain(last).flatten().collect(),
        })
    }

    /// Whether somebody fetches this.
    fn is_coming(&self, id: &Id, at: u32) -> bool {
        let mut coming = self.coming.iter();
        coming.any(|(pack, start, end)| pack == id && (*start..*end).contains(&at))
    }

    /// Where the next window begins and how large it is, while the one that is used was read on.
    fn ahead(&self, id: &Id, offset: u32) -> Option<(u32, u32)> {
        let windows = self.by_pack.get(id)?;
        let mut used = windows
            .iter()
            .filter(|w| (w.start..w.end()).contains(&offset));
        used.find(|window| window.bytes.len() > FIRST as usize)?;
        let coming = self.coming.iter().filter(|(pack, _, _)| pack == id);
        let coming: Vec<u32> = coming.map(|(_, _, end)| *end).collect();
        let there = windows.iter().map(Window::end);
        let end = there.chain(coming.iter().copied()).max()?;
        let size = windows.iter().map(|window| window.next_size).max()?;
        let far = u64::from(end) > u64::from(offset) + u64::from(LARGEST) * AHEAD as u64;
        (coming.len() < AHEAD && !far).then_some((end, size))
    }

    /// How much to read from `offset` on, where a window has to be filled.
    fn size(&self, id: &Id, offset: u32, length: u32) -> u32 {
        // Read on, perhaps with a gap: what lies ahead will be wanted, too.
        let read_on = |window: &&Window| {
            offset >= window.start && offset <= window.end().saturating_add(LARGEST)
        };
        let windows = self.by_pack.get(id).into_iter().flatten();
        let wanted = windows.filter(read_on).map(|window| window.next_size).max();
        wanted.unwrap_or(FIRST).max(length)
    }

    fn put(&mut self, id: Id, start: u32, bytes: Bytes, kept: usize) {
        let size = u32::try_from(bytes.len()).unwrap_or(LARGEST);
        self.held += bytes.len();
        let windows = self.by_pack.entry(id).or_default();
        windows.push(Window {
            start,
            bytes,
            next_size: size.saturating_mul(GROWTH).clamp(FIRST, LARGEST),
            used: self.clock,
        });
        if windows.len() > kept {
            self.held -= windows.remove(0).bytes.len();
        }
        while self.held > IN_ALL {
            let others = self.by_pack.iter().filter(|(other, _)| **other != id);
            let used = |windows: &[Window]| windows.iter().map(|window| window.used).max();
            let oldest = others.min_by_key(|(_, windows)| used(windows));
            let oldest = oldest.map(|(other, _)| *other);
            let Some(old) = oldest.and_then(|oldest| self.by_pack.remove(&oldest)) else {
                return;
            };
            self.held -= old.iter().map(|window| window.bytes.len()).sum::<usize>();
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
        loop {
            let mut windows = self.windows.lock();
            let start = match windows.get(id, offset, length) {
                Ok(bytes) => {
                    let ahead = windows.ahead(id, offset);
                    let fetch = ahead
                        .filter(|(start, _)| start < pack)
                        .map(|(start, size)| {
                            let end = start.saturating_add(size).min(*pack);
                            Fetch::begin(&self.windows, &mut windows, *id, start, end)
                        });
                    drop(windows);
                    if let Some(fetch) = fetch {
                        let inner = Arc::clone(&self.inner);
                        // Whoever wants what did not come asks for it, and is told why.
                        thread::spawn(move || fetch.run(&*inner));
                    }
                    return Ok(bytes);
                }
                Err(start) => start,
            };
            if windows.is_coming(id, start) {
                // Whatever comes rings.
                let bell = &self.windows.bell;
                drop(bell.wait(windows).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            let lacking = length - (start - offset);
            let size = windows.size(id, start, lacking);
            let end = start.saturating_add(size).min(*pack);
            if end < start.saturating_add(lacking) {
                drop(windows);
                return straight();
            }
            let fetch = Fetch::begin(&self.windows, &mut windows, *id, start, end);
            drop(windows);
            if !fetch.run(&*self.inner)? {
                return straight();
            }
        }
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
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
        windows.put(id, 0, Bytes::from(vec![7; FIRST as usize]), KEPT);
        assert_eq!(windows.get(&id, 5, 100).map(|b| b.len()), Ok(100));
        assert_eq!(windows.get(&id, FIRST - 5, 100), Err(FIRST));
        assert_eq!(windows.size(&id, FIRST, 100), GROWTH * FIRST);
        // Whoever asks for one blob asks for no more.
        assert_eq!(windows.ahead(&id, 5), None);
        windows.put(id, FIRST, Bytes::from(vec![8; 2 * FIRST as usize]), KEPT);
        let over_the_edge = windows.get(&id, FIRST - 2, 4).unwrap();
        assert_eq!(over_the_edge[..], [7, 7, 8, 8]);
        assert_eq!(windows.ahead(&id, 5), None);
        let next = (3 * FIRST, 2 * GROWTH * FIRST);
        assert_eq!(windows.ahead(&id, FIRST), Some(next));
        windows.coming.push((id, next.0, next.0 + next.1));
        let after_that = (next.0 + next.1, next.1);
        assert_eq!(windows.ahead(&id, FIRST), Some(after_that));
        windows
            .coming
            .push((id, after_that.0, after_that.0 + after_that.1));
        assert_eq!(windows.ahead(&id, FIRST), None);
        assert!(windows.is_coming(&id, next.0 + 5));
        // Far ahead, or back: begin small again.
        assert_eq!(windows.size(&id, 4 * FIRST + LARGEST, 100), FIRST);
    }

    #[test]
    fn the_windows_stay_within_their_share_of_memory() {
        let mut windows = Windows::default();
        for n in 0..100u8 {
            let mut id = [0; 32];
            id[0] = n;
            windows.clock += 1;
            windows.put(Id::new(id), 0, Bytes::from(vec![n; LARGEST as usize]), KEPT);
        }
        assert!(windows.held <= IN_ALL);
        assert_eq!(
            windows.held,
            windows
                .by_pack
                .values()
                .flatten()
                .map(|w| w.bytes.len())
                .sum::<usize>()
        );
    }
}
