//! An SFTP destination, as restic writes it: `sftp:user@host:path`, `sftp://user@host:port/path`.
//!
//! rclone reaches it, with what OpenSSH's own configuration says of the host (`ssh -G`): its address,
//! port and user, the keys, and the file that has the host's key. A host that is not known there is
//! refused.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::destination::access::Access;
use crate::error::Error;
use crate::machine::process::on_path;

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

    /// `user@host:port` where OpenSSH's configuration makes another of it than was written.
    pub(crate) fn account(&self, home: &Path) -> Option<String> {
        let ssh = Ssh::of(self, home);
        (ssh.host != self.host).then(|| format!("{}@{}:{}", ssh.user, ssh.host, ssh.port))
    }

    /// The host's address, as OpenSSH's configuration has it.
    pub(crate) fn address(&self, home: &Path) -> String {
        Ssh::of(self, home).host
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
        let ssh = Ssh::of(self, home);
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

/// A value in one of rclone's connection strings (rclone's manual, "Connection strings").
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
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

fn dedup(paths: &mut Vec<PathBuf>) {
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
}

fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    names.join(", ")
}

/// What OpenSSH would do.
struct Ssh {
    host: String,
    port: u16,
    user: String,
    keys: Vec<PathBuf>,
    known: Vec<PathBuf>,
    proxy: Option<&'static str>,
    alias: Option<String>,
}

impl Ssh {
    fn of(target: &Sftp, home: &Path) -> Self {
        let mut ssh = Self {
            host: target.host.clone(),
            port: target.port.unwrap_or(22),
            user: target
                .user
                .clone()
                .or_else(|| std::env::var("USER").ok())
                .or_else(|| std::env::var("LOGNAME").ok())
                .unwrap_or_else(|| "root".to_owned()),
            keys: Vec::new(),
            known: Vec::new(),
            proxy: None,
            alias: None,
        };
        ssh.read(&Self::asked(target), home);
        // OpenSSH takes its `~` from the password database, which is another one where `--home` or
        // HOME say so. Where it has nothing to say, it would do this by itself, too.
        for name in ["id_ed25519", "id_ecdsa", "id_rsa"] {
            ssh.keys.push(home.join(".ssh").join(name));
        }
        ssh.known.push(home.join(".ssh/known_hosts"));
        dedup(&mut ssh.keys);
        dedup(&mut ssh.known);
        ssh
    }

    /// What `ssh -G` says; nothing where there is no ssh.
    fn asked(target: &Sftp) -> String {
        let Some(ssh) = on_path("ssh") else {
            return String::new();
        };
        let mut command = Command::new(ssh);
        command.arg("-G");
        if let Some(port) = target.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &target.user {
            command.args(["-l", user]);
        }
        let asked = command
            .arg("--")
            .arg(&target.host)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        match asked {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            _ => String::new(),
        }
    }

    /// Takes over what ssh_config(5) calls these things.
    fn read(&mut self, configuration: &str, home: &Path) {
        let path = |text: &str| match text.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(text),
        };
        for line in configuration.lines() {
            let Some((key, value)) = line.split_once(' ') else {
                continue;
            };
            match key {
                "hostname" => self.host = value.to_owned(),
                "port" => self.port = value.parse().unwrap_or(self.port),
                "user" => self.user = value.to_owned(),
                "identityfile" => self.keys.push(path(value)),
                "userknownhostsfile" | "globalknownhostsfile" => {
                    self.known.extend(value.split_whitespace().map(path));
                }
                "hostkeyalias" => self.alias = Some(value.to_owned()),
                "proxyjump" if value != "none" => self.proxy = Some("ProxyJump"),
                "proxycommand" if value != "none" => self.proxy = Some("ProxyCommand"),
                _ => {}
            }
        }
    }

    /// The name that the host's key stands under.
    fn known_as(&self) -> String {
        match self.port {
            22 => self.host.clone(),
            port => format!("[{}]:{port}", self.host),
        }
    }

    /// The file that knows the host, and the kinds of keys it has of it.
    fn known_hosts(&self) -> Option<(PathBuf, Vec<&'static str>)> {
        let mut files = self.known.iter().filter(|file| file.is_file());
        let Some(keygen) = on_path("ssh-keygen") else {
            return files.next().map(|file| (file.clone(), Vec::new()));
        };
        files.find_map(|file| {
            // Names may be hashed there; ssh-keygen finds those, too.
            let found = Command::new(&keygen)
                .args(["-F", &self.known_as(), "-f"])
                .arg(file)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .ok()
                .filter(|found| found.status.success())?;
            let lines = String::from_utf8_lossy(&found.stdout).into_owned();
            Some((file.clone(), algorithms(&lines)))
        })
    }
}

/// The algorithms that go with the keys in lines of a `known_hosts` file (sshd(8)).
fn algorithms(lines: &str) -> Vec<&'static str> {
    let mut algorithms = Vec::new();
    for kind in lines.lines().filter_map(|line| line.split(' ').nth(1)) {
        let these: &[_] = match kind {
            "ssh-ed25519" => &["ssh-ed25519"],
            "ecdsa-sha2-nistp256" => &["ecdsa-sha2-nistp256"],
            "ecdsa-sha2-nistp384" => &["ecdsa-sha2-nistp384"],
            "ecdsa-sha2-nistp521" => &["ecdsa-sha2-nistp521"],
            "ssh-rsa" => &["rsa-sha2-512", "rsa-sha2-256"],
            _ => &[],
        };
        algorithms.extend(these);
    }
    algorithms
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

    #[test]
    fn the_configuration_of_openssh_decides() {
        let target = Sftp::parse("sftp:storage:/srv").unwrap();
        let mut ssh = Ssh::of(&target, Path::new("/home/u"));
        (ssh.keys, ssh.known) = (Vec::new(), Vec::new());
        ssh.read(
            "host storage\nuser backup\nhostname 10.0.0.7\nport 2022\nidentityfile ~/.ssh/id_backup\nuserknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\nproxyjump none\n",
            Path::new("/home/u"),
        );
        assert_eq!(
            (ssh.user.as_str(), ssh.host.as_str()),
            ("backup", "10.0.0.7")
        );
        assert_eq!(ssh.known_as(), "[10.0.0.7]:2022");
        assert_eq!(ssh.keys, [PathBuf::from("/home/u/.ssh/id_backup")]);
        assert_eq!(ssh.known.len(), 2);
        assert_eq!(ssh.proxy, None);
    }
}
