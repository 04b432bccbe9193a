//! Unit files are written whole, and only over those that carry our mark; then the manager is told.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::machine::Machine;
use super::plan::unit_folder;
use super::report::Report;
use super::request::Kind;
use super::systemd::{self, Scope, Units};
use super::tool;
use super::whose::refuse_another;
use crate::error::Error;
use crate::machine::able::{sync_file, sync_folder};
use crate::machine::private_files::{is_absent, private_folder};
use crate::profile::lookup::Lookup;

/// Writes the units of a report and enables the timer.
///
/// # Errors
/// [`Error::Usage`] for files of others, of which none is touched; [`Error::State`], [`Error::Tool`].
pub(crate) fn install(
    report: &mut Report,
    units: &Units,
    scope: &Scope,
    lookup: &Lookup,
    machine: &Machine,
) -> Result<(), Error> {
    for (path, _) in &report.files {
        refuse_foreign(path, report.request.kind, lookup)?;
    }
    make_folders(report, units, scope)?;
    for (path, text) in &report.files {
        report.changed |= write_public(path, text)?;
    }
    let timer = file_name(&report.files[1].0);
    let commands = [
        vec!["daemon-reload".to_owned()],
        vec!["enable".into(), "--now".into(), timer.clone()],
        // One that runs already keeps its old times otherwise.
        vec!["restart".into(), timer],
    ];
    let commands = match report.changed && machine.has_manager(report.request.kind) {
        true => &commands[..],
        false => &commands[..2],
    };
    for words in commands {
        machine.systemctl(report, words)?;
    }
    if *scope == Scope::User {
        check_linger(report, machine)?;
    }
    Ok(())
}

/// A path that is not there when the service starts stays read-only.
fn make_folders(report: &mut Report, units: &Units, scope: &Scope) -> Result<(), Error> {
    // What is below a folder that is there can be made by the service itself.
    let is_below = |dir: &PathBuf| {
        let mut others = units.folders.iter().filter(|other| *other != dir);
        others.any(|other| other.exists() && dir.starts_with(other))
    };
    let missing = units.folders.iter().filter(|dir| !dir.exists());
    let missing: Vec<_> = missing.filter(|dir| !is_below(dir)).collect();
    let other = match scope {
        Scope::System(account) if account.uid != Account::own()?.uid => Some(&account.name),
        _ => None,
    };
    for folder in missing {
        match other {
            None => private_folder(folder)?,
            Some(user) => report.warnings.push(format!(
                "warning: `{}` does not exist, so the service cannot write to it; a snapshot by hand creates it: `sudo -u {user} rustic-hapi snapshot`",
                folder.display()
            )),
        }
    }
    Ok(())
}

fn check_linger(report: &mut Report, machine: &Machine) -> Result<(), Error> {
    let (name, on) = lingers(machine)?;
    if !on {
        report.warnings.push(format!(
            "warning: the timer runs only while `{name}` is logged in; `sudo loginctl enable-linger {name}` changes that"
        ));
    }
    Ok(())
}

/// Who this is, and whether the timers of this user run while nobody is logged in.
///
/// # Errors
/// [`Error::Usage`] where the user has no name.
pub(crate) fn lingers(machine: &Machine) -> Result<(String, bool), Error> {
    let name = Account::own()?.name;
    let on = match machine.has_manager(Kind::UserTimer) {
        // logind need not run, and knows nobody who is not logged in.
        true => tool::output(Command::new("loginctl").args([
            "show-user",
            &name,
            "-p",
            "Linger",
            "--value",
        ]))
        .is_ok_and(|text| text.trim() == "yes"),
        false => Path::new("/var/lib/systemd/linger").join(&name).exists(),
    };
    Ok((name, on))
}

/// Disables the timer and removes the units of a profile, of which any part may be missing.
///
/// # Errors
/// As [`install`].
pub(crate) fn remove(report: &mut Report, lookup: &Lookup, machine: &Machine) -> Result<(), Error> {
    let folder = unit_folder(report.request.kind, lookup, machine)?;
    let [service, timer] = systemd::names(&report.name);
    for name in [&timer, &service] {
        let path = folder.join(name);
        refuse_foreign(&path, report.request.kind, lookup)?;
        if let Some(text) = read(&path)? {
            report.files.push((path, text));
        }
    }
    if report.files.is_empty() {
        return Ok(());
    }
    report.changed = true;
    let has_timer = report.files.iter().any(|(path, _)| path.ends_with(&timer));
    if has_timer && machine.has_manager(report.request.kind) {
        machine.systemctl(report, &["disable".into(), "--now".into(), timer.clone()])?;
    }
    // Without a manager the link of `enable` is left, and would lead nowhere.
    let link = wanted_link(&folder, &timer);
    for path in report.files.iter().map(|(path, _)| path).chain([&link]) {
        match fs::remove_file(path) {
            Err(error) if !is_absent(&error) => return Err(at(path, error)),
            _ => {}
        }
    }
    machine.systemctl(report, &["daemon-reload".into()])
}

/// What `systemctl enable` makes.
pub(crate) fn wanted_link(folder: &Path, timer: &str) -> PathBuf {
    folder.join("timers.target.wants").join(timer)
}

/// A file of somebody else's, a link (as `systemctl mask` makes one) among them, is left alone, and so is the one
/// of another profile.
fn refuse_foreign(path: &Path, kind: Kind, lookup: &Lookup) -> Result<(), Error> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    let text = read(path)?;
    if !is_link && text.as_deref().is_none_or(systemd::is_ours) {
        let what = format!("`{}`", path.display());
        return refuse_another(&text.unwrap_or_default(), lookup, &what, kind);
    }
    Err(Error::usage(
        format!(
            "`{}` was not written by `rustic-hapi schedule`",
            path.display()
        ),
        "nothing was changed; move it away, then run this again",
    ))
}

/// A file, if it is there.
///
/// # Errors
/// [`Error::State`].
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(at(path, error)),
    }
}

/// Puts a file down that everybody may read, whole or not at all; false if it was there already.
fn write_public(path: &Path, text: &str) -> Result<bool, Error> {
    if read(path)?.is_some_and(|there| there == text) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let put = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".rustic-hapi-")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        sync_file(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    put().map_err(|error| at(path, error))?;
    Ok(true)
}

fn at(path: &Path, error: io::Error) -> Error {
    if path.starts_with("/etc") && error.kind() == io::ErrorKind::PermissionDenied {
        return Error::usage(
            format!("only root may change `{}`", path.display()),
            "run it with `sudo` and `--user NAME`, or leave `--system` out",
        );
    }
    Error::at(path)(error)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
