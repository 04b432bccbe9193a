//! A hub's service is what starts it: a unit of systemd with its drop-ins and environment files, or pm2. They hold
//! what no file of HAPI's has: keys in `Environment=`, `DB_PATH`, the command itself.
//!
//! They are read from the folders where systemd looks for them (systemd.unit(5)), so it need not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::machine::unit::Unit;

const OF_THE_SYSTEM: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const OF_ALL_USERS: [&str; 3] = [
    "/etc/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

/// A file that a hub's service is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is to what: `unit hapi.service`, say.
    pub(crate) what: String,
    /// Whether this user may read it.
    pub(crate) readable: bool,
}

/// The files of the services that start hubs of a home's owner: units that run `hapi` for that user, those that
/// running hubs belong to, and pm2's list. `etc` is where this machine's folders are, `/` but for tests.
pub(crate) fn files(home: &Path, running: &[Unit], etc: &Path) -> Vec<ServiceFile> {
    let owner = fs::metadata(home).map_or(0, |stat| stat.uid());
    let within = |folder: &str| etc.join(folder.trim_start_matches('/'));
    let system: Vec<PathBuf> = OF_THE_SYSTEM.iter().map(|folder| within(folder)).collect();
    let mut user = vec![home.join(".config/systemd/user")];
    user.push(within(OF_ALL_USERS[0]));
    user.push(home.join(".local/share/systemd/user"));
    user.extend(OF_ALL_USERS[1..].iter().map(|folder| within(folder)));

    let mut files = BTreeMap::new();
    for (folders, is_users) in [(&user, true), (&system, false)] {
        let mut units: BTreeSet<String> = running
            .iter()
            .filter(|unit| match unit.user {
                Some(id) => is_users && id == owner,
                None => !is_users,
            })
            .map(|unit| unit.name.clone())
            .collect();
        // What comes with a distribution starts no hub.
        for folder in folders.iter().take(3) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                if name.ends_with(".service")
                    && starts_a_hub(&text)
                    && (is_users || is_of(&text, owner))
                {
                    units.insert(name);
                }
            }
        }
        for unit in units {
            for file in parts(&unit, folders, home) {
                files.entry(file.path.clone()).or_insert(file);
            }
        }
    }
    let dump = home.join(".pm2/dump.pm2");
    if dump.is_file() {
        let file = ServiceFile::new(dump, "what pm2 starts".into());
        files.insert(file.path.clone(), file);
    }
    files.into_values().collect()
}

impl ServiceFile {
    fn new(path: PathBuf, what: String) -> Self {
        Self {
            readable: access(&path, Access::READ_OK).is_ok(),
            path,
            what,
        }
    }
}

/// A unit's own file, its drop-ins, and the environment files that they name.
fn parts(unit: &str, folders: &[PathBuf], home: &Path) -> Vec<ServiceFile> {
    let mut names = vec![unit.to_owned()];
    // `hapi@one.service` is made of `hapi@.service`.
    if let Some((template, instance)) = unit.split_once('@')
        && instance != ".service"
    {
        names.push(format!("{template}@.service"));
    }
    let mut files = Vec::new();
    let own = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.exists());
    files.extend(own.map(|path| ServiceFile::new(path, format!("unit {unit}"))));
    for folder in folders {
        for name in &names {
            let mut drop_ins: Vec<PathBuf> = fs::read_dir(folder.join(format!("{name}.d")))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "conf"))
                .collect();
            drop_ins.sort();
            let what = || format!("a drop-in of unit {unit}");
            files.extend(
                drop_ins
                    .into_iter()
                    .map(|path| ServiceFile::new(path, what())),
            );
        }
    }
    let mut environment: Vec<PathBuf> = Vec::new();
    for file in &files {
        let text = fs::read_to_string(&file.path).unwrap_or_default();
        for value in settings(&text, "EnvironmentFile") {
            // An empty one forgets those before it.
            if value.is_empty() {
                environment.clear();
            }
            let path = value.trim_start_matches('-').trim_matches('"');
            let path = path.replace("%h", &home.to_string_lossy());
            // Another specifier, or a pattern, needs systemd to be understood.
            if path.starts_with('/') && !path.contains(['%', '*', '?', '[']) {
                environment.push(PathBuf::from(path));
            }
        }
    }
    let there = |path: &PathBuf| fs::symlink_metadata(path).is_ok() || !may_look(path);
    environment.retain(there);
    let what = || format!("the environment of unit {unit}");
    files.extend(
        environment
            .into_iter()
            .map(|path| ServiceFile::new(path, what())),
    );
    files
}

/// Whether this user can tell if a file is there.
fn may_look(path: &Path) -> bool {
    path.parent()
        .is_some_and(|folder| access(folder, Access::EXEC_OK).is_ok())
}

/// The values of a setting, lines that go on in the next one joined.
fn settings<'a>(text: &str, name: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let joined = text.replace("\\\n", " ");
    let lines: Vec<String> = joined.lines().map(str::to_owned).collect();
    lines.into_iter().filter_map(move |line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Whether a unit runs a program or script that is called `hapi`.
fn starts_a_hub(unit: &str) -> bool {
    settings(unit, "ExecStart").any(|command| {
        let words = command.split(|c: char| c.is_whitespace() || "\"'=@/".contains(c));
        words.into_iter().any(|word| word == "hapi") && !command.contains("rustic-hapi")
    })
}

/// Whether the system's manager runs a unit as this user.
fn is_of(unit: &str, owner: u32) -> bool {
    match settings(unit, "User").last() {
        None => owner == 0,
        Some(user) => user == owner.to_string() || hapi_sources::user_name(owner) == user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_parts_are_found_where_systemd_looks() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        };
        let home = at("home");
        write(
            "home/.config/systemd/user/hapi-hub.service",
            "[Service]\nExecStart=/usr/bin/bun \\\n  /opt/hapi/cli hub\nEnvironmentFile=-%h/hub.env\nEnvironmentFile=/none\n",
        );
        write(
            "home/.config/systemd/user/hapi-hub.service.d/10.conf",
            "[Service]\nEnvironment=A=b\n",
        );
        write(
            "home/.config/systemd/user/backup.service",
            "[Service]\nExecStart=/usr/bin/rustic-hapi snapshot\n",
        );
        write("home/hub.env", "A=b\n");
        write("home/.pm2/dump.pm2", "[]");
        write(
            "etc/systemd/system/other.service",
            "[Service]\nExecStart=/usr/bin/hapi hub\nUser=nobody-here\n",
        );
        write(
            "etc/systemd/system/hub@.service",
            "[Service]\nExecStart=/usr/bin/true\n",
        );
        let running = [Unit {
            name: "hub@one.service".into(),
            user: None,
        }];
        let found: Vec<PathBuf> = files(&home, &running, tmp.path())
            .into_iter()
            .map(|f| f.path)
            .collect();
        let expected = [
            "etc/systemd/system/hub@.service",
            "home/.config/systemd/user/hapi-hub.service",
            "home/.config/systemd/user/hapi-hub.service.d/10.conf",
            "home/.pm2/dump.pm2",
            "home/hub.env",
        ];
        assert_eq!(found, expected.map(at));
    }
}
