//! Units are a service that takes a snapshot, and the timer that starts it.
//!
//! The service sees the system read-only but for what it needs. That includes the folder of each
//! database: opening a database in WAL mode that was closed cleanly creates its `-wal` and `-shm`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hapi_sources::{Kind, Source};

use super::account::Account;
use super::job::{Job, line};
use super::request::command;
use crate::error::Error;
use crate::profile::Profile;

/// The beginning of the first line of what is ours.
const MARKER: &str = "# Written by `rustic-hapi schedule`";

/// A service and its timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) service: String,
    pub(crate) timer: String,
    /// What has to be there before the service can write to it.
    pub(crate) folders: Vec<PathBuf>,
}

/// Whose manager has the units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The user's own.
    User,
    /// The system's, on behalf of a user.
    System(Account),
}

/// The names of the service and the timer of a profile, with what a unit's name cannot have written
/// as `systemd-escape` does.
pub(crate) fn names(profile: &str) -> [String; 2] {
    let mut name = String::from("rustic-hapi-");
    for byte in profile.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' | b'-' => {
                name.push(char::from(byte));
            }
            _ => name += &format!("\\x{byte:02x}"),
        }
    }
    [format!("{name}.service"), format!("{name}.timer")]
}

/// Whether a file's text says that it is ours.
pub(crate) fn is_ours(text: &str) -> bool {
    text.starts_with(MARKER)
}

/// The units of a job.
///
/// # Errors
/// [`Error::Usage`] for a path that cannot stand in a unit.
pub(crate) fn units(
    profile: &Profile,
    job: &Job,
    scope: &Scope,
    rclone_config: Option<&Path>,
) -> Result<Units, Error> {
    let writable = Writable::of(profile, rclone_config);
    let remove = match scope {
        Scope::User => command(&job.name, "--remove"),
        Scope::System(_) => command(&job.name, "--system --remove"),
    };
    // `string_is_safe` of systemd's: what it does not start, however it is written.
    if job.binary.contains(['"', '\'', '\\']) {
        return Err(Error::usage(
            format!(
                "systemd starts no program at `{}`: there are quotes or backslashes in it",
                job.binary
            ),
            "install the program elsewhere, or use `--cron`",
        ));
    }
    let head = format!(
        "{MARKER} for the profile `{}`;\n# it overwrites this file; `{remove}` removes it.\n",
        job.name
    );
    let about = format!("the HAPI hub (profile {})", doubled(&job.name));

    let mut service = format!("{head}[Unit]\nDescription=Snapshot of {about}\n");
    if let Scope::System(_) = scope {
        match profile.reach.location.local() {
            Some(folder) => {
                service += &format!("RequiresMountsFor={}\n", quoted(&line(folder)?));
            }
            None => service += "Wants=network-online.target\nAfter=network-online.target\n",
        }
    }
    service += "\n[Service]\nType=oneshot\n";
    if let Scope::System(account) = scope {
        service += &format!("User={}\n", account.name);
    }
    let options: Vec<_> = job.options.iter().map(|o| argument(o)).collect();
    service += &format!(
        "ExecStart={} {} snapshot --drill\n",
        quoted(&job.binary),
        options.join(" ")
    );
    for (name, value) in &job.variables {
        service += &format!("Environment={}\n", quoted(&format!("{name}={value}")));
    }
    service +=
        "# Slots are local times, whatever the manager was started with.\nUnsetEnvironment=TZ\n";
    service += match profile.copies.is_empty() {
        true => {
            "# A run takes minutes; one that hangs must not be in the way of the next.\nTimeoutStartSec=3h\n"
        }
        // What hangs is ended by the run itself.
        false => {
            "# A run takes minutes; copying may go on until shortly before the next one.\nTimeoutStartSec=infinity\n"
        }
    };
    service += "KillMode=mixed\n";
    service += "Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\nUMask=0077\n\n";
    service += "# The system is read-only but for the repository, our own state, and the folders of the\n# databases, in which SQLite makes `-wal` and `-shm` while the hub is stopped.\n";
    service += "ProtectSystem=strict\nProtectHome=read-only\n";
    for path in &writable.paths {
        service += &format!("ReadWritePaths={}\n", quoted(&format!("-{}", line(path)?)));
    }
    match writable.needed_in_tmp(profile, job) {
        None => service += "PrivateTmp=true\n",
        Some(path) => {
            service += &format!("# No PrivateTmp: {} is there.\n", line(&path)?);
            service += "ReadWritePaths=-/tmp -/var/tmp\n";
        }
    }
    service += "NoNewPrivileges=true\nProtectControlGroups=true\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\nLockPersonality=true\nRestrictRealtime=true\nSystemCallArchitectures=native\n";
    if let Scope::System(account) = scope {
        // A user's manager has no capabilities to drop, and refuses to start what drops some.
        let keeps = match account.is_root() {
            true => " CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER",
            false => "",
        };
        service += &format!("CapabilityBoundingSet={}\n", keeps.trim_start());
        service += "PrivateDevices=true\nProtectKernelModules=true\nProtectKernelLogs=true\nProtectClock=true\n";
    }

    let mut timer = format!("{head}[Unit]\nDescription=Snapshots of {about}\n\n[Timer]\n");
    for time in job.times() {
        timer += &format!("OnCalendar=*-*-* {time}:00\n");
    }
    timer += "# A machine that was off, or asleep, catches up.\nPersistent=true\nRandomizedDelaySec=5m\n\n[Install]\nWantedBy=timers.target\n";
    Ok(Units {
        service,
        timer,
        folders: writable.folders,
    })
}

/// Where a run writes.
struct Writable {
    paths: BTreeSet<PathBuf>,
    /// Those that a run could make itself, were the system not read-only.
    folders: Vec<PathBuf>,
}

impl Writable {
    fn of(profile: &Profile, rclone_config: Option<&Path>) -> Self {
        let mut folders = Vec::new();
        // The run locks lie beside the state folder.
        folders.extend(profile.reach.state.parent().map(Path::to_path_buf));
        folders.push(profile.staging.clone());
        // Written whole beside the old one, so the folder it is.
        let textfile = profile.metrics.as_deref().and_then(Path::parent);
        folders.extend(textfile.map(Path::to_path_buf));
        let mut paths = BTreeSet::new();
        let copies = profile.copies.iter().map(|copy| &copy.reach);
        for reach in std::iter::once(&profile.reach).chain(copies) {
            match reach.location.local() {
                Some(folder) => _ = paths.insert(folder.to_path_buf()),
                None => folders.push(reach.home.join(".cache/rustic")),
            }
            if reach.location.needs_rclone() {
                // It writes renewed tokens into its configuration.
                let access = reach.access().ok();
                let named = access
                    .as_ref()
                    .and_then(|access| access.environment.get("RCLONE_CONFIG"));
                let rclone_config = named.map(|path| Path::new(path.as_str())).or(rclone_config);
                folders.push(match rclone_config.and_then(Path::parent) {
                    Some(folder) => folder.to_path_buf(),
                    None => reach.home.join(".config/rclone"),
                });
                folders.push(reach.home.join(".cache/rclone"));
            }
        }
        for s in &profile.sources {
            if s.source.kind == Kind::Sqlite {
                paths.extend(folders_of(&s.source));
            }
        }
        paths.extend(folders.iter().cloned());
        // What lies in another one needs no line of its own.
        let inner = |path: &PathBuf| path.ancestors().skip(1).any(|outer| paths.contains(outer));
        Self {
            paths: paths.iter().filter(|path| !inner(path)).cloned().collect(),
            folders,
        }
    }

    /// What a private /tmp would hide.
    fn needed_in_tmp(&self, profile: &Profile, job: &Job) -> Option<PathBuf> {
        let access = profile.reach.access().ok();
        let own = [
            Path::new(&job.binary),
            &profile.file,
            &profile.reach.home,
            &profile.hapi_home,
        ];
        self.paths
            .iter()
            .map(PathBuf::as_path)
            .chain(own)
            .chain(profile.reach.password.file())
            .chain(profile.reach.environment_file.as_deref())
            .chain(access.as_ref().and_then(|access| access.cacert.as_deref()))
            .chain(profile.sources.iter().map(|s| s.source.path.as_path()))
            .chain(profile.copies.iter().flat_map(|copy| {
                let password = copy.reach.password.file();
                password
                    .into_iter()
                    .chain(copy.reach.environment_file.as_deref())
            }))
            .find(|path| path.starts_with("/tmp") || path.starts_with("/var/tmp"))
            .map(Path::to_path_buf)
    }
}

/// The folder of a database as it is named, and where links lead: SQLite makes side files there.
fn folders_of(source: &Source) -> BTreeSet<PathBuf> {
    let database = source.path.as_path();
    let named: PathBuf = match source.is_pattern() {
        false => database.parent().unwrap_or(database).to_path_buf(),
        true => {
            let below = database.strip_prefix(&source.literal).unwrap_or(database);
            let plain = below.components().take_while(|part| {
                let part = part.as_os_str().to_string_lossy();
                !part.contains(['*', '?', '[', '{'])
            });
            source.literal.join(plain.collect::<PathBuf>())
        }
    };
    let real = match source.is_pattern() {
        false => fs::canonicalize(database)
            .ok()
            .and_then(|file| file.parent().map(Path::to_path_buf)),
        true => None,
    };
    real.or_else(|| fs::canonicalize(&named).ok())
        .into_iter()
        .chain([named])
        .collect()
}

/// `%` begins a specifier everywhere in a unit.
fn doubled(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word of a unit.
fn quoted(text: &str) -> String {
    let text = doubled(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// A word of a command, in which `$` begins a variable.
fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,@".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => quoted(&text.replace('$', "$$")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units() {
        assert_eq!(names("hapi")[1], "rustic-hapi-hapi.timer");
        assert_eq!(
            names("100% ä@x")[0],
            r"rustic-hapi-100\x25\x20\xc3\xa4\x40x.service"
        );
    }

    #[test]
    fn words() {
        assert_eq!(quoted(r#"/a b/1%/"q"\"#), r#""/a b/1%%/\"q\"\\""#);
        assert_eq!(argument("/a/$b"), "\"/a/$$b\"");
        assert_eq!(argument("--profile"), "--profile");
    }

    #[test]
    fn folders_of_databases_and_patterns() {
        let one = |path: &str| folders_of(&Source::new("", Kind::Sqlite, path));
        assert_eq!(
            one("/nowhere/h/hapi.db"),
            [PathBuf::from("/nowhere/h")].into()
        );
        assert_eq!(one("/nowhere/*/x.db"), [PathBuf::from("/nowhere")].into());
        let dir = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(dir.path()).unwrap();
        for folder in ["a", "b"] {
            fs::create_dir(real.join(folder)).unwrap();
        }
        fs::write(real.join("b/x.db"), "").unwrap();
        std::os::unix::fs::symlink("../b/x.db", real.join("a/x.db")).unwrap();
        let folders = folders_of(&Source::new("", Kind::Sqlite, real.join("a/x.db")));
        assert_eq!(folders, [real.join("a"), real.join("b")].into());
    }
}
