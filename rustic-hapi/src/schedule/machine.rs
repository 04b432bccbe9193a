//! A machine is what matters of the one we run on: the program, its surroundings, its systemd.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::report::Report;
use super::request::Kind;
use super::tool;
use crate::error::Error;

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
            binary: std::env::current_exe().map_err(Error::at("/proc/self/exe"))?,
            path: std::env::var_os("PATH").unwrap_or_default(),
            rclone_config: folder("RCLONE_CONFIG"),
            runtime: folder("XDG_RUNTIME_DIR"),
            system_units: "/etc/systemd/system".into(),
            booted: "/run/systemd/system".into(),
        })
    }

    /// Whether there is somebody to tell about units.
    pub(crate) fn has_manager(&self, kind: Kind) -> bool {
        self.booted.is_dir()
            && match (kind, &self.runtime) {
                (Kind::UserTimer, Some(dir)) => dir.join("systemd/private").exists(),
                (kind, _) => kind == Kind::SystemTimer,
            }
    }

    /// Tells the manager, or the operator where none is there to be told.
    ///
    /// # Errors
    /// [`Error::Tool`] where the manager refuses.
    pub(crate) fn systemctl(&self, report: &mut Report, words: &[String]) -> Result<(), Error> {
        let kind = report.request.kind;
        let user = (kind == Kind::UserTimer).then(|| "--user".to_owned());
        let words: Vec<_> = user.iter().chain(words).cloned().collect();
        if self.has_manager(kind) {
            return tool::output(Command::new("systemctl").args(&words)).map(|_| ());
        }
        let shown: Vec<_> = words
            .iter()
            .map(|word| match word.contains('\\') {
                true => crate::machine::shell::quoted(word),
                false => word.clone(),
            })
            .collect();
        report
            .to_type
            .push(format!("systemctl {}", shown.join(" ")));
        Ok(())
    }
}
