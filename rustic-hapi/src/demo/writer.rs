//! The demo's hub, as far as its database sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::demo::synthetic::{Hub, Shape};

/// A thread that commits one message after the other, as a hub does.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// One whose clock shows milliseconds since 1970.
    pub(super) fn start(database: &Path, clock: &Arc<AtomicI64>) -> rusqlite::Result<Self> {
        let mut hub = Hub::create(database, Shape::Plain, 7)?;
        let clock = Arc::clone(clock);
        let stop = Arc::new(AtomicBool::new(false));
        let commits = Arc::new(AtomicU64::new(0));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&commits));
        let thread = thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                hub.set_time(clock.load(Ordering::SeqCst));
                // A busy moment is no reason to stop writing.
                if hub.add_messages(1, 1).is_ok() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_millis(4));
            }
        });
        Ok(Self {
            stop,
            commits,
            thread: Some(thread),
        })
    }

    pub(super) fn wait_for(&self, commits: u64) {
        let started = Instant::now();
        while self.commits.load(Ordering::SeqCst) < commits
            && started.elapsed() < Duration::from_secs(20)
        {
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}
