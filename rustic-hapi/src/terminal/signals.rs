//! Signals ask a command to end: SIGINT, SIGTERM, and SIGHUP where the terminal hung up. A second
//! signal ends the process at once.
//!
//! A SIGHUP that some process sent is not a request to end: it is how restic finds out whether the process of a
//! lock is still there (restic, `internal/restic/lock_unix.go`), and `restic unlock` would otherwise end
//! the run whose lock it looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hapi_sources::Stop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag::{register, register_conditional_shutdown, register_usize};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

use crate::error::Error;

/// See the module.
#[derive(Debug)]
pub struct Signals {
    /// Set by the first one.
    pub stop: Stop,
    number: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens from now on, for as long as the process lives.
    pub fn listen() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicUsize::new(0));
        for (signal, value) in [(SIGINT, 2), (SIGTERM, 15)] {
            // Registering fails only for signals that cannot be caught.
            _ = register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag));
            _ = register(signal, Arc::clone(&flag));
            _ = register_usize(signal, Arc::clone(&number), value);
        }
        // A file that may not grow any more (`ulimit -f`, `LimitFSIZE=`) is then an error of what wrote it
        // instead of the end of the process.
        _ = register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        // Who started this with `nohup` meant it.
        if !crate::machine::process::ignores_hangup()
            && let Ok(hangups) = SignalsInfo::<WithOrigin>::new([SIGHUP])
        {
            let (flag, number) = (Arc::clone(&flag), Arc::clone(&number));
            // Where no thread is to be had, the work says so; it needs some, too.
            _ = thread::Builder::new().spawn(move || end_at_hangup(hangups, &flag, &number));
        }
        Self {
            stop: Stop::from_flag(flag),
            number,
        }
    }

    /// The error that a command ends with which was told to.
    pub fn error(&self) -> Option<Error> {
        match self.number.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal)
                .ok()
                .map(|signal| Error::Signal { signal }),
        }
    }
}

fn end_at_hangup(mut hangups: SignalsInfo<WithOrigin>, flag: &AtomicBool, number: &AtomicUsize) {
    for hangup in hangups.forever() {
        // The kernel's own has no process.
        if hangup.process.is_some() {
            continue;
        }
        number.store(1, Ordering::SeqCst);
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(128 + SIGHUP);
        }
    }
}
