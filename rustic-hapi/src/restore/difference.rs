//! A difference is where what came is not what the manifest says.

use std::fmt;
use std::path::PathBuf;

use crate::error::Reason;

/// What helps where no identity opens a secret.
pub(crate) const OPENS_SECRETS: &str =
    "use the identity of one of the recipients; `rustic-hapi recovery-kit` lists them";

/// A difference, and of which file where that is not plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub path: Option<PathBuf>,
    /// What is different.
    pub what: What,
}

/// What is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The repository does not give its bytes, for this reason.
    Unreadable(Reason),
    /// No identity that was given opens it.
    Sealed,
    /// Anything else, in words.
    Other(String),
}

impl Difference {
    /// Whether only another identity is wanted.
    pub fn is_sealed(&self) -> bool {
        self.what == What::Sealed
    }

    /// Why it cannot be read, where this user may not: then nothing is known to be different.
    pub(crate) fn denied(&self) -> Option<&Reason> {
        self.what.denied()
    }
}

impl What {
    /// As [`Difference::denied`].
    pub(crate) fn denied(&self) -> Option<&Reason> {
        match self {
            Self::Unreadable(reason) => Some(reason).filter(|reason| reason.is_denied()),
            _ => None,
        }
    }
}

impl From<What> for Difference {
    fn from(what: What) -> Self {
        Self { path: None, what }
    }
}

impl From<String> for What {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<&str> for What {
    fn from(text: &str) -> Self {
        Self::Other(text.to_owned())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "it cannot be read: {reason}"),
            Self::Sealed => f.write_str("this identity cannot decrypt it"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "`{}`: ", path.display())?;
        }
        self.what.fmt(f)
    }
}
