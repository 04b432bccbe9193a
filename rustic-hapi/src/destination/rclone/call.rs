//! A call is a way to start rclone that nothing in an operator's shell changes, and that ends with us.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::destination::access::Access;
use crate::machine::process::on_path;

/// Variables of its own by which an operator's shell would have it say or serve something else.
const OURS: [&str; 14] = [
    "RCLONE_QUIET",
    "RCLONE_USE_JSON_LOG",
    "RCLONE_LOG_FILE",
    "RCLONE_LOG_FORMAT",
    "RCLONE_LOG_LEVEL",
    "RCLONE_VERBOSE",
    "RCLONE_SYSLOG",
    "RCLONE_ADDR",
    "RCLONE_BASEURL",
    "RCLONE_HTPASSWD",
    "RCLONE_CERT",
    "RCLONE_KEY",
    "RCLONE_STDIO",
    "RCLONE_DRY_RUN",
];

/// Where the AWS tools look for the certificates of authorities.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// What every call has in common.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) program: PathBuf,
    pub(super) remote: String,
    pub(super) access: Access,
}

impl Call {
    /// The bucket of an object store of ours.
    pub(super) fn bucket(&self) -> Option<String> {
        let ours = self.remote.starts_with(":s3,") || self.remote.starts_with(":b2:");
        let (head, path) = self.remote.rsplit_once(':').filter(|_| ours)?;
        let (bucket, _) = path.split_once('/')?;
        Some(format!("{head}:{bucket}"))
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bound_to_us(&self.program);
        // Its address is read from what it says, and whom it serves is ours to say.
        for name in OURS {
            command.env_remove(name);
        }
        command
            .args(arguments)
            // A place that is away is told in seconds, and what is tried again is tried again by us.
            .args(["--contimeout", "10s", "--low-level-retries", "3"])
            // What restic's own use of rclone asks for: a removed file is gone.
            .arg("--b2-hard-delete")
            .args(authorities(&self.access))
            .arg(&self.remote)
            .envs(
                self.access
                    .environment
                    .iter()
                    .map(|(key, value)| (key, value.as_str())),
            )
            .env_remove("RESTIC_PASSWORD")
            .env_remove("RESTIC_REST_PASSWORD")
            .env_remove("RUSTIC_REST_PASSWORD")
            // rclone before 1.69 fails over it; it stands among the arguments instead.
            .env_remove(CA_BUNDLE)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for us, who may still have a lock to remove through it.
            .process_group(0);
        command
    }
}

/// `setpriv` (util-linux), where there is one, has the kernel end the child with us, however we end.
fn bound_to_us(program: &Path) -> Command {
    match on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Who may vouch for the servers that it asks.
fn authorities(access: &Access) -> Vec<OsString> {
    let file = access.cacert.clone().or_else(|| {
        let given = access.environment.get(CA_BUNDLE);
        given
            .map(|path| PathBuf::from(path.as_str()))
            .or_else(|| std::env::var_os(CA_BUNDLE).map(PathBuf::from))
            .filter(|path| path.is_file())
    });
    file.into_iter()
        .flat_map(|file| ["--ca-cert".into(), file.into_os_string()])
        .collect()
}
