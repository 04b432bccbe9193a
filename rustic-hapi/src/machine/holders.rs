//! A holder is a process that has a database open.
//!
//! Two ways lead to it. `/proc/PID/fd` names every file a process has open, but only to its own
//! user and to root. And the kernel tells anybody who may read a file whose lock on it is in the
//! way (`F_GETLK`), and in WAL mode SQLite holds locks for as long as a connection lasts. Nothing
//! here is of use against a process that begins a moment later.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use crate::error::Error;
use crate::machine::unit::Unit;

/// What a look at the processes of this machine showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// By process id, the unknown one first.
    pub holders: Vec<Holder>,
    /// At least so many processes whose open files this user may not see, and that have no lock
    /// either. A database in WAL mode cannot be open in one of them without a lock; in another
    /// mode it can, while nothing is read or written.
    pub unseen: usize,
}

/// A process that has the database open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `None` where the kernel does not give it away: the process is in another container, or on
    /// another machine.
    pub pid: Option<u32>,
    /// The program's name, never its arguments: they may hold a secret. Empty if not known.
    pub command: String,
    /// The service that started it and would start it again.
    pub unit: Option<Unit>,
}

/// Finds every process but this one that has the database, or a side file of it, open.
///
/// A database that is not there may still have side files that are open. This process must have no
/// connection to the database: asking for locks opens the files, and closing them would drop its own.
///
/// # Errors
/// [`Error::State`] where `/proc`, the database or its folder cannot be read: not seeing is not the
/// same as seeing nobody.
pub fn of(database: &Path) -> Result<Look, Error> {
    let files = files_of(database)?;
    let mut found = BTreeSet::new();
    let mut unseen = BTreeSet::new();
    let processes = processes().map_err(Error::at("/proc"))?;
    // Under `hidepid` a user's list has only his own processes.
    let hidden = usize::from(!processes.contains(&1));
    for pid in processes {
        if pid == std::process::id() {
            continue;
        }
        match has_open(pid, &files) {
            Ok(true) => _ = found.insert(Some(pid)),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unseen.insert(Some(pid));
            }
            // It ended.
            Err(_) => {}
        }
    }
    for file in &files {
        let owners = lock_owners(file).map_err(Error::at(&file.path))?;
        found.extend(owners);
    }
    Ok(Look {
        unseen: unseen.difference(&found).count() + hidden,
        holders: found.into_iter().map(Holder::of).collect(),
    })
}

/// The folders of each `hapi.db` that a process holds open, as far as this user may see. Only links
/// are read: opening the file itself would drop the locks of a hub in the same process.
pub(crate) fn running_hubs() -> BTreeSet<PathBuf> {
    let mut hubs = BTreeSet::new();
    for pid in processes().unwrap_or_default() {
        for file in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(target) = fs::read_link(file.path())
                && target.file_name().is_some_and(|name| name == "hapi.db")
                && let Some(folder) = target.parent()
            {
                hubs.insert(folder.to_path_buf());
            }
        }
    }
    hubs
}

/// The database's path with something behind it, as SQLite names its side files.
pub(crate) fn side_file(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// A file that matters, with what tells it from others.
struct OpenFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Bytes that SQLite locks in it: start and length.
    locks: &'static [(u64, u64)],
}

/// The byte that says who wants to write, the one that says who will, and those of the readers:
/// <https://sqlite.org/fileformat2.html#the_lock_byte_page>. A connection in WAL mode is a reader
/// until it ends.
const DATABASE_LOCKS: [(u64, u64); 3] = [(0x4000_0000, 1), (0x4000_0001, 1), (0x4000_0002, 510)];

/// One byte each for writing, checkpoints, recovery and five readers, and one that every
/// connection holds: <https://sqlite.org/walformat.html#wal_locks>. Asked one by one, as the
/// kernel names one holder a question.
const SHM_LOCKS: [(u64, u64); 9] = [
    (120, 1),
    (121, 1),
    (122, 1),
    (123, 1),
    (124, 1),
    (125, 1),
    (126, 1),
    (127, 1),
    (128, 1),
];

/// The database and its side files, as far as they are there.
fn files_of(database: &Path) -> Result<Vec<OpenFile>, Error> {
    // Side files lie beside what a link leads to.
    let real = match fs::canonicalize(database) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => database.to_path_buf(),
        real => real.map_err(Error::at(database))?,
    };
    let mut files = Vec::new();
    for (suffix, locks) in [
        ("", &DATABASE_LOCKS[..]),
        ("-wal", &[]),
        ("-shm", &SHM_LOCKS),
        ("-journal", &[]),
    ] {
        let path = side_file(&real, suffix);
        match fs::metadata(&path) {
            Ok(metadata) => files.push(OpenFile {
                identity: (metadata.dev(), metadata.ino()),
                locks: if metadata.is_file() { locks } else { &[] },
                path,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::at(&path)(error)),
        }
    }
    Ok(files)
}

pub(super) fn processes() -> io::Result<BTreeSet<u32>> {
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

fn has_open(pid: u32, files: &[OpenFile]) -> io::Result<bool> {
    let list = match fs::read_dir(format!("/proc/{pid}/fd")) {
        // A thread of the kernel has no command line, nor files.
        Err(_) if first_argument(pid).is_some_and(|word| word.is_empty()) => return Ok(false),
        list => list?,
    };
    Ok(list
        .flatten()
        // Through the link, without opening anything: the path may be another container's.
        .filter_map(|link| fs::metadata(link.path()).ok())
        .any(|open| files.iter().any(|f| f.identity == (open.dev(), open.ino()))))
}

/// Whose locks would be in the way of writing; `None` for a process the kernel does not name.
fn lock_owners(file: &OpenFile) -> io::Result<BTreeSet<Option<u32>>> {
    let mut owners = BTreeSet::new();
    if file.locks.is_empty() {
        return Ok(owners);
    }
    let open = match File::open(&file.path) {
        // The last connection removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(owners),
        open => open?,
    };
    for &(start, length) in file.locks {
        let question = Flock {
            start,
            length,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        if let Some(lock) = fcntl_getlk(&open, &question)? {
            // 0 is a process outside our namespace, negative ones are of other machines.
            let pid = lock.pid.map(|pid| pid.as_raw_nonzero().get());
            owners.insert(pid.and_then(|pid| u32::try_from(pid).ok()));
        }
    }
    Ok(owners)
}

impl Holder {
    fn of(pid: Option<u32>) -> Self {
        let cgroup = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        Self {
            pid,
            command: pid.map(command).unwrap_or_default(),
            unit: cgroup.and_then(|text| Unit::of_cgroup(&text)),
        }
    }

    /// What the operator does or types, so that it ends and stays so.
    pub fn remedy(&self) -> String {
        match (&self.unit, self.pid) {
            (Some(unit), _) => unit.stop(),
            (None, Some(pid)) if self.command.is_empty() => format!("end process {pid}"),
            (None, Some(pid)) => format!("end process {pid} (`{}`)", self.command),
            (None, None) => "end it there, or stop the container".into(),
        }
    }
}

/// Refuses to replace a database that a process has open.
///
/// # Errors
/// [`Error::InUse`].
pub(crate) fn nobody_has_it_open(path: &Path) -> Result<(), Error> {
    match of(path)?.holders {
        holders if holders.is_empty() => Ok(()),
        holders => Err(in_use(path.into(), &holders)),
    }
}

/// The error that names who has a database open, and what ends each of them.
pub(crate) fn in_use(path: PathBuf, holders: &[Holder]) -> Error {
    let mut remedies = Vec::new();
    for holder in holders {
        let remedy = match holder.unit {
            Some(_) => format!("`{}`", holder.remedy()),
            None => holder.remedy(),
        };
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    Error::InUse {
        path,
        by: holders.iter().map(Holder::to_string).collect(),
        remedies,
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a process of another container or machine");
        };
        write!(f, "process {pid}")?;
        let command = (!self.command.is_empty()).then(|| format!("`{}`", self.command));
        let unit = self.unit.as_ref().map(|unit| format!("unit {}", unit.name));
        let known: Vec<_> = command.into_iter().chain(unit).collect();
        if !known.is_empty() {
            write!(f, " ({})", known.join(", "))?;
        }
        Ok(())
    }
}

/// The program's name: of the command line, since the kernel's own cuts it and threads change it.
fn command(pid: u32) -> String {
    first_argument(pid)
        .as_deref()
        .and_then(program)
        .or_else(|| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|name| {
            name.trim()
                .replace(|c: char| c.is_control() || c == '`', "?")
        })
        .unwrap_or_default()
}

fn first_argument(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let word = line.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(word).into_owned())
}

/// A program that gives itself a title puts all of it into its first argument.
fn program(first: &str) -> Option<String> {
    let word = first.split_whitespace().next()?;
    let name = word.rsplit('/').next()?.trim_end_matches(':');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_and_words() {
        let mut holder = Holder {
            pid: Some(1234),
            command: "bun".into(),
            unit: None,
        };
        assert_eq!(holder.to_string(), "process 1234 (`bun`)");
        assert_eq!(holder.remedy(), "end process 1234 (`bun`)");
        holder.unit = Some(Unit {
            name: "hapi-hub.service".into(),
            user: None,
        });
        assert_eq!(
            holder.to_string(),
            "process 1234 (`bun`, unit hapi-hub.service)"
        );
        assert_eq!(holder.remedy(), "sudo systemctl stop hapi-hub.service");
        let me = rustix::process::geteuid().as_raw();
        holder.unit = Some(Unit {
            name: "hapi-hub.service".into(),
            user: Some(me),
        });
        assert_eq!(holder.remedy(), "systemctl --user stop hapi-hub.service");
        holder.unit = Some(Unit {
            name: r"a\x2db.service".into(),
            user: Some(me + 1),
        });
        assert!(holder.remedy().starts_with("sudo -u '#"), "{holder:?}");
        assert!(holder.remedy().ends_with(r"stop 'a\x2db.service'"));
        let nameless = Holder {
            pid: Some(7),
            command: String::new(),
            unit: None,
        };
        assert_eq!(nameless.to_string(), "process 7");
    }

    #[test]
    fn a_programs_name_has_no_arguments() {
        assert_eq!(program("/usr/bin/bun").as_deref(), Some("bun"));
        assert_eq!(program("hapi: --token s3cret").as_deref(), Some("hapi"));
        assert_eq!(program("-bash").as_deref(), Some("-bash"));
        assert_eq!(program(""), None);
    }

    #[test]
    fn a_program_that_has_it_open_is_found_and_this_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hapi.db");
        fs::write(&file, "x").unwrap();
        let own = File::open(&file).unwrap();
        assert_eq!(of(&file).unwrap().holders, []);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(own)
            .spawn()
            .unwrap();
        let look = of(&file);
        child.kill().unwrap();
        child.wait().unwrap();
        let holders = look.unwrap().holders;
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].pid, Some(child.id()));
        assert_eq!(holders[0].command, "sleep");
    }

    #[test]
    fn an_absent_database_has_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(&dir.path().join("hapi.db")).unwrap().holders, []);
    }

    #[test]
    fn a_database_in_use_names_each_remedy_once() {
        let hub = |pid| Holder {
            pid: Some(pid),
            command: "bun".into(),
            unit: Some(Unit {
                name: "hapi-hub.service".into(),
                user: None,
            }),
        };
        let shell = Holder {
            pid: Some(9),
            command: "sqlite3".into(),
            unit: None,
        };
        let error = in_use("/h/hapi.db".into(), &[hub(7), hub(8), shell]);
        assert_eq!(
            error.to_string(),
            "`/h/hapi.db` is open in process 7 (`bun`, unit hapi-hub.service) and in process 8 (`bun`, unit hapi-hub.service) and in process 9 (`sqlite3`)"
        );
        assert_eq!(
            error.hint().unwrap(),
            "`sudo systemctl stop hapi-hub.service`; end process 9 (`sqlite3`); systemd restarts a killed hub: stop the unit"
        );
        assert_eq!(error.exit(), crate::exit::Exit::Failed);
    }
}
