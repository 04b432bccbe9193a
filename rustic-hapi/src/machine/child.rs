//! A child is a program that this one started. Nobody waits for it longer than was agreed, and it is
//! ended with all that it started.

use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::process::on_path;

/// Waits for its end, which `look` tells, as `Child::try_wait` does. `None` where it still runs: the
/// deadline is over, or `given_up` says so.
///
/// # Errors
/// Those of `look`; whether it still runs is not known then.
pub(crate) fn wait(
    deadline: Instant,
    given_up: impl Fn() -> bool,
    mut look: impl FnMut() -> io::Result<Option<ExitStatus>>,
) -> io::Result<Option<ExitStatus>> {
    loop {
        match look()? {
            None if !given_up() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            ended => return Ok(ended),
        }
    }
}

/// Sends a signal to a child that was started in a process group of its own, and to all in it.
pub(crate) fn signal_group(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Nobody is left: that is what was wanted.
        _ = kill_process_group(group, signal);
    }
}

/// `setpriv` (util-linux), where there is one, has the kernel end the child with us, however we end.
pub(crate) fn bound_to_us(program: &Path) -> Command {
    match on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}
