//! A policy says how much is kept, for each series.

use serde::Serialize;

/// How much is kept, for each series.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The newest snapshot of each of so many days that have one.
    pub keep_daily: u16,
    /// Everything this much younger than the newest one, in hours.
    pub keep_within_hours: u32,
    /// The newest of each of so many weeks.
    pub keep_weekly: u16,
    /// The newest of each of so many months.
    pub keep_monthly: u16,
    /// Ids of `shrunk` or `damaged` snapshots that pin nothing any more.
    pub acknowledged: Vec<String>,
    /// The part of its rows, files or bytes that a source may lose from one snapshot to the next; more makes the
    /// snapshot `shrunk`, and the one before it stays.
    #[serde(skip)]
    pub shrink: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_daily: 14,
            keep_within_hours: 14 * 24,
            keep_weekly: 8,
            keep_monthly: 0,
            acknowledged: Vec::new(),
            shrink: 1.0 / 3.0,
        }
    }
}

impl Policy {
    /// Distinct days that always stay, where that many exist.
    pub const FLOOR_DAYS: u16 = 14;
}
