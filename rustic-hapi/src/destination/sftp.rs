//! An SFTP destination, as restic writes it: `sftp:user@host:path`, `sftp://user@host:port/path`.
//!
//! rclone reaches it, with what OpenSSH's own configuration says of the host. A host that is not known
//! there is refused.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::destination::access::Access;
use crate::destination::rclone::quoted;
use crate::destination::ssh::Ssh;
use crate::error::Error;

/// Where it is, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sftp {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Absolute, or below the home of the user there.
    path: String,
}

impl Sftp {
    /// Reads restic's notations (restic's manual, "Preparing a new repository: SFTP").
    ///
    /// # Errors
    /// The fact that is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str =
            "it is neither `sftp:user@host:/path` nor `sftp://user@host:port//path`";
        const NO_PASSWORD: &str = "a password has no place in an SFTP location: use a key";
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

    fn ssh(&self, home: &Path) -> Ssh {
        Ssh::of(&self.host, self.user.as_deref(), self.port, home)
    }

    /// `user@host:port` where OpenSSH's configuration makes another of it than was written.
    pub(crate) fn account(&self, home: &Path) -> Option<String> {
        let ssh = self.ssh(home);
        (ssh.host != self.host).then(|| format!("{}@{}:{}", ssh.user, ssh.host, ssh.port))
    }

    /// The host's address, as OpenSSH's configuration has it.
    pub(crate) fn address(&self, home: &Path) -> String {
        self.ssh(home).host
    }

    /// What rclone takes, one for each way to log in that is worth trying: a key file each, or the
    /// agent.
    ///
    /// # Errors
    /// The host's key is not known, there is nothing to log in with, or the way there is one that
    /// rclone does not go.
    pub(crate) fn remotes(
        &self,
        location: &str,
        home: &Path,
        access: &Access,
    ) -> Result<Vec<String>, Error> {
        let ssh = self.ssh(home);
        let failed = |fact: String, hint: String| Error::Destination {
            location: location.to_owned(),
            fact,
            hint: Some(hint),
        };
        if let Some(way) = &ssh.proxy {
            return Err(failed(
                format!("is reached through a `{way}`, which rclone does not follow"),
                "name a host that can be reached directly (a VPN, a tailnet), or an rclone remote with its own `ssh` option: `rclone:remote:path`".into(),
            ));
        }
        let (known, algorithms) = ssh.known_hosts().ok_or_else(|| {
            let login = match ssh.port {
                22 => format!("ssh {}@{}", ssh.user, ssh.host),
                port => format!("ssh -p {port} {}@{}", ssh.user, ssh.host),
            };
            failed(
                format!("has a host key that is not known (looked for `{}` in {})", ssh.known_as(), listed(&ssh.known)),
                format!("`{login}` once, as the user that runs this; compare the fingerprint, and the host is known"),
            )
        })?;
        let agent = std::env::var_os("SSH_AUTH_SOCK").is_some()
            || access.environment.contains_key("SSH_AUTH_SOCK");
        let keys: Vec<_> = ssh.keys.iter().filter(|key| key.is_file()).collect();
        if keys.is_empty() && !agent {
            return Err(failed(
                format!("has nothing to log in with: there is no key in {}", listed(&ssh.keys)),
                "make one (`ssh-keygen -t ed25519`) and put its public half into `~/.ssh/authorized_keys` on the server".into(),
            ));
        }
        let remote = |key: Option<&PathBuf>| {
            let mut remote = ":sftp".to_owned();
            let port = ssh.port.to_string();
            let known = known.to_string_lossy();
            let mut say = |name: &str, value: &str| {
                _ = write!(remote, ",{name}={}", quoted(value));
            };
            // rclone puts the port behind it as it is.
            match ssh.host.contains(':') {
                true => say("host", &format!("[{}]", ssh.host)),
                false => say("host", &ssh.host),
            }
            say("port", &port);
            say("user", &ssh.user);
            say("known_hosts_file", &known);
            if let Some(key) = key {
                say("key_file", &key.to_string_lossy());
            }
            // From 1.64 on rclone then asks for a key that is known; before, for whichever it likes best.
            if !algorithms.is_empty() {
                say("host_key_algorithms", &algorithms.join(" "));
            }
            // Nothing of ours needs a shell there, and an account for backups may have none.
            say("shell_type", "none");
            say("disable_hashcheck", "true");
            format!("{remote}:{}", self.path)
        };
        let mut remotes: Vec<_> = keys.into_iter().map(|key| remote(Some(key))).collect();
        if agent {
            remotes.push(remote(None));
        }
        Ok(remotes)
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let from = authority.rfind(']').unwrap_or(0);
    match authority[from..].find(':') {
        Some(at) => {
            let (account, port) = authority.split_at(from + at);
            let port = port[1..]
                .parse()
                .map_err(|_| format!("`{}` is no port", &port[1..]))?;
            Ok((account, Some(port)))
        }
        None => Ok((authority, None)),
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<String>, String, Option<u16>, String) {
        let sftp = Sftp::parse(text).unwrap();
        (sftp.user, sftp.host, sftp.port, sftp.path)
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
            assert!(Sftp::parse(text).is_err(), "{text}");
        }
    }
}
