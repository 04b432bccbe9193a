//! Capturing is the first step of a series: its sources become captures in the staging folder. The main series,
//! which every run takes, is captured while the repository is opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use chrono::{DateTime, Local};
use hapi_sources::{
    Capture, CaptureError, Capturer, Note, SecretCache, SoundDatabase, Staging, Stop,
};

use crate::archive::proven::Proven;
use crate::error::Error;
use crate::policy::notes::describe_note;
use crate::profile::Profile;
use crate::profile::sources::{Rhythm, Series, SeriesSource};
use crate::terminal::ui::Ui;

/// What each source of a series brought.
pub(crate) type Captured = Vec<Result<Capture, CaptureError>>;

/// A series, and what was captured of it before it was its turn.
pub(crate) type Ahead = (String, Result<Captured, Error>);

/// Does two things at the same time. The second is given up when the first fails, or sets the flag.
pub(crate) fn at_once<A, B: Send>(
    stop: &Stop,
    first: impl FnOnce(&AtomicBool) -> Result<A, Error>,
    second: impl FnOnce(Stop) -> Option<B> + Send,
) -> Result<(A, Option<B>), Error> {
    let given_up = Arc::new(AtomicBool::new(false));
    let stop = stop.clone().or(Arc::clone(&given_up));
    thread::scope(|scope| {
        let second = scope.spawn(move || second(stop));
        // Also where the first panics: the scope waits for both.
        let give_up = GiveUp(&given_up);
        let first = first(&given_up)?;
        std::mem::forget(give_up);
        // What panicked did nothing, and will say so where it is needed.
        Ok((first, second.join().ok().flatten()))
    })
}

/// Sets a flag when it is dropped.
struct GiveUp<'a>(&'a AtomicBool);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Captures the main series, which every run takes, whatever the repository holds.
pub(crate) fn capture_ahead(
    profile: &Profile,
    only: &[String],
    now: DateTime<Local>,
    proven: &Proven,
    staging: &Staging,
    stop: &Stop,
    ui: &Ui,
) -> Option<Ahead> {
    let main = profile.series.first()?;
    if main.rhythm != Rhythm::EveryRun || !only.is_empty() {
        return None;
    }
    let sources = chosen(profile, only, main);
    let clock = Instant::now();
    let sound = proven.sound(&main.name, &now);
    let captured = capture(profile, &sources, now, sound, staging, stop, ui);
    if captured.is_ok() {
        ui.step(format_args!(
            "{}: captured after {:.1?}, beside the opening of the repository",
            main.name,
            clock.elapsed()
        ));
    }
    Some((main.name.clone(), captured))
}

/// The captures with all that SQLite has to say of them.
pub(crate) fn concluded(captured: Captured, stop: &Stop) -> Result<Captured, Error> {
    let captured = captured
        .into_iter()
        .map(|capture| capture.and_then(Capture::conclude))
        .collect();
    match stop.is_set() {
        true => Err(CaptureError::Stopped.into()),
        false => Ok(captured),
    }
}

/// Captures the sources of one series. What each one brought is returned; an error is one that
/// ends the run.
pub(crate) fn capture(
    profile: &Profile,
    sources: &[SeriesSource],
    time: DateTime<Local>,
    sound: BTreeMap<PathBuf, SoundDatabase>,
    staging: &Staging,
    stop: &Stop,
    ui: &Ui,
) -> Result<Captured, Error> {
    let cache = SecretCache::open(&profile.reach.state.join("secrets"));
    if let Err(error) = &cache {
        ui.warn(format_args!("each run encrypts the secrets again: {error}"));
    }
    // Every source is named, so that no folder of one series opens a database or copies a secret
    // of another.
    let all = profile.everything_named();
    let capturer = Capturer::new(staging, &all)?
        .recipients(profile.recipients.as_ref())
        .secret_cache(cache.as_ref().ok())
        .observer(ui)
        .presume_sound(true)
        .sound(sound)
        .stop(stop.clone())
        .now(SystemTime::from(time));
    let mut capturer = capturer.keep_out(own_places(profile));
    for (name, error) in capturer.learn_secrets(&all) {
        // One that is to be taken tells it itself, and one that was never there is nobody's.
        let taken = sources
            .iter()
            .any(|s| s.source.name == name && s.source.required);
        let nothing = matches!(error, CaptureError::Missing { .. } | CaptureError::Stopped);
        if !taken && !nothing {
            ui.warn(format_args!(
                "copies of the secret `{name}` may go unnoticed: {error}"
            ));
        }
    }
    let wanted: Vec<_> = sources.iter().map(|s| s.source.clone()).collect();
    let captured = capturer.capture_all(&wanted);
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    for capture in captured.iter().flatten() {
        for note in capture
            .notes
            .iter()
            .filter(|n| matches!(n, Note::SecretCache { .. }))
        {
            ui.step(describe_note(note));
        }
    }
    Ok(captured)
}

/// What is ours, and in no snapshot: state, staging, profile, password, a local repository.
pub(crate) fn own_places(profile: &Profile) -> Vec<PathBuf> {
    let state = &profile.reach.state;
    let mut places = vec![
        state.parent().unwrap_or(state).to_path_buf(),
        profile.staging.clone(),
        // The usual one, even where a program prints the password now.
        profile.file.with_extension("password"),
    ];
    places.extend(profile.reach.password.file().map(Path::to_path_buf));
    places.extend(profile.reach.location.local().map(Path::to_path_buf));
    places
}

/// The sources of a series; only those named, where any are.
pub(crate) fn chosen(profile: &Profile, only: &[String], series: &Series) -> Vec<SeriesSource> {
    profile
        .sources
        .iter()
        .filter(|s| s.series == series.name)
        .filter(|s| only.is_empty() || only.contains(&s.source.name))
        .cloned()
        .collect()
}
