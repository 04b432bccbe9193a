//! A running hub is a process that has its database open: `hapi.db`, or what `DB_PATH` in its environment names.
//!
//! Only links are read, and of the environment what names a place (HAPI's four variables, and the agents'): nothing else
//! leaves the buffer, which is zeroed. Only processes of one user are asked for theirs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use zeroize::Zeroizing;

use crate::machine::agents::{self, Moved};
use crate::machine::holders::processes;
use crate::machine::unit::Unit;

/// A process with a hub's database open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningHub {
    /// Its id.
    pub(crate) pid: u32,
    /// The database, as this machine has it; or as the process has it, where `elsewhere`.
    pub(crate) database: PathBuf,
    /// Whether that path is one of another mount namespace, and nowhere here.
    pub(crate) elsewhere: bool,
    /// What its environment says.
    pub(crate) says: Says,
    /// The service that started it.
    pub(crate) unit: Option<Unit>,
}

/// What a hub's environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Says {
    /// `HAPI_HOME`.
    pub(crate) hapi_home: Option<PathBuf>,
    /// `DB_PATH`.
    pub(crate) database: Option<PathBuf>,
    /// `FCM_SERVICE_ACCOUNT_PATH`.
    pub(crate) fcm: Option<PathBuf>,
    /// `APNS_KEY_P8_PATH`.
    pub(crate) apns: Option<PathBuf>,
    /// Where agents have their transcripts.
    pub(crate) agents: Moved,
    /// Whether its `HOME` is the one that was asked about.
    pub(crate) has_home: bool,
}

impl Says {
    /// Paths of another mount namespace mean nothing here, but for those of the database.
    fn of_another_namespace(self, there: &Path, here: &Path) -> Self {
        let is_folder = self.hapi_home.as_deref() == there.parent();
        Self {
            hapi_home: here.parent().filter(|_| is_folder).map(Path::to_path_buf),
            database: self.database.map(|_| here.to_owned()),
            has_home: self.has_home,
            ..Self::default()
        }
    }
}

impl RunningHub {
    /// HAPI's home: what it says, else the folder of a `hapi.db`, else the usual place.
    pub(crate) fn home(&self, home: &Path) -> PathBuf {
        let folder = || {
            let named = self.database.file_name() == Some(OsStr::new("hapi.db"));
            let folder = self
                .database
                .parent()
                .filter(|_| named && self.says.database.is_none());
            folder.map_or_else(|| home.join(".hapi"), Path::to_path_buf)
        };
        self.says.hapi_home.clone().unwrap_or_else(folder)
    }
}

/// The hubs that run, as far as this user may see. `home` is whose environment counts, and what a leading `~` means.
pub(crate) fn running(home: &Path) -> Vec<RunningHub> {
    let owner = fs::metadata(home).map(|stat| stat.uid()).ok();
    let mut hubs = Vec::new();
    for pid in processes().unwrap_or_default() {
        let is_asked = fs::metadata(format!("/proc/{pid}")).is_ok_and(|p| Some(p.uid()) == owner);
        if pid == std::process::id() {
            continue;
        }
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let targets: Vec<(PathBuf, PathBuf)> = files
            .flatten()
            .filter_map(|file| Some((fs::read_link(file.path()).ok()?, file.path())))
            .filter(|(target, _)| target.is_absolute() && !target.starts_with("/dev"))
            .collect();
        let says = match is_asked && !targets.is_empty() {
            true => environment(pid, home).unwrap_or_default(),
            false => Says::default(),
        };
        let is_database = |target: &Path| {
            target.file_name() == Some(OsStr::new("hapi.db"))
                || says.database.as_deref().is_some_and(|database| {
                    database == target
                        || fs::canonicalize(database).is_ok_and(|real| real == target)
                })
        };
        let Some((target, link)) = targets.into_iter().find(|(target, _)| is_database(target))
        else {
            continue;
        };
        let (database, elsewhere) = match here(pid, &target, &link) {
            Some(path) => (path, false),
            None => (target.clone(), true),
        };
        let says = match database == target && !elsewhere {
            true => says,
            false => says.of_another_namespace(&target, &database),
        };
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        hubs.push(RunningHub {
            pid,
            database,
            elsewhere,
            says,
            unit: Unit::of_cgroup(&cgroup),
        });
    }
    hubs
}

/// Where this machine has what a process has open: another mount namespace has paths of its own.
fn here(pid: u32, target: &Path, link: &Path) -> Option<PathBuf> {
    // Through the link, without opening anything.
    let open = fs::metadata(link).ok()?;
    let same = |path: &Path| {
        fs::metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (open.dev(), open.ino()))
    };
    if same(target) {
        return Some(target.to_owned());
    }
    // A volume: its mount says which folder of which file system it is.
    let theirs = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let ours = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts(&theirs)
        .filter(|mount| target.starts_with(&mount.place))
        .max_by_key(|mount| mount.place.components().count())?;
    let inner = mount.root.join(target.strip_prefix(&mount.place).ok()?);
    mounts(&ours)
        .filter(|own| own.device == mount.device)
        .filter_map(|own| Some(own.place.join(inner.strip_prefix(&own.root).ok()?)))
        .find(|path| same(path))
}

/// One line of a `mountinfo` (proc(5)).
struct MountLine {
    device: String,
    /// The folder of the file system that is mounted.
    root: PathBuf,
    place: PathBuf,
}

fn mounts(text: &str) -> impl Iterator<Item = MountLine> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        Some(MountLine {
            device: fields.next()?.to_owned(),
            root: unescaped(fields.next()?),
            place: unescaped(fields.next()?),
        })
    })
}

/// Spaces and the like stand as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let (mut text, mut i) = (Vec::new(), 0);
    while i < bytes.len() {
        let code = bytes.get(i + 1..i + 4).filter(|_| bytes[i] == b'\\');
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        text.push(code.unwrap_or(bytes[i]));
        i += if code.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsStr::from_bytes(&text))
}

/// What an environment says of these, and whether its `HOME` is this one.
fn environment(pid: u32, home: &Path) -> Option<Says> {
    const LARGEST: usize = 1 << 20;
    // Never moved once it is allocated, so that nothing of it is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST + 1));
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(LARGEST as u64).read_to_end(&mut bytes).ok()?;
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    Some(said(&bytes, home, &folder))
}

/// `folder` is where relative paths begin.
fn said(environment: &[u8], home: &Path, folder: &Path) -> Says {
    let mut says = Says::default();
    for variable in environment.split(|byte| *byte == 0) {
        let value = |name: &str| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            // The hub replaces the first character, whatever comes after it.
            let path = match value.strip_prefix(b"~") {
                Some(rest) => [home.as_os_str().as_bytes(), rest].concat(),
                None => value.to_vec(),
            };
            let path: PathBuf = Path::new(OsStr::from_bytes(&path)).components().collect();
            let is_said = !path.as_os_str().is_empty();
            let path = match is_said && path.is_relative() {
                true => plain(&folder.join(path)),
                false => path,
            };
            path.is_absolute().then_some(path)
        };
        says.has_home |= value("HOME").is_some_and(|path| path == home);
        let fields = [
            ("HAPI_HOME", &mut says.hapi_home),
            ("DB_PATH", &mut says.database),
            ("FCM_SERVICE_ACCOUNT_PATH", &mut says.fcm),
            ("APNS_KEY_P8_PATH", &mut says.apns),
        ];
        for (name, field) in fields {
            *field = value(name).or(field.take());
        }
        for (name, ..) in agents::VARIABLES {
            says.agents.extend(value(name).map(|path| (name, path)));
        }
    }
    says
}

/// Without `..`: what comes before it goes, as in a hub's own reading.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_no_other_value() {
        let home = Path::new("/home/u");
        let says = said(
            b"TOKEN=x\0HOME=/home/u\0DB_PATH=~/data/hub.sqlite\0HAPI_HOME=/srv/hapi/\0APNS_KEY_P8_PATH=../k.p8\0MY_DB_PATH=/no\0CODEX_HOME=c\0GROK_HOME=\0",
            home,
            Path::new("/srv/run"),
        );
        let expected = Says {
            hapi_home: Some("/srv/hapi".into()),
            database: Some("/home/u/data/hub.sqlite".into()),
            apns: Some("/srv/k.p8".into()),
            agents: Moved::from([("CODEX_HOME", "/srv/run/c".into())]),
            has_home: true,
            ..Says::default()
        };
        assert_eq!(says, expected);
        assert_eq!(said(b"", home, home), Says::default());
    }

    #[test]
    fn a_mounts_line_is_read_with_its_spaces() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw";
        let mount = mounts(line).next().unwrap();
        assert_eq!(mount.device, "98:0");
        assert_eq!((mount.root, mount.place), ("/mnt1".into(), "/mnt 2".into()));
    }
}
