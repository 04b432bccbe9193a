//! Copies any program's live SQLite database, whole and checked, while the program goes on writing:
//! `cargo run -p hapi-sources --example copy_database -- LIVE.db COPY.db`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to who runs it"
)]

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use hapi_sources::{Capturer, Content, Integrity, Kind, Source, Staging};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [live, copy] = arguments.as_slice() else {
        eprintln!("usage: copy_database LIVE.db COPY.db");
        return ExitCode::from(2);
    };
    match copy_database(Path::new(live), Path::new(copy)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy_database(live: &Path, copy: &Path) -> Result<(), Box<dyn Error>> {
    let live = std::path::absolute(live)?;
    let sources = [Source::new("database", Kind::Sqlite, &live)];
    // A folder of 0700 beside the copy; what is staged in it is gone when it is dropped.
    let folder = tempfile::tempdir_in(
        copy.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )?;
    let staging = Staging::create(folder.path())?;
    let mut capturer = Capturer::new(&staging, &sources)?;
    for capture in capturer.capture_all(&sources) {
        for entry in &capture?.entries {
            let Content::Database { bytes, facts, .. } = &entry.content else {
                continue;
            };
            match &facts.integrity {
                Integrity::Ok => {}
                other => return Err(format!("the copy is not sound: {other:?}").into()),
            }
            let mut file = File::create_new(copy)?;
            io::copy(&mut bytes.open()?, &mut file)?;
            file.sync_all()?;
            println!("{} pages of {}", facts.page_count, live.display());
        }
    }
    Ok(())
}
