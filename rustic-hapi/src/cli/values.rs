//! What values of options may say.

use std::time::Duration;

use clap::Args;

use crate::words::{DURATIONS, parse_hours, parse_seconds};

/// A path on the command line is seen from the working folder, as everywhere.
pub(super) fn absolute(location: &str) -> String {
    if location.contains(':') || location.starts_with('~') {
        return location.to_owned();
    }
    std::path::absolute(location).map_or_else(
        |_| location.to_owned(),
        |path| path.to_string_lossy().into_owned(),
    )
}

pub(super) fn hours(text: &str) -> Result<u32, String> {
    parse_hours(text).ok_or_else(|| DURATIONS.to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = parse_seconds(text).map(Duration::from_secs);
    seconds.ok_or_else(|| DURATIONS.to_owned())
}

/// How long to wait for another run.
#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// Wait this long for another run
    #[arg(long, value_name = "10m", value_parser = seconds, default_value = "0s")]
    pub(super) lock_wait: Duration,
}
