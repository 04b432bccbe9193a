//! A capturer turns sources into captures: it hands each to its kind.
//!
//! It knows all sources of a profile before it takes the first, so it never reads a live database or a
//! secret as a plain file, in whatever order it takes them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::capture::Capture;
use crate::error::{CaptureError, StagingError};
use crate::facts::SoundDatabase;
use crate::guard::Guard;
use crate::observer::Observer;
use crate::secret::cache::SecretCache;
use crate::secret::recipients::Recipients;
use crate::source::{Kind, Scope, Source};
use crate::staging::Staging;
use crate::stop::Stop;
use crate::taking::{Limits, Taking};
use crate::tree::pattern::{Pattern, exclusions};
use crate::{file, rest, secret, sqlite, tree};

/// Takes sources, one after the other, into one staging folder.
///
/// It remembers what it must not read again: the live databases and their side files (by device
/// and inode, and by path), and the secrets it has encrypted. Give it every source of the run with
/// [`Capturer::new`], so that a folder never opens a database that another source names.
pub struct Capturer<'a>(Taking<'a>);

impl<'a> Capturer<'a> {
    /// A capturer for these sources, with no recipients, default limits and a silent observer.
    ///
    /// `sources` are all sources of the profile, also those that this run does not take: their
    /// databases and secrets are what the others must not read. An error is a pattern that is none.
    pub fn new(staging: &'a Staging, sources: &[Source]) -> Result<Self, CaptureError> {
        for source in sources {
            exclusions(source)?;
            if source.is_pattern() {
                Pattern::of(source)?;
            }
        }
        Ok(Self(Taking::new(staging, sources, Guard::new(sources)?)))
    }

    /// Whom secrets are encrypted to.
    #[must_use]
    pub fn recipients(mut self, recipients: Option<&'a Recipients>) -> Self {
        self.0.recipients = recipients;
        self
    }

    /// Where ciphertexts are kept for the next run.
    #[must_use]
    pub fn secret_cache(mut self, secret_cache: Option<&'a SecretCache>) -> Self {
        self.0.secret_cache = secret_cache;
        self
    }

    /// Who is told of the progress.
    #[must_use]
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.0.observer = observer;
        self
    }

    /// The flag that ends captures early.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.0.stop = stop;
        self
    }

    /// Hands captures of databases out before SQLite's own check of the copy has ended: their facts
    /// then presume that it finds nothing. [`Capture::verdicts`] are to be waited for before anything
    /// is made of that, and [`Capture::conclude`] puts them into the facts.
    #[must_use]
    pub fn presume_sound(mut self, presume: bool) -> Self {
        self.0.presume = presume;
        self
    }

    /// Databases that were found sound before, by path and by the SQLite of
    /// [`sqlite_version`](crate::sqlite_version): a copy with the same hash is not checked again.
    #[must_use]
    pub fn sound(mut self, sound: BTreeMap<PathBuf, SoundDatabase>) -> Self {
        self.0.sound = sound;
        self
    }

    /// How long things may take.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// The present time, by which the age of stored ciphertexts is told.
    #[must_use]
    pub fn now(mut self, now: SystemTime) -> Self {
        self.0.now = now;
        self
    }

    /// Takes one source. An error means that nothing of it could be taken; where parts could not,
    /// the capture says so in its failures. A source that is not required may be absent.
    pub fn capture(&mut self, source: &Source) -> Result<Capture, CaptureError> {
        self.0.stop.check()?;
        self.0.guard.renew();
        let total = match source.kind {
            Kind::Sqlite if !source.is_pattern() => sqlite::size(&source.path),
            Kind::Secret | Kind::File if source.scope == Scope::File => file::size(&source.path),
            _ => 0,
        };
        self.0.observer.begin(source, total);
        let captured = match source.kind {
            Kind::Secret if source.scope == Scope::Rest => rest::capture(&mut self.0, source),
            Kind::Secret => secret::capture(&mut self.0, source),
            Kind::Sqlite => sqlite::capture(&mut self.0, source),
            Kind::File => file::capture(&mut self.0, source),
            Kind::Glob => tree::glob(&mut self.0, source),
            Kind::Dir => tree::dir(&mut self.0, source),
        };
        self.0.observer.end();
        match captured {
            Err(CaptureError::Missing { .. } | CaptureError::NoMatch { .. })
                if !source.required =>
            {
                Ok(Capture {
                    absent: true,
                    ..Capture::empty(source)
                })
            }
            other => other,
        }
    }

    /// Files and folders that no folder or pattern enters, whatever the sources say: a program's own
    /// state, its passwords, the place that captures go to.
    #[must_use]
    pub fn keep_out(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.0.guard.keep_out(paths);
        self
    }

    /// Reads the secrets among these sources without taking them, so that no other source carries
    /// a copy of one, or quotes it unnoticed: for runs that take only a part of a profile.
    ///
    /// Returns those that could not be read: copies of them are not recognised by content, only
    /// by name and inode.
    pub fn learn_secrets(&mut self, sources: &[Source]) -> Vec<(String, CaptureError)> {
        sources
            .iter()
            .filter(|s| s.kind == Kind::Secret && s.scope != Scope::Rest)
            .filter_map(|s| Some((s.name.clone(), secret::learn(&mut self.0, s).err()?)))
            .collect()
    }

    /// Takes all of these sources, secrets first (so that they are known when files are looked
    /// at), then databases, files, globs and folders. Returns them in the order given.
    ///
    /// Once it was stopped, or the staging folder failed, the rest is not tried and gets the same
    /// error. A lack of space is the error of one source: a smaller one may still fit.
    pub fn capture_all(&mut self, sources: &[Source]) -> Vec<Result<Capture, CaptureError>> {
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_by_key(|i| sources[*i].kind);
        let mut ended: Option<CaptureError> = None;
        let mut captures: Vec<_> = order
            .into_iter()
            .map(|i| {
                let captured = match &ended {
                    Some(e) => Err(again(e)),
                    None => self.capture(&sources[i]),
                };
                if let Err(
                    e @ (CaptureError::Stopped | CaptureError::Staging(StagingError::Io { .. })),
                ) = &captured
                {
                    ended = Some(again(e));
                }
                (i, captured)
            })
            .collect();
        captures.sort_by_key(|(i, _)| *i);
        captures.into_iter().map(|(_, captured)| captured).collect()
    }
}

/// The error that ended the run, for a source that was not tried because of it.
fn again(e: &CaptureError) -> CaptureError {
    match e {
        CaptureError::Staging(StagingError::Io { path, error }) => {
            let error = io::Error::new(error.kind(), error.to_string());
            StagingError::at(path, error).into()
        }
        _ => CaptureError::Stopped,
    }
}
