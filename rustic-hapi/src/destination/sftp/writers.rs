//! Those who write at a time, and what they owe each other on a full disk: the first error ends the run, and
//! with it the process; but each of them has to remove first what it could not write whole.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long the others have, and nobody begins anything new.
const MOMENT: Duration = Duration::from_secs(3);

/// Those who write at a time.
#[derive(Default)]
pub(super) struct Writers(Mutex<Now>);

#[derive(Default)]
struct Now {
    writing: usize,
    /// When the disk was full, and how much was free all the same.
    full: Option<(Instant, u64)>,
}

impl Writers {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, or says what is free on a disk that was full this moment.
    pub(super) fn begin(&self) -> Result<(), u64> {
        let mut now = self.now();
        match now.full {
            Some((at, free)) if at.elapsed() < MOMENT => Err(free),
            _ => {
                now.writing += 1;
                Ok(())
            }
        }
    }

    /// Ends; where the disk was full, with all others.
    pub(super) fn end(&self, full: Option<u64>) {
        let mut now = self.now();
        now.writing -= 1;
        let Some(free) = full else {
            return;
        };
        let (at, _) = *now.full.insert((Instant::now(), free));
        drop(now);
        while self.now().writing > 0 && at.elapsed() < MOMENT {
            thread::sleep(Duration::from_millis(20));
        }
    }
}
