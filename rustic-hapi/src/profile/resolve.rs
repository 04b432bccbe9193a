//! From what is written to what is meant: every path absolute, every name unique, every recipient one that age
//! takes. What is wrong names file, key and remedy; nothing is created.

mod copies;
mod rules;
mod sources;

use std::path::Path;

use hapi_sources::{Kind, Recipients};

use self::rules::{
    resolve_alarms, resolve_limits, resolve_notify, resolve_retention, resolve_slots,
};
use self::sources::{Encrypts, check_ignore, resolve_series, resolve_sources};
use crate::error::{Error, ProfileError};
use crate::profile::Profile;
use crate::profile::at::At;
use crate::profile::hub_id::{HubId, HubOfProfile};
use crate::profile::lookup::{Lookup, in_utf8};
use crate::profile::named::Named;
use crate::profile::reach::{Password, Reach};
use crate::profile::reading::Found;
use crate::profile::sources::SeriesSource;
use crate::profile::written::{RawCopy, RawProfile, read_profile};

impl Profile {
    /// Finds, reads, merges and checks a profile.
    ///
    /// # Errors
    /// Any [`ProfileError`]; nothing is created.
    pub fn load(lookup: &Lookup) -> Result<Self, Error> {
        let Some(path) = lookup.find()? else {
            return Err(ProfileError::Missing {
                name: lookup.profile.clone().unwrap_or_else(|| "hapi".into()),
                looked: lookup.candidates()?,
            }
            .into());
        };
        let text = read_profile(&path)?;
        Ok(Self::parse(&text, &path, lookup)?)
    }

    /// Finds a profile, or does without: to get data back on a machine that has nothing but the
    /// repository and its password.
    ///
    /// # Errors
    /// As [`Profile::load`]; [`ProfileError::Missing`] unless repository and password file are named.
    pub fn load_or_reach(lookup: &Lookup) -> Result<Found, Error> {
        // A copy is what a profile says.
        if lookup.find()?.is_some() || lookup.from.is_some() {
            return Self::load(lookup).map(|profile| Found::Profile(Box::new(profile)));
        }
        let said = Named::of(lookup, None, None, None, None)?;
        let (Some(location), Some(password)) = (said.location, said.password) else {
            return Self::load(lookup).map(|profile| Found::Profile(Box::new(profile)));
        };
        let home = lookup.home()?;
        Ok(Found::Reach(Box::new(Reach {
            location,
            id: None,
            main: None,
            variables: lookup.env.restic.clone(),
            environment_file: None,
            from_variables: said.from_variables,
            password,
            shares_password: false,
            state: lookup.state_dir(&home).join("rustic-hapi").join("hapi"),
            home,
        })))
    }

    /// The profile as TOML with everything in force: what it says, what it inherits, and the defaults.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn show(lookup: &Lookup) -> Result<String, Error> {
        let profile = Self::load(&lookup.of_the_main())?;
        let text = read_profile(&profile.file)?;
        let merged = RawProfile::read(&text, &profile.file)?.merged(&profile.file)?;
        toml::to_string(&merged.in_force(&profile)).map_err(|error| {
            Error::Profile(ProfileError::Syntax {
                path: profile.file,
                message: error.to_string(),
            })
        })
    }

    /// Reads a profile from text; `path` is for messages and the name.
    ///
    /// # Errors
    /// [`ProfileError`], with the line for what is not TOML of ours, with the key for what makes
    /// no sense.
    pub fn parse(text: &str, path: &Path, lookup: &Lookup) -> Result<Self, ProfileError> {
        let raw = RawProfile::read(text, path)?.merged(path)?;
        RawCopy::have_names(&raw.copy, At { path, copy: None })?;
        let mut main = resolve(raw.clone(), path, &lookup.of_the_main(), None)?;
        for written in &raw.copy {
            let own = written.lookup(lookup);
            let meant = written.in_place_of_the_main(&raw);
            let mut copy = resolve(meant, path, &own, Some(&written.name))?;
            if written.shares_the_password(&own) {
                copy.share_password(&main);
            }
            copy.reach.main = Some(main.reach.location.clone());
            copy.is_elsewhere(std::iter::once(&main).chain(&main.copies))?;
            main.copies.push(copy);
        }
        match &lookup.from {
            None => Ok(main),
            Some(name) => main.into_copy(name),
        }
    }
}

/// `copy` names the place that `[repository]` and `[retention]` of `raw` are of, where it is not the main one.
fn resolve(
    raw: RawProfile,
    path: &Path,
    lookup: &Lookup,
    copy: Option<&str>,
) -> Result<Profile, ProfileError> {
    let at = At { path, copy };
    let home = lookup.home()?;
    let hapi_home = match &raw.hapi_home {
        Some(text) => at.path("`hapi-home`", text, &home, None)?,
        None => match &lookup.env.hapi_home {
            Some(dir) => {
                in_utf8("HAPI_HOME", dir)?;
                dir.components().collect()
            }
            None => home.join(".hapi"),
        },
    };
    let name = path.file_stem().map_or_else(
        || "hapi".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    );
    let series = resolve_series(&at, &raw.series)?;
    // Whoever has somebody to encrypt to forgot `skip`.
    let has_recipients = !raw.secrets.recipients.is_empty();
    let skip_is_overruled = raw.secrets.skip && has_recipients;
    let encrypts = match (has_recipients, raw.secrets.skip) {
        (true, _) => Encrypts::All,
        (false, true) => Encrypts::Nothing,
        (false, false) => Encrypts::WhatIsWritten,
    };
    check_ignore(&at, &raw.ignore)?;
    let (sources, skipped_secrets) = resolve_sources(
        &at,
        raw.source,
        &series,
        encrypts,
        &raw.ignore,
        &home,
        &hapi_home,
    )?;
    if let Some(empty) = series
        .iter()
        .find(|s| sources.iter().all(|x| x.series != s.name))
    {
        return Err(at.value(
            &format!("series `{}`", empty.name),
            "no source belongs to it".into(),
            Some("give a source `series = …`, or remove the series".into()),
        ));
    }

    let given = |key: &str, text: &Option<String>| {
        let path = text.as_ref();
        path.map(|text| at.path(&at.repository(key), text, &home, Some(&hapi_home)))
            .transpose()
    };
    let usual_file = lookup.config_dir()?.join(format!("{name}.password"));
    let file = given("password-file", &raw.repository.password_file)?.or_else(|| {
        let counts = raw.repository.password_command.is_none() && usual_file.exists();
        counts.then(|| usual_file.clone())
    });
    let said = Named::of(
        lookup,
        Some(&at),
        raw.repository.location.as_deref(),
        file,
        raw.repository.password_command,
    )?;
    let Some(location) = said.location else {
        return Err(at.value(
            &at.repository("location"),
            "no destination is given".into(),
            Some(
                "say where snapshots go: `location = \"/mnt/backup/hapi\"`, or `--repository`"
                    .into(),
            ),
        ));
    };
    let environment_file = given("environment-file", &raw.repository.environment_file)?;
    let swallows = |s: &&SeriesSource| {
        s.source.kind == Kind::Dir
            && location
                .local()
                .is_some_and(|r| r.starts_with(&s.source.path))
    };
    if let Some(outer) = sources.iter().find(swallows) {
        return Err(at.value(
            &at.repository("location"),
            format!(
                "the repository is inside the source `{}`",
                outer.source.name
            ),
            Some("a repository must not contain itself: choose another place".into()),
        ));
    }
    let password = said.password.unwrap_or(Password::File(usual_file));

    let has_secrets = sources.iter().any(|s| s.source.kind == Kind::Secret);
    let recipients = match (has_secrets, raw.secrets.recipients.is_empty()) {
        (true, true) => {
            return Err(at.value(
                "`recipients` in `[secrets]`",
                "there are secrets, but no recipient to encrypt them to".into(),
                Some("make an identity on another machine with `age-keygen`, and write its public key here: `recipients = [\"age1…\"]`".into()),
            ));
        }
        (_, true) => None,
        (_, false) => {
            Some(Recipients::parse(&raw.secrets.recipients).map_err(|error| {
                at.value("`recipients` in `[secrets]`", error.to_string(), None)
            })?)
        }
    };

    let states = lookup.state_dir(&home).join("rustic-hapi");
    let state = match copy {
        None => states.join(&name),
        Some(copy) => states.join(format!("{name}@{copy}")),
    };
    let staging = match &raw.staging {
        Some(text) => at.path("`staging`", text, &home, Some(&hapi_home))?,
        None => states.join(&name).join("staging"),
    };
    let metrics = raw.metrics.textfile.as_ref();
    let metrics = metrics
        .map(|text| at.path("`textfile` in `[metrics]`", text, &home, Some(&hapi_home)))
        .transpose()?;
    let host = match raw.host {
        Some(host) if !host.trim().is_empty() => host,
        Some(_) => return Err(at.value("`host`", "it is empty".into(), None)),
        None => crate::machine::process::host_name(),
    };
    let written = raw.hub_id.as_deref().map(|text| {
        HubId::parse(text).ok_or_else(|| {
            at.value(
                "`hub-id`",
                format!("`{text}` is not a hub id"),
                Some("a hub id has 8 to 64 letters, digits and hyphens; `rustic-hapi init` writes it".into()),
            )
        })
    });
    let databases = || sources.iter().filter(|s| s.source.kind == Kind::Sqlite);
    let (main, others): (Vec<_>, Vec<_>) =
        databases().partition(|s| series.first().is_some_and(|main| main.name == s.series));
    let paths = main
        .into_iter()
        .chain(others)
        .map(|s| s.source.path.clone());
    let hub = HubOfProfile::new(written.transpose()?, &host, paths.collect(), &hapi_home);

    Ok(Profile {
        name,
        file: path.into(),
        copy: copy.map(str::to_owned),
        copies: Vec::new(),
        at: resolve_slots(&at, raw.schedule.at)?,
        retention: resolve_retention(&at, &raw.retention, &raw.alarms)?,
        alarms: resolve_alarms(&at, &raw.alarms)?,
        notify: resolve_notify(&at, raw.notify)?,
        metrics,
        reach: Reach {
            location,
            id: raw.repository.id,
            main: None,
            variables: lookup.env.restic.clone(),
            environment_file,
            from_variables: said.from_variables,
            password,
            shares_password: false,
            home,
            state,
        },
        hapi_home,
        not_missed: sources::not_missed(&raw.ignore),
        ignore: raw.ignore,
        host,
        hub,
        append_only: raw.repository.append_only,
        prune: raw.retention.prune.unwrap_or(true),
        limits: resolve_limits(&at, &raw.limits)?,
        allow_same_disk: raw.repository.allow_same_disk,
        other_hosts: raw.repository.other_hosts,
        recipients,
        skipped_secrets,
        skip_is_overruled,
        series,
        sources,
        staging,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::policy::Policy;
    use crate::profile::sources::Rhythm;
    use crate::profile::written::SHIPPED;

    fn lookup() -> Lookup {
        Lookup {
            home: Some("/home/u".into()),
            ..Lookup::default()
        }
    }

    fn parse(text: &str) -> Result<Profile, ProfileError> {
        Profile::parse(text, Path::new("/etc/rustic-hapi/hapi.toml"), &lookup())
    }

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn extending(name: &str, more: &str) -> String {
        format!(
            "extends = \"{name}\"\n[repository]\nlocation = \"/mnt/b\"\n[secrets]\nrecipients = [\"{RECIPIENT}\"]\n{more}"
        )
    }

    #[test]
    fn the_annotated_profile_makes_sense_and_has_every_key() {
        let text = include_str!("../../profiles/full.toml");
        let profile = parse(text).expect("profiles/full.toml");
        assert_eq!(profile.retention.keep_monthly, 6);
        // Whatever serde knows is in the file, so that it stays complete.
        let raw = RawProfile::read(text, Path::new("full.toml")).expect("TOML");
        let known = toml::to_string(&raw).expect("TOML");
        let keys = [
            "extends",
            "without",
            "ignore",
            "named-by",
            "rest",
            "hapi-home",
            "host",
            "staging",
            "location",
            "id",
            "password-file",
            "environment-file",
            "append-only",
            "no-progress",
            "total",
            "prune",
            "allow-same-disk",
            "recipients",
            "skip",
            "at",
            "keep-daily",
            "keep-within",
            "keep-weekly",
            "keep-monthly",
            "textfile",
            "every",
            "agents",
            "on",
            "series",
            "sensitivity",
            "required",
            "count",
            "newest",
            "integrity",
            "filter",
            "exclude",
        ];
        for key in keys {
            assert!(known.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn shipped_profiles_make_sense() {
        for (name, _) in SHIPPED {
            let profile = parse(&extending(name, "")).expect(name);
            assert_eq!(profile.series[0].rhythm, Rhythm::EveryRun);
            assert_eq!(profile.retention, Policy::default());
            assert_eq!(profile.at.len(), 2);
            let database = &profile.sources[0].source;
            assert_eq!(database.path, Path::new("/home/u/.hapi/hapi.db"));
        }
    }

    #[test]
    fn an_inherited_source_is_replaced_and_left_out_by_name() {
        let text = extending(
            "hapi",
            "[[source]]\nname = \"hapi.db\"\npath = \"/var/lib/h.db\"\nkind = \"sqlite\"\n",
        );
        let text = format!("without = [\"plans\"]\n{text}");
        let profile = parse(&text).expect("a profile");
        let named = |name: &str| profile.sources.iter().find(|s| s.source.name == name);
        assert_eq!(
            named("hapi.db").expect("hapi.db").source.path,
            Path::new("/var/lib/h.db")
        );
        assert!(named("hapi.db").is_some_and(|s| s.source.count.is_empty()));
        assert!(named("plans").is_none());
        let without = format!(
            "without = [\"voice-test-output\"]\n{}",
            extending("hapi", "")
        );
        assert_eq!(
            parse(&without).expect("a profile").series.len(),
            1,
            "nothing is weekly any more"
        );
        assert!(
            parse(&format!(
                "without = [\"nonsense\"]\n{}",
                extending("hapi", "")
            ))
            .is_err()
        );
    }

    #[test]
    fn hapi_home_of_the_profile_wins_over_the_variable() {
        let mut lookup = lookup();
        lookup.env.hapi_home = Some("/var/lib/hapi".into());
        let path = Path::new("hapi.toml");
        let text = extending("hapi-stock", "");
        let by_variable = Profile::parse(&text, path, &lookup).expect("a profile");
        assert_eq!(by_variable.hapi_home, Path::new("/var/lib/hapi"));
        let by_profile = Profile::parse(&format!("hapi-home = \"~/h\"\n{text}"), path, &lookup)
            .expect("a profile");
        assert_eq!(
            by_profile.sources[0].source.path,
            Path::new("/home/u/h/hapi.db")
        );
    }

    #[test]
    fn a_repository_inside_a_folder_that_it_holds_is_refused() {
        let text = extending(
            "hapi-stock",
            "[[source]]\nname = \"all\"\npath = \"/mnt\"\nkind = \"dir\"\n",
        );
        let error = parse(&text).expect_err("it contains itself").to_string();
        assert!(error.contains("is inside the source `all`"), "{error}");
    }

    #[test]
    fn what_is_acknowledged_is_an_id() {
        for odd in ["zzzzzzzz", "0123456", ""] {
            let text = extending(
                "hapi-stock",
                &format!("[retention]\nacknowledged = [\"{odd}\"]\n"),
            );
            let error = parse(&text).expect_err(odd).to_string();
            assert!(error.contains("acknowledged"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
            _ = parse(&text);
        }

        #[test]
        fn no_value_of_a_known_key_makes_it_panic(
            key in proptest::sample::select(vec!["hapi-home", "host", "staging", "extends"]),
            value in "\\PC{0,60}",
        ) {
            _ = parse(&format!("{key} = {}\n{}", toml::Value::String(value), extending("hapi-stock", "")));
        }
    }
}
