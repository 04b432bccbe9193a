//! Variables are restic's own: people have them in their shells. They count where neither a flag nor the
//! profile says it; one that names another repository than the profile is refused.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::ProfileError;

/// What the variables say that restic opens a repository by.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<&'static str, Zeroizing<String>>);

/// Where the repository is.
pub(crate) const REPOSITORY: &str = "RESTIC_REPOSITORY";
/// The file that holds its password.
pub(crate) const PASSWORD_FILE: &str = "RESTIC_PASSWORD_FILE";
/// The program that prints its password.
pub(crate) const PASSWORD_COMMAND: &str = "RESTIC_PASSWORD_COMMAND";
/// The password itself.
pub(crate) const PASSWORD: &str = "RESTIC_PASSWORD";
/// The user of a REST server.
pub(crate) const REST_USERNAME: &str = "RESTIC_REST_USERNAME";
/// The password of a REST server.
pub(crate) const REST_PASSWORD: &str = "RESTIC_REST_PASSWORD";
/// The certificates of private authorities.
pub(crate) const CACERT: &str = "RESTIC_CACERT";

/// Those that a server asks for.
pub(crate) const OF_SERVERS: [&str; 3] = [REST_USERNAME, REST_PASSWORD, CACERT];

impl Variables {
    /// Those of this process; empty ones count as absent, as with restic.
    pub fn from_process() -> Self {
        Self::from_pairs(|name| std::env::var_os(name)?.into_string().ok())
    }

    /// Those that `value` has.
    pub fn from_pairs(value: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name| {
            let text = value(name).filter(|text| !text.is_empty())?;
            Some((name, Zeroizing::new(text)))
        };
        let names = [REPOSITORY, PASSWORD_FILE, PASSWORD_COMMAND, PASSWORD];
        Self(
            names
                .into_iter()
                .chain(OF_SERVERS)
                .filter_map(given)
                .collect(),
        )
    }

    /// All but one of them.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// What one of them says.
    pub(crate) fn get(&self, name: &str) -> Option<&Zeroizing<String>> {
        self.0.get(name)
    }
}

/// A variable says something else than `other` does. What they say is not told: it may be a password.
pub(crate) fn disagree(name: &'static str, other: &str) -> ProfileError {
    ProfileError::Variable {
        name: name.into(),
        fact: format!("disagrees with {other}"),
        hint: format!("nothing was done; `unset {name}`, or make both the same"),
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_one_is_absent_and_no_value_is_shown() {
        let variables = Variables::from_pairs(|name| match name {
            REST_PASSWORD => Some("s3cret".into()),
            CACERT => Some(String::new()),
            _ => None,
        });
        assert!(variables.get(REST_PASSWORD).is_some());
        assert!(variables.get(CACERT).is_none());
        assert!(!format!("{variables:?}").contains("s3cret"));
    }
}
