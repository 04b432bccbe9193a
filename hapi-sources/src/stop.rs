//! A stop is the request to end early, from whoever runs a capture to all that works for it.
//!
//! It is never taken back. It only asks: who works looks at it often, and ends with
//! [`CaptureError::Stopped`]. A program may share one with all its work, also with what captures nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::CaptureError;

/// A flag that ends a capture early: set it from a signal handler, say. Clones share it. The other way
/// it carries signs of life, so that whoever watches can tell work from waiting.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// End what has them, and not what it came from.
    also: Vec<Arc<AtomicBool>>,
    deadline: Arc<OnceLock<Instant>>,
    progress: Arc<AtomicU64>,
}

impl Stop {
    /// Shares a flag that something else sets.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self {
            flag,
            ..Self::default()
        }
    }

    /// The same request, or this flag.
    #[must_use]
    pub fn or(mut self, flag: Arc<AtomicBool>) -> Self {
        self.also.push(flag);
        self
    }

    /// A request for a part of the work: it ends with the whole, and may end before it. Its end by a time to come
    /// and its signs of life are its own.
    #[must_use]
    pub fn part(&self) -> Self {
        let whole = std::iter::once(&self.flag).chain(&self.also);
        Self {
            also: whole.cloned().collect(),
            ..Self::default()
        }
    }

    /// Asks for the end.
    pub fn set(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// Asks for the end at a time to come. The first such time counts.
    pub fn set_at(&self, time: Instant) {
        _ = self.deadline.set(time);
    }

    /// Whether that time has come.
    pub fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|at| Instant::now() >= *at)
    }

    /// Whether the end was asked for.
    pub fn is_set(&self) -> bool {
        let set = |flag: &Arc<AtomicBool>| flag.load(Ordering::SeqCst);
        set(&self.flag) || self.also.iter().any(set) || self.is_late()
    }

    /// An error, where the end was asked for.
    pub(crate) fn check(&self) -> Result<(), CaptureError> {
        match self.is_set() {
            true => Err(CaptureError::Stopped),
            false => Ok(()),
        }
    }

    /// Waits, and ends early with an error when the end is asked for.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), CaptureError> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.check()?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Something moved: bytes, or a step of SQLite's.
    pub fn progressed(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// The same request for an end, with signs of life that nobody watches: for what goes on beside the
    /// work.
    #[must_use]
    pub fn unwatched(&self) -> Self {
        Self {
            progress: Arc::default(),
            ..self.clone()
        }
    }

    /// How often something moved so far.
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }
}
