//! A call is a way to start rclone that nothing in an operator's shell changes, and that ends with us.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::destination::access::Access;
use crate::machine::child::bound_to_us;

/// What a variable of rclone's sets (after `RCLONE_`) that would have it say, serve, show or do something else
/// than it was started for: no flag undoes most of them, so none reaches it. What says where a place is, how it is
/// reached and how fast stays the operator's.
const OURS: [&str; 67] = [
    // How it speaks: its address and its errors are read.
    "QUIET",
    "VERBOSE",
    "USE_JSON_LOG",
    "PROGRESS",
    "PROGRESS_TERMINAL_TITLE",
    "SYSLOG",
    "COLOR",
    "HUMAN_READABLE",
    "CPUPROFILE",
    "MEMPROFILE",
    "HELP",
    "VERSION",
    // Whom it serves, and as what.
    "ADDR",
    "BASEURL",
    "HTPASSWD",
    "CERT",
    "KEY",
    "CLIENT_CA",
    "MIN_TLS_VERSION",
    "USER",
    "PASS",
    "REALM",
    "SALT",
    "TEMPLATE",
    "ALLOW_ORIGIN",
    "AUTH_PROXY",
    "USER_FROM_HEADER",
    "RESPONSE_HEADER",
    "MAX_HEADER_BYTES",
    "STDIO",
    "APPEND_ONLY",
    "PRIVATE_REPOS",
    "CACHE_OBJECTS",
    "RC",
    // What it does with what it is given.
    "DRY_RUN",
    "INTERACTIVE",
    "IMMUTABLE",
    "INPLACE",
    "BACKUP_DIR",
    "SUFFIX",
    "COMPARE_DEST",
    "COPY_DEST",
    "CUTOFF_MODE",
    "DELETE_EXCLUDED",
    "ERROR_ON_NO_TRANSFER",
    // What it sees of a place: a file that a filter hides is one that is gone.
    "MIN_AGE",
    "MAX_AGE",
    "MIN_SIZE",
    "MAX_SIZE",
    "MAX_DEPTH",
    "MAX_DELETE",
    "MAX_DELETE_SIZE",
    "MAX_TRANSFER",
    "MAX_DURATION",
    "MAX_BACKLOG",
    "HASH_FILTER",
    "LINKS",
    // How `lsf` lists.
    "FORMAT",
    "SEPARATOR",
    "DIR_SLASH",
    "DIRS_ONLY",
    "FILES_ONLY",
    "RECURSIVE",
    "CSV",
    "ABSOLUTE",
    "HASH",
    "TIME_FORMAT",
];

/// The same, by how they begin.
const OURS_BY_KIND: [&str; 13] = [
    "LOG_",
    "STATS",
    "DUMP",
    "RC_",
    "METRICS_",
    "SERVER_",
    "INCLUDE",
    "EXCLUDE",
    "FILTER",
    "FILES_FROM",
    "IGNORE_",
    "METADATA_INCLUDE",
    "METADATA_EXCLUDE",
];

/// Whether what a variable of rclone's says is ours to say.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("RCLONE_").is_some_and(|option| {
        OURS.contains(&option) || OURS_BY_KIND.iter().any(|kind| option.starts_with(kind))
    })
}

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
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_ours) {
                command.env_remove(name);
            }
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
                    .filter(|(name, _)| !is_ours(name))
                    .map(|(name, value)| (name, value.as_str())),
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
