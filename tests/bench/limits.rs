//! The distance to the limit: what copying, hashing and compressing these bytes costs on this machine by
//! itself, one after the other, on one core.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Result;

/// Seconds.
pub struct Limits {
    copied: f64,
    hashed: f64,
    compressed: f64,
}

impl Limits {
    /// A row below that of a work which took us so many seconds, with the columns of
    /// [`crate::costs::HEAD`].
    pub fn row(&self, wall_s: f64) -> String {
        let of = |seconds: f64| seconds / wall_s;
        format!(
            "| *the limit, of ours* | *copying {:.2}, SHA-256 {:.2}, zstd {:.2}* | | | | | |",
            of(self.copied),
            of(self.hashed),
            of(self.compressed)
        )
    }

    pub fn json(&self) -> Value {
        json!({ "copy-s": self.copied, "sha256-s": self.hashed, "zstd-s": self.compressed })
    }
}

/// Reads a file as large as the database in pieces of 1 MiB, and does with them what a backup cannot do
/// without.
pub fn measure(file: &Path, scratch: &Path) -> Result<Limits> {
    let copy = scratch.join("limit");
    let copied = timed(|| {
        let mut to = File::create(&copy)?;
        pieces(file, |piece| to.write_all(piece))
    })?;
    fs::remove_file(&copy)?;
    let hashed = timed(|| {
        let mut hash = Sha256::new();
        pieces(file, |piece| {
            hash.update(piece);
            Ok(())
        })
    })?;
    let compressed = timed(|| {
        let mut to = zstd::Encoder::new(std::io::sink(), 1)?;
        pieces(file, |piece| to.write_all(piece))?;
        to.finish().map(drop)
    })?;
    Ok(Limits {
        copied,
        hashed,
        compressed,
    })
}

fn timed(work: impl FnOnce() -> std::io::Result<()>) -> Result<f64> {
    rustix::fs::sync();
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn pieces(file: &Path, mut each: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut file = File::open(file)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            read => each(&piece[..read])?,
        }
    }
}
