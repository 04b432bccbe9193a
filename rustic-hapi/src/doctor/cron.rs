//! The same look with the environment that cron gives: nearly nothing.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::doctor::finding::Finding;
use crate::profile::lookup::Lookup;
use crate::schedule::{Account, Machine};

#[derive(Deserialize)]
struct Document {
    findings: Vec<Finding>,
}

/// Runs this program again, with the same options and without the environment.
///
/// # Errors
/// Why there is nothing to report.
pub(super) fn again(
    lookup: &Lookup,
    arguments: &[OsString],
    machine: &Machine,
) -> Result<Vec<Finding>, String> {
    let account = Account::own().map_err(|error| error.to_string())?;
    let home = lookup.env.home.clone().unwrap_or(account.home);
    // What only changes how this is shown; `--as-cron` would never end.
    let shown = [
        "--as-cron",
        "--json",
        "--no-progress",
        "-q",
        "--quiet",
        "-v",
        "--verbose",
    ];
    let output = Command::new(&machine.binary)
        .args(arguments.iter().filter(|a| shown.iter().all(|s| a != s)))
        .args(["--json", "--no-progress"])
        .env_clear()
        .env("HOME", home)
        .env("LOGNAME", &account.name)
        .env("SHELL", "/bin/sh")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{}`: {error}", machine.binary.display()))?;
    let document: Document = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("this program ended with {}", output.status))?;
    // What calls is judged by what installed it, and that is not cron.
    let findings = document.findings.into_iter();
    Ok(findings.filter(|f| f.subject != "schedule").collect())
}
