//! A disk is what dies as one: a repository that shares it with what it is to outlive is lost with it.
//!
//! Nothing is guessed: the kernel is asked (sysfs for partitions and what lies below device mapper and
//! RAID, proc(5)'s `mountinfo` for file systems with made-up device numbers such as btrfs's), and what it
//! does not tell is said.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::destination::location::Location;
use crate::profile::Profile;

/// How a repository's disk and a source's are related.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// They are one, and why.
    Same(String),
    /// They are two.
    Other,
    /// The system does not tell, and what it is that hides it.
    Unknown(String),
}

/// File systems whose bytes are on another machine.
const NETWORK: [&str; 11] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "afs",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.glusterfs",
    "davfs",
];

/// Relates two paths. One that does not exist yet is judged by its nearest ancestor.
pub(crate) fn relation(repository: &Path, source: &Path) -> Relation {
    let (Some(ours), Some(theirs)) = (device_of(repository), device_of(source)) else {
        return Relation::Unknown("a path that cannot be looked at".to_owned());
    };
    if ours == theirs {
        return Relation::Same("it is the same file system".to_owned());
    }
    let (below_ours, below_theirs) = match (Below::of(ours), Below::of(theirs)) {
        (Below::Memory, _) => {
            return Relation::Unknown("it is in memory, and gone at the next start".to_owned());
        }
        (Below::Elsewhere, _) | (_, Below::Elsewhere | Below::Memory) => return Relation::Other,
        (Below::Disks(ours), Below::Disks(theirs)) => (ours, theirs),
        (Below::Hidden(by), _) | (_, Below::Hidden(by)) => return Relation::Unknown(by),
    };
    match below_ours.intersection(&below_theirs).next() {
        Some(disk) => Relation::Same(format!("both are on the disk `{disk}`")),
        None => Relation::Other,
    }
}

/// How the repository's disk and those of the sources are related, with the source that says most.
pub(crate) fn of_profile(profile: &Profile) -> (Relation, PathBuf) {
    let mut found = (Relation::Other, PathBuf::new());
    let Some(folder) = profile.location.local() else {
        return found;
    };
    for source in &profile.sources {
        let path = &source.source.path;
        match relation(folder, path) {
            same @ Relation::Same(_) => return (same, path.clone()),
            unknown @ Relation::Unknown(_) => found = (unknown, path.clone()),
            Relation::Other => {}
        }
    }
    found
}

/// What is below a file system.
enum Below {
    /// Whole disks, by the kernel's names.
    Disks(BTreeSet<String>),
    /// Another machine.
    Elsewhere,
    /// Nothing that lasts.
    Memory,
    /// Something that hides it.
    Hidden(String),
}

impl Below {
    fn of(device: u64) -> Self {
        if let Some(disks) = disks_below(device) {
            return Self::Disks(disks);
        }
        match mounted(device) {
            Some((kind, _)) if NETWORK.contains(&kind.as_str()) => Self::Elsewhere,
            Some((kind, _)) if ["tmpfs", "ramfs"].contains(&kind.as_str()) => Self::Memory,
            Some((kind, source)) => fs::metadata(&source)
                .ok()
                .filter(|metadata| metadata.rdev() != 0)
                .and_then(|metadata| disks_below(metadata.rdev()))
                .map_or(Self::Hidden(kind), Self::Disks),
            None => Self::Hidden("a file system that is not mounted here".to_owned()),
        }
    }
}

fn device_of(path: &Path) -> Option<u64> {
    path.ancestors()
        .find_map(|path| fs::metadata(path).ok())
        .map(|metadata| metadata.dev())
}

/// The whole disks below a block device, by sysfs; `None` where there is none to see.
fn disks_below(device: u64) -> Option<BTreeSet<String>> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let mut disks = BTreeSet::new();
    collect(&node, &mut disks, 0);
    (!disks.is_empty()).then_some(disks)
}

fn collect(node: &Path, disks: &mut BTreeSet<String>, depth: u32) {
    // LUKS on LVM on RAID on a partition are four; nobody has sixteen.
    const DEEPEST: u32 = 16;
    // An image in a file is on the disk of that file.
    let image = fs::read_to_string(node.join("loop/backing_file")).ok();
    let below = image.and_then(|path| disks_below(device_of(Path::new(path.trim_end()))?));
    if let Some(below) = below.filter(|_| depth < DEEPEST) {
        disks.extend(below);
        return;
    }
    let slaves: Vec<_> = fs::read_dir(node.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .collect();
    if !slaves.is_empty() && depth < DEEPEST {
        for slave in slaves {
            collect(&slave, disks, depth + 1);
        }
        return;
    }
    let disk = match node.join("partition").exists() {
        true => node.parent().unwrap_or(node),
        false => node,
    };
    disks.extend(
        disk.file_name()
            .map(|name| name.to_string_lossy().into_owned()),
    );
}

/// The kind and the source of the file system with this device number (proc(5), `mountinfo`).
fn mounted(device: u64) -> Option<(String, PathBuf)> {
    let wanted = format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        (line.split(' ').nth(2) == Some(wanted.as_str())).then_some(())?;
        let mut words = line.split_once(" - ")?.1.split(' ');
        Some((words.next()?.to_owned(), PathBuf::from(words.next()?)))
    })
}

/// The address by which a location names this very machine, where it does: a loss of the machine is
/// then one of the repository.
pub(crate) fn this_machine(location: &Location, home: &Path) -> Option<String> {
    let Location::Remote(text) = location else {
        return None;
    };
    let host = crate::destination::location::host_of(text, home)?;
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
    fn the_same_file_system_is_recognised_and_memory_is_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("not/yet/there");
        assert!(matches!(relation(&missing, dir.path()), Relation::Same(_)));
        let memory = Path::new("/dev/shm");
        assert!(matches!(
            relation(memory, Path::new("/")),
            Relation::Unknown(_)
        ));
        assert_eq!(relation(Path::new("/"), memory), Relation::Other);
    }

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
