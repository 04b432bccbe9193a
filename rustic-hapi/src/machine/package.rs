//! A package is what npm or bun installed HAPI as: its `package.json` has the version.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::machine::hubs::running;

/// The version of the HAPI that has one of these databases open, else of the `hapi` that a shell would call.
pub(crate) fn installed_version(home: &Path, databases: &BTreeSet<&Path>) -> Option<String> {
    let running = running(home).into_iter();
    let ours = running.filter(|hub| databases.contains(hub.database.as_path()));
    let programs = ours.map(|hub| PathBuf::from(format!("/proc/{}/exe", hub.pid)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        // Of cron's and systemd's paths these are missing.
        .chain([".local/bin", ".bun/bin", ".npm-global/bin"].map(|folder| home.join(folder)))
        .collect();
    programs
        .chain(folders.into_iter().map(|folder| folder.join("hapi")))
        .find_map(|program| version_of(&program))
}

/// The version in the nearest `package.json` above a program, where that is HAPI's.
fn version_of(program: &Path) -> Option<String> {
    const LARGEST: u64 = 64 << 10;
    let program = fs::canonicalize(program).ok()?;
    let file = program
        .ancestors()
        .skip(1)
        .take(4)
        .map(|folder| folder.join("package.json"))
        .find(|file| file.is_file())?;
    let mut text = String::new();
    let file = File::open(file).ok()?;
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    let version = package["version"].as_str().filter(|v| is_version(v));
    let is_hapi = package["name"].as_str()?.starts_with("@twsxtd/hapi");
    version.filter(|_| is_hapi).map(str::to_owned)
}

/// Whether a name may stand for a version in lists and on pages.
pub(crate) fn is_version(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-+_".contains(c))
}
