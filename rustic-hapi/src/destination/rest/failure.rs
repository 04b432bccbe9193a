//! A failure is what a server did instead of an answer: it decides whether to try again, and has a
//! remedy.

use std::error::Error as _;
use std::fmt;

use reqwest::StatusCode;
use rustic_core::RusticError;

use crate::destination::patience::Attempt;
use crate::destination::rclone::log as rclone;
use crate::error::{Error, Reason, Remedied};

/// A failure to get something from a server.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) name: String,
    pub(super) doing: String,
    pub(super) what: What,
    /// What the program behind the server said last.
    pub(super) said: Option<String>,
}

#[derive(Debug)]
pub(super) enum What {
    Status {
        status: StatusCode,
        server: String,
        page: bool,
    },
    /// No connection.
    Unreachable(String),
    /// A connection that is not to be trusted.
    Tls(String),
    /// A connection, and no answer.
    Silence,
    /// An answer that broke off.
    Broken(String),
    /// An answer that makes no sense.
    Nonsense,
}

impl What {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let causes = causes(error);
        let lower = causes.to_lowercase();
        // What a client says of certificates is final, and is a failure to connect all the same.
        if error.is_connect()
            && [
                "certificate",
                "tls",
                "handshake",
                "unknownissuer",
                "corrupt message",
            ]
            .iter()
            .any(|word| lower.contains(word))
        {
            return Self::Tls(causes);
        }
        if error.is_connect() {
            return Self::Unreachable(causes);
        }
        if error.is_timeout() {
            return Self::Silence;
        }
        Self::Broken(causes)
    }
}

impl Failure {
    pub(super) fn status(&self) -> Option<StatusCode> {
        match &self.what {
            What::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it is a 404 of a server that means it.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND) && !self.server_is("rclone")
    }

    pub(super) fn server_is(&self, name: &str) -> bool {
        matches!(&self.what, What::Status { server, .. } if server.starts_with(name))
    }

    pub(super) fn is_page(&self) -> bool {
        matches!(&self.what, What::Status { page, .. } if *page)
    }
}

impl Attempt for Failure {
    fn is_passing(&self) -> bool {
        match &self.what {
            What::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 425 | 429)
                    || (status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 507))
            }
            What::Unreachable(_) | What::Silence | What::Broken(_) => true,
            What::Tls(_) | What::Nonsense => false,
        }
    }

    fn is_silence(&self) -> bool {
        matches!(self.what, What::Silence)
    }

    fn is_answer(&self) -> bool {
        self.status().is_some()
    }
}

impl Failure {
    /// What helps against it.
    fn remedy(&self) -> Option<&'static str> {
        if let Some(said) = &self.said {
            return rclone::remedy(said);
        }
        Some(match &self.what {
            What::Status { status, .. } => match status.as_u16() {
                401 => {
                    "are user and password right? `RESTIC_REST_USERNAME` and `RESTIC_REST_PASSWORD` (in `environment-file` of `[repository]` for scheduled runs), or `user:password@` in the location"
                }
                403 if self.doing.starts_with("DELETE ") => {
                    "the server refuses to delete: is it append-only? Then say `append-only = true` in `[repository]`, and apply retention on the server's side"
                }
                403 => {
                    "the server knows this user but refuses: may it read and write at this path?"
                }
                400 => {
                    "does the server speak TLS (`rest:https://…`)? And is it one for restic repositories?"
                }
                410 => "the server says that this was removed permanently: check the server",
                429 => "the server limits how often it may be called; the next run tries again",
                301 => {
                    "is the path right, without `//`? Else the server has moved: write its new address into `location`"
                }
                404 => {
                    "is the path of the location right? A repository's files do not vanish: check the server"
                }
                405 => {
                    "is this a server for restic repositories (rest-server, `rclone serve restic`)?"
                }
                413 => {
                    "the server takes no files of this size: raise the limit of the proxy before it"
                }
                507 => {
                    "make room at the server; `rustic-hapi forget --prune --instant` immediately deletes what no snapshot needs"
                }
                500..=599 => {
                    "check the server's log: is its disk full, or its storage missing? The next run tries again"
                }
                300..=399 => "the server has moved: write its new address into `location`",
                _ => return None,
            },
            // What TLS and the system say has no type on its way through the client.
            What::Tls(why) if why.contains("corrupt message") => {
                "does the server speak TLS at all? Without it: `rest:http://…`"
            }
            What::Tls(why) if why.contains("Expired") => {
                "its certificate is no longer valid, or this machine's clock is wrong: check both"
            }
            What::Tls(why) if why.contains("NotValidForName") => {
                "its certificate is for another name: write that name into `location`"
            }
            What::Tls(_) => {
                "is it the right server? Name the certificate authority of a private one with `RESTIC_CACERT=FILE`"
            }
            What::Silence => "is the server hung, or its disk asleep? Check it, and run this again",
            What::Unreachable(why) if why.contains("Connection refused") => {
                "is the server running, and is the port right?"
            }
            What::Unreachable(why) if why.contains("failed to lookup address") => {
                "is the name right, and the network (VPN, tailnet) up?"
            }
            What::Unreachable(_) => "is the machine on, and the network (VPN, tailnet) up?",
            What::Broken(_) if self.doing.starts_with("POST ") => {
                "the network or the server broke off, or the server is full (see its log); the next run continues from here"
            }
            What::Broken(_) => {
                "the network or the server broke off; the next run continues from here"
            }
            What::Nonsense => {
                "is this a server for restic repositories (rest-server, `rclone serve restic`)?"
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, doing) = (&self.name, &self.doing);
        match &self.what {
            What::Status { status, .. } => match self.said {
                // What rclone makes of the place's own answer is a number of its choice.
                Some(_) => write!(f, "`{name}` fails at {doing}"),
                None => write!(f, "`{name}` answers {status} to {doing}"),
            },
            What::Unreachable(why) => write!(f, "`{name}` cannot be reached: {why}"),
            What::Tls(why) => write!(f, "`{name}` cannot be trusted: {why}"),
            What::Silence => write!(
                f,
                "`{name}` accepts connections but does not answer ({doing})"
            ),
            What::Broken(why) => write!(f, "the connection to `{name}` broke ({doing}): {why}"),
            What::Nonsense if self.said.is_some() => write!(f, "`{name}` fails at {doing}"),
            What::Nonsense => write!(f, "`{name}` answers nonsense: {doing}"),
        }?;
        match &self.said {
            Some(said) => write!(f, "; rclone reports: {said}"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Engine {
            doing: "reaching the repository",
            reason: Reason::remedied(failure.to_string(), failure.remedy()),
        }
    }
}

impl From<Failure> for Box<RusticError> {
    fn from(failure: Failure) -> Self {
        Remedied::failure(failure.to_string(), failure.remedy())
    }
}

/// An error with its causes and without its address, which may hold a password.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &next;
        }
        cause = error.source();
    }
    if text.is_empty() {
        text = "no reason is given".to_owned();
    }
    text
}
