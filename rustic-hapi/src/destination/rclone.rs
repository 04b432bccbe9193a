//! rclone is the program that reaches what speaks neither restic's protocol nor SFTP (S3, B2, and whatever
//! its own configuration names): it serves the place on loopback, as `rclone serve restic`, to us alone.
//!
//! It is started here and not by the engine, which waits for its first line for ever, lets it write to
//! our standard output, and keeps its address from what else has to reach the place: restic's locks.

mod call;
pub(super) mod log;

use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hapi_sources::{CaptureError, Stop};
use zeroize::Zeroizing;

use crate::destination::access::Access;
use crate::error::Error;
use crate::machine::child;

pub(crate) use self::log::remedy;

use self::call::Call;
use self::log::{Log, read_lines};

/// How long it has to say where it listens; some remotes connect first.
const START: Duration = Duration::from_secs(45);

/// How long it has to end by itself.
const END: Duration = Duration::from_secs(2);

/// How long it has to say why a place cannot be listed.
const EXPLAIN: Duration = Duration::from_secs(20);

/// What stands before the address in its output.
const SERVING: &str = "Serving restic REST API on ";

/// What is at a place.
pub(crate) enum Listing {
    /// A folder, or a file by its own name, with these names; folders end with a `/`.
    Names(Vec<String>),
    /// Definitely nothing.
    Missing,
    /// It cannot be told, and why.
    Failed(Option<String>),
}

/// A value in one of rclone's connection strings (rclone's manual, "Connection strings").
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// A running rclone, ended when this is dropped.
pub(crate) struct Rclone {
    call: Call,
    child: Arc<Mutex<Child>>,
    url: String,
    user: String,
    password: Zeroizing<String>,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
}

impl Rclone {
    /// Serves `remote` (rclone's notation). `location` is what messages call it.
    ///
    /// # Errors
    /// rclone is missing, ended by itself, or did not listen in time.
    pub(crate) fn serve(
        location: &str,
        remote: &str,
        access: &Access,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let failed = |fact: String, hint: &str| Error::Destination {
            location: location.to_owned(),
            fact,
            hint: Some(hint.to_owned()),
        };
        let (user, password) = (random()?, random()?);
        const INSTALL: &str = "install it (`apt install rclone`), or put it on the PATH of the user who runs this: cron's is short";
        let Some(program) = crate::machine::process::on_path("rclone") else {
            return Err(failed(
                "needs the program `rclone`, which is not on the PATH".into(),
                INSTALL,
            ));
        };
        let call = Call {
            program,
            remote: remote.to_owned(),
            access: access.clone(),
        };
        let mut command = call.command(&["serve", "restic", "--addr", "127.0.0.1:0"]);
        command
            // In the environment, which only this user can read, and not among the arguments.
            .env("RCLONE_USER", &*user)
            .env("RCLONE_PASS", &*password)
            .stdout(Stdio::null());

        let log = Arc::new(Log::default());
        let (sender, receiver) = mpsc::channel();
        let reader = {
            let log = Arc::clone(&log);
            // The child ends with the thread that started it, so that one lives as long as the child.
            thread::spawn(move || {
                let started = command.spawn().map(|mut child| {
                    let stderr = child.stderr.take();
                    (Arc::new(Mutex::new(child)), stderr)
                });
                match started {
                    Err(error) => _ = sender.send(Event::NotStarted(error)),
                    Ok((child, stderr)) => {
                        _ = sender.send(Event::Started(Arc::clone(&child)));
                        if let Some(stderr) = stderr {
                            follow(stderr, &log, &sender);
                        }
                        _ = sender.send(Event::Ended(ended(&child)));
                    }
                }
            })
        };
        let mut rclone = None;
        let deadline = Instant::now() + START;
        loop {
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::NotStarted(error)) => {
                    return Err(failed(
                        format!("needs the program `rclone`, which cannot be started: {error}"),
                        INSTALL,
                    ));
                }
                Ok(Event::Started(child)) => {
                    rclone = Some(Self {
                        call: call.clone(),
                        child,
                        url: String::new(),
                        user: user.to_string(),
                        password: password.clone(),
                        log: Arc::clone(&log),
                        reader: None,
                    });
                }
                Ok(Event::Serving(url)) => {
                    stop.progressed();
                    if let Some(mut rclone) = rclone {
                        rclone.url = url;
                        rclone.reader = Some(reader);
                        return Ok(rclone);
                    }
                }
                Ok(Event::Ended(status)) => {
                    let said = log.last_error().unwrap_or_else(|| match status {
                        Some(status) => format!("it ended with {status}"),
                        None => "it ended".to_owned(),
                    });
                    return Err(failed(
                        format!("cannot be reached through rclone: {said}"),
                        remedy(&said)
                            .unwrap_or("`rclone lsf` with the same remote shows more of it"),
                    ));
                }
                Err(mpsc::RecvTimeoutError::Timeout) if stop.is_set() => {
                    return Err(CaptureError::Stopped.into());
                }
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => {
                    let said = log
                        .last_error()
                        .map_or_else(String::new, |said| format!("; it reports: {said}"));
                    return Err(failed(
                        format!(
                            "cannot be reached: rclone got no answer within {} s{said}",
                            START.as_secs()
                        ),
                        "is the machine on, and the network (VPN, tailnet) up?",
                    ));
                }
            }
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The user that it wants to hear.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The password that it wants to hear.
    pub(crate) fn password(&self) -> &Zeroizing<String> {
        &self.password
    }

    /// Why the place cannot be listed, in words: what it says of that as a server is its own insides.
    pub(crate) fn explain(&self) -> Option<String> {
        match self.listed(&self.call.remote) {
            Listing::Failed(said) => said,
            _ => None,
        }
    }

    /// What is in the folder itself, which restic's protocol has no question for.
    pub(crate) fn place(&self) -> Listing {
        let listing = self.listed(&self.call.remote);
        // In an object store a folder is what its files are called: without any, the bucket tells whether
        // it is the place that was meant.
        match (listing, self.call.bucket()) {
            (Listing::Missing, Some(bucket)) => match self.listed(&bucket) {
                Listing::Names(_) => Listing::Names(Vec::new()),
                Listing::Missing => Listing::Failed(Some(
                    "there is no such bucket, or it is not an S3 server".to_owned(),
                )),
                failed => failed,
            },
            (listing, _) => listing,
        }
    }

    fn listed(&self, remote: &str) -> Listing {
        /// rclone's manual, "Exit code": directory not found.
        const NO_FOLDER: i32 = 3;
        let call = Call {
            remote: remote.to_owned(),
            ..self.call.clone()
        };
        let mut command = call.command(&["lsf", "--max-depth", "1", "--retries", "1"]);
        let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else {
            return Listing::Failed(None);
        };
        let log = Arc::new(Log::default());
        let errors = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            thread::spawn(move || read_lines(stderr, |line| log.add(line)))
        });
        let names = child.stdout.take().map(|stdout| {
            thread::spawn(move || {
                let mut names = Vec::new();
                read_lines(stdout, |line| names.push(line.to_owned()));
                names
            })
        });
        let deadline = Instant::now() + EXPLAIN;
        let status = child::wait(deadline, || false, || child.try_wait());
        let status = status.ok().flatten().and_then(|status| status.code());
        _ = child.kill();
        _ = child.wait();
        _ = errors.map(JoinHandle::join);
        let names = names.and_then(|names| names.join().ok());
        match status {
            Some(0) => Listing::Names(names.unwrap_or_default()),
            Some(NO_FOLDER) => Listing::Missing,
            _ => Listing::Failed(log.last_error()),
        }
    }

    /// What it complained of last, if that is lately.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.log.last_error()
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        let lock = || self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = i32::try_from(lock().id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        // While it was not waited for, the number is no other process's.
        if let (Some(pid), Ok(None)) = (pid, lock().try_wait()) {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = child::wait(Instant::now() + END, || false, || lock().try_wait());
        _ = lock().kill();
        _ = lock().wait();
        // Whoever inherited its standard error may keep the thread waiting; nobody waits for that.
        drop(self.reader.take());
    }
}

enum Event {
    NotStarted(std::io::Error),
    Started(Arc<Mutex<Child>>),
    Serving(String),
    Ended(Option<ExitStatus>),
}

fn follow(stderr: ChildStderr, log: &Log, sender: &mpsc::Sender<Event>) {
    read_lines(stderr, |line| match line.split_once(SERVING) {
        // From 1.61 on the address stands in brackets.
        Some((_, url)) => {
            let url = url.trim().trim_matches(['[', ']']).to_owned();
            _ = sender.send(Event::Serving(url));
        }
        None => log.add(line),
    });
}

fn ended(child: &Mutex<Child>) -> Option<ExitStatus> {
    let lock = || child.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child::wait(Instant::now() + END, || false, || lock().try_wait());
    status.ok().flatten()
}

fn random() -> Result<Zeroizing<String>, Error> {
    let mut bytes = Zeroizing::new([0; 24]);
    getrandom::fill(&mut *bytes).map_err(|error| Error::Internal {
        what: format!("no random numbers: {error}"),
    })?;
    Ok(Zeroizing::new(hex::encode(*bytes)))
}
