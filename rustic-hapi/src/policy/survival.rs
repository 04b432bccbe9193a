//! Survival: would the repository outlive this machine, and the disk of the sources?

use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::destination::location::{Location, host_of};
use crate::error::Error;
use crate::machine::disk::{Relation, SAME_FILE_SYSTEM, not_a_mount, relation};
use crate::profile::Profile;

/// Why a loss of the sources' disk or machine would be one of the repository, too, where that was
/// accepted.
pub(crate) fn dies_with_this_machine(profile: &Profile) -> Option<String> {
    if let Some(host) = this_machine(&profile.reach.location, &profile.reach.home) {
        return Some(format!(
            "the repository is on this machine ({host}) and would be lost with it"
        ));
    }
    match of_profile(profile) {
        (Relation::Same(reason), _) => Some(format!(
            "the repository is on the same disk as the sources: {reason}"
        )),
        (Relation::Memory(kind), _) => Some(format!(
            "the repository is in memory ({kind}) and will be lost at reboot"
        )),
        (Relation::Container, _) => Some(
            "the repository is in this container's own layer (overlay) and will be lost with the container"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Refuses a repository that would not last until the next start: where one is made, and by `doctor`. A run goes
/// on, with a warning.
pub(crate) fn lasts(profile: &Profile) -> Result<(), Error> {
    match of_profile(profile).0 {
        Relation::Memory(kind) if !profile.allow_same_disk => Err(Error::InMemory {
            location: profile.reach.location.to_string(),
            kind,
            hint: format!(
                "choose a folder on a disk, or another machine; {}",
                accepting(profile)
            ),
        }),
        _ => Ok(()),
    }
}

/// Refuses a repository that would die with what it is to outlive.
pub(crate) fn off_the_disk(profile: &Profile) -> Result<(), Error> {
    if profile.allow_same_disk {
        return Ok(());
    }
    match of_profile(profile) {
        (Relation::Same(reason), source_path) => {
            // A disk that is not mounted leaves a folder of the file system above it.
            let unmounted = match reason == SAME_FILE_SYSTEM {
                true => profile.reach.location.local().and_then(not_a_mount),
                false => None,
            };
            Err(Error::SameDisk {
                location: profile.reach.location.to_string(),
                source_path,
                reason,
                unmounted: unmounted.as_ref().map(ToString::to_string),
                hint: format!(
                    "{}choose a place on another machine or disk; {}",
                    unmounted.map_or_else(String::new, |p| format!("{}; or ", p.remedy())),
                    accepting(profile)
                ),
            })
        }
        _ => Ok(()),
    }
}

/// What accepts a repository that dies with the sources.
fn accepting(profile: &Profile) -> String {
    let by_profile = format!("`allow-same-disk = true` in {}", profile.table());
    match profile.copy {
        None => format!("`--allow-same-disk` of `init`, or {by_profile}, accepts this one"),
        Some(_) => format!("{by_profile} accepts this one"),
    }
}

/// How the repository's disk and those of the sources are related, with the source that says most.
pub(crate) fn of_profile(profile: &Profile) -> (Relation, PathBuf) {
    let mut found = (Relation::Other, PathBuf::new());
    let Some(folder) = profile.reach.location.local() else {
        return found;
    };
    for source in &profile.sources {
        let path = &source.source.path;
        match relation(folder, path) {
            same @ Relation::Same(_) => return (same, path.clone()),
            Relation::Other => {}
            unlike => found = (unlike, path.clone()),
        }
    }
    found
}

/// The address by which a location names this very machine, where it does: a loss of the machine is
/// then one of the repository.
pub(crate) fn this_machine(location: &Location, home: &Path) -> Option<String> {
    let Location::Remote(text) = location else {
        return None;
    };
    let host = host_of(text, home)?;
    let addresses = (host.as_str(), 0).to_socket_addrs().ok()?;
    addresses
        .map(|address| address.ip())
        .find(is_ours)
        .map(|ip| match ip.to_string() == host {
            true => host.clone(),
            false => format!("{host} ({ip})"),
        })
}

/// Only an address of this machine's can be listened on.
fn is_ours(ip: &IpAddr) -> bool {
    ip.is_loopback() || TcpListener::bind((*ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machine_is_found_by_its_address() {
        let home = Path::new("/home/u");
        let is = |text: &str| this_machine(&Location::parse(text, home).unwrap(), home).is_some();
        assert!(is("rest:http://u:p@127.0.0.1:8000/x"));
        assert!(is("rest:http://[::1]:8000/x"));
        assert!(is("sftp:u@localhost:/srv"));
        assert!(is("sftp://localhost:2222//srv"));
        assert!(!is("rest:http://192.0.2.1:8000/"));
        assert!(!is("rclone:remote:path"));
        assert!(!is("/mnt/backup"));
    }
}
