//! A watch ends a run that takes too long: one in which nothing moves any more (no byte, no step of
//! SQLite's), or one that exceeds its total limit. It asks for the end first, as a signal does.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hapi_sources::Stop;

use crate::error::Error;
use crate::profile::Limits;

/// What the watch found, if anything; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Overrun(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    found: OnceLock<TooLong>,
    /// What is found where the stop is late: the work may notice before the watch looks again.
    late: OnceLock<(Stop, TooLong)>,
}

/// How a run took too long.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TooLong {
    location: String,
    limit: Duration,
    stalled: bool,
}

impl Overrun {
    /// The error that the run ends with.
    pub fn error(&self) -> Option<Error> {
        let TooLong {
            location,
            limit,
            stalled,
        } = match (self.0.found.get(), self.0.late.get()) {
            (Some(found), _) => found.clone(),
            (None, Some((stop, late))) if stop.is_late() => late.clone(),
            _ => return None,
        };
        Some(match stalled {
            true => Error::Stalled { location, limit },
            false => Error::TooLong { location, limit },
        })
    }
}

/// Looks, again and again, whether something moved.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    limits: Limits,
    location: String,
    stop: &'a Stop,
    overrun: &'a Overrun,
    seen: u64,
    moved: Instant,
}

impl<'a> Watch<'a> {
    /// Begins to watch.
    pub(crate) fn new(
        limits: Limits,
        location: String,
        stop: &'a Stop,
        overrun: &'a Overrun,
    ) -> Self {
        let late = TooLong {
            location: location.clone(),
            limit: limits.total,
            stalled: false,
        };
        _ = overrun.0.late.set((stop.clone(), late));
        Self {
            limits,
            location,
            stop,
            overrun,
            seen: stop.progress(),
            moved: Instant::now(),
        }
    }

    /// Looks, and asks for the end where it has to be.
    pub(crate) fn look(&mut self) {
        let progress = self.stop.progress();
        if progress != self.seen {
            (self.seen, self.moved) = (progress, Instant::now());
        }
        let stalled = self.moved.elapsed() >= self.limits.stall;
        if !stalled && !self.stop.is_late() {
            return;
        }
        _ = self.overrun.0.found.set(TooLong {
            location: self.location.clone(),
            limit: match stalled {
                true => self.limits.stall,
                false => self.limits.total,
            },
            stalled,
        });
        self.stop.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_goes_on_and_what_does_not_is_ended() {
        let (stop, overrun) = (Stop::default(), Overrun::default());
        let limits = Limits {
            stall: Duration::from_millis(60),
            total: Duration::from_secs(60),
        };
        let mut watch = Watch::new(limits, "rest:http://h/".into(), &stop, &overrun);
        for _ in 0..8 {
            stop.progressed();
            watch.look();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!stop.is_set() && overrun.error().is_none());
        std::thread::sleep(Duration::from_millis(80));
        watch.look();
        assert!(stop.is_set());
        assert!(matches!(overrun.error(), Some(Error::Stalled { .. })));
    }

    #[test]
    fn what_is_over_its_time_is_ended_though_it_moves() {
        let (stop, overrun) = (Stop::default(), Overrun::default());
        let mut watch = Watch::new(Limits::default(), String::new(), &stop, &overrun);
        stop.set_at(Instant::now());
        stop.progressed();
        watch.look();
        assert!(matches!(overrun.error(), Some(Error::TooLong { .. })));
    }
}
