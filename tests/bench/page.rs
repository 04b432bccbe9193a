//! The tables in docs/performance.md, each between `<!-- bench NAME -->` and `<!-- end -->`. A run writes
//! those that it measured and leaves the others; one that is not there yet comes at the end.

use std::fs;
use std::process::Command;

use chrono::Local;

use crate::{Result, from_workspace};

/// A table with what it is of.
pub struct Section {
    /// What it is called, in the marker and for the reader.
    pub name: String,
    /// The state that was measured, in words.
    pub about: String,
    pub table: String,
}

/// Writes the sections into the page.
pub fn write(sections: &[Section]) -> Result<()> {
    let path = from_workspace("docs/performance.md");
    let mut page = fs::read_to_string(&path)?;
    for section in sections {
        let (begin, end) = (format!("<!-- bench {} -->\n", section.name), "<!-- end -->");
        let body = format!(
            "**{}**: {}. {}\n\n{}\n",
            section.name,
            section.about,
            machine()?,
            section.table.trim_end()
        );
        page = match page.split_once(&begin) {
            None => format!("{page}\n{begin}{body}{end}\n"),
            Some((before, rest)) => {
                let (_, after) = rest
                    .split_once(end)
                    .ok_or(format!("`{}` has no end in the page", section.name))?;
                format!("{before}{begin}{body}{end}{after}")
            }
        };
    }
    fs::write(path, page)?;
    Ok(())
}

/// When, on what and with what.
fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .ok_or("no memory?")?
        .parse()?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let virtual_one = match cpu.contains(" hypervisor ") {
        true => "a virtual machine",
        false => "a machine",
    };
    let version = |program: &str, args: &[&str]| -> Option<String> {
        let said = Command::new(program).args(args).output().ok()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(format!("{program} {version}"))
    };
    let versions: Vec<String> = [
        version("restic", &["version"]),
        version("sqlite3", &["--version"]),
        version("rustic", &["--version"]),
    ]
    .into_iter()
    .flatten()
    .collect();
    Ok(format!(
        "{}, {virtual_one} with {cores} cores and {} GiB, which others may share; {}.",
        Local::now().format("%Y-%m-%d"),
        kib.div_ceil(1 << 20),
        versions.join(", ")
    ))
}
