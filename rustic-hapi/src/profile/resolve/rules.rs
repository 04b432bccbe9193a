//! Limits, alarms, slots and retention: the numbers and times of a profile.

use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};

use crate::error::ProfileError;
use crate::profile::at::At;
use crate::profile::notify::Notify;
use crate::profile::policy::Policy;
use crate::profile::written::{RawAlarms, RawLimits, RawRetention};
use crate::profile::{Alarms, Limits};
use crate::words::{DURATIONS, parse_hours, parse_seconds};

pub(super) fn resolve_limits(at: &At<'_>, raw: &RawLimits) -> Result<Limits, ProfileError> {
    let given = |key: &str, text: &Option<String>, usual: Duration, least: u64, most: u64| {
        let Some(text) = text else { return Ok(usual) };
        match parse_seconds(text) {
            Some(seconds) if (least..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            Some(_) => Err(at.value(
                &format!("`{key}` in `[limits]`"),
                format!("`{text}` is out of range"),
                Some(format!(
                    "from {} to {}",
                    crate::words::duration(Duration::from_secs(least)),
                    crate::words::duration(Duration::from_secs(most))
                )),
            )),
            None => Err(at.value(
                &format!("`{key}` in `[limits]`"),
                format!("`{text}` is not a valid duration"),
                Some(DURATIONS.into()),
            )),
        }
    };
    let usual = Limits::default();
    Ok(Limits {
        stall: given("no-progress", &raw.no_progress, usual.stall, 1, 3600)?,
        total: given("total", &raw.total, usual.total, 10, 7 * 24 * 3600)?,
    })
}

pub(super) fn resolve_shrink(at: &At<'_>, raw: &RawAlarms) -> Result<f64, ProfileError> {
    let shrink = raw.shrink_alarm.unwrap_or(Policy::default().shrink);
    match (0.01..=0.99).contains(&shrink) {
        true => Ok(shrink),
        false => Err(at.value(
            "`shrink-alarm` in `[alarms]`",
            format!("`{shrink}` is not between 0 and 1"),
            Some(
                "write the share that may be lost as a number from 0.01 to 0.99; 0.33 is a third"
                    .into(),
            ),
        )),
    }
}

pub(super) fn resolve_alarms(at: &At<'_>, raw: &RawAlarms) -> Result<Alarms, ProfileError> {
    let mut alarms = Alarms::default();
    if let Some(text) = &raw.quiet_alarm {
        let hours = parse_hours(text).filter(|hours| *hours > 0);
        let Some(hours) = hours else {
            return Err(at.value(
                "`quiet-alarm` in `[alarms]`",
                format!("`{text}` is not a valid duration"),
                Some(DURATIONS.into()),
            ));
        };
        alarms.quiet = TimeDelta::hours(i64::from(hours));
    }
    Ok(alarms)
}

pub(super) fn resolve_notify(at: &At<'_>, notify: Notify) -> Result<Notify, ProfileError> {
    match notify.fact() {
        None => Ok(notify),
        Some(fact) => Err(at.value(
            "`[notify]`",
            fact,
            Some("write it as `url = \"https://hc-ping.com/…\"`".into()),
        )),
    }
}

pub(super) fn resolve_slots(
    at: &At<'_>,
    raw: Option<Vec<String>>,
) -> Result<Vec<NaiveTime>, ProfileError> {
    let raw = raw.unwrap_or_else(|| vec!["06:00".into(), "18:00".into()]);
    let mut slots = raw
        .iter()
        .map(|text| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
                at.value(
                    "`at` in `[schedule]`",
                    format!("`{text}` is not a time of day"),
                    Some("write it as \"06:00\"".into()),
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    slots.sort_unstable();
    slots.dedup();
    if slots.is_empty() {
        return Err(at.value("`at` in `[schedule]`", "it has no slot".into(), None));
    }
    Ok(slots)
}

pub(super) fn resolve_retention(
    at: &At<'_>,
    raw: &RawRetention,
    alarms: &RawAlarms,
) -> Result<Policy, ProfileError> {
    let default = Policy::default();
    let keep_daily = raw.keep_daily.unwrap_or(default.keep_daily);
    if keep_daily < Policy::FLOOR_DAYS {
        return Err(at.value(
            &at.retention("keep-daily"),
            format!(
                "{keep_daily} is below the floor of {} days",
                Policy::FLOOR_DAYS
            ),
            Some(format!("say {} or more", Policy::FLOOR_DAYS)),
        ));
    }
    let is_id = |id: &&String| id.len() >= 8 && id.chars().all(|c| c.is_ascii_hexdigit());
    if let Some(odd) = raw.acknowledged.iter().find(|id| !is_id(id)) {
        return Err(at.value(
            &at.retention("acknowledged"),
            format!("`{odd}` is not a snapshot's id"),
            Some("give 8 or more of its digits, as `rustic-hapi snapshots` shows them".into()),
        ));
    }
    let keep_within_hours = match &raw.keep_within {
        None => default.keep_within_hours,
        Some(text) => parse_hours(text).ok_or_else(|| {
            at.value(
                &at.retention("keep-within"),
                format!("`{text}` is not a valid duration"),
                Some(DURATIONS.into()),
            )
        })?,
    };
    Ok(Policy {
        keep_daily,
        keep_within_hours,
        keep_weekly: raw.keep_weekly.unwrap_or(default.keep_weekly),
        keep_monthly: raw.keep_monthly.unwrap_or(default.keep_monthly),
        acknowledged: raw.acknowledged.clone(),
        shrink: resolve_shrink(at, alarms)?,
    })
}
