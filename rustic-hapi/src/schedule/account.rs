//! An account is a user of this machine, as `getent passwd` has it: who the hub runs as.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, os::unix::fs::MetadataExt};

use super::tool;
use crate::error::Error;

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    gid: u32,
    pub(crate) home: PathBuf,
}

impl Account {
    /// By name or number.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no such user.
    pub(crate) fn of(name_or_uid: &str) -> Result<Self, Error> {
        let unknown = || Error::Usage {
            fact: format!("there is no user `{name_or_uid}`"),
            hint: None,
        };
        let text = tool::output(Command::new("getent").args(["passwd", name_or_uid]))
            .map_err(|_| unknown())?;
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        match fields[..] {
            [name, _, uid, gid, _, home, ..] => Ok(Self {
                name: name.to_owned(),
                uid: uid.parse().map_err(|_| unknown())?,
                gid: gid.parse().map_err(|_| unknown())?,
                home: home.into(),
            }),
            _ => Err(unknown()),
        }
    }

    /// Who runs this.
    ///
    /// # Errors
    /// As [`Account::of`].
    pub(crate) fn own() -> Result<Self, Error> {
        Self::of(&rustix::process::geteuid().as_raw().to_string())
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the mode lets this user read a file, as far as owner, primary group and the folders
    /// above tell: other groups and access lists are not asked.
    pub(crate) fn may_read(&self, file: &Path) -> bool {
        let allows = |path: &Path, bit: u32| {
            fs::metadata(path).is_ok_and(|m| {
                let class = match () {
                    () if m.uid() == self.uid => 6,
                    () if m.gid() == self.gid => 3,
                    () => 0,
                };
                m.mode() & (bit << class) != 0
            })
        };
        self.is_root() || (allows(file, 4) && file.ancestors().skip(1).all(|dir| allows(dir, 1)))
    }
}
