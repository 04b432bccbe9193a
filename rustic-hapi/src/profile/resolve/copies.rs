//! The places that snapshots are copied to. Each is a profile of its own that differs from the main one in its
//! repository, retention and state: so whatever reads the main repository reads a copy as well.

use std::collections::BTreeSet;

use crate::destination::variables::{self, Variables};
use crate::error::ProfileError;
use crate::profile::Profile;
use crate::profile::at::At;
use crate::profile::lookup::Lookup;
use crate::profile::written::{RawCopy, RawProfile, RawRepository, RawRetention};

impl RawCopy {
    /// Makes sure that each copy has a name of its own that can be a part of a file's name.
    pub(super) fn have_names(copies: &[Self], at: At<'_>) -> Result<(), ProfileError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let mut names = BTreeSet::new();
        for name in copies.iter().map(|copy| copy.name.as_str()) {
            let is_name = !name.starts_with('-')
                && name != "main"
                && (1..=32).contains(&name.len())
                && name.bytes().all(plain);
            let fact = match (is_name, names.insert(name)) {
                (true, true) => continue,
                (true, false) => format!("two copies are called `{name}`"),
                (false, _) => format!("`{name}` cannot be the name of a copy"),
            };
            let hint = "give each copy another name of letters, digits, `-` and `_`; `main` is the main repository's";
            return Err(at.value("`name` in `[[copy]]`", fact, Some(hint.into())));
        }
        Ok(())
    }

    /// The profile with this place as its only one.
    pub(super) fn in_place_of_the_main(&self, raw: &RawProfile) -> RawProfile {
        let (repository, retention) = (&raw.repository, &raw.retention);
        RawProfile {
            copy: Vec::new(),
            repository: RawRepository {
                location: Some(self.location.clone()),
                id: self.id.clone(),
                password_file: self.password_file.clone(),
                password_command: self.password_command.clone(),
                environment_file: self.environment_file.clone(),
                allow_same_disk: self.allow_same_disk,
                append_only: self.append_only,
                other_hosts: repository.other_hosts.clone(),
            },
            retention: RawRetention {
                keep_daily: self.keep_daily.or(retention.keep_daily),
                keep_within: self
                    .keep_within
                    .clone()
                    .or_else(|| retention.keep_within.clone()),
                keep_weekly: self.keep_weekly.or(retention.keep_weekly),
                keep_monthly: self.keep_monthly.or(retention.keep_monthly),
                prune: self.prune.or(retention.prune),
                acknowledged: retention.acknowledged.clone(),
            },
            ..raw.clone()
        }
    }

    /// What wins over what is written of this place. What restic's variables say is of the main repository: its
    /// user and password are for no other server.
    pub(super) fn lookup(&self, lookup: &Lookup) -> Lookup {
        let meant = lookup.from.as_ref() == Some(&self.name);
        let mut own = lookup.clone();
        own.repository = None;
        own.env.restic = Variables::default();
        own.password_file = own.password_file.filter(|_| meant);
        own
    }

    /// Whether nothing says its password, so that it is the main one's.
    pub(super) fn shares_the_password(&self, own: &Lookup) -> bool {
        self.password_file.is_none()
            && self.password_command.is_none()
            && own.password_file.is_none()
    }
}

impl Profile {
    /// Opens with the main one's password.
    pub(super) fn share_password(&mut self, main: &Self) {
        self.reach.password = main.reach.password.clone();
        self.reach.shares_password = true;
        let names = main.reach.from_variables.iter();
        let names = names.filter(|name| **name != variables::REPOSITORY);
        self.reach.from_variables = names.copied().collect();
    }

    /// Makes sure that no other place of these is this one's.
    pub(super) fn is_elsewhere<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Self>,
    ) -> Result<(), ProfileError> {
        let place = |profile: &Self| {
            let location = profile.reach.location.without_credentials();
            location.trim_end_matches('/').to_owned()
        };
        // One folder in the other goes with it, and is no part of a repository.
        let nested = |other: &Self| {
            let (here, there) = (self.reach.location.local(), other.reach.location.local());
            here.zip(there)
                .is_some_and(|(here, there)| here.starts_with(there) || there.starts_with(here))
        };
        let mut others = others.into_iter();
        let Some(other) = others.find(|other| place(other) == place(self) || nested(other)) else {
            return Ok(());
        };
        Err(self.is_the_place_of(other.copy.as_deref()))
    }

    /// Makes sure that the repository with this id, which was found at this copy's place, is none of the profile's
    /// others: a place has many names. Of two copies with one id, the second is refused.
    ///
    /// # Errors
    /// [`ProfileError::Value`]; nothing may be written to it then.
    pub(crate) fn is_no_other(
        &self,
        id: &str,
        main: &Self,
        main_id: Option<&str>,
    ) -> Result<(), ProfileError> {
        if main_id == Some(id) {
            return Err(self.is_the_place_of(None));
        }
        // One that is made now comes after all that were.
        let is_new = self.reach.id.is_none();
        let before = main
            .copies
            .iter()
            .take_while(|other| is_new || other.copy != self.copy);
        let mut same = before.filter(|other| other.reach.id.as_deref() == Some(id));
        same.next().map_or(Ok(()), |other| {
            Err(self.is_the_place_of(other.copy.as_deref()))
        })
    }

    /// The error that this copy is the main repository, or another copy.
    fn is_the_place_of(&self, other: Option<&str>) -> ProfileError {
        let at = At {
            path: &self.file,
            copy: self.copy.as_deref(),
        };
        let fact = match other {
            None => "it is the main repository's place, or within it".to_owned(),
            Some(name) => format!("it is the place of the copy `{name}`, or within it"),
        };
        at.value(
            &at.repository("location"),
            fact,
            Some("a copy needs a place of its own".into()),
        )
    }

    /// The profile of one of the copies.
    pub(super) fn into_copy(mut self, name: &str) -> Result<Self, ProfileError> {
        let found = self
            .copies
            .iter()
            .position(|copy| copy.copy.as_deref() == Some(name));
        match found {
            Some(nth) => {
                let copy = &self.copies[nth];
                if let Some(id) = &copy.reach.id {
                    copy.is_no_other(id, &self, self.reach.id.as_deref())?;
                }
                Ok(self.copies.swap_remove(nth))
            }
            None => {
                let names: Vec<_> = self.copies.iter().map(Self::place).collect();
                Err(ProfileError::Value {
                    path: self.file.clone(),
                    key: "`[[copy]]`".into(),
                    fact: format!("there is no copy `{name}`"),
                    hint: Some(match names.is_empty() {
                        true => format!(
                            "write it into the profile: `[[copy]]` with `name = \"{name}\"` and `location`; then `rustic-hapi init --copy {name}`"
                        ),
                        false => format!("the profile has {}", names.join(", ")),
                    }),
                })
            }
        }
    }
}
