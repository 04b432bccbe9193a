//! Side files that SQLite would make for us must be files that the owner of the database can write.
//!
//! In WAL mode a connection needs `-wal` and `-shm`, and makes what is missing: with the database's mode,
//! and as the user who opens it (only root gives them to the database's owner, `robustFchown` in
//! `os_unix.c`). A hub that cannot write them starts with "attempt to write a readonly database". They
//! are never removed afterwards: a hub that starts in that moment has them open.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

use super::header::is_wal;
use super::live::Live;
use super::names::with_suffix;
use crate::error::CaptureError;
use crate::permission::user_name;

/// Decides before SQLite opens the database, and looks once more after its first read: the hub may have
/// stopped, and removed its side files, in between.
///
/// # Errors
/// [`CaptureError::WouldLockOut`], with the file where it is there already.
pub(super) fn check(live: &Live<'_>, before: bool) -> Result<(), CaptureError> {
    let us = geteuid().as_raw();
    if us == live.stat.uid() || ours_may_be_written(live) {
        return Ok(());
    }
    let sides = ["-wal", "-shm"].map(|suffix| with_suffix(&live.real, suffix));
    let ours = |path: &&PathBuf| fs::metadata(path).is_ok_and(|m| m.uid() == us);
    if let Some(made) = sides.iter().find(ours) {
        return Err(error(live, Some(made.clone())));
    }
    let can_make = |folder| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    // Where this process has a connection, the files have been made already.
    if before
        && sides.iter().any(|side| !side.exists())
        && live.real.parent().is_some_and(can_make)
        && live.by_descriptor(is_wal).unwrap_or(false)
    {
        return Err(error(live, None));
    }
    Ok(())
}

fn error(live: &Live<'_>, made: Option<PathBuf>) -> CaptureError {
    CaptureError::WouldLockOut {
        path: live.path.to_owned(),
        owner: user_name(live.stat.uid()),
        made,
    }
}

/// Whether the owner could write side files that this user makes.
fn ours_may_be_written(live: &Live<'_>) -> bool {
    const CHOWN: u64 = 1;
    if geteuid().is_root() && capabilities() & CHOWN != 0 {
        return true;
    }
    let mode = live.stat.mode();
    if mode & 0o006 == 0o006 {
        return true;
    }
    // A group goes on working where the files get the database's own group, and that may write.
    let folder = live.real.parent().and_then(|folder| folder.metadata().ok());
    let group = match folder {
        Some(folder) if folder.mode() & 0o2000 != 0 => folder.gid(),
        _ => getegid().as_raw(),
    };
    group == live.stat.gid()
        && mode & 0o060 == 0o060
        // An owner without a name here, a container's say, is taken to be in the group of his number.
        && groups_of(live.stat.uid()).map_or(group == live.stat.uid(), |g| g.contains(&group))
}

/// The effective capabilities of this process (capabilities(7)); all where the kernel does not say.
fn capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(u64::MAX)
}

/// The groups of a user, asked of `id`, which knows users that are in no file here; `None` for a user
/// without a name.
fn groups_of(user: u32) -> Option<Vec<u32>> {
    let asked = Command::new("id")
        .args(["-G", "--", &format!("{user}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(asked.stdout).ok()?;
    let groups: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
    groups.ok().filter(|_| asked.status.success())
}
