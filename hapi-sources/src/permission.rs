//! A barrier is what keeps this user from a path: the path itself, or a folder on the way to it. It is looked for
//! with the eyes of this user, since an error of the system names neither.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;

/// What keeps this user from a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The file or folder that is in the way.
    pub path: PathBuf,
    /// Its owner, a number.
    pub owner: u32,
    /// Its mode, without the type.
    pub mode: u32,
}

impl Barrier {
    /// What keeps this user from reading a file, or from listing a folder.
    pub fn to_reading(path: &Path) -> Option<Self> {
        match path.is_dir() {
            true => Self::to(path, Access::READ_OK | Access::EXEC_OK),
            false => Self::to(path, Access::READ_OK),
        }
    }

    /// What keeps this user from putting files into a folder.
    pub fn to_writing_in(folder: &Path) -> Option<Self> {
        Self::to(folder, Access::WRITE_OK | Access::EXEC_OK)
    }

    /// What keeps this user from writing to a file that is there.
    pub(crate) fn to_writing(file: &Path) -> Option<Self> {
        Self::to(file, Access::WRITE_OK)
    }

    /// What keeps this user from reading a file, or from using a folder.
    pub fn to_using(path: &Path) -> Option<Self> {
        let writing = || Self::to_writing_in(path).filter(|_| path.is_dir());
        Self::to_reading(path).or_else(writing)
    }

    /// `None` where nothing is in the way, or where it is not a matter of owners and modes: a path that does not
    /// exist, a file system mounted read-only, an attribute (`lsattr`).
    fn to(path: &Path, wanted: Access) -> Option<Self> {
        let on_the_way = path.ancestors().skip(1).collect::<Vec<_>>();
        let folders = on_the_way.into_iter().rev().map(|p| (p, Access::EXEC_OK));
        for (path, wanted) in folders.chain([(path, wanted)]) {
            if path.as_os_str().is_empty() {
                continue;
            }
            match access(path, wanted) {
                Ok(()) => {}
                // What is immutable answers EPERM, and no mode changes that.
                Err(Errno::ACCESS) => {
                    let stat = fs::metadata(path).ok()?;
                    return Some(Self {
                        path: path.to_owned(),
                        owner: stat.uid(),
                        mode: stat.mode() & 0o7777,
                    });
                }
                Err(_) => return None,
            }
        }
        None
    }

    /// Whose it is, and what lets this user in.
    pub fn hint(&self) -> String {
        let path = self.path.display().to_string().replace('\'', "'\\''");
        let us = geteuid().as_raw();
        let above = self
            .path
            .parent()
            .and_then(|above| fs::metadata(above).ok());
        match above {
            _ if self.is_ours() => format!("{self}: `chmod u+rwX '{path}'`"),
            // In a folder of this user's it is what root left there, say.
            Some(above) if above.uid() == us => {
                format!("{self}: `sudo chown {} '{path}'`", user_for_chown(us))
            }
            _ => format!(
                "{self}: run it as its owner: `sudo -u '{}' …`",
                user_name(self.owner)
            ),
        }
    }

    /// Whether it belongs to this user, and only its mode is in the way.
    pub fn is_ours(&self) -> bool {
        self.owner == geteuid().as_raw()
    }
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` belongs to {} (mode {:04o}), and this runs as {}",
            self.path.display(),
            user_name(self.owner),
            self.mode,
            user_name(geteuid().as_raw())
        )
    }
}

/// A user as `sudo -u` takes it: by name, or as `#1000`.
pub fn user_name(user: u32) -> String {
    name_of(user).unwrap_or_else(|| format!("#{user}"))
}

/// A user as `chown` takes it: by name, or as a number.
pub fn user_for_chown(user: u32) -> String {
    name_of(user).unwrap_or_else(|| user.to_string())
}

fn name_of(user: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == user.to_string()).then(|| name.to_owned())
    })
}
