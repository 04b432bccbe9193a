//! Faults for the tests, in builds with debug assertions alone:
//! `RUSTIC_HAPI_TEST_FAULT=swap:STEP` ends the process there, as SIGKILL would.

use std::io;

pub(super) fn at(step: &str) {
    if asked(step) {
        std::process::abort();
    }
}

pub(super) fn link() -> io::Result<()> {
    match asked("no-links") {
        true => Err(io::Error::from_raw_os_error(1)),
        false => Ok(()),
    }
}

fn asked(step: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var("RUSTIC_HAPI_TEST_FAULT")
            .is_ok_and(|fault| fault.strip_prefix("swap:") == Some(step))
}
