//! A place is what an SFTP location names, as restic writes it: `sftp:user@host:path`,
//! `sftp://user@host:port/path`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use super::program;

/// Where it is, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Absolute, or below the home of the user there.
    path: String,
}

impl Place {
    /// Reads restic's notations (restic's manual, "Preparing a new repository: SFTP").
    ///
    /// # Errors
    /// The fact that is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str =
            "it is neither `sftp:user@host:/path` nor `sftp://user@host:port//path`";
        const NO_PASSWORD: &str = "an SFTP location cannot contain a password: use a key";
        let rest = text.strip_prefix("sftp:").ok_or(FORMS)?;
        let (account, port, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_once('/').ok_or(FORMS)?;
                let (account, port) = split_port(authority)?;
                (account, port, path)
            }
            None => {
                // A host that is an IPv6 address stands in brackets.
                let from = rest.find(']').unwrap_or(0);
                let colon = from + rest[from..].find(':').ok_or(FORMS)?;
                (&rest[..colon], None, &rest[colon + 1..])
            }
        };
        let first = path.split('/').next().unwrap_or("");
        if first.contains('@') && first.contains(':') {
            return Err(NO_PASSWORD.to_owned());
        }
        let (user, host) = match account.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, account),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(NO_PASSWORD.to_owned());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let odd = |text: &str| {
            text.is_empty()
                || text.starts_with('-')
                || text
                    .contains(|c: char| c.is_whitespace() || c.is_control() || "\"'/".contains(c))
        };
        if odd(host) || user.is_some_and(odd) || path.is_empty() {
            return Err(FORMS.to_owned());
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// A path of the repository's, as the server takes it.
    pub(super) fn path(&self, below: &str) -> String {
        match (self.path.trim_end_matches('/'), below) {
            ("", "") if self.path.starts_with('/') => "/".to_owned(),
            ("", below) if self.path.starts_with('/') => format!("/{below}"),
            (path, "") => path.to_owned(),
            (path, below) => format!("{path}/{below}"),
        }
    }

    /// The folders above the place, from the top, and the place itself.
    pub(super) fn folders(&self) -> Vec<String> {
        let path = self.path("");
        let ends = path.match_indices('/').map(|(at, _)| at);
        let mut folders: Vec<_> = ends
            .filter(|&at| at > 0 && path.as_bytes()[at - 1] != b'/')
            .map(|at| path[..at].to_owned())
            .collect();
        folders.push(path);
        folders
    }

    /// What ssh is told of whom to reach.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        arguments
    }

    /// The host, as ssh takes it.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// What a person types to log in there.
    pub(super) fn by_hand(&self) -> String {
        let mut line = "ssh".to_owned();
        if let Some(port) = self.port {
            line += &format!(" -p {port}");
        }
        match &self.user {
            Some(user) => line + &format!(" {user}@{}", self.host),
            None => line + &format!(" {}", self.host),
        }
    }

    /// `user@host:port` where OpenSSH's configuration makes another of it than was written.
    pub(crate) fn account(&self, home: &Path) -> Option<String> {
        let is = self.configured(home);
        let host = is.get("hostname").filter(|host| **host != self.host)?;
        let (user, port) = (is.get("user")?, is.get("port")?);
        Some(format!("{user}@{host}:{port}"))
    }

    /// The host's address, as OpenSSH's configuration has it; none where the way there leads over
    /// another machine, whose names are not ours.
    pub(crate) fn address(&self, home: &Path) -> Option<String> {
        let is = self.configured(home);
        let over = |way| is.get(way).is_some_and(|value| value != "none");
        match over("proxyjump") || over("proxycommand") {
            true => None,
            false => Some(is.get("hostname").unwrap_or(&self.host).clone()),
        }
    }

    /// What `ssh -G` says; nothing where there is no ssh.
    fn configured(&self, home: &Path) -> BTreeMap<String, String> {
        let Some(mut ssh) = program::ssh(home) else {
            return BTreeMap::new();
        };
        let asked = ssh
            .arg("-G")
            .args(self.arguments())
            .args(["--", &self.host])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let text = asked.map_or_else(|_| Vec::new(), |output| output.stdout);
        let text = String::from_utf8_lossy(&text);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let from = authority.rfind(']').unwrap_or(0);
    match authority[from..].find(':') {
        Some(at) => {
            let (account, port) = authority.split_at(from + at);
            let port = port[1..]
                .parse()
                // It may be a password.
                .map_err(|_| "what stands behind the host's colon is not a port".to_owned())?;
            Ok((account, Some(port)))
        }
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<String>, String, Option<u16>, String) {
        let place = Place::parse(text).unwrap();
        (place.user, place.host, place.port, place.path)
    }

    #[test]
    fn both_notations_of_restic_are_read() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parse("sftp:joe@nas:/srv/hapi"),
            (some("joe"), "nas".into(), None, "/srv/hapi".into())
        );
        assert_eq!(
            parse("sftp:nas:hapi"),
            (None, "nas".into(), None, "hapi".into())
        );
        // Two slashes make the path absolute, one makes it relative to the home there.
        assert_eq!(
            parse("sftp://joe@nas:2222//srv/hapi"),
            (some("joe"), "nas".into(), Some(2222), "/srv/hapi".into())
        );
        assert_eq!(
            parse("sftp://nas/hapi"),
            (None, "nas".into(), None, "hapi".into())
        );
        assert_eq!(
            parse("sftp:joe@[fd00::1]:/srv"),
            (some("joe"), "fd00::1".into(), None, "/srv".into())
        );
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in [
            "sftp:nas",
            "sftp:nas:",
            "sftp://nas",
            "sftp://nas:x/p",
            "sftp:-oProxyCommand=id:/p",
            "sftp:joe:secret@nas:/p",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_of_the_repository_is_below_the_place() {
        let at = |text: &str| Place::parse(text).unwrap();
        assert_eq!(at("sftp:nas:/srv/hapi/").path("config"), "/srv/hapi/config");
        assert_eq!(at("sftp:nas:hapi").path(""), "hapi");
        assert_eq!(at("sftp:nas:/").path("config"), "/config");
        assert_eq!(at("sftp:nas:/").path(""), "/");
        assert_eq!(at("sftp:nas:/a//b/").folders(), ["/a", "/a//b"]);
        assert_eq!(at("sftp:nas:a/b").folders(), ["a", "a/b"]);
    }
}
