//! A location is where a repository is, in restic's own notation.
//!
//! `Display` never shows credentials.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::object_store::ObjectStore;
use crate::sftp::Sftp;

/// Where a repository is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine, absolute.
    Local(PathBuf),
    /// Anything else that restic takes after `-r` (`rest:…`, `rclone:…`), as it was written.
    Remote(String),
}

impl Location {
    /// Reads restic's notation. A local path may start with `~/`.
    ///
    /// # Errors
    /// The fact that is wrong with it.
    pub fn parse(text: &str, home: &Path) -> Result<Self, String> {
        let text = text.strip_prefix("local:").unwrap_or(text);
        if let Some((scheme, _)) = text.split_once(':') {
            return match scheme {
                "rest" | "rclone" => Ok(Self::Remote(text.to_owned())),
                "sftp" => Sftp::parse(text).map(|_| Self::Remote(text.to_owned())),
                "s3" | "b2" => ObjectStore::parse(text).map(|_| Self::Remote(text.to_owned())),
                "azure" | "gs" | "swift" => Err(format!(
                    "`{scheme}:` is not understood; an rclone remote reaches the same place (`rclone:remote:path`)"
                )),
                _ if text.starts_with('/') => Ok(Self::Local(tidy(text))),
                _ => Err("it is neither an absolute path nor a location of restic's".to_owned()),
            };
        }
        match text.strip_prefix("~/") {
            Some(rest) => Ok(Self::Local(home.join(rest).components().collect())),
            None if text.starts_with('/') => Ok(Self::Local(tidy(text))),
            None => Err(format!("`{text}` is not an absolute path")),
        }
    }

    /// The string that restic and rustic take, credentials included: for the environment of a
    /// program, never for output.
    pub fn with_credentials(&self) -> String {
        match self {
            Self::Local(path) => path.to_string_lossy().into_owned(),
            Self::Remote(text) => text.clone(),
        }
    }

    /// The same place, named without the user and password of a server.
    pub(crate) fn without_credentials(&self) -> String {
        self.to_string().replacen("***@", "", 1)
    }

    /// Whether a user or password of a server stands in it.
    pub fn has_credentials(&self) -> bool {
        matches!(self, Self::Remote(text) if redacted(text) != *text)
    }

    /// Whether it is reached through rclone.
    pub fn needs_rclone(&self) -> bool {
        matches!(self, Self::Remote(text) if !text.starts_with("rest:"))
    }

    /// What whoever opens it from elsewhere has to have besides the password: what it is, and how a
    /// shell gets it.
    pub(crate) fn needs(&self) -> Option<(&'static str, &'static str)> {
        let Self::Remote(text) = self else {
            return None;
        };
        Some(match text.split_once(':')?.0 {
            "rest" if self.has_credentials() => (
                "the server's user and password",
                "put in the server's user and password, %-encoded",
            ),
            "rclone" => (
                "rclone's configuration, from `rclone config file`",
                "rclone's configuration has to be there",
            ),
            "sftp" => (
                "a key that the server lets in",
                "`ssh-add` the key that the server lets in",
            ),
            "s3" => (
                "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`",
                "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
            ),
            "b2" => (
                "`B2_ACCOUNT_ID` and `B2_ACCOUNT_KEY`",
                "export B2_ACCOUNT_ID=… B2_ACCOUNT_KEY=…",
            ),
            _ => return None,
        })
    }

    /// The folder, if it is one of this machine.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

fn tidy(text: &str) -> PathBuf {
    Path::new(text).components().collect()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote(text) => f.write_str(&redacted(text)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `rest:http://user:pass@host/` without what stands before the `@`.
fn redacted(text: &str) -> String {
    // The user of an SFTP server is no secret, and a password is refused there.
    let Some((scheme, rest)) = text.split_once("://").filter(|(s, _)| *s != "sftp") else {
        return text.to_owned();
    };
    match credentials_end(rest) {
        Some(end) => format!("{scheme}://***@{}", &rest[end..]),
        None => text.to_owned(),
    }
}

/// Where the credentials end in what stands behind `://`, the `@` included. A password with a `/` in it
/// makes no valid address, and is one all the same.
pub(crate) fn credentials_end(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at + 1);
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_port = port.is_none_or(|port| {
        authority.ends_with(']') || port.bytes().all(|digit| digit.is_ascii_digit())
    });
    rest.rfind('@').filter(|_| !is_port).map(|at| at + 1)
}

/// The host of a `rest:` or `sftp:` location.
pub(crate) fn host_of(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    match scheme {
        "rest" => {
            let url = reqwest::Url::parse(rest).ok()?;
            let host = url.host_str()?;
            Some(host.trim_matches(['[', ']']).to_owned())
        }
        "sftp" => Sftp::parse(text).ok().map(|sftp| sftp.host().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_show() {
        let home = Path::new("/home/u");
        let location = Location::parse("rest:http://joe:s3cret@host:8000/a@b/", home).unwrap();
        assert_eq!(location.to_string(), "rest:http://***@host:8000/a@b/");
        let slash = Location::parse("rest:http://joe:s3/cret@host:8000/a", home).unwrap();
        assert_eq!(slash.to_string(), "rest:http://***@host:8000/a");
        assert!(!format!("{location:?}").contains("s3cret"));
        assert!(location.with_credentials().contains("s3cret"));
    }

    #[test]
    fn relative_paths_are_refused() {
        let home = Path::new("/home/u");
        assert!(Location::parse("backup", home).is_err());
        assert_eq!(
            Location::parse("~/b/", home).unwrap(),
            Location::Local(PathBuf::from("/home/u/b"))
        );
    }
}
