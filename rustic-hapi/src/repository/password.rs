//! A password opens the repository: the one line of a file, or what a program prints.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::{CaptureError, Stop};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::machine::child;
use crate::machine::private_files::{BOM, read_private};
use crate::profile::reach::Password;

/// How long a password program has: it may have to ask a person, or a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest password that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The password that opens the repository.
///
/// # Errors
/// [`Error::PasswordFile`], [`Error::PasswordCommand`].
pub(crate) fn of(password: &Password, stop: &Stop) -> Result<Zeroizing<String>, Error> {
    match password {
        Password::Command(command) => printed_by(command, stop),
        Password::File(path) => in_file(path),
        Password::Given(password) => Ok(password.clone()),
    }
}

/// Where the password comes from, for a message.
pub(crate) fn origin(password: &Password) -> String {
    match password {
        Password::Command(_) => "the password that the password command prints".to_owned(),
        Password::File(path) => format!("the password in `{}`", path.display()),
        Password::Given(_) => "the password in the variable RESTIC_PASSWORD".to_owned(),
    }
}

/// Reads a password file the way restic and the engine both do: one line, no spaces at its ends.
///
/// # Errors
/// [`Error::PasswordFile`].
pub(crate) fn in_file(path: &Path) -> Result<Zeroizing<String>, Error> {
    let wrong = |fact: String, hint: &str| Error::PasswordFile {
        path: path.into(),
        fact,
        hint: hint.to_owned(),
    };
    let text = read_private(
        path,
        "for a repository that exists, put its password there, on one line (mode 0600); `rustic-hapi init` makes one for a new repository",
    )
    .map_err(|unfit| wrong(unfit.fact, &unfit.hint))?;
    one_line(&text).map_err(|fact| {
        wrong(
            fact.into(),
            "keep only the password in it, on one line: restic and rustic would read anything else differently",
        )
    })
}

/// The password that earlier versions made of a file that begins with a BOM, which they took for a part of it.
pub(super) fn undecoded(file: &Path, password: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(std::fs::read(file).ok()?);
    let begins = std::str::from_utf8(&bytes).ok()?.starts_with(BOM);
    begins.then(|| Zeroizing::new(format!("{BOM}{password}")))
}

/// Asks the program for the password. As with restic, its words are split as a shell splits them, and
/// no shell runs.
fn printed_by(command: &str, stop: &Stop) -> Result<Zeroizing<String>, Error> {
    let wrong = |fact: String, hint: &str| Error::PasswordCommand {
        fact,
        hint: hint.to_owned(),
    };
    let words = shell_words::split(command).map_err(|error| {
        wrong(
            format!("is not well-formed: {error}"),
            "quote it as for a shell",
        )
    })?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(wrong("is empty".into(), "name a program, or a file"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            wrong(
                format!("cannot be started: {error}"),
                "is the program on the PATH of the user who runs this? cron's is short",
            )
        })?;
    let output = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let read = output.map(|pipe| pipe.take(LONGEST).read_to_string(&mut text));
        read.transpose().map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let ended = child::wait(deadline, || stop.is_set(), || child.try_wait())
        .map_err(|error| wrong(format!("cannot be waited for: {error}"), "run this again"))?;
    let Some(status) = ended else {
        _ = child.kill();
        _ = child.wait();
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        return Err(wrong(
            format!("did not end within {} s", PATIENCE.as_secs()),
            "does it wait for input? A scheduled run cannot give any",
        ));
    };
    if !status.success() {
        return Err(wrong(
            format!("failed with {status}"),
            "run it by hand, as the user that runs this",
        ));
    }
    let text = match reader.join() {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            return Err(wrong(
                format!("does not print text: {error}"),
                "it must print the password, on one line",
            ));
        }
        Err(_) => Zeroizing::default(),
    };
    one_line(&text).map_err(|fact| {
        wrong(
            format!("prints what {fact}"),
            "it must print only the password, on one line",
        )
    })
}

/// The one line of a text, or what is wrong with it.
fn one_line(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() {
        return Err("is empty");
    }
    if line.contains('\n') || line.trim() != line {
        return Err("has more than one line, or spaces at the ends of it");
    }
    Ok(Zeroizing::new(line.to_owned()))
}
