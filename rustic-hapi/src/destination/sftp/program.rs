//! The system's own ssh: how it is called, so that whatever works in the operator's shell works here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::child::bound_to_us;
use crate::machine::process::{home_of_user, on_path};

/// What the configuration cannot change: nobody is there to answer, the pipes are ours, and whoever does not
/// answer any more is given up.
const OURS: [&str; 11] = [
    "BatchMode=yes",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ClearAllForwardings=yes",
    "ControlMaster=no",
    "PermitLocalCommand=no",
    // What it says is part of our errors.
    "LogLevel=INFO",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "UpdateHostKeys=no",
];

/// Where the system's own configuration is (ssh_config(5), FILES).
const SYSTEM: &str = "/etc/ssh/ssh_config";

/// ssh, with the configuration of a home; none where it is not installed. It ends with us.
pub(super) fn ssh(home: &Path) -> Option<Command> {
    let mut command = bound_to_us(&on_path("ssh")?);
    for option in OURS {
        command.args(["-o", option]);
    }
    // OpenSSH takes its `~` from the password database: where another home is meant, each file is named.
    let own = home_of_user();
    if own.is_some_and(|own| !is_same(&own, home)) {
        command.args(of_home(home)).env("HOME", home);
    }
    Some(command)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// The files of a home's `.ssh`, for all that the configuration there does not name itself.
fn of_home(home: &Path) -> Vec<String> {
    let ssh = home.join(".ssh");
    let file = |name: &str| Some(ssh.join(name)).filter(|path| path.is_file());
    let configuration = file("config")
        .or_else(|| Some(PathBuf::from(SYSTEM)).filter(|path| path.is_file()))
        .map_or_else(|| "none".into(), |path| path.to_string_lossy().into_owned());
    let mut arguments = vec!["-F".to_owned(), configuration];
    let mut say = |option: String| arguments.extend(["-o".to_owned(), option]);
    // Beside those that the configuration names: a `UserKnownHostsFile` here would count before its own.
    let known = ["known_hosts", "known_hosts2"].map(|name| quoted(&ssh.join(name)));
    say(format!(
        "GlobalKnownHostsFile=/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2 {}",
        known.join(" ")
    ));
    let keys = [
        "id_rsa",
        "id_ecdsa",
        "id_ecdsa_sk",
        "id_ed25519",
        "id_ed25519_sk",
    ];
    let mut named = 0;
    for key in keys.into_iter().filter_map(file) {
        say(format!("IdentityFile={}", quoted(&key).replace('%', "%%")));
        named += 1;
    }
    if named == 0 {
        say("IdentityFile=none".to_owned());
    }
    arguments
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
