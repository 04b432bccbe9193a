//! A location is where a repository is, in restic's own notation.
//!
//! `Display` never shows credentials.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::destination::access::Access;
use crate::destination::credentials::credentials_end;
use crate::destination::object_store::ObjectStore;
use crate::destination::sftp::place::Place;

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
                "rest" => match text["rest:".len()..].split_once("://") {
                    Some(("http" | "https", rest)) if !rest.is_empty() => {
                        Ok(Self::Remote(text.to_owned()))
                    }
                    _ => Err("it is not of the form `rest:http://host:8000/path/`".to_owned()),
                },
                "rclone" => match secret_option(text) {
                    None => Ok(Self::Remote(text.to_owned())),
                    Some(name) => Err(format!(
                        "it cannot contain `{name}`, since every user of this machine sees a program's arguments: write it into rclone's configuration, or as one of rclone's variables into the environment file"
                    )),
                },
                "sftp" => Place::parse(text).map(|_| Self::Remote(text.to_owned())),
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

    /// The string that every restic opens a REST server with: its variables for user and password came
    /// later than its first version that reads our repositories.
    pub(crate) fn with_user(&self, access: &Access) -> String {
        let Self::Remote(text) = self else {
            return self.with_credentials();
        };
        let url = text
            .strip_prefix("rest:")
            .filter(|_| !self.has_credentials());
        let Some(mut url) = url.and_then(|url| reqwest::Url::parse(url).ok()) else {
            return text.clone();
        };
        // Both can be set for any address that has a host.
        _ = url.set_username(access.rest_username.as_deref().unwrap_or(""));
        _ = url.set_password(
            access
                .rest_password
                .as_ref()
                .map(|password| password.as_str()),
        );
        format!("rest:{url}")
    }

    /// Whether a user or password of a server stands in it.
    pub fn has_credentials(&self) -> bool {
        matches!(self, Self::Remote(text) if redacted(text) != *text)
    }

    /// What a REST server may want.
    pub(crate) const REST_NEEDS: (&str, &str) = (
        "the server's user and password",
        "put in the server's user and password, %-encoded",
    );

    /// `rest`, `sftp`, …; `local` for a folder.
    pub(crate) fn scheme(&self) -> &str {
        match self {
            Self::Local(_) => "local",
            Self::Remote(text) => text.split(':').next().unwrap_or_default(),
        }
    }

    /// Whether it is reached through rclone.
    pub fn needs_rclone(&self) -> bool {
        matches!(self, Self::Remote(_)) && !["rest", "sftp"].contains(&self.scheme())
    }

    /// Whether it is reached through ssh.
    pub(crate) fn needs_ssh(&self) -> bool {
        self.scheme() == "sftp"
    }

    /// What whoever opens it from elsewhere has to have besides the password: what it is, and how a
    /// shell gets it.
    pub(crate) fn needs(&self) -> Option<(&'static str, &'static str)> {
        let Self::Remote(text) = self else {
            return None;
        };
        Some(match text.split_once(':')?.0 {
            "rest" if self.has_credentials() => Self::REST_NEEDS,
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

    /// `user@host:port` of an SFTP server that OpenSSH's configuration has under another name.
    pub(crate) fn sftp_account(&self, home: &Path) -> Option<String> {
        let Self::Remote(text) = self else {
            return None;
        };
        Place::parse(text).ok()?.account(home)
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

/// An option of one of rclone's connection strings that opens doors (`:s3,secret_access_key=…:b/p`).
fn secret_option(text: &str) -> Option<&str> {
    let remote = text.strip_prefix("rclone:")?;
    let names = remote
        .split([',', ':'])
        .filter_map(|word| word.split_once('='));
    names.map(|(name, _)| name).find(|name| {
        let name = name.to_lowercase();
        [
            "pass",
            "secret",
            "token",
            "key_pem",
            "sas_url",
            "account_key",
            "access_key_id",
            "client_id",
        ]
        .iter()
        .any(|word| name.contains(word))
            || name == "key"
    })
}

/// The host of a `rest:` or `sftp:` location.
pub(crate) fn host_of(text: &str, home: &Path) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    match scheme {
        "rest" => {
            let url = reqwest::Url::parse(rest).ok()?;
            let host = url.host_str()?;
            Some(host.trim_matches(['[', ']']).to_owned())
        }
        "sftp" => Place::parse(text).ok()?.address(home),
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

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,120}") {
            let home = Path::new("/home/u");
            if let Ok(location) = Location::parse(&text, home) {
                _ = (location.to_string(), location.without_credentials(), host_of(&text, home));
            }
        }

        #[test]
        fn no_password_shows_whatever_is_in_it(
            scheme in proptest::sample::select(vec!["rest:http", "rest:https", "s3:https"]),
            password in "[a-zA-Z0-9!$&'()*+,;=:@/%._~-]{1,30}",
            path in "[a-z/]{0,20}",
        ) {
            // What has a host before the `/` is an address like any other, whatever was meant.
            let slash = password.find('/').unwrap_or(password.len());
            proptest::prop_assume!(!password[..slash].contains('@') || password[..slash].ends_with('@'));
            let password = format!("CANARY{password}CANARY");
            let text = format!("{scheme}://user:{password}@host:8000/{path}");
            if let Ok(location) = Location::parse(&text, Path::new("/home/u")) {
                for shown in [location.to_string(), format!("{location:?}"), location.without_credentials()] {
                    proptest::prop_assert!(!shown.contains("CANARY"), "{}", shown);
                }
            }
        }
    }
}
