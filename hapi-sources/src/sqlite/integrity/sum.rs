//! A sum stands for many records, in whatever order they come: how many, and the sum of their keyed hashes.
//!
//! Equal sums mean equal records, each as often: the key is new for each run, so what a damaged file has
//! cannot be made for it.

use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::doubt::Halt;

/// The key of a run: a secret of XXH3, of the length of its own.
pub(super) struct Key([u8; 192]);

impl Key {
    pub(super) fn random() -> Result<Self, Halt> {
        let mut key = [0; 192];
        let mut filled = 0;
        while filled < key.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut key[filled..], flags)
                .map_err(|e| Halt::from(std::io::Error::from(e)))?;
        }
        Ok(Self(key))
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    hashes: u128,
}

impl Sum {
    #[inline]
    pub(super) fn add(&mut self, key: &Key, record: &[u8]) {
        self.count += 1;
        let hash = xxh3_128_with_secret(record, &key.0);
        self.hashes = self.hashes.wrapping_add(hash);
    }
}
