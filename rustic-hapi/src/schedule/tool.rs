//! A tool is a program of the system that is asked or told something: `systemctl`, `crontab`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::Error;

/// What it prints, if it succeeds.
///
/// # Errors
/// [`Error::Tool`] with what it had to say.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let output = ask(command)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(command, &output)),
    }
}

/// What it says, whether it succeeds or not, in the language that we know.
///
/// # Errors
/// [`Error::Tool`] where it cannot be started.
pub(crate) fn ask(command: &mut Command) -> Result<Output, Error> {
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Tool {
            command: said(command),
            reason: error.to_string(),
        })
}

/// Gives it something to read.
///
/// # Errors
/// As [`output`].
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<(), Error> {
    let broken = |command: &Command, error: std::io::Error| Error::Tool {
        command: said(command),
        reason: error.to_string(),
    };
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| broken(command, error))?;
    // One that ends before it has read everything says why.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child
        .wait_with_output()
        .map_err(|error| broken(command, error))?;
    if !output.status.success() {
        return Err(failed(command, &output));
    }
    written.map_err(|error| broken(command, error))
}

/// The error of one that did not succeed.
pub(crate) fn failed(command: &Command, output: &Output) -> Error {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Tool {
        command: said(command),
        reason: match text.is_empty() {
            true => output.status.to_string(),
            false => text,
        },
    }
}

fn said(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}
