//! A prompt reads one line from the terminal, a secret without showing it.
//!
//! The terminal shows what is typed again when the prompt ends, also when a signal ended it: the
//! wait is a `poll`, which a caught signal interrupts, where a read would be restarted.

use std::io::{self, IsTerminal, Stdin};
use std::time::{Duration, Instant};

use hapi_sources::{CaptureError, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::machine::process::tell;

/// Asks on standard error and reads from standard input, which has to be a terminal.
///
/// # Errors
/// [`CaptureError::Stopped`] after a signal, [`Error::State`] for what a terminal can fail with.
pub(crate) fn hidden_line(question: &str, stop: &Stop) -> Result<Zeroizing<String>, Error> {
    let terminal = io::stdin();
    let silence = Silence::begin(&terminal).map_err(failed)?;
    tell(question);
    let line = line(&terminal, None, stop)?.unwrap_or_default();
    drop(silence);
    Ok(line)
}

/// How long a question waits: whoever went away holds up the next run with it.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Asks on standard error whether to go on. Anything but `y` or `yes` is a no, and so is no answer in ten
/// minutes; what was typed before the question does not answer it.
///
/// # Errors
/// As [`hidden_line`].
pub(crate) fn agrees(question: &str, stop: &Stop) -> Result<bool, Error> {
    let terminal = io::stdin();
    tcflush(&terminal, QueueSelector::IFlush).map_err(failed)?;
    tell(format_args!("{question} [y/N] "));
    let answer = line(&terminal, Some(Instant::now() + PATIENCE), stop)?;
    Ok(answer.is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// Whether somebody can be asked.
pub(crate) fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Who says yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// Nobody: only an id will do.
    #[default]
    Nobody,
    /// `--yes` did. It answers the question, and decides nothing else.
    Given,
    /// Somebody at a terminal, who is asked.
    Terminal,
}

/// Reads a line; `None` where none came in time.
fn line(
    terminal: &Stdin,
    until: Option<Instant>,
    stop: &Stop,
) -> Result<Option<Zeroizing<String>>, Error> {
    let mut line = Zeroizing::new(Vec::with_capacity(MOST));
    loop {
        if stop.is_set() {
            tell("\n");
            return Err(Error::Capture(CaptureError::Stopped));
        }
        if until.is_some_and(|until| Instant::now() > until) {
            tell("\n");
            return Ok(None);
        }
        if !ready(terminal).map_err(failed)? {
            continue;
        }
        let mut part = Zeroizing::new([0u8; 512]);
        let read = rustix::io::read(terminal, part.as_mut_slice()).map_err(failed)?;
        let part = part.get(..read).unwrap_or_default();
        // Past its capacity the buffer would leave a copy behind; no key is so long.
        if line.len() + part.len() > MOST {
            return Err(failed(rustix::io::Errno::NAMETOOLONG));
        }
        line.extend_from_slice(part);
        if part.is_empty() || part.ends_with(b"\n") {
            break;
        }
    }
    let text = std::str::from_utf8(&line)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

const MOST: usize = 4096;

/// Whether there is something to read; asked again every now and then, for the sake of signals.
fn ready(terminal: &Stdin) -> io::Result<bool> {
    let mut wanted = [PollFd::new(terminal, PollFlags::IN)];
    let while_waiting = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    match poll(&mut wanted, Some(&while_waiting)) {
        Ok(number) => Ok(number > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn failed(error: impl Into<io::Error>) -> Error {
    Error::at("/dev/stdin")(error.into())
}

/// A terminal without echo, for as long as this lives.
struct Silence<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown, or the next output would stand behind the question.
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
