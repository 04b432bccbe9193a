//! A profile with everything that is in force: what it says, what it inherits, and every default.

use hapi_sources::Kind;

use crate::profile::Profile;
use crate::profile::reach::Password;
use crate::profile::written::RawProfile;
use crate::words::written;

impl RawProfile {
    /// Fills in what nobody wrote. What has no default, such as where to send notifications, stays out.
    pub(super) fn in_force(mut self, profile: &Profile) -> Self {
        let reach = &profile.reach;
        let path = |path: &std::path::Path| Some(path.to_string_lossy().into_owned());
        self.hapi_home = path(&profile.hapi_home);
        self.host = Some(profile.host.clone());
        self.staging = path(&profile.staging);

        self.repository.location = Some(reach.location.to_string());
        if let Password::File(file) = &reach.password {
            self.repository.password_file = path(file);
            self.repository.password_command = None;
        }

        let slots = profile.at.iter();
        self.schedule.at = Some(slots.map(|at| at.format("%H:%M").to_string()).collect());

        let retention = &profile.retention;
        self.retention.keep_daily = Some(retention.keep_daily);
        self.retention.keep_within = Some(written(u64::from(retention.keep_within_hours) * 3600));
        self.retention.keep_weekly = Some(retention.keep_weekly);
        self.retention.keep_monthly = Some(retention.keep_monthly);
        self.retention.prune = Some(profile.prune);

        self.limits.no_progress = Some(written(profile.limits.stall.as_secs()));
        self.limits.total = Some(written(profile.limits.total.as_secs()));

        // A third, and not its binary fraction.
        let shrink = (profile.retention.shrink * 10_000.0).round() / 10_000.0;
        self.alarms.shrink_alarm = Some(self.alarms.shrink_alarm.unwrap_or(shrink));
        let quiet = profile.alarms.quiet.num_seconds();
        self.alarms.quiet_alarm = Some(written(quiet.unsigned_abs()));

        for (copy, meant) in self.copy.iter_mut().zip(&profile.copies) {
            copy.location = meant.reach.location.to_string();
            if let Password::File(file) = &meant.reach.password {
                copy.password_file = path(file);
                copy.password_command = None;
            }
            let retention = &meant.retention;
            copy.keep_daily = Some(retention.keep_daily);
            copy.keep_within = Some(written(u64::from(retention.keep_within_hours) * 3600));
            copy.keep_weekly = Some(retention.keep_weekly);
            copy.keep_monthly = Some(retention.keep_monthly);
            copy.prune = Some(meant.prune);
        }

        let main = profile.series.first().map(|series| series.name.clone());
        for source in &mut self.source {
            let meant = profile
                .sources
                .iter()
                .find(|s| s.source.name == source.name);
            source.sensitivity = meant.map(|s| s.sensitivity).or(source.sensitivity);
            source.required.get_or_insert(true);
            source.series = source.series.take().or_else(|| main.clone());
            if source.kind == Kind::Sqlite {
                source.integrity.get_or_insert_default();
            }
        }
        self
    }
}
