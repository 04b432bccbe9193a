//! A disk is what dies as one: a repository that shares it with what it is to outlive is lost with it.
//!
//! Nothing is guessed: the kernel is asked (sysfs for partitions and what lies below device mapper and
//! RAID, proc(5)'s `mountinfo` for file systems with made-up device numbers such as btrfs's), and what it
//! does not tell is said.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::machine::shell::quoted;

/// How a repository's disk and a source's are related.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// They are one, and why.
    Same(String),
    /// They are two.
    Other,
    /// The repository's is none: a file system in memory, of this kind.
    Memory(String),
    /// The repository's is the layer of a container, which goes with it.
    Container,
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

/// Why two are one, mostly.
pub(crate) const SAME_FILE_SYSTEM: &str = "it is the same file system";

/// File systems that are gone at the next start.
const MEMORY: [&str; 4] = ["tmpfs", "ramfs", "devtmpfs", "rootfs"];

/// Relates two paths. One that does not exist yet is judged by its nearest ancestor.
pub(crate) fn relation(repository: &Path, source: &Path) -> Relation {
    let (Some(ours), Some(theirs)) = (device_of(repository), device_of(source)) else {
        return Relation::Unknown("a path that cannot be read".to_owned());
    };
    if ours == theirs {
        return Relation::Same(SAME_FILE_SYSTEM.to_owned());
    }
    let (below_ours, below_theirs) = match (Underneath::of(ours), Underneath::of(theirs)) {
        (Underneath::Memory(kind), _) => return Relation::Memory(kind),
        (Underneath::Hidden(kind), _) if kind == "overlay" => return Relation::Container,
        (Underneath::Elsewhere, _) | (_, Underneath::Elsewhere | Underneath::Memory(_)) => {
            return Relation::Other;
        }
        (Underneath::Disks(ours), Underneath::Disks(theirs)) => (ours, theirs),
        (Underneath::Hidden(by), _) | (_, Underneath::Hidden(by)) => return Relation::Unknown(by),
    };
    match below_ours.intersection(&below_theirs).next() {
        Some(disk) => Relation::Same(format!("both are on the disk `{disk}`")),
        None => Relation::Other,
    }
}

/// What is below a file system.
enum Underneath {
    /// Whole disks, by the kernel's names.
    Disks(BTreeSet<String>),
    /// Another machine.
    Elsewhere,
    /// Nothing that lasts: this kind of it.
    Memory(String),
    /// Something that hides it.
    Hidden(String),
}

impl Underneath {
    fn of(device: u64) -> Self {
        if let Some(disks) = disks_below(device) {
            let in_memory = |disk: &String| disk.starts_with("zram") || disk.starts_with("ram");
            return match disks.iter().find(|disk| in_memory(disk)) {
                Some(disk) => Self::Memory(disk.clone()),
                None => Self::Disks(disks),
            };
        }
        match mounted(device) {
            Some((kind, _)) if NETWORK.contains(&kind.as_str()) => Self::Elsewhere,
            Some((kind, _)) if MEMORY.contains(&kind.as_str()) => Self::Memory(kind),
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

/// A path at which nothing is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAMount {
    /// The path.
    pub(crate) path: PathBuf,
    /// Where the file system is mounted that it is on.
    pub(crate) on: PathBuf,
    /// What `/etc/fstab` has for it, or for a folder above it, and is not mounted.
    pub(crate) listed: Option<PathBuf>,
}

/// Why what should be on a disk of its own is not; `None` where something is mounted at the path itself.
pub(crate) fn not_a_mount(path: &Path) -> Option<NotAMount> {
    let device = device_of(path)?;
    let on = path
        .ancestors()
        .filter(|above| fs::metadata(above).is_ok_and(|m| m.dev() == device))
        .last()?;
    if on == path {
        return None;
    }
    let fstab = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let listed = fstab
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_whitespace().nth(1))
        // proc(5) writes a space so, and fstab(5) likewise.
        .map(|place| PathBuf::from(place.replace("\\040", " ")))
        .filter(|place| path.starts_with(place) && place.starts_with(on) && place != on)
        .max();
    Some(NotAMount {
        path: path.to_owned(),
        on: on.to_owned(),
        listed,
    })
}

impl fmt::Display for NotAMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nothing is mounted at `{}`, which is on the file system at `{}`",
            self.path.display(),
            self.on.display()
        )
    }
}

impl NotAMount {
    /// What helps.
    pub(crate) fn remedy(&self) -> String {
        let word = |path: &Path| quoted(&path.to_string_lossy());
        match &self.listed {
            Some(place) => format!(
                "`sudo mount {}` mounts what `/etc/fstab` has for it; then run this again",
                word(place)
            ),
            None => format!(
                "if it is to be on a disk of its own, mount that and run this again (`findmnt --target {}` shows what is there now)",
                word(
                    self.path
                        .ancestors()
                        .find(|p| p.exists())
                        .unwrap_or(&self.path)
                )
            ),
        }
    }
}

/// Bytes that this user may still write at a path, or at its nearest ancestor that is there.
pub(crate) fn free_at(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
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
            Relation::Memory(_)
        ));
        assert_eq!(relation(Path::new("/"), memory), Relation::Other);
    }
}
