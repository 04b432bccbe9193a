//! A notification tells somebody how a run went: a URL in the manner of healthchecks.io, a command,
//! or both.
//!
//! It never changes how the run ends, and never holds it up for more than [`LIMIT`]. It must work
//! where nothing else does: whom to tell is read even from a profile whose rest is broken.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::destination::credentials::redacted;
use crate::destination::http;
use crate::machine::child::{self, signal_group};
use crate::profile::notify::Notify;

/// How long all that is told at one moment may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// How long one attempt at a URL may take, so that there is time for another.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Bytes of a body: enough to see what it is about.
const BODY: usize = 2_000;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A run begins. The URL alone hears of it.
    Start,
    /// Everything is in the repository.
    Success,
    /// The same, and the run before was none.
    Recovery,
    /// Everything is in the repository, and something about it is odd: far less, or nothing new.
    Anomaly,
    /// A snapshot was saved, and something is missing.
    Partial,
    /// There is no new snapshot, or something was found wrong.
    Failure,
    /// The newest complete snapshot is too old.
    Stale,
}

impl Outcome {
    /// In a word, as the command finds it in `RUSTIC_HAPI_OUTCOME`.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Recovery => "recovery",
            Self::Anomaly => "anomaly",
            Self::Partial => "partial",
            Self::Failure => "failure",
            Self::Stale => "stale",
        }
    }
}

/// One thing to tell.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is about.
    pub outcome: Outcome,
    /// The exit code; 0 at the start.
    pub exit: u8,
    /// The run's id, a UUID.
    pub run: String,
    /// `snapshot`, `drill`, `status`.
    pub command: String,
    /// The profile's name.
    pub profile: String,
    /// This machine's name.
    pub host: String,
    /// One line, and what went wrong below it.
    pub text: String,
}

impl Notify {
    /// Tells everyone. What did not work is returned, in words without the address, which is a
    /// secret of its own.
    pub fn tell(&self, message: &Message) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        let mut failures = Vec::new();
        thread::scope(|scope| {
            let ask = |url: &str| match message.outcome {
                // A start that comes again after the end would be taken for a new run.
                Outcome::Start => ask(url, message, ATTEMPT),
                _ => twice(deadline, |left| ask(url, message, left)),
            };
            let url = self
                .url
                .as_deref()
                .map(|url| thread::Builder::new().spawn_scoped(scope, move || ask(url)));
            let command = self
                .command
                .as_deref()
                .filter(|_| message.outcome != Outcome::Start)
                .map(|command| twice(deadline, |left| run(command, message, left)));
            if let Some(Err(reason)) = url.map(|told| {
                told.map_err(|error| error.to_string())?
                    .join()
                    .unwrap_or_else(|_| Err("the thread ended".to_owned()))
            }) {
                failures.push(format!("could not reach the notification URL: {reason}"));
            }
            if let Some(Err(reason)) = command {
                failures.push(format!("the notification's command failed: {reason}"));
            }
        });
        failures
    }
}

/// Once more where it did not work and there is time.
fn twice(
    deadline: Instant,
    mut attempt: impl FnMut(Duration) -> Result<(), String>,
) -> Result<(), String> {
    let left = || deadline.saturating_duration_since(Instant::now());
    attempt(left()).or_else(|reason| {
        thread::sleep(Duration::from_millis(500).min(left()));
        match left() {
            none if none < Duration::from_millis(500) => Err(reason),
            left => attempt(left),
        }
    })
}

fn ask(url: &str, message: &Message, left: Duration) -> Result<(), String> {
    let base = url.trim_end_matches('/');
    let (bare, query) = base.split_once('?').unwrap_or((base, ""));
    let mut address = match message.outcome {
        Outcome::Start => format!("{bare}/start"),
        Outcome::Success | Outcome::Recovery => bare.to_owned(),
        Outcome::Anomaly => format!("{bare}/fail"),
        Outcome::Partial | Outcome::Failure | Outcome::Stale => {
            format!("{bare}/{}", message.exit)
        }
    };
    address += &match query {
        "" => format!("?rid={}", message.run),
        query => format!("?{query}&rid={}", message.run),
    };
    // Its errors name the address; `without_url` keeps that to ourselves.
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        match error.is_timeout() {
            true => "no answer in time".to_owned(),
            false => cause(&error),
        }
    };
    let client = http::client()
        .timeout(ATTEMPT.min(left))
        .redirect(reqwest::redirect::Policy::limited(3))
        .build()
        .map_err(failed)?;
    let body = match message.outcome {
        Outcome::Start => String::new(),
        _ => message.body(),
    };
    let answer = client.post(address).body(body).send().map_err(failed)?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the answer was {status}")),
    }
}

/// The innermost cause: what is around it says only that sending did not work.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn run(command: &str, message: &Message, left: Duration) -> Result<(), String> {
    let started = Instant::now();
    let failed = |error: std::io::Error| error.to_string();
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("RUSTIC_HAPI_OUTCOME", message.outcome.in_words())
        .env("RUSTIC_HAPI_EXIT", message.exit.to_string())
        .env("RUSTIC_HAPI_RUN", &message.run)
        .env("RUSTIC_HAPI_COMMAND", &message.command)
        .env("RUSTIC_HAPI_PROFILE_NAME", &message.profile)
        .env("RUSTIC_HAPI_HOST", &message.host)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let document = format!("{}\n", message.json());
    // One that does not read must not hold us up either.
    let writer = thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            _ = stdin.write_all(document.as_bytes());
        }
    });
    let ended = child::wait(started + left, || false, || child.try_wait()).map_err(failed)?;
    let ended = match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(status.to_string()),
        None => {
            signal_group(&child, rustix::process::Signal::KILL);
            _ = child.wait();
            Err(format!("it did not end within {} s", LIMIT.as_secs()))
        }
    };
    if ended.is_ok() {
        _ = writer.join();
    }
    ended
}

impl Message {
    /// The beginning of the text, without anything that looks like credentials.
    fn body(&self) -> String {
        let mut text = redacted(&self.text);
        if text.len() > BODY {
            let end = (0..=BODY).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        format!("{}\nrun {}\n", text.trim_end(), self.run)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "version": crate::terminal::output::JSON_VERSION,
            "outcome": self.outcome,
            "exit": self.exit,
            "run": self.run,
            "command": self.command,
            "profile": self.profile,
            "host": self.host,
            "text": self.body(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let message = Message {
            outcome: Outcome::Failure,
            exit: 1,
            run: "r".into(),
            command: "snapshot".to_owned(),
            profile: "hapi".into(),
            host: "h".into(),
            text: "ä".repeat(5_000),
        };
        assert!(message.body().len() < BODY + 20);
    }
}
