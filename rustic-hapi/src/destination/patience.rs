//! Patience is how often something that does not work is tried, with growing pauses.

use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::Stop;

/// The first of the pauses between two attempts; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// After how many attempts, and how long after the first one failed, nothing more is tried.
const ATTEMPTS: (u32, Duration) = (6, Duration::from_secs(15));

/// How often something that does not work is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For what a run is for: with growing pauses, for about a quarter of a minute.
    Usual,
    /// For what can do without.
    Once,
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
    /// Tries until it works, is final, or patience ends.
    pub(super) fn persist<T, F: Attempt>(
        self,
        stop: &Stop,
        mut ask: impl FnMut() -> Result<T, F>,
    ) -> Result<T, F> {
        let mut pause = PAUSE;
        let mut first_failed: Option<Instant> = None;
        let mut answered: Option<F> = None;
        let mut attempts = 0;
        loop {
            let begun = Instant::now();
            let failure = match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let since = first_failed.get_or_insert(begun).elapsed();
            // One that takes connections and never answers has used up two attempts' time.
            attempts += if failure.is_silence() { 3 } else { 1 };
            let (most, long) = ATTEMPTS;
            let enough = attempts >= most || (attempts >= 3 && since >= long);
            if self == Self::Once || !failure.is_passing() || enough {
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
