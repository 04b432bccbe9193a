//! What OpenSSH would do to reach a host, by its own configuration (`ssh -G`): its address, port and
//! user, the keys, and the file that has the host's key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::process::on_path;

/// What OpenSSH would do.
pub(super) struct Ssh {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) keys: Vec<PathBuf>,
    pub(super) known: Vec<PathBuf>,
    pub(super) proxy: Option<&'static str>,
    alias: Option<String>,
}

impl Ssh {
    /// For a host, with the user and port where the location names them.
    pub(super) fn of(host: &str, user: Option<&str>, port: Option<u16>, home: &Path) -> Self {
        let mut ssh = Self {
            host: host.to_owned(),
            port: port.unwrap_or(22),
            user: user
                .map(str::to_owned)
                .or_else(|| std::env::var("USER").ok())
                .or_else(|| std::env::var("LOGNAME").ok())
                .unwrap_or_else(|| "root".to_owned()),
            keys: Vec::new(),
            known: Vec::new(),
            proxy: None,
            alias: None,
        };
        ssh.read(&Self::asked(host, user, port), home);
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
    fn asked(host: &str, user: Option<&str>, port: Option<u16>) -> String {
        let Some(ssh) = on_path("ssh") else {
            return String::new();
        };
        let mut command = Command::new(ssh);
        command.arg("-G");
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = user {
            command.args(["-l", user]);
        }
        let asked = command
            .arg("--")
            .arg(host)
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
    pub(super) fn known_as(&self) -> String {
        match self.port {
            22 => self.host.clone(),
            port => format!("[{}]:{port}", self.host),
        }
    }

    /// The file that knows the host, and the kinds of keys it has of it.
    pub(super) fn known_hosts(&self) -> Option<(PathBuf, Vec<&'static str>)> {
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

fn dedup(paths: &mut Vec<PathBuf>) {
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
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

    #[test]
    fn the_configuration_of_openssh_decides() {
        let mut ssh = Ssh::of("storage", None, None, Path::new("/home/u"));
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
