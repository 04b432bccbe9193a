//! A hub's service is what starts it: a unit of systemd with its drop-ins and environment files, or pm2. They hold
//! what no file of HAPI's has: keys in `Environment=`, `DB_PATH`, the command itself.
//!
//! They are read from the folders where systemd looks for them (systemd.unit(5)), so it need not run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hapi_sources::{Kind, Source, Stop, probe};
use rustix::fs::{Access, access};

use crate::machine::specifiers;
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
        // What all units of a user are given, environment.d(5).
        if is_users && !units.is_empty() {
            let what = || "the environment of the user's units".to_owned();
            for path in matches(home.join(".config/environment.d/*.conf")) {
                files.insert(path.clone(), ServiceFile::new(path, what()));
            }
        }
        for unit in units {
            for file in parts(&unit, folders, is_users.then_some((home, owner))) {
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
fn parts(unit: &str, folders: &[PathBuf], user: Option<(&Path, u32)>) -> Vec<ServiceFile> {
    let own = names(unit)
        .into_iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(&name)))
        .find(|path| path.is_file());
    let mut files = Vec::new();
    files.extend(
        own.iter()
            .map(|path| ServiceFile::new(path.clone(), format!("unit {unit}"))),
    );
    files.extend(
        drop_ins(unit, folders)
            .into_iter()
            .map(|path| ServiceFile::new(path, format!("a drop-in of unit {unit}"))),
    );
    let mut environment: BTreeSet<PathBuf> = BTreeSet::new();
    for file in &files {
        let text = fs::read_to_string(&file.path).unwrap_or_default();
        for value in settings(&text, "EnvironmentFile") {
            // An empty one forgets those before it.
            if value.is_empty() {
                environment.clear();
            }
            for is_old in [false, true] {
                let unit = specifiers::Unit {
                    name: unit,
                    file: own.as_deref().unwrap_or(&file.path),
                    user,
                    is_old,
                };
                // One `-` is for a file that may be absent; there are no quotes here.
                let path = unit.replace(&value).unwrap_or_default();
                let path = PathBuf::from(path.strip_prefix('-').unwrap_or(&path));
                environment.extend(matches(path));
            }
        }
    }
    let what = || format!("the environment of unit {unit}");
    files.extend(
        environment
            .into_iter()
            .map(|path| ServiceFile::new(path, what())),
    );
    files
}

/// `hapi@one.service` is made of `hapi@.service`, too.
fn names(unit: &str) -> Vec<String> {
    let mut names = vec![unit.to_owned()];
    if let Some((template, instance)) = unit.split_once('@')
        && instance != ".service"
    {
        names.push(format!("{template}@.service"));
    }
    names
}

/// What adds to a unit, in the order that it counts: by the files' names, of which those of the first folder count.
fn drop_ins(unit: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut names = names(unit);
    // `hapi-.service.d` is for all whose names begin so, and `service.d` for all services.
    let prefix = unit.split(['@', '.']).next().unwrap_or(unit);
    let dashes: Vec<usize> = prefix.match_indices('-').map(|(at, _)| at).collect();
    names.extend(
        dashes
            .iter()
            .rev()
            .map(|at| format!("{}.service", &prefix[..=*at])),
    );
    names.push("service".into());
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for name in names {
        for folder in folders {
            let entries = fs::read_dir(folder.join(format!("{name}.d")));
            for entry in entries.into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|end| end == "conf") {
                    found.entry(entry.file_name()).or_insert(path);
                }
            }
        }
    }
    // One that leads to /dev/null puts another out of force.
    found.into_values().filter(|path| path.is_file()).collect()
}

/// The files that an absolute path names, which may be a pattern: those that are there, and those of which this user
/// cannot tell.
fn matches(path: PathBuf) -> Vec<PathBuf> {
    if !path.is_absolute() {
        return Vec::new();
    }
    let is_pattern = path.to_string_lossy().contains(['*', '?', '[']);
    let pattern = Source::new("", Kind::Glob, path.clone());
    match probe(&pattern, &Stop::default()) {
        Ok(found) if is_pattern => {
            let failed = found.failures.into_iter().map(|failure| failure.path);
            found.paths.into_iter().chain(failed).collect()
        }
        _ if is_pattern => Vec::new(),
        _ => Some(path)
            .filter(|path| path.is_file() || !may_look(path))
            .into_iter()
            .collect(),
    }
}

/// Whether this user can tell if a file is there.
fn may_look(path: &Path) -> bool {
    path.parent()
        .is_some_and(|folder| access(folder, Access::EXEC_OK).is_ok())
}

/// The values of a setting, lines that go on in the next one joined.
fn settings<'a>(text: &str, name: &'a str) -> impl Iterator<Item = String> + use<'a> {
    // A comment does not end a line that goes on.
    let is_comment = |line: &&str| line.trim_start().starts_with(['#', ';']);
    let lines: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
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
    use std::os::unix::fs::symlink;

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
            "[Service]\nExecStart=/usr/bin/bun \\\n  /opt/hapi/cli hub\nEnvironmentFile=/forgotten\nEnvironmentFile=\nEnvironmentFile=-%h/hub.env\nEnvironmentFile=/none\n",
        );
        write(
            "home/.config/systemd/user/hapi-hub.service.d/10.conf",
            "[Service]\nEnvironment=A=b\n# Keys of all\nEnvironmentFile= \\\n; here:\n  %E/%p/*.env\n",
        );
        write("home/.config/systemd/user/hapi-.service.d/20.conf", "");
        write(
            "home/.local/share/systemd/user/hapi-hub.service.d/10.conf",
            "",
        );
        symlink(
            "/dev/null",
            at("home/.config/systemd/user/hapi-.service.d/30.conf"),
        )
        .unwrap();
        write("home/.config/environment.d/50-keys.conf", "KEY=x\n");
        write("home/.config/hapi-hub/a.env", "");
        write("home/.config/hapi-hub/b.env", "");
        write("home/.config/hapi-hub/c.txt", "");
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
            "home/.config/environment.d/50-keys.conf",
            "home/.config/hapi-hub/a.env",
            "home/.config/hapi-hub/b.env",
            "home/.config/systemd/user/hapi-.service.d/20.conf",
            "home/.config/systemd/user/hapi-hub.service",
            "home/.config/systemd/user/hapi-hub.service.d/10.conf",
            "home/.pm2/dump.pm2",
            "home/hub.env",
        ];
        assert_eq!(found, expected.map(at));
    }
}
