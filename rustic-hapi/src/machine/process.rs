//! What this process is allowed and able to do, set once at its start.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use chrono::{DateTime, Local};

/// Files we make are ours alone, and a crash leaves no memory behind: it may hold a secret.
pub fn protect() {
    use rustix::process::{Resource, Rlimit, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Both only tighten what is: where the system refuses, nothing is lost.
    _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// Lets others go first, as systemd's units do: `Nice=10`, unless somebody chose a priority already.
pub fn give_way() {
    use rustix::process::{getpriority_process, nice};
    if getpriority_process(None) == Ok(0) {
        // Where it is refused, the run is only less polite.
        _ = nice(10);
    }
}

/// Ends the processes that this one started: what serves a repository must not outlive it.
pub(crate) fn end_children() {
    let threads = std::fs::read_dir("/proc/self/task");
    for thread in threads.into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(thread.path().join("children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Some(pid) = child.parse().ok().and_then(rustix::process::Pid::from_raw) {
                // One that is gone already is what was wanted.
                _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
    }
}

/// This very call by another user, as advice has it.
pub(crate) fn call_as(user: u32) -> String {
    let user = crate::machine::shell::quoted(&hapi_sources::user_name(user));
    format!("sudo -u {user} rustic-hapi …")
}

/// A program, looked for where the shell would.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    use rustix::fs::{Access, access};
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

/// The home of the user that runs this, as the password database has it.
pub(crate) fn home_of_user() -> Option<std::path::PathBuf> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let asked = std::process::Command::new("getent")
        .args(["passwd", &uid])
        .output()
        .ok()?;
    let line = String::from_utf8_lossy(&asked.stdout).into_owned();
    line.trim_end().split(':').nth(5).map(Into::into)
}

/// Removes the staging folders of this very process, where nothing else will get to it.
pub(crate) fn remove_own_folders(staging: &std::path::Path) {
    let ours = format!("run-{}-", std::process::id());
    for entry in std::fs::read_dir(staging).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&ours) {
            // What cannot be removed now, the next run's sweep removes.
            _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether SIGHUP was set to be ignored before this process began (proc(5), `SigIgn`).
pub fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}

/// A panic is a defect, here or in a library: one line tells where. Libraries put whole indexes into
/// their messages.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic
            .payload_as_str()
            .unwrap_or("no message")
            .chars()
            .take(200)
            .collect::<String>();
        // The engine's check is asked again then (`repository/mod.rs`).
        if message.starts_with("index still in use") {
            return;
        }
        let place = panic
            .location()
            .map(|at| format!(" at {}:{}", file_name(at.file()), at.line()))
            .unwrap_or_default();
        tell(format_args!("internal error{place}: {message}\n"));
    }));
}

/// Writes to standard error. A terminal that hung up, or a log on a full disk, takes nothing, and is no
/// reason to die of, as `eprintln!` would.
pub fn tell(text: impl fmt::Display) {
    _ = write!(std::io::stderr(), "{text}");
}

/// Writes to standard output. A reader that went away (`| head`) has read what it wanted.
///
/// # Errors
/// Not all of it could be written.
pub fn say(text: &[u8]) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    // What the standard library calls standard output takes a descriptor that cannot be written to for one
    // that takes everything.
    let mut file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut rest = text;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(()),
                io::ErrorKind::Interrupted => {}
                // Another program that has the same pipe may have set it not to block.
                io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
                _ => return Err(error),
            },
        }
    }
    // A server's disk may turn out to be full only now.
    match file.sync_data() {
        Err(error) if is_lost(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Standard output for what is too long to be said at once. A reader that went away ends it without an error.
#[derive(Debug)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        say(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a file that was synced does not have its bytes; much cannot be synced at all.
fn is_lost(error: &io::Error) -> bool {
    const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) || error.raw_os_error() == Some(EIO)
}

/// What standard output is, where it has a name.
pub(crate) fn name_of_stdout() -> Option<String> {
    let target = std::fs::read_link("/proc/self/fd/1").ok()?;
    target
        .is_absolute()
        .then(|| target.to_string_lossy().into_owned())
}

/// Only the last two names: where this was built is nobody's business.
fn file_name(path: &str) -> String {
    let mut names: Vec<&str> = path.rsplit('/').take(2).collect();
    names.reverse();
    names.join("/")
}

/// The time. A build with debug assertions takes it from `RUSTIC_HAPI_TEST_NOW` (RFC 3339), so
/// that a test can live through months.
pub fn now() -> DateTime<Local> {
    if cfg!(debug_assertions)
        && let Ok(text) = std::env::var("RUSTIC_HAPI_TEST_NOW")
        && let Ok(time) = DateTime::parse_from_rfc3339(&text)
    {
        return time.with_timezone(&Local);
    }
    Local::now()
}

/// The machine's name, as `uname -n` has it.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
