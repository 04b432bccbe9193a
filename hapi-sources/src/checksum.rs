//! A checksum tells that staged bytes are read back as they were when their SHA-256 was taken. It stands
//! against disks and memory, not against people: who can write in the staging folder is the run's own
//! user.

use xxhash_rust::xxh3::Xxh3;

/// XXH3, 128 bits (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(u128);

/// Takes the checksum of a stream.
#[derive(Clone, Default)]
pub struct Checksummer(Box<Xxh3>);

impl Checksummer {
    /// The stream goes on with these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn finish(&self) -> Checksum {
        Checksum(self.0.digest128())
    }
}
