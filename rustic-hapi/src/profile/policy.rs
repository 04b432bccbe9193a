//! A policy says how much is kept, for each series.

use serde::Serialize;

/// How much is kept, for each series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_daily: 14,
            keep_within_hours: 14 * 24,
            keep_weekly: 8,
            keep_monthly: 0,
            acknowledged: Vec::new(),
        }
    }
}

impl Policy {
    /// Distinct days that always stay, where that many exist.
    pub const FLOOR_DAYS: u16 = 14;
}
