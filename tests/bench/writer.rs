//! A hub that commits a hundred times a second, as seen by itself: how long each commit takes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::Result;

const EVERY: Duration = Duration::from_millis(10);

/// Commits until it is asked how long each took.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<rusqlite::Result<Vec<f64>>>,
}

impl Writer {
    pub fn start(database: &Path) -> Result<Self> {
        let db = Connection::open(database)?;
        db.busy_timeout(Duration::from_secs(60))?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS beats (n INTEGER PRIMARY KEY, pad TEXT)",
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut latencies = Vec::new();
            let mut next = Instant::now();
            while !told.load(Ordering::SeqCst) {
                let begun = Instant::now();
                db.execute("INSERT INTO beats (pad) VALUES (hex(randomblob(400)))", [])?;
                latencies.push(begun.elapsed().as_secs_f64() * 1e3);
                next += EVERY;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(latencies)
        });
        Ok(Self { stop, thread })
    }

    /// The latencies of its commits, in milliseconds, sorted.
    pub fn end(self) -> Result<Vec<f64>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut latencies = self.thread.join().map_err(|_| "the writer panicked")??;
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }
}

/// The latency that 99 of 100 commits stay below.
pub fn p99(sorted: &[f64]) -> f64 {
    let nth = (sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1));
    sorted.get(nth).copied().unwrap_or(f64::NAN)
}
