//! A connection is a running ssh with an SFTP session on its pipes, ended when this is dropped.
//!
//! One thread of its own starts ssh, which ends with it, moves the bytes and keeps what ssh says; whoever
//! asks something waits for it on a thread of theirs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hapi_sources::Stop;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Join, join};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::failure::{Failure, What};
use super::place::Place;
use super::program;
use super::said::Said;
use super::session::{HURRY, Session};
use crate::destination::access::Access;
use crate::machine::child;

/// How long the first answer may take: a server may ask a person something meanwhile (Tailscale's `check`),
/// and says so in its banner.
const START: Duration = Duration::from_secs(30);

/// How long ssh has to end by itself.
const END: Duration = Duration::from_secs(2);

/// The pipes to and from ssh.
type Pipes = Join<Receiver, Sender>;

/// A running ssh.
pub(super) struct Connection {
    session: Option<Session>,
    process: Process,
}

/// ssh itself, and the thread that moves its bytes.
struct Process {
    child: Arc<Mutex<Child>>,
    said: Arc<Said>,
    runtime: Handle,
    /// Dropped with this, which ends the thread.
    over: Option<oneshot::Sender<()>>,
    mover: Option<JoinHandle<()>>,
}

impl Connection {
    /// Connects, and waits for the server's first answer. `name` is what messages call the place.
    pub(super) fn open(
        name: &str,
        place: &Place,
        home: &Path,
        access: &Access,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let failed = |what| Failure::new(name, "connecting", what, place);
        let (process, pipes) = Process::start(place, home, access).map_err(&failed)?;
        let begun = process.runtime.block_on(async {
            let begun = Session::begin(pipes);
            tokio::pin!(begun);
            let since = Instant::now();
            loop {
                let patience = if stop.is_set() { HURRY } else { START };
                match tokio::time::timeout(Duration::from_millis(100), &mut begun).await {
                    Ok(session) => break Some(session),
                    Err(_) if since.elapsed() >= patience => break None,
                    Err(_) => {}
                }
            }
        });
        match begun {
            Some(Ok(session)) => {
                process.said.forget();
                stop.progressed();
                Ok(Self {
                    session: Some(session),
                    process,
                })
            }
            Some(Err(_)) => Err(failed(match process.last_words() {
                Some(words) if !words.is_empty() => What::Ssh(words),
                // It ended in peace, or still runs: what came was no SFTP.
                _ => What::Nonsense("its first answer is wrong".to_owned()),
            })),
            None if stop.is_set() => Err(failed(What::Stopped)),
            None => Err(failed(What::Late {
                seconds: START.as_secs(),
                said: process.said.words(),
            })),
        }
    }

    /// Waits for an answer. What ssh said is why there was none.
    pub(super) fn wait<T>(
        &self,
        ask: impl AsyncFnOnce(&Session) -> Result<T, What>,
    ) -> Result<T, What> {
        let Some(session) = &self.session else {
            return Err(What::Broken("it is closed".to_owned()));
        };
        let answer = self.process.runtime.block_on(async {
            let answer = ask(session);
            tokio::pin!(answer);
            loop {
                match tokio::time::timeout(Duration::from_millis(500), &mut answer).await {
                    Ok(answer) => break answer,
                    // The session may have missed its end by a hair's breadth.
                    Err(_) if self.process.said.is_over() => {
                        break Err(What::Broken("it ended".to_owned()));
                    }
                    Err(_) => {}
                }
            }
        });
        answer.map_err(|what| match what {
            What::Broken(why) => What::Broken(match self.process.last_words() {
                Some(words) if !words.is_empty() => words,
                _ => why,
            }),
            other => other,
        })
    }

    /// Whether the other side hung up.
    pub(super) fn is_over(&self) -> bool {
        self.process.said.is_over()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The session closes ssh's standard input, and that is what ends it in peace.
        let _inside = self.process.runtime.enter();
        drop(self.session.take());
    }
}

impl Process {
    fn start(place: &Place, home: &Path, access: &Access) -> Result<(Self, Pipes), What> {
        let mut command = program::ssh(home).ok_or(What::NoProgram)?;
        command
            .args(place.arguments())
            .args(["-s", "--", place.host(), "sftp"])
            .envs(
                access
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value.as_str())),
            )
            .env_remove("RESTIC_PASSWORD")
            .env_remove("RESTIC_REST_PASSWORD")
            .env_remove("RUSTIC_REST_PASSWORD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for us, who may still have a lock to remove through it.
            .process_group(0);
        let said = Arc::new(Said::default());
        let (sender, receiver) = mpsc::channel();
        let (over, ended) = oneshot::channel::<()>();
        // The child ends with the thread that started it, so that one lives as long as the child.
        let mover = {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let started = (|| {
                    let mut child = command.spawn()?;
                    let runtime = Builder::new_current_thread().enable_all().build()?;
                    let inside = runtime.enter();
                    let pipes = join(
                        Receiver::from_owned_fd(piped(child.stdout.take())?)?,
                        Sender::from_owned_fd(piped(child.stdin.take())?)?,
                    );
                    let errors = Receiver::from_owned_fd(piped(child.stderr.take())?)?;
                    drop(inside);
                    io::Result::Ok((child, runtime, pipes, errors))
                })();
                match started {
                    Err(error) => _ = sender.send(Err(error)),
                    Ok((child, runtime, pipes, errors)) => {
                        let handle = runtime.handle().clone();
                        _ = sender.send(Ok((child, handle, pipes)));
                        runtime.block_on(async {
                            let listening = async {
                                let mut lines = BufReader::new(errors).split(b'\n');
                                while let Ok(Some(line)) = lines.next_segment().await {
                                    said.add(&line);
                                }
                                said.end();
                                std::future::pending::<()>().await;
                            };
                            tokio::select! {
                                _ = ended => {}
                                () = listening => {}
                            }
                        });
                    }
                }
            })
        };
        let (child, runtime, pipes) = receiver
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("its thread ended")))
            .map_err(|error| What::Ssh(format!("ssh cannot be started: {error}")))?;
        let process = Self {
            child: Arc::new(Mutex::new(child)),
            said,
            runtime,
            over: Some(over),
            mover: Some(mover),
        };
        Ok((process, pipes))
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it said, where it ended by itself.
    fn last_words(&self) -> Option<String> {
        let deadline = Instant::now() + END;
        let status = child::wait(deadline, || false, || self.child().try_wait());
        let status = status.ok().flatten()?;
        // Its last line may still be on its way.
        while !self.said.is_over() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let words = self.said.words();
        Some(match words.is_empty() && !status.success() {
            true => format!("ssh ended with {status}"),
            false => words,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = child::wait(Instant::now() + END, || false, || self.child().try_wait());
        if !matches!(ended, Ok(Some(_))) {
            child::signal_group(&self.child(), Signal::TERM);
            _ = child::wait(Instant::now() + END, || false, || self.child().try_wait());
            child::signal_group(&self.child(), Signal::KILL);
            _ = self.child().wait();
        }
        drop(self.over.take());
        _ = self.mover.take().map(JoinHandle::join);
    }
}

fn piped(end: Option<impl Into<OwnedFd>>) -> io::Result<OwnedFd> {
    end.map(Into::into)
        .ok_or_else(|| io::Error::other("it has no pipe"))
}
