//! A verdict is the outcome of the check of a copy's integrity, which goes on beside whatever is done
//! with the copy meanwhile: for a gigabyte it is the longest single step of a run.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::at_rest::Failed;
use super::integrity::integrity;
use crate::facts::Integrity;
use crate::source::IntegrityCheck;
use crate::staging::bytes::StagedFile;
use crate::stop::Stop;

/// The verdict on a copy, perhaps still to come. Clones share it; with the last of them the check ends,
/// too.
#[derive(Clone)]
pub struct IntegrityVerdict(Arc<Checking>);

struct Checking {
    state: Mutex<State>,
    given_up: Arc<AtomicBool>,
}

enum State {
    Running(JoinHandle<Result<Integrity, Failed>>),
    Known(Result<Integrity, Unknown>),
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The end was asked for.
    Stopped,
    /// The check itself failed, and says nothing of the copy.
    Failed {
        /// In SQLite's words.
        reason: String,
    },
}

impl IntegrityVerdict {
    /// Begins to check a copy that nobody changes.
    pub(super) fn begin(copy: Arc<StagedFile>, kind: IntegrityCheck, stop: &Stop) -> Self {
        let given_up = Arc::new(AtomicBool::new(false));
        let stop = stop.clone().or(Arc::clone(&given_up));
        // The file is the thread's, too: it stays for as long as it is read.
        let check = move || integrity(copy.path(), kind, &stop);
        let state = match thread::Builder::new().spawn(check) {
            Ok(thread) => State::Running(thread),
            Err(error) => State::Known(Err(Unknown::Failed {
                reason: error.to_string(),
            })),
        };
        Self(Arc::new(Checking {
            state: Mutex::new(state),
            given_up,
        }))
    }

    /// Waits for the verdict.
    ///
    /// # Errors
    /// [`Unknown`] where there will be none.
    pub fn wait(&self) -> Result<Integrity, Unknown> {
        let mut state = self.state();
        if let State::Running(_) = &*state {
            let none = State::Known(Err(Unknown::Stopped));
            if let State::Running(thread) = std::mem::replace(&mut *state, none) {
                *state = State::Known(outcome(thread.join()));
            }
        }
        match &*state {
            State::Known(known) => known.clone(),
            State::Running(_) => Err(Unknown::Stopped),
        }
    }

    /// Whether it is the same check.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends the check, and waits until it has.
    pub(super) fn give_up(&self) {
        self.0.given_up.store(true, Ordering::SeqCst);
        _ = self.wait();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = &self.0.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}

fn outcome(joined: thread::Result<Result<Integrity, Failed>>) -> Result<Integrity, Unknown> {
    match joined {
        Ok(Ok(integrity)) => Ok(integrity),
        Ok(Err(Failed::Stopped)) => Err(Unknown::Stopped),
        Ok(Err(failed)) => Err(Unknown::Failed {
            reason: failed.to_string(),
        }),
        Err(_) => Err(Unknown::Failed {
            reason: "the thread that checks it panicked".to_owned(),
        }),
    }
}

impl fmt::Debug for IntegrityVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntegrityVerdict")
    }
}
