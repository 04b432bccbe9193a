//! A finding is what was looked at, how it is, and what to do about it.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What is looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub subject: String,
    /// How bad it is.
    pub verdict: Severity,
    /// What was found.
    pub fact: String,
    /// What to do about it; there is always one unless all is well.
    pub remedy: Option<String>,
    /// It was not looked at, since something before it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// All is well.
    Ok,
    /// It will hurt some day, or could not be looked at.
    Warn,
    /// The next run fails, does not come, or saves the wrong thing.
    Fail,
}

impl Finding {
    pub(super) fn ok(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict: Severity::Ok,
            fact: fact.into(),
            remedy: None,
            skipped: false,
        }
    }

    pub(super) fn warn(
        subject: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Severity::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(subject, fact)
        }
    }

    pub(super) fn fail(
        subject: impl Into<String>,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Severity::Fail,
            ..Self::warn(subject, fact, remedy)
        }
    }

    /// An error, with its own hint where it has one.
    pub(super) fn of_error(subject: impl Into<String>, error: &Error, otherwise: &str) -> Self {
        let remedy = error.hint().unwrap_or_else(|| otherwise.to_owned());
        Self::fail(subject, error.to_string(), remedy)
    }

    /// Something before it is in the way.
    pub(super) fn unseen(subject: impl Into<String>, because: &str) -> Self {
        Self {
            skipped: true,
            ..Self::warn(
                subject,
                because,
                "correct that, then run `rustic-hapi doctor` again",
            )
        }
    }
}

/// Up to five of them, and how many more there are.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
