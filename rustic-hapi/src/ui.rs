//! The user interface that commands talk to while they work: progress on a terminal, warnings on
//! standard error. Results are not its business.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapi_sources::{Observer, Source};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustic_core::{Progress, ProgressBars, ProgressType, RusticProgress};

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors and warnings.
    Quiet,
    /// And the result.
    #[default]
    Normal,
    /// And the steps.
    Verbose,
}

/// Where a command shows what it is doing; clones share the terminal.
#[derive(Clone, Debug)]
pub struct Ui {
    /// How much is said.
    pub verbosity: Verbosity,
    /// Whether bars are drawn.
    pub progress: bool,
    /// Whether text on standard output is coloured.
    pub colour: bool,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Ui {
    /// A user interface that shows progress and colour where there is a terminal.
    pub fn new(verbosity: Verbosity, no_progress: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            verbosity,
            progress: !no_progress
                && verbosity > Verbosity::Quiet
                && std::io::stderr().is_terminal()
                && !dumb,
            colour: std::io::stdout().is_terminal() && !dumb && !no_colour,
            bar: Arc::default(),
        }
    }

    /// One that shows nothing at all.
    pub fn silent() -> Self {
        Self {
            verbosity: Verbosity::Quiet,
            progress: false,
            colour: false,
            bar: Arc::default(),
        }
    }

    /// Says a step, when asked for.
    pub fn step(&self, text: impl fmt::Display) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(&text.to_string());
        }
    }

    /// Says something that the operator should know, whatever the verbosity.
    pub fn warn(&self, text: impl fmt::Display) {
        self.line(&format!("warning: {text}"));
    }

    fn line(&self, text: &str) {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Begins a bar of so many bytes; [`Observer::advance`] and [`Observer::end`] go on with it.
    pub(crate) fn start(&self, what: &str, total: u64) {
        if !self.progress {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.set_style(style(total));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let old = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(bar);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }

    fn with_bar(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            act(bar);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self
            .bar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = if total > 0 {
        "{msg:24!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    } else {
        "{spinner} {msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Observer for Ui {
    fn begin(&self, source: &Source, total: u64) {
        self.start(&format!("staging {}", source.name), total);
    }

    fn advance(&self, bytes: u64) {
        self.with_bar(|bar| bar.inc(bytes));
    }

    fn step(&self, what: &str) {
        self.with_bar(|bar| bar.set_message(what.to_owned()));
    }

    fn end(&self) {
        self.finish();
    }
}

impl ProgressBars for Ui {
    fn progress(&self, progress_type: ProgressType, prefix: &str) -> Progress {
        match progress_type {
            ProgressType::Bytes if self.progress => {
                self.start(prefix.trim_end_matches('.'), 0);
                Progress::new(Bar(self.clone()))
            }
            _ => Progress::hidden(),
        }
    }
}

/// The engine's handle on the bar.
#[derive(Debug)]
struct Bar(Ui);

impl RusticProgress for Bar {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, len: u64) {
        self.0.with_bar(|bar| {
            bar.set_style(style(len));
            bar.set_length(len);
        });
    }

    fn set_title(&self, title: &str) {
        self.0.with_bar(|bar| bar.set_message(title.to_owned()));
    }

    fn inc(&self, inc: u64) {
        self.0.with_bar(|bar| bar.inc(inc));
    }

    fn finish(&self) {
        self.0.finish();
    }
}
