//! Hashes a database's copy.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::checksum::{Checksum, Checksummer};
use crate::facts::Sha256Hash;
use crate::stop::Stop;

/// What one reading of a whole file gives.
pub(super) struct Hashed {
    pub(super) sha256: Sha256Hash,
    pub(super) checksum: Checksum,
    pub(super) len: u64,
}

impl Hashed {
    /// Of a file that nobody writes any more. Ends early, with whatever hash, when it is to stop.
    pub(super) fn of(copy: &Path, stop: &Stop) -> io::Result<Self> {
        let mut file = File::open(copy)?;
        let (mut sha256, mut checksum, mut len) = (Sha256::new(), Checksummer::default(), 0);
        let mut buffer = vec![0; 1 << 20];
        while !stop.is_set() {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            sha256.update(&buffer[..n]);
            checksum.update(&buffer[..n]);
            len += n as u64;
            stop.progressed();
        }
        Ok(Self {
            sha256: Sha256Hash(sha256.finalize().into()),
            checksum: checksum.finish(),
            len,
        })
    }
}
