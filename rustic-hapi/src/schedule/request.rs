//! What is asked of a schedule: what calls us, and what to do about it.

/// What calls us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A timer of the user's manager.
    UserTimer,
    /// A timer of the system's manager, that runs as the hub's user.
    SystemTimer,
    /// Lines in the user's crontab.
    Cron,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Show it.
    Print,
    /// Put it where it works.
    Install,
    /// Take it away.
    Remove,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What calls us.
    pub kind: Kind,
    /// What to do about it.
    pub action: Action,
    /// Whom the system's timer runs as; the hub's user unless given.
    pub user: Option<String>,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UserTimer => "user-timer",
            Self::SystemTimer => "system-timer",
            Self::Cron => "cron",
        }
    }

    /// In words.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::UserTimer => "a timer of the user's",
            Self::SystemTimer => "a timer of the system's",
            Self::Cron => "a block in the crontab",
        }
    }

    /// What `schedule` takes to mean it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::UserTimer => "",
            Self::SystemTimer => "--system ",
            Self::Cron => "--cron ",
        }
    }
}

/// What to type.
pub(crate) fn command(name: &str, flags: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let profile = match name {
        "hapi" => String::new(),
        name if name.chars().all(plain) => format!("--profile {name} "),
        name => format!("--profile {} ", crate::machine::shell::quoted(name)),
    };
    format!("rustic-hapi {profile}schedule {flags}")
}
