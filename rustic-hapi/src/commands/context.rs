//! A context is what every command is handed besides the profile and its request.

use chrono::{DateTime, Local};
use hapi_sources::Stop;

use crate::terminal::ui::Ui;

/// The time, what asks for the end, and whom to tell about progress.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Tells the time, in the machine's time zone.
    pub clock: &'a dyn Fn() -> DateTime<Local>,
    /// Set when the work is to end.
    pub stop: &'a Stop,
    /// Progress, warnings and steps.
    pub ui: &'a Ui,
}

impl Context<'_> {
    /// What time it is.
    pub fn now(&self) -> DateTime<Local> {
        (self.clock)()
    }
}
