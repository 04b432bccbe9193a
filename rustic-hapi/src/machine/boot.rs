//! A boot starts the operator's own hub on a restored copy, and reports whether it came up.
//!
//! It came up when it listens on the port it was told, or ended by itself with status 0. It is then
//! ended again, with everything it started.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::Stop;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::machine::child::{self, signal_group};

/// How long a program gets to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What became of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Boot {
    pub up: bool,
    /// How that was told, or what went wrong.
    pub how: String,
    /// Seconds until then, in whole.
    pub seconds: u64,
}

/// Runs `command` with `sh -c`, `HAPI_HOME` and `DB_PATH` pointing at the copy, and a free loopback
/// port in `PORT`, `HAPI_LISTEN_PORT` and `WEBAPP_PORT`. What it prints goes to standard error.
///
/// # Errors
/// No port, or no shell.
pub(crate) fn boot(
    command: &str,
    hapi_home: &Path,
    database: Option<&Path>,
    wait: Duration,
    stop: &Stop,
) -> io::Result<Boot> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("HAPI_HOME", hapi_home)
        .env("HAPI_LISTEN_HOST", "127.0.0.1")
        .env("WEBAPP_HOST", "127.0.0.1");
    for name in ["PORT", "HAPI_LISTEN_PORT", "WEBAPP_PORT"] {
        shell.env(name, port.to_string());
    }
    if let Some(database) = database {
        shell.env("DB_PATH", database);
    }
    // How this program opens the repository is none of the hub's business.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RUSTIC_", "RESTIC_"]
            .iter()
            .any(|ours| text.starts_with(ours))
        {
            shell.env_remove(&name);
        }
    }
    let started = Instant::now();
    let child = shell
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let mut group = Group(child);
    let (up, how) = loop {
        if let Some(status) = group.0.try_wait()? {
            // What a shell says of a program that is not there, or that it may not run.
            if matches!(status.code(), Some(126 | 127)) {
                return Err(io::Error::other(format!(
                    "`{command}` cannot be run (status {})",
                    status.code().unwrap_or(127)
                )));
            }
            break match status.success() {
                true => (true, "it ended with status 0".to_owned()),
                false => (false, format!("it ended with {}", in_words(status))),
            };
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            break (true, format!("it listens on 127.0.0.1:{port}"));
        }
        if stop.is_set() {
            break (false, "the run was told to stop".to_owned());
        }
        if started.elapsed() >= wait {
            break (
                false,
                format!(
                    "after {} s it neither listened on port {port} (variables PORT, HAPI_LISTEN_PORT) nor ended",
                    wait.as_secs()
                ),
            );
        }
        thread::sleep(LOOK);
    };
    let seconds = started.elapsed().as_secs();
    drop(group);
    Ok(Boot { up, how, seconds })
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// A shell with all that it started; ended when this goes.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        signal_group(&self.0, Signal::TERM);
        _ = child::wait(Instant::now() + GRACE, || false, || self.0.try_wait());
        // Also what the shell left behind.
        signal_group(&self.0, Signal::KILL);
        _ = self.0.wait();
    }
}
