//! What is written in a profile: its TOML, laid over the shipped profile that it extends. Nothing is checked
//! here but names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use hapi_sources::{Column, Filter, IntegrityCheck, Kind};
use serde::{Deserialize, Serialize};

use crate::error::ProfileError;
use crate::profile::at::At;
use crate::profile::notify::Notify;
use crate::profile::sources::Sensitivity;

/// The profiles that come with the program, by the name that `extends` takes.
pub(crate) const SHIPPED: [(&str, &str); 2] = [
    ("hapi", include_str!("../../profiles/hapi.toml")),
    ("hapi-stock", include_str!("../../profiles/hapi-stock.toml")),
];

/// What `agents = true` adds.
pub(crate) const AGENTS: &str = include_str!("../../profiles/agents.toml");

/// The shipped profile that has sources of these names: the first that alone has one of them, else the other.
pub(crate) fn shipped_with<'a>(mut names: impl Iterator<Item = &'a String>) -> &'static str {
    let [(hapi, first), (stock, second)] = SHIPPED;
    let known = |text: &str| -> Vec<String> {
        let read = RawProfile::read(text, Path::new(hapi)).unwrap_or_default();
        read.source.into_iter().map(|source| source.name).collect()
    };
    let (first, second) = (known(first), known(second));
    match names.any(|name| first.contains(name) && !second.contains(name)) {
        true => hapi,
        false => stock,
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawProfile {
    pub(super) extends: Option<String>,
    pub(super) agents: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) without: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ignore: Vec<String>,
    pub(super) hapi_home: Option<String>,
    pub(super) host: Option<String>,
    pub(super) hub_id: Option<String>,
    pub(super) staging: Option<String>,
    pub(super) repository: RawRepository,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) copy: Vec<RawCopy>,
    pub(super) secrets: RawSecrets,
    pub(super) schedule: RawSchedule,
    pub(super) retention: RawRetention,
    pub(super) limits: RawLimits,
    pub(super) alarms: RawAlarms,
    pub(super) notify: Notify,
    pub(super) metrics: RawMetrics,
    pub(super) series: Vec<RawSeries>,
    pub(super) source: Vec<RawSource>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawRepository {
    pub(super) location: Option<String>,
    pub(super) id: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) password_command: Option<String>,
    pub(super) environment_file: Option<String>,
    pub(super) allow_same_disk: bool,
    pub(super) append_only: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) other_hosts: Vec<String>,
}

/// A place that the snapshots are copied to. What it does not say of its password and retention is the main one's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCopy {
    pub(super) name: String,
    pub(super) location: String,
    pub(super) id: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) password_command: Option<String>,
    pub(super) environment_file: Option<String>,
    #[serde(default)]
    pub(super) allow_same_disk: bool,
    #[serde(default)]
    pub(super) append_only: bool,
    pub(super) keep_daily: Option<u16>,
    pub(super) keep_within: Option<String>,
    pub(super) keep_weekly: Option<u16>,
    pub(super) keep_monthly: Option<u16>,
    pub(super) prune: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawLimits {
    pub(super) no_progress: Option<String>,
    pub(super) total: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawSecrets {
    pub(super) recipients: Vec<String>,
    pub(super) skip: bool,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawSchedule {
    pub(super) at: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawRetention {
    pub(super) keep_daily: Option<u16>,
    pub(super) keep_within: Option<String>,
    pub(super) keep_weekly: Option<u16>,
    pub(super) keep_monthly: Option<u16>,
    pub(super) prune: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) acknowledged: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawAlarms {
    pub(super) shrink_alarm: Option<f64>,
    pub(super) quiet_alarm: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawMetrics {
    pub(super) textfile: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSeries {
    pub(super) name: String,
    pub(super) every: Option<Every>,
    pub(super) on: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Every {
    Run,
    Day,
    Week,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawSource {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) named_by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) rest: bool,
    pub(super) series: Option<String>,
    pub(super) sensitivity: Option<Sensitivity>,
    pub(super) required: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) count: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) newest: Vec<Column>,
    pub(super) integrity: Option<IntegrityCheck>,
    pub(super) filter: Option<Filter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) exclude: Vec<String>,
}

pub(super) fn read_profile(path: &Path) -> Result<String, ProfileError> {
    let read = || {
        // A named pipe would hold the run up for ever, and no signal would end it.
        match fs::metadata(path)?.file_type() {
            kind if kind.is_file() => fs::read_to_string(path),
            kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            _ => Err(io::Error::other("it is not a regular file")),
        }
    };
    read().map_err(|error| ProfileError::Read {
        path: path.into(),
        error,
    })
}

impl RawProfile {
    pub(super) fn read(text: &str, path: &Path) -> Result<Self, ProfileError> {
        toml::from_str(text).map_err(|error| ProfileError::Syntax {
            path: path.into(),
            message: error.to_string().trim_end().to_owned(),
        })
    }

    /// Lays this profile over what it inherits.
    pub(super) fn merged(self, path: &Path) -> Result<Self, ProfileError> {
        let mut merged = self.over_shipped(path)?;
        if merged.agents {
            let agents = Self::read(AGENTS, Path::new("agents"))?;
            let named = |name: &str, names: Vec<&String>| names.into_iter().any(|n| n == name);
            for series in agents.series {
                if !named(
                    &series.name,
                    merged.series.iter().map(|s| &s.name).collect(),
                ) {
                    merged.series.push(series);
                }
            }
            for source in agents.source {
                if !named(
                    &source.name,
                    merged.source.iter().map(|s| &s.name).collect(),
                ) {
                    merged.source.push(source);
                }
            }
        }
        Ok(merged)
    }

    /// Lays this profile over the shipped one it extends.
    fn over_shipped(self, path: &Path) -> Result<Self, ProfileError> {
        let at = At { path, copy: None };
        let Some(name) = self.extends.clone() else {
            if let Some(first) = self.without.first() {
                return Err(at.value(
                    "`without`",
                    format!("`without` names `{first}`, but nothing is inherited"),
                    Some("`without` needs `extends`".into()),
                ));
            }
            return Ok(self);
        };
        let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) else {
            let known: Vec<_> = SHIPPED.iter().map(|(n, _)| format!("\"{n}\"")).collect();
            return Err(at.value(
                "`extends`",
                format!("there is no shipped profile `{name}`"),
                Some(format!("there are {}", known.join(" and "))),
            ));
        };
        let mut base = Self::read(text, Path::new(&name))?;
        for gone in &self.without {
            let before = base.source.len();
            base.source.retain(|s| &s.name != gone);
            if base.source.len() == before {
                return Err(at.value(
                    "`without`",
                    format!("`{name}` has no source `{gone}`"),
                    None,
                ));
            }
        }
        let mut own_series = BTreeSet::new();
        for series in self.series {
            let first = own_series.insert(series.name.clone());
            match base
                .series
                .iter_mut()
                .find(|s| first && s.name == series.name)
            {
                Some(inherited) => *inherited = series,
                None => base.series.push(series),
            }
        }
        // Only inherited rows are replaced: a name given twice in this file stays a mistake.
        let mut own = BTreeSet::new();
        for source in self.source {
            let first = own.insert(source.name.clone());
            match base
                .source
                .iter_mut()
                .find(|s| first && s.name == source.name)
            {
                Some(inherited) => *inherited = source,
                None => base.source.push(source),
            }
        }
        // `without` may have emptied an inherited series: then it is not wanted either.
        let first = base.series.first().map(|s| s.name.clone());
        base.series.retain(|series| {
            own_series.contains(&series.name)
                || first.as_ref() == Some(&series.name)
                || base
                    .source
                    .iter()
                    .any(|s| s.series.as_ref() == Some(&series.name))
        });
        Ok(Self {
            extends: self.extends,
            agents: self.agents,
            without: self.without,
            ignore: self.ignore,
            hapi_home: self.hapi_home.or(base.hapi_home),
            host: self.host.or(base.host),
            hub_id: self.hub_id,
            staging: self.staging.or(base.staging),
            repository: self.repository,
            copy: self.copy,
            secrets: self.secrets,
            schedule: RawSchedule {
                at: self.schedule.at.or(base.schedule.at),
            },
            retention: RawRetention {
                keep_daily: self.retention.keep_daily.or(base.retention.keep_daily),
                keep_within: self.retention.keep_within.or(base.retention.keep_within),
                keep_weekly: self.retention.keep_weekly.or(base.retention.keep_weekly),
                keep_monthly: self.retention.keep_monthly.or(base.retention.keep_monthly),
                prune: self.retention.prune.or(base.retention.prune),
                acknowledged: self.retention.acknowledged,
            },
            limits: RawLimits {
                no_progress: self.limits.no_progress.or(base.limits.no_progress),
                total: self.limits.total.or(base.limits.total),
            },
            alarms: RawAlarms {
                shrink_alarm: self.alarms.shrink_alarm.or(base.alarms.shrink_alarm),
                quiet_alarm: self.alarms.quiet_alarm.or(base.alarms.quiet_alarm),
            },
            notify: self.notify,
            metrics: self.metrics,
            series: base.series,
            source: base.source,
        })
    }
}
