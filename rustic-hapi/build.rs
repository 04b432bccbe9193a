//! What `--version` says besides the version: the engine's, and in release builds the commit. (A debug build would
//! be built anew after each commit.) Without git and outside a checkout there is none.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The workspace's, or that of a packaged crate.
    let locks = ["../Cargo.lock", "Cargo.lock"];
    if let Some(lock) = locks.into_iter().find(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={lock}");
        let text = fs::read_to_string(lock).unwrap_or_default();
        if let Some(engine) = between(&text, "name = \"rustic_core\"\nversion = \"", "\"") {
            println!("cargo::rustc-env=RUSTIC_HAPI_ENGINE={engine}");
        }
    }
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(commit) = packaged().or_else(|| is_release.then(checked_out)?) {
        println!("cargo::rustc-env=RUSTIC_HAPI_COMMIT={commit:.12}");
    }
}

/// The commit that cargo packaged.
fn packaged() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    between(&text, "\"sha1\": \"", "\"").map(str::to_owned)
}

/// The commit of the checkout that this crate is in; not that of another one around a tarball.
fn checked_out() -> Option<String> {
    if !Path::new("../.git").exists() {
        return None;
    }
    for changes in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", changes])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?
        .1
        .split_once(after)
        .map(|(found, _)| found)
}
