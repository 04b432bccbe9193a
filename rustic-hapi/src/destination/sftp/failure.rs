//! A failure is what came instead of an answer over SFTP: it decides whether to try again, and has a remedy.

use std::fmt;

use russh_sftp::client::error::Error as Sftp;
use russh_sftp::protocol::StatusCode;
use rustic_core::RusticError;

use super::place::Place;
use crate::destination::patience::Attempt;
use crate::error::{Error, Remedied};
use crate::words;

/// A failure to get something from a server.
#[derive(Debug)]
pub(crate) struct Failure {
    name: String,
    doing: String,
    pub(super) what: What,
    /// How a person logs in there.
    by_hand: String,
}

#[derive(Debug)]
pub(super) enum What {
    /// There is no ssh here.
    NoProgram,
    /// ssh did not get there, in its own words.
    Ssh(String),
    /// ssh got somewhere, and nobody answered in time; what it said meanwhile.
    Late { seconds: u64, said: String },
    /// Somebody answered, and not in SFTP.
    Nonsense(String),
    /// The connection ended.
    Broken(String),
    /// No answer any more.
    Silence,
    /// The answer of a server.
    Refused { code: StatusCode, message: String },
    /// The server's disk is full.
    Full { free: u64 },
    /// A file ended before its end.
    Short { wanted: u64, came: u64 },
    /// The end was asked for while it connected.
    Stopped,
}

impl From<Sftp> for What {
    fn from(error: Sftp) -> Self {
        match error {
            Sftp::Status(status) => Self::Refused {
                code: status.status_code,
                message: status.error_message,
            },
            Sftp::UnexpectedPacket | Sftp::Limited(_) => Self::Nonsense(error.to_string()),
            Sftp::Timeout => Self::Silence,
            Sftp::IO(_) | Sftp::UnexpectedBehavior(_) => Self::Broken(error.to_string()),
        }
    }
}

impl What {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == StatusCode::NoSuchFile)
    }

    /// What a server says of whatever SFTP has no number for.
    pub(super) fn is_unnamed(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == StatusCode::Failure)
    }

    pub(super) fn is_end_of_list(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == StatusCode::Eof)
    }

    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == StatusCode::OpUnsupported)
    }

    /// Whether the connection is of no use any more.
    pub(super) fn ends_connection(&self) -> bool {
        !matches!(
            self,
            Self::Refused { .. } | Self::Full { .. } | Self::Short { .. }
        )
    }
}

impl Failure {
    pub(super) fn new(name: &str, doing: impl Into<String>, what: What, place: &Place) -> Self {
        Self {
            name: name.to_owned(),
            doing: doing.into(),
            what,
            by_hand: place.by_hand(),
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.what.is_missing()
    }

    /// What is free on a disk that is full.
    pub(super) fn is_full(&self) -> Option<u64> {
        match self.what {
            What::Full { free } => Some(free),
            _ => None,
        }
    }

    /// What helps against it. `ssh HOST` stands for the way to log in there.
    fn remedy(&self) -> Option<&'static str> {
        Some(match &self.what {
            What::NoProgram => {
                "install it (`apt install openssh-client`), or put it on the PATH of the user who runs this: cron's is short"
            }
            What::Ssh(said) | What::Broken(said) => return of_ssh(said),
            What::Late { said, .. } if said.is_empty() => {
                "`ssh HOST` as the user that runs this: does it log in without a question?"
            }
            What::Late { .. } => {
                "do what it says, with `ssh HOST` as the user that runs this: a backup cannot answer a question, so the server has to let this key in without one"
            }
            What::Nonsense(_) => {
                "does its shell print something without a terminal (`~/.bashrc`)? `ssh HOST true` must print nothing"
            }
            What::Silence => "is the server hung, or its disk asleep? Check it, and run this again",
            What::Full { .. } => {
                "make room at the server: `rustic-hapi forget --prune` frees what retention removed"
            }
            What::Short { .. } => {
                "the file is shorter than it was: check the server's disk; `rustic-hapi check` reports what else is affected"
            }
            What::Refused { code, .. } => match code {
                StatusCode::PermissionDenied => {
                    "give this user the permission to read and write there"
                }
                StatusCode::NoSuchFile => {
                    "is the path of the location right? A repository's files do not vanish: check the server"
                }
                _ => {
                    "SFTP does not report the cause: a quota, a file system that is read-only, a disk that fails? Check the server"
                }
            },
            What::Stopped => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        if let What::Ssh(said) = &self.what
            && let Some((_, command)) = said.split_once("remove with: · ")
        {
            let command = command.split(" · ").next().unwrap_or(command);
            return Some(format!(
                "if the server was reinstalled, `{command}` forgets its old key, and `{}` takes the new one once you have compared its fingerprint; otherwise another machine may be intercepting the connection",
                self.by_hand
            ));
        }
        let remedy = self.remedy()?;
        Some(remedy.replace("ssh HOST", &self.by_hand))
    }
}

/// What helps against what ssh says.
fn of_ssh(said: &str) -> Option<&'static str> {
    [
        ("has changed", "if the server was reinstalled, remove its old key from `known_hosts` and log in once (`ssh HOST`); otherwise another machine may be intercepting the connection"),
        ("Host key verification failed", "its key is not known here: log in once as the user that runs this (`ssh HOST`), compare the fingerprint, and it is"),
        ("Permission denied", "may this user log in without a question? Put the public half of its key into `~/.ssh/authorized_keys` on the server; a key with a passphrase needs an agent (`SSH_AUTH_SOCK`, in `environment-file` of `[repository]` for scheduled runs)"),
        ("Too many authentication failures", "the agent offers too many keys: name the right one in `~/.ssh/config` (`IdentityFile`, `IdentitiesOnly yes`)"),
        ("subsystem request failed", "the server has no SFTP: let its sshd_config say `Subsystem sftp internal-sftp`, or use another way (`rest:`)"),
        ("Bad owner or permissions", "the file belongs to another user, or others can write it: `chmod 600` it"),
        ("Bad configuration option", "correct that line of the configuration of ssh"),
        ("Connection refused", "is the server running, and is the port right?"),
        ("Could not resolve hostname", "is the name right, and the network (VPN, tailnet) up?"),
        ("Unable to negotiate", "server and ssh have no cipher in common: update the older one"),
        ("No such file or directory", "a program is missing there: let its sshd_config say `Subsystem sftp internal-sftp`"),
        ("not responding", "the network or the server broke off; the next run continues from here"),
        ("timed out", "is the machine on, and the network (VPN, tailnet) up?"),
        ("No route to host", "is the machine on, and the network (VPN, tailnet) up?"),
        ("unreachable", "is the machine on, and the network (VPN, tailnet) up?"),
    ]
    .into_iter()
    .find_map(|(fact, remedy)| said.contains(fact).then_some(remedy))
    .or(Some(
        "the network or the server broke off; the next run continues from here",
    ))
}

impl Attempt for Failure {
    fn is_passing(&self) -> bool {
        /// What asking again does not change.
        const FINAL: [&str; 9] = [
            "Host key verification failed",
            "Permission denied",
            "Too many authentication failures",
            "subsystem request failed",
            "Bad owner or permissions",
            "Bad configuration option",
            "Unable to negotiate",
            "No such file or directory",
            "cannot be started",
        ];
        match &self.what {
            What::Ssh(said) => !FINAL.iter().any(|fact| said.contains(fact)),
            What::Broken(_) | What::Silence => true,
            What::Refused { code, .. } => !matches!(
                code,
                StatusCode::PermissionDenied | StatusCode::NoSuchFile | StatusCode::OpUnsupported
            ),
            What::NoProgram
            | What::Late { .. }
            | What::Nonsense(_)
            | What::Full { .. }
            | What::Short { .. }
            | What::Stopped => false,
        }
    }

    fn is_silence(&self) -> bool {
        match &self.what {
            What::Silence => true,
            What::Ssh(said) => said.contains("timed out"),
            _ => false,
        }
    }

    fn is_answer(&self) -> bool {
        matches!(self.what, What::Refused { .. } | What::Full { .. })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.name, self.fact())
    }
}

impl Failure {
    /// What it did, behind its name.
    fn fact(&self) -> String {
        let doing = &self.doing;
        match &self.what {
            What::NoProgram => "needs the program `ssh`, which is not on the PATH".to_owned(),
            What::Ssh(said) => format!("cannot be reached; ssh reports: {said}"),
            What::Late { seconds, said } if said.is_empty() => {
                format!("cannot be reached: no answer within {seconds} s")
            }
            What::Late { seconds, said } => {
                format!("cannot be reached: no answer within {seconds} s; ssh reports: {said}")
            }
            What::Nonsense(why) => format!("does not speak SFTP ({doing}): {why}"),
            What::Broken(why) => format!("broke off ({doing}); ssh reports: {why}"),
            What::Silence => format!("does not answer any more ({doing})"),
            What::Refused { code, message } => {
                let code = code.to_string();
                // Some servers say more than the code does.
                match message.is_empty() || message.eq_ignore_ascii_case(&code) {
                    true => format!("answers \"{code}\" to {doing}"),
                    false => format!("answers \"{code}\" ({message}) to {doing}"),
                }
            }
            What::Full { free } => {
                let free = words::bytes(*free);
                format!("fails at {doing}: the disk is full ({free} free)")
            }
            What::Short { wanted, came } => {
                format!("fails at {doing}: received {came} of {wanted} bytes")
            }
            What::Stopped => "was not reached before the run was told to stop".to_owned(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.what {
            What::Stopped => hapi_sources::CaptureError::Stopped.into(),
            _ => Self::Destination {
                fact: failure.fact(),
                hint: failure.hint(),
                location: failure.name,
            },
        }
    }
}

impl From<Failure> for Box<RusticError> {
    fn from(failure: Failure) -> Self {
        Remedied::failure(failure.to_string(), failure.remedy())
    }
}
