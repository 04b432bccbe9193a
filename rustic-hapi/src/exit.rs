//! An exit code says how a command ended; restic's where it has one.

/// The exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything the profile asked for happened.
    Complete = 0,
    /// It did not work.
    Failed = 1,
    /// Usage, or profile.
    Usage = 2,
    /// A snapshot was saved, but something the profile asked for did not happen.
    Incomplete = 3,
    /// There is definitely no repository.
    NoRepository = 10,
    /// Another run holds the lock.
    Locked = 11,
    /// The password opens no key of the repository.
    WrongPassword = 12,
    /// The newest complete snapshot of a series is too old.
    Stale = 20,
    /// A drill found a difference.
    Difference = 21,
    /// A drill could not be run.
    DrillFailed = 22,
    /// Retention would go below its floor.
    Floor = 24,
    /// SIGHUP.
    HungUp = 129,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// With what followed: what was wrong first counts, but a signal always does.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        match self == Self::Complete || next >= Self::HungUp {
            true => next,
            false => self,
        }
    }
}
