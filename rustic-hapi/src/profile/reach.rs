//! A reach is what opens a repository: where it is, which one it has to be, and its password. It is all that a
//! machine without a profile needs to get data back.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::destination::access::Access;
use crate::destination::location::Location;
use crate::destination::variables::Variables;
use crate::error::ProfileError;

/// What opens a repository.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Where it is.
    pub location: Location,
    /// The id that it must have.
    pub id: Option<String>,
    /// The main repository, where this is a copy of it: the one that runs lock.
    pub main: Option<Location>,
    /// What restic's variables say.
    pub variables: Variables,
    /// A file with what the destination's server wants to know beyond the location.
    pub environment_file: Option<PathBuf>,
    /// The variables of restic's that this came from: a timer will not have them.
    pub from_variables: Vec<&'static str>,
    /// Its password.
    pub password: Password,
    /// Whether that is the main repository's, since nothing says another for this copy.
    pub shares_password: bool,
    /// What `~` means; the one path that snapshots carry.
    pub home: PathBuf,
    /// Where this machine keeps the run lock, caches and records (0700).
    pub state: PathBuf,
}

/// Where a password comes from.
#[derive(Clone)]
pub enum Password {
    /// The one line of this file.
    File(PathBuf),
    /// What this program prints; split into words as by a shell.
    Command(String),
    /// It is this: what `RESTIC_PASSWORD` says.
    Given(Zeroizing<String>),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Command(command) => f.debug_tuple("Command").field(command).finish(),
            Self::Given(_) => f.write_str("Given([secret])"),
        }
    }
}

impl Password {
    /// The file, where it is in one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Command(_) | Self::Given(_) => None,
        }
    }
}

impl Reach {
    /// What the destination's server wants to know beyond the location.
    ///
    /// # Errors
    /// The environment file cannot be used.
    pub fn access(&self) -> Result<Access, ProfileError> {
        Access::of(&self.variables, self.environment_file.as_deref())
    }

    /// The variables of this process that reaching the repository takes from: no timer has them.
    ///
    /// # Errors
    /// As [`Reach::access`].
    pub fn only_in_this_shell(&self) -> Result<Vec<&'static str>, ProfileError> {
        let access = self.access()?;
        let mut names = self.from_variables.clone();
        let scheme = self.location.scheme();
        if scheme == "rest" {
            names.extend(&access.from_process);
        }
        let keys: &[&'static str] = match scheme {
            "s3" => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            "b2" => &["B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"],
            _ => &[],
        };
        let here = |name: &&&str| {
            let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
            set && !access.environment.contains_key(**name)
        };
        names.extend(keys.iter().filter(here));
        Ok(names)
    }

    /// What a server wants to know besides the location, and who opens a repository elsewhere has to
    /// have: what it is, and how a shell gets it.
    pub(crate) fn needs(&self) -> Option<(&'static str, &'static str)> {
        let user = self
            .access()
            .is_ok_and(|access| access.rest_username.is_some());
        match self.location.scheme() {
            "rest" if user && !self.location.has_credentials() => Some(Location::REST_NEEDS),
            _ => self.location.needs(),
        }
    }
}
