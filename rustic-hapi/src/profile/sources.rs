//! What goes into snapshots: sources, each in a series with a rhythm.

use chrono::Weekday;
use hapi_sources::Source;
use serde::{Deserialize, Serialize};

/// A named set of sources with one rhythm; its name is the tag of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// The tag.
    pub name: String,
    /// When it is taken.
    pub rhythm: Rhythm,
}

/// When a series is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// By every run.
    EveryRun,
    /// By the first run since the first slot of a day that has no complete snapshot of it.
    Daily,
    /// By the first run since the first slot of this day that has no complete snapshot of it.
    Weekly(Weekday),
}

/// A source with the series it belongs to.
#[derive(Clone, Debug)]
pub struct SeriesSource {
    /// What to take.
    pub source: Source,
    /// The series' name.
    pub series: String,
    /// How private it is.
    pub sensitivity: Sensitivity,
}

/// How private a source is. It informs reports; only `secrets` changes how a source is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// Nobody minds.
    Low,
    /// Not for everyone.
    #[default]
    Medium,
    /// Private.
    High,
    /// Opens doors: always encrypted before the repository.
    Secrets,
}
