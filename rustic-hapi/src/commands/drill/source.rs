//! What a drill says of one source.

use std::path::PathBuf;

use hapi_sources::Kind;

use crate::error::Error;
use crate::policy::choice::{Choice, Which};
use crate::policy::description::{Outcome, SourceSummary};
use crate::restore::difference::{Difference, What};
use crate::restore::restorer::SourceReport;

/// One source as it was drilled.
#[derive(Debug)]
pub struct SourceDrill {
    /// The source's name.
    pub name: String,
    /// Its kind, where that is known.
    pub kind: Option<Kind>,
    /// Where it came from; `None` where no snapshot holds it.
    pub choice: Option<Choice>,
    /// Files restored.
    pub files: u64,
    /// Bytes restored.
    pub bytes: u64,
    /// What its manifest says of its databases.
    pub summary: Option<SourceSummary>,
    /// Its files in the scratch folder.
    pub restored_to: Vec<PathBuf>,
    /// The verdict.
    pub verdict: Verdict,
    /// What is different.
    pub findings: Vec<Difference>,
}

/// What a drill says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It came back as it was.
    Proven,
    /// Its ciphertext came back as it was, and was not decrypted: no identity was given, or none that opens it.
    Unopened,
    /// There was nothing of it then, and there need not be.
    Absent,
    /// It is not, or not wholly, in the snapshot that was named, or in any.
    Missing,
    /// It did not come back as it was.
    Different,
}

impl Verdict {
    /// For people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Unopened => "not decrypted",
            Self::Different => "DIFFERENT",
            other => other.in_json(),
        }
    }

    /// For programs.
    pub fn in_json(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unopened => "unopened",
            Self::Absent => "absent",
            Self::Missing => "missing",
            Self::Different => "different",
        }
    }
}

impl SourceDrill {
    pub(super) fn of(came: SourceReport, summary: Option<SourceSummary>) -> Self {
        Self {
            name: came.choice.source.clone(),
            kind: Some(came.kind),
            files: came.files.len() as u64,
            bytes: came.bytes,
            summary,
            verdict: Verdict::Different,
            findings: came.differences,
            restored_to: came.files,
            choice: Some(came.choice),
        }
    }

    pub(super) fn lost(choice: Choice, error: &Error) -> Self {
        Self {
            name: choice.source.clone(),
            kind: None,
            files: 0,
            bytes: 0,
            summary: None,
            verdict: Verdict::Different,
            findings: vec![What::from(error.to_string()).into()],
            restored_to: Vec::new(),
            choice: Some(choice),
        }
    }

    pub(super) fn nowhere(name: String, required: bool) -> Self {
        let (verdict, findings) = match required {
            true => (
                Verdict::Missing,
                vec![What::from("it is in no snapshot").into()],
            ),
            false => (Verdict::Absent, Vec::new()),
        };
        Self {
            name,
            kind: None,
            files: 0,
            bytes: 0,
            summary: None,
            verdict,
            findings,
            restored_to: Vec::new(),
            choice: None,
        }
    }

    fn finds(&mut self, what: String) {
        self.findings.push(What::from(what).into());
    }

    pub(super) fn judge(&mut self, which: &Which, unopened: bool) {
        let outcome = self.choice.as_ref().map(|c| c.outcome);
        let sealed = !self.findings.is_empty() && self.findings.iter().all(Difference::is_sealed);
        self.verdict = match outcome {
            // The wrong key, and nothing wrong with the secret.
            Some(Outcome::Complete) if sealed => Verdict::Unopened,
            _ if !self.findings.is_empty() => Verdict::Different,
            Some(Outcome::Absent) => Verdict::Absent,
            Some(Outcome::Complete) if unopened => Verdict::Unopened,
            Some(Outcome::Complete) => Verdict::Proven,
            Some(outcome @ (Outcome::Partial | Outcome::Failed)) => {
                self.finds(match which {
                    Which::Newest => format!(
                        "no snapshot holds it whole; in this one it is {}",
                        outcome.in_words()
                    ),
                    _ => "this snapshot does not have all of it".to_owned(),
                });
                Verdict::Missing
            }
            // A snapshot that was named is what it is; the newest whole one should be whole.
            Some(outcome) if *which != Which::Newest => {
                self.finds(format!(
                    "it was {} when it was captured",
                    outcome.in_words()
                ));
                Verdict::Different
            }
            Some(outcome) => {
                self.finds(format!(
                    "no snapshot has all of it; in this one it is {}",
                    outcome.in_words()
                ));
                Verdict::Different
            }
            None => Verdict::Different,
        };
    }
}
