//! Takes a snapshot of a profile and proves that it comes back:
//! `cargo run --example snapshot_and_drill -- PROFILE.toml`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example talks to who runs it"
)]

use std::process::ExitCode;

use chrono::Local;
use hapi_sources::Stop;
use rustic_hapi::{Context, Exit, Lookup, Profile, Ui, drill, snapshot};

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: snapshot_and_drill PROFILE.toml");
        return ExitCode::from(Exit::Usage as u8);
    };
    match snapshot_and_drill(file) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.exit() as u8)
        }
    }
}

fn snapshot_and_drill(file: String) -> Result<Exit, rustic_hapi::Error> {
    // Where the profile is, and the environment: HOME says what `~` means.
    let lookup = Lookup {
        profile: Some(file),
        env: rustic_hapi::Environment::from_process(),
        ..Lookup::default()
    };
    let profile = Profile::load(&lookup)?;

    // What every command is handed: the time, what stops it, whom it tells about progress.
    let context = Context {
        clock: &Local::now,
        stop: &Stop::default(),
        ui: &Ui::silent(),
    };

    let taken = snapshot::run(&profile, &snapshot::Request::default(), &context)?;
    for series in &taken.series {
        match &series.taken {
            Ok(taken) => println!("{}: {} sources", series.name, taken.manifest.sources.len()),
            Err(error) => println!("{}: {error}", series.name),
        }
    }
    if taken.exit() != Exit::Complete {
        return Ok(taken.exit());
    }

    // Without an identity the secrets come back as ciphertext, which is compared all the same.
    let report = drill::run(
        profile.reading(),
        &drill::Request::default(),
        None,
        &context,
    )?;
    for source in &report.sources {
        println!("{}: {}", source.name, source.verdict.in_words());
    }
    Ok(report.exit())
}
