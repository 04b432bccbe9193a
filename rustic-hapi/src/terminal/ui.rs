//! The user interface that commands talk to while they work: progress on a terminal, warnings on
//! standard error. Results are not its business.

use std::fmt;
use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use hapi_sources::{Observer, Source};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustic_core::{Progress, ProgressBars, ProgressType, RusticProgress};

use crate::machine::process::tell;
use crate::terminal::call::Call;

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

/// How lines for a log look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; under systemd with the priority that journald understands (sd-daemon(3)).
    #[default]
    Text,
    /// One JSON object a line.
    Json,
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
    /// How lines for a log look.
    pub format: LogFormat,
    /// What advice has to repeat.
    pub call: Call,
    /// Standard error goes to journald.
    journal: bool,
    /// The id of the run, once it has one.
    run: Arc<OnceLock<String>>,
    /// Whether more than ASCII can be shown: the locale is UTF-8, the terminal not a dumb one.
    pub unicode: bool,
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
            format: LogFormat::default(),
            call: Call::default(),
            journal: goes_to_journald(),
            run: Arc::default(),
            unicode: !dumb && locale_is_utf8(),
            bar: Arc::default(),
        }
    }

    /// One that shows nothing at all.
    pub fn silent() -> Self {
        Self {
            verbosity: Verbosity::Quiet,
            progress: false,
            colour: false,
            format: LogFormat::default(),
            call: Call::default(),
            journal: false,
            run: Arc::default(),
            unicode: false,
            bar: Arc::default(),
        }
    }

    /// Lines of a log look like this.
    #[must_use]
    pub fn logging(mut self, format: LogFormat) -> Self {
        self.format = format;
        self
    }

    /// Advice repeats the options of this call.
    #[must_use]
    pub fn called(mut self, call: Call) -> Self {
        self.call = call;
        self
    }

    /// Everything that is said from now on belongs to a run of this id.
    pub(crate) fn named(&self, run: &str) {
        _ = self.run.set(run.to_owned());
    }

    /// Says a line that begins with its kind: `error:`, `warning:`, `hint:`, `note:`.
    pub fn complain(&self, line: &str) {
        self.line(line);
    }

    /// A line for standard output, which a log may be, too.
    pub fn logged(&self, line: &str) -> String {
        match self.format {
            LogFormat::Text => line.to_owned(),
            LogFormat::Json => self.json(line),
        }
    }

    /// Says a step, when asked for.
    pub fn step(&self, text: impl fmt::Display) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(&text.to_string());
        }
    }

    /// Says what goes on where it may look like nothing.
    pub fn note(&self, text: impl fmt::Display) {
        if self.verbosity > Verbosity::Quiet {
            self.line(&format!("note: {text}"));
        }
    }

    /// Does something that may take long without a sign. On a terminal says what it is waiting for after three
    /// seconds, and again when that is something else.
    pub(crate) fn while_it_lasts<T>(
        &self,
        waiting: &(dyn Fn() -> String + Sync),
        work: impl FnOnce() -> T,
    ) -> T {
        const SILENCE: Duration = Duration::from_secs(3);
        if !self.progress {
            return work();
        }
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let watch = move || {
                let mut said = String::new();
                while is_done.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                    let now = waiting();
                    if now != said {
                        self.note(&now);
                        said = now;
                    }
                }
            };
            // Without a thread nothing is said.
            _ = thread::Builder::new().spawn_scoped(scope, watch);
            let result = work();
            drop(done);
            result
        })
    }

    /// Says something that the operator should know, whatever the verbosity.
    pub fn warn(&self, text: impl fmt::Display) {
        self.line(&format!("warning: {text}"));
    }

    fn json(&self, text: &str) -> String {
        let (level, message) = level_of(text);
        serde_json::json!({
            "time": chrono::Local::now().to_rfc3339(),
            "level": level.0,
            "run": self.run.get(),
            "message": message,
        })
        .to_string()
    }

    fn line(&self, text: &str) {
        let text = self.call.complete(text);
        let text = match (self.format, self.journal) {
            (LogFormat::Json, _) => self.json(&text),
            (LogFormat::Text, true) => format!("<{}>{text}", level_of(&text).0.1),
            (LogFormat::Text, false) => text,
        };
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| tell(format_args!("{text}\n"))),
            None => tell(format_args!("{text}\n")),
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

/// Level and syslog priority (RFC 5424) of a line by its beginning, and the line without it.
fn level_of(text: &str) -> ((&'static str, u8), &str) {
    for (kind, level) in [
        ("error: ", ("error", 3)),
        ("internal error", ("error", 3)),
        ("warning: ", ("warning", 4)),
        ("hint: ", ("notice", 5)),
        ("note: ", ("notice", 5)),
    ] {
        if let Some(rest) = text.strip_prefix(kind) {
            return (level, if kind.ends_with(' ') { rest } else { text });
        }
    }
    (("info", 6), text)
}

/// Whether standard error is what systemd says is journald's (`JOURNAL_STREAM`, systemd.exec(5)).
fn goes_to_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// The first of the variables that is set decides (POSIX, "Environment Variables").
fn locale_is_utf8() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .map(|value| value.to_ascii_lowercase())
        .is_some_and(|value| value.contains("utf-8") || value.contains("utf8"))
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
