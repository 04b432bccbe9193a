//! Patience is how often something that does not work is tried, with growing pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::Stop;

/// The first of the pauses between two attempts; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// After how many attempts, and how long after the first one failed, nothing more is tried.
const ATTEMPTS: (u32, Duration) = (6, Duration::from_secs(15));

/// How often something that does not work is tried. Clones count their attempts together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    only_once: bool,
    attempt: Arc<AtomicU32>,
}

/// What decides whether to try again.
pub(super) trait Attempt {
    /// Whether it may well work in a moment.
    fn is_passing(&self) -> bool;
    /// Whether a long time was spent on waiting.
    fn is_silence(&self) -> bool;
    /// Whether it is an answer, which says more than a connection that broke.
    fn is_answer(&self) -> bool;
}

impl Patience {
    /// For what a run is for: with growing pauses, for about a quarter of a minute.
    pub(crate) fn usual() -> Self {
        Self::default()
    }

    /// For what can do without.
    pub(crate) fn once() -> Self {
        Self {
            only_once: true,
            ..Self::default()
        }
    }

    /// The attempt that is under way, from 1 on.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt.load(Ordering::Relaxed).max(1)
    }

    /// Tries until it works, is final, or patience ends.
    pub(super) fn persist<T, F: Attempt>(
        &self,
        stop: &Stop,
        mut ask: impl FnMut() -> Result<T, F>,
    ) -> Result<T, F> {
        let mut pause = PAUSE;
        let mut first_failed: Option<Instant> = None;
        let mut answered: Option<F> = None;
        let (mut attempts, mut asked) = (0, 0);
        loop {
            let begun = Instant::now();
            asked += 1;
            self.attempt.store(asked, Ordering::Relaxed);
            let failure = match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let since = first_failed.get_or_insert(begun).elapsed();
            // One that takes connections and never answers has used up two attempts' time.
            attempts += if failure.is_silence() { 3 } else { 1 };
            let (most, long) = ATTEMPTS;
            let enough = attempts >= most || (attempts >= 3 && since >= long);
            if self.only_once || !failure.is_passing() || enough {
                // A server that gives up on an upload (its disk is full, say) closes the connection,
                // and its answer is often lost with what was still on its way.
                return Err(match failure.is_answer() {
                    false => answered.unwrap_or(failure),
                    true => failure,
                });
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if stop.is_set() {
                    return Err(failure);
                }
                thread::sleep(Duration::from_millis(50));
            }
            if failure.is_answer() {
                answered = Some(failure);
            }
            pause *= 2;
        }
    }
}
