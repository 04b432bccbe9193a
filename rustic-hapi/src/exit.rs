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
    /// Each with what it means, for the man pages.
    pub(crate) const MEANINGS: [(Self, &str); 14] = [
        (
            Self::Complete,
            "Every source is in the repository, whole, and was read back.",
        ),
        (
            Self::Failed,
            "Failed; the repository has no half snapshot. Of check: something was found. Of doctor: a scheduled run would fail.",
        ),
        (Self::Usage, "Usage or profile."),
        (
            Self::Incomplete,
            "A snapshot was saved, but not everything in the profile was done. Of restore: no snapshot has all of a source. Of schedule --install: written, but nothing calls it. Of forget: the profile matches no snapshot. Of sessions: a snapshot or a message could not be read.",
        ),
        (Self::NoRepository, "There is no repository."),
        (
            Self::Locked,
            "Another run is in progress, or the repository is locked.",
        ),
        (Self::WrongPassword, "Wrong password."),
        (
            Self::Stale,
            "Stale: the newest complete snapshot is too old.",
        ),
        (Self::Difference, "A drill found a difference."),
        (Self::DrillFailed, "A drill could not be run."),
        (
            Self::Floor,
            "Retention would go below its floor; nothing was removed.",
        ),
        (Self::HungUp, "Hung up."),
        (Self::Interrupted, "Interrupted."),
        (Self::Terminated, "Terminated."),
    ];

    /// With what followed: what was wrong first counts, but a signal always does.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        match self == Self::Complete || next >= Self::HungUp {
            true => next,
            false => self,
        }
    }
}
