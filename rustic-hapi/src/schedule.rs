//! A schedule is what calls `snapshot` at the profile's slots: a systemd timer of the user's or of
//! the system's, or lines in the user's crontab.
//!
//! What is printed is what is installed, byte for byte. Installing twice is installing once, and
//! only files and lines that carry our mark are ever changed or removed.
//!
//! ```text
//! rustic-hapi schedule                     print the units
//! rustic-hapi schedule --install           for this user
//! rustic-hapi schedule --install --system  for the whole system, as the hub's user
//! rustic-hapi schedule --install --cron    for a machine without systemd
//! ```

mod account;
mod crontab;
mod job;
mod systemd;
mod tool;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use self::account::Account;
use self::crontab::Crontab;
use self::job::Job;
use self::systemd::{Scope, Units};
use crate::error::{Error, Exit};
use crate::lock::private_folder;
use crate::output::Output;
use crate::profile::{Environment, Lookup, Profile, is_absent};
use crate::report::JSON_VERSION;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What calls us.
    pub kind: Kind,
    /// What to do about it.
    pub action: Action,
}

/// What matters of the machine, so that a test can have another.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program to be called, absolute.
    pub binary: PathBuf,
    /// `PATH`, for programs that lie in no usual folder.
    pub path: OsString,
    /// `RCLONE_CONFIG`.
    pub rclone_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`: there the user's manager is found.
    pub runtime: Option<PathBuf>,
    /// The folder for units of the system.
    pub system_units: PathBuf,
    /// A folder that is there if systemd runs.
    pub booted: PathBuf,
}

/// Which schedules of a profile are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// A timer of the user's manager.
    pub user_timer: State,
    /// A timer of the system's manager.
    pub system_timer: State,
    /// Lines in the crontab of the user that asks.
    pub cron: State,
}

/// How a schedule is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there, or not ours.
    Absent,
    /// It is there, whole or not.
    Present {
        /// It will run by itself: the timer is enabled. A crontab always is.
        enabled: bool,
        /// It is what would be installed now; `None` where that cannot be told.
        current: Option<bool>,
    },
}

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    request: Request,
    name: String,
    user: Option<String>,
    slots: Vec<String>,
    files: Vec<(PathBuf, String)>,
    lines: Option<String>,
    changed: bool,
    to_type: Vec<String>,
    warnings: Vec<String>,
}

/// Prints, installs or removes a schedule.
///
/// # Errors
/// Those of reading the profile (not to remove); [`Error::Usage`] for what cannot be written down,
/// for files of others, and for a crontab in which it is not clear what is ours; [`Error::State`] and
/// [`Error::Tool`] where the system refuses.
pub fn run(lookup: &Lookup, request: Request, machine: &Machine) -> Result<Report, Error> {
    if request.action == Action::Remove {
        return remove(lookup, request, machine);
    }
    let plan = Plan::of(lookup, request.kind, machine)?;
    let mut report = Report::new(request, plan.profile.name.clone());
    report.slots = plan.job.times();
    report.warnings = plan.warnings(machine);
    match &plan.text {
        Text::Units {
            units,
            scope,
            folder,
        } => {
            report.user = match scope {
                Scope::User => None,
                Scope::System(account) => Some(account.name.clone()),
            };
            let [service, timer] = systemd::names(&plan.profile.name);
            report.files = vec![
                (folder.join(service), units.service.clone()),
                (folder.join(timer), units.timer.clone()),
            ];
            if request.action == Action::Install {
                install_units(&mut report, units, scope, machine)?;
            }
        }
        Text::Lines(lines) => {
            report.lines = Some(lines.clone());
            if request.action == Action::Install {
                let crontab = Crontab::read(&plan.profile.name)?;
                report.warnings.extend(crontab.warnings());
                if crontab.block.as_deref() != Some(lines.as_bytes()) {
                    crontab.with(Some(lines)).write()?;
                    report.changed = true;
                }
            }
        }
    }
    if request.action == Action::Install {
        report.warn_of_others(&plan.profile.name, lookup, machine);
    }
    Ok(report)
}

/// Which schedules of a profile are there, enabled, and as they would be written now.
///
/// A crontab that cannot be read counts as absent: there need not be a cron.
pub fn installed(profile: &Profile, lookup: &Lookup, machine: &Machine) -> Installed {
    let mut lookup = lookup.clone();
    if !profile.file.as_os_str().is_empty() {
        lookup.profile = Some(profile.file.to_string_lossy().into_owned());
    }
    let timer = |kind: Kind| {
        let found = present(&profile.name, kind, &lookup, machine);
        let State::Present { enabled, .. } = found else {
            return found;
        };
        let plan = Plan::of(&lookup, kind, machine).ok();
        let current = plan.and_then(|plan| plan.is_written());
        State::Present { enabled, current }
    };
    Installed {
        user_timer: timer(Kind::UserTimer),
        system_timer: timer(Kind::SystemTimer),
        cron: timer(Kind::Cron),
    }
}

/// What would be written.
struct Plan {
    profile: Profile,
    job: Job,
    text: Text,
}

enum Text {
    Units {
        units: Units,
        scope: Scope,
        folder: PathBuf,
    },
    Lines(String),
}

impl Plan {
    fn of(lookup: &Lookup, kind: Kind, machine: &Machine) -> Result<Self, Error> {
        let (profile, lookup, scope) = match kind {
            Kind::SystemTimer => {
                let (account, lookup) = of_hubs_user(lookup)?;
                (Profile::load(&lookup)?, lookup, Scope::System(account))
            }
            Kind::UserTimer | Kind::Cron => (Profile::load(lookup)?, lookup.clone(), Scope::User),
        };
        let job = Job::of(&profile, &lookup, machine)?;
        let text = match kind {
            Kind::Cron => Text::Lines(crontab::block(&job)?),
            Kind::UserTimer | Kind::SystemTimer => Text::Units {
                units: systemd::units(&profile, &job, &scope, machine.rclone_config.as_deref())?,
                scope,
                folder: unit_folder(kind, &lookup, machine)?,
            },
        };
        Ok(Self { profile, job, text })
    }

    fn is_written(&self) -> Option<bool> {
        let is = |path: PathBuf, text: &str| fs::read_to_string(path).ok().map(|t| t == text);
        match &self.text {
            Text::Units { units, folder, .. } => {
                let [service, timer] = systemd::names(&self.profile.name);
                Some(
                    is(folder.join(service), &units.service).unwrap_or_default()
                        && is(folder.join(timer), &units.timer).unwrap_or_default(),
                )
            }
            Text::Lines(lines) => {
                let crontab = Crontab::read(&self.profile.name).ok()?;
                Some(crontab.block.as_deref() == Some(lines.as_bytes()))
            }
        }
    }

    fn warnings(&self, machine: &Machine) -> Vec<String> {
        let mut warnings = Vec::new();
        let fleeting = machine.binary.starts_with("/tmp")
            || machine
                .binary
                .components()
                .any(|part| part.as_os_str() == "target");
        if fleeting {
            warnings.push(format!(
                "warning: `{}` will not be there for long: install the program (`cargo install --path rustic-hapi`), and schedule that one",
                machine.binary.display()
            ));
        }
        if let Text::Units {
            scope: Scope::System(account),
            ..
        } = &self.text
        {
            for file in [&self.profile.file, &self.profile.password_file] {
                if !account.may_read(file) {
                    warnings.push(format!(
                        "warning: `{}` is not there, or the user `{}` may not read it",
                        file.display(),
                        account.name
                    ));
                }
            }
        }
        warnings
    }
}

/// The user that the hub runs as, and how that user's profile is found.
///
/// An operator who types `sudo` has another home, so a profile may have to be read to find out whose
/// it is, and then be read again with what that user's `~` means.
fn of_hubs_user(lookup: &Lookup) -> Result<(Account, Lookup), Error> {
    let first = Profile::load(lookup)?;
    let own = Account::own()?;
    let account = match Account::of_hub(&first) {
        Ok(account) => account,
        // A profile that lies in somebody's home, while `~` still is the operator's.
        Err(error @ Error::Usage { .. }) if lookup.home.is_none() => {
            use std::os::unix::fs::MetadataExt;
            match fs::metadata(&first.file) {
                Ok(file) if file.uid() != own.uid => Account::of(&file.uid().to_string())?,
                _ => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    let mut lookup = lookup.clone();
    lookup.profile = Some(first.file.to_string_lossy().into_owned());
    if account.uid != own.uid {
        // The operator's variables mean nothing to the service.
        lookup.env = Environment {
            home: Some(account.home.clone()),
            ..Environment::default()
        };
    }
    Ok((account, lookup))
}

fn unit_folder(kind: Kind, lookup: &Lookup, machine: &Machine) -> Result<PathBuf, Error> {
    if kind == Kind::SystemTimer {
        return Ok(machine.system_units.clone());
    }
    // Not `--home`: the manager of the user that calls has to find it.
    let base = match (&lookup.env.config, &lookup.env.home) {
        (Some(config), _) => config.clone(),
        (None, Some(home)) => home.join(".config"),
        (None, None) => lookup.home()?.join(".config"),
    };
    Ok(base.join("systemd/user"))
}

fn install_units(
    report: &mut Report,
    units: &Units,
    scope: &Scope,
    machine: &Machine,
) -> Result<(), Error> {
    for (path, _) in &report.files {
        refuse_foreign(path)?;
    }
    make_folders(report, units, scope)?;
    for (path, text) in &report.files {
        report.changed |= write_public(path, text)?;
    }
    let timer = file_name(&report.files[1].0);
    let commands = [
        vec!["daemon-reload".to_owned()],
        vec!["enable".into(), "--now".into(), timer.clone()],
        // One that runs already keeps its old times otherwise.
        vec!["restart".into(), timer],
    ];
    let commands = match report.changed && machine.has_manager(report.request.kind) {
        true => &commands[..],
        false => &commands[..2],
    };
    for words in commands {
        machine.systemctl(report, words)?;
    }
    if *scope == Scope::User {
        check_linger(report, machine)?;
    }
    Ok(())
}

/// A path that is not there when the service starts stays read-only.
fn make_folders(report: &mut Report, units: &Units, scope: &Scope) -> Result<(), Error> {
    let missing: Vec<_> = units.folders.iter().filter(|dir| !dir.exists()).collect();
    let other = match scope {
        Scope::System(account) if account.uid != Account::own()?.uid => Some(&account.name),
        _ => None,
    };
    for folder in missing {
        match other {
            None => private_folder(folder)?,
            Some(user) => report.warnings.push(format!(
                "warning: `{}` is not there, so the service cannot write to it; a snapshot by hand makes it: `sudo -u {user} rustic-hapi snapshot`",
                folder.display()
            )),
        }
    }
    Ok(())
}

fn check_linger(report: &mut Report, machine: &Machine) -> Result<(), Error> {
    let account = Account::own()?;
    let on = match machine.has_manager(Kind::UserTimer) {
        // logind need not run, and knows nobody who is not logged in.
        true => tool::output(Command::new("loginctl").args([
            "show-user",
            &account.name,
            "-p",
            "Linger",
            "--value",
        ]))
        .is_ok_and(|text| text.trim() == "yes"),
        false => Path::new("/var/lib/systemd/linger")
            .join(&account.name)
            .exists(),
    };
    if !on {
        report.warnings.push(format!(
            "warning: the timer runs only while `{0}` is logged in; `sudo loginctl enable-linger {0}` changes that",
            account.name
        ));
    }
    Ok(())
}

fn remove(lookup: &Lookup, request: Request, machine: &Machine) -> Result<Report, Error> {
    // The profile need not be there any more.
    let wanted = lookup.profile.as_deref().unwrap_or("hapi");
    let by_path = wanted.contains('/') || wanted.ends_with(".toml");
    let name = match Path::new(wanted).file_stem() {
        Some(stem) if by_path => stem.to_string_lossy().into_owned(),
        _ => wanted.to_owned(),
    };
    let mut report = Report::new(request, name.clone());
    if request.kind == Kind::Cron {
        let crontab = Crontab::read(&name)?;
        if let Some(block) = &crontab.block {
            report.lines = Some(String::from_utf8_lossy(block).into_owned());
            report.changed = true;
            crontab.with(None).write()?;
        }
    } else {
        remove_units(&mut report, lookup, machine)?;
    }
    report.warn_of_others(&name, lookup, machine);
    Ok(report)
}

fn remove_units(report: &mut Report, lookup: &Lookup, machine: &Machine) -> Result<(), Error> {
    let folder = unit_folder(report.request.kind, lookup, machine)?;
    let [service, timer] = systemd::names(&report.name);
    for name in [&timer, &service] {
        let path = folder.join(name);
        refuse_foreign(&path)?;
        if let Some(text) = read(&path)? {
            report.files.push((path, text));
        }
    }
    if report.files.is_empty() {
        return Ok(());
    }
    report.changed = true;
    let has_timer = report.files.iter().any(|(path, _)| path.ends_with(&timer));
    if has_timer && machine.has_manager(report.request.kind) {
        machine.systemctl(report, &["disable".into(), "--now".into(), timer.clone()])?;
    }
    // Without a manager the link of `enable` is left, and would lead nowhere.
    let link = wanted_link(&folder, &timer);
    for path in report.files.iter().map(|(path, _)| path).chain([&link]) {
        match fs::remove_file(path) {
            Err(error) if !is_absent(&error) => return Err(state(path, error)),
            _ => {}
        }
    }
    machine.systemctl(report, &["daemon-reload".into()])
}

fn present(name: &str, kind: Kind, lookup: &Lookup, machine: &Machine) -> State {
    if kind == Kind::Cron {
        return match Crontab::read(name) {
            // A damaged one still runs.
            Ok(Crontab { block: Some(_), .. }) | Err(Error::Usage { .. }) => State::Present {
                enabled: true,
                current: None,
            },
            _ => State::Absent,
        };
    }
    let Ok(folder) = unit_folder(kind, lookup, machine) else {
        return State::Absent;
    };
    let [service, timer] = systemd::names(name);
    let ours = |name: &str| {
        read(&folder.join(name)).is_ok_and(|text| text.is_some_and(|text| systemd::is_ours(&text)))
    };
    match ours(&timer) || ours(&service) {
        true => State::Present {
            enabled: fs::symlink_metadata(wanted_link(&folder, &timer)).is_ok(),
            current: None,
        },
        false => State::Absent,
    }
}

/// What to type.
fn command(name: &str, flags: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let profile = match name {
        "hapi" => String::new(),
        name if name.chars().all(plain) => format!("--profile {name} "),
        name => format!("--profile {} ", crate::env::quoted(name)),
    };
    format!("rustic-hapi {profile}schedule {flags}")
}

/// What `systemctl enable` makes.
fn wanted_link(folder: &Path, timer: &str) -> PathBuf {
    folder.join("timers.target.wants").join(timer)
}

/// A file of somebody else's, a link (as `systemctl mask` makes one) among them, is left alone.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    if !is_link && read(path)?.is_none_or(|text| systemd::is_ours(&text)) {
        return Ok(());
    }
    Err(Error::Usage {
        fact: format!(
            "`{}` was not written by `rustic-hapi schedule`",
            path.display()
        ),
        hint: Some("nothing was changed; move it away, then run this again".into()),
    })
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(state(path, error)),
    }
}

/// Puts a file down that everybody may read, whole or not at all; false if it was there already.
fn write_public(path: &Path, text: &str) -> Result<bool, Error> {
    if read(path)?.is_some_and(|there| there == text) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let put = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".rustic-hapi-")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    put().map_err(|error| state(path, error))?;
    Ok(true)
}

fn state(path: &Path, error: io::Error) -> Error {
    Error::State {
        path: path.into(),
        error,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// [`Error::State`] where the kernel does not say what program this is.
    pub fn here() -> Result<Self, Error> {
        let folder = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        Ok(Self {
            binary: std::env::current_exe()
                .map_err(|error| state(Path::new("/proc/self/exe"), error))?,
            path: std::env::var_os("PATH").unwrap_or_default(),
            rclone_config: folder("RCLONE_CONFIG"),
            runtime: folder("XDG_RUNTIME_DIR"),
            system_units: "/etc/systemd/system".into(),
            booted: "/run/systemd/system".into(),
        })
    }

    fn has_manager(&self, kind: Kind) -> bool {
        self.booted.is_dir()
            && match (kind, &self.runtime) {
                (Kind::UserTimer, Some(dir)) => dir.join("systemd/private").exists(),
                (kind, _) => kind == Kind::SystemTimer,
            }
    }

    /// Tells the manager, or the operator where none is there to be told.
    fn systemctl(&self, report: &mut Report, words: &[String]) -> Result<(), Error> {
        let kind = report.request.kind;
        let user = (kind == Kind::UserTimer).then(|| "--user".to_owned());
        let words: Vec<_> = user.iter().chain(words).cloned().collect();
        if self.has_manager(kind) {
            return tool::output(Command::new("systemctl").args(&words)).map(|_| ());
        }
        let shown: Vec<_> = words
            .iter()
            .map(|word| match word.contains('\\') {
                true => crate::env::quoted(word),
                false => word.clone(),
            })
            .collect();
        report
            .to_type
            .push(format!("systemctl {}", shown.join(" ")));
        Ok(())
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::UserTimer => "user-timer",
            Self::SystemTimer => "system-timer",
            Self::Cron => "cron",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::UserTimer => "a timer of the user's",
            Self::SystemTimer => "a timer of the system's",
            Self::Cron => "a block in the crontab",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::UserTimer => "",
            Self::SystemTimer => "--system ",
            Self::Cron => "--cron ",
        }
    }
}

impl Report {
    fn new(request: Request, name: String) -> Self {
        Self {
            request,
            name,
            user: None,
            slots: Vec::new(),
            files: Vec::new(),
            lines: None,
            changed: false,
            to_type: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Two schedules of one profile run everything twice.
    fn warn_of_others(&mut self, name: &str, lookup: &Lookup, machine: &Machine) {
        for kind in [Kind::UserTimer, Kind::SystemTimer, Kind::Cron] {
            if kind == self.request.kind || present(name, kind, lookup, machine) == State::Absent {
                continue;
            }
            let flags = format!("{}--remove", kind.flag());
            let hint = command(name, &flags);
            self.warnings.push(match self.request.action {
                Action::Remove => format!("warning: there still is {}: `{hint}`", kind.noun()),
                _ => format!(
                    "warning: there is {} too, so every run comes twice; one of them is enough: `{hint}`",
                    kind.noun()
                ),
            });
        }
    }

    /// For the terminal, and for programs.
    pub fn output(self) -> Output {
        let warnings = self.warnings.clone();
        let text = self.text();
        let json = self.json();
        match self.request.action {
            Action::Print => Output::new(text, json),
            Action::Install | Action::Remove => Output::done(text, json),
        }
        .ending(Exit::Complete, warnings)
    }

    fn text(&self) -> String {
        let mut text = match self.request.action {
            Action::Print => return self.printed(),
            Action::Install => self.installed_text(),
            Action::Remove => self.removed_text(),
        };
        if !self.to_type.is_empty() {
            text += "no systemd answers here; where it does, type:\n";
            for command in &self.to_type {
                text += &format!("    {command}\n");
            }
        }
        text
    }

    /// As it is written, with each file's name above it.
    fn printed(&self) -> String {
        if let Some(lines) = &self.lines {
            return lines.clone();
        }
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(path, text)| format!("# {}\n{text}", path.display()))
            .collect();
        files.join("\n")
    }

    fn installed_text(&self) -> String {
        let what = match self.changed {
            true => "written",
            false => "there already",
        };
        let mut text = String::new();
        if self.lines.is_some() {
            text += &format!(
                "{what}: the block `rustic-hapi {}` in the crontab\n",
                self.name
            );
        }
        for (path, _) in &self.files {
            text += &format!("{what}: {}\n", path.display());
        }
        if let Some(user) = &self.user {
            text += &format!("runs as `{user}`, the hub's user\n");
        }
        text + &format!("runs at {}, local time\n", self.slots.join(", "))
    }

    fn removed_text(&self) -> String {
        if !self.changed {
            return format!(
                "there was no {} to remove\n",
                self.request.kind.noun().trim_start_matches("a ")
            );
        }
        let mut text = String::new();
        if self.lines.is_some() {
            text += &format!(
                "removed: the block `rustic-hapi {}` of the crontab\n",
                self.name
            );
        }
        for (path, _) in &self.files {
            text += &format!("removed: {}\n", path.display());
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "schedule",
            "action": match self.request.action {
                Action::Print => "print",
                Action::Install => "install",
                Action::Remove => "remove",
            },
            "kind": self.request.kind.name(),
            "profile": self.name,
            "user": self.user,
            "slots": self.slots,
            "files": self.files.iter().map(|(path, text)| json!({ "path": path, "text": text })).collect::<Vec<_>>(),
            "crontab": self.lines,
            "changed": self.changed,
            "to-type": self.to_type,
            "warnings": self.warnings,
        })
    }
}
