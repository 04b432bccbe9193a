//! A time that goes into a repository has to be one that restic can read back.
//!
//! restic is written in Go, whose JSON holds the years 0 to 9999 (`time.Time.MarshalJSON`). A node with
//! another time, which tmpfs, btrfs, ZFS, NFS and FUSE can have, makes its whole tree unreadable to
//! restic, and `restic prune` crashes over it.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};
use jiff::Timestamp;

/// The first second of 0000-01-02 and of 9999-12-30: no time zone leads beyond the years from here, and jiff
/// holds no later day in all of them.
const FIRST: i64 = -62_167_132_800;
const LAST: i64 = 253_402_128_000;

/// The nearest time that restic holds, in UTC.
pub(crate) fn nearest(time: SystemTime) -> Timestamp {
    let (seconds, nanos) = since_epoch(time);
    of(seconds, nanos)
}

/// A time that restic does not hold, as `touch -d` takes it: seconds since the epoch behind an `@`.
pub(crate) fn beyond(time: SystemTime) -> Option<String> {
    let (seconds, nanos) = since_epoch(time);
    let held = (FIRST..LAST).contains(&seconds);
    (!held).then(|| format!("@{seconds}.{nanos:09}"))
}

/// Our time as the engine's, with the offset of the machine's time zone.
pub(crate) fn zoned(time: &DateTime<Local>) -> jiff::Zoned {
    // The offset that chrono found, so that both sides agree on the day.
    let offset = chrono::Offset::fix(time.offset()).local_minus_utc();
    let offset = jiff::tz::Offset::from_seconds(offset).unwrap_or(jiff::tz::Offset::UTC);
    of(time.timestamp(), time.timestamp_subsec_nanos()).to_zoned(offset.to_time_zone())
}

fn of(seconds: i64, nanos: u32) -> Timestamp {
    let (seconds, nanos) = match seconds {
        ..FIRST => (FIRST, 0),
        LAST.. => (LAST, 0),
        held => (held, i32::try_from(nanos).unwrap_or(0)),
    };
    Timestamp::new(seconds, nanos).unwrap_or_default()
}

/// Seconds, rounded down, and the nanoseconds behind them.
fn since_epoch(time: SystemTime) -> (i64, u32) {
    let seconds = |seconds| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (seconds(after.as_secs()), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            match before.subsec_nanos() {
                0 => (-seconds(before.as_secs()), 0),
                nanos => (-seconds(before.as_secs()) - 1, 1_000_000_000 - nanos),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_kept_as_they_are_or_moved_to_the_edge() {
        let before = |seconds, nanos| UNIX_EPOCH - Duration::new(seconds, nanos);
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            nearest(before(1, 1)).to_string(),
            "1969-12-31T23:59:58.999999999Z"
        );
        assert_eq!(nearest(after(0)).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(beyond(after(253_402_127_999)), None);
        assert_eq!(
            nearest(after(253_402_128_000)).to_string(),
            "9999-12-30T00:00:00Z"
        );
        assert_eq!(
            nearest(after(u64::from(u32::MAX) << 8)).to_string(),
            "9999-12-30T00:00:00Z"
        );
        assert_eq!(
            nearest(before(99_999_999_999, 0)).to_string(),
            "0000-01-02T00:00:00Z"
        );
        assert_eq!(
            beyond(before(99_999_999_999, 500_000_000)).as_deref(),
            Some("@-100000000000.500000000")
        );
    }
}
