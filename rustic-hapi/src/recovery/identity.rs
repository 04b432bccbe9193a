//! An identity opens secrets: an age or SSH private key that the operator brings along for the moment.

use std::path::Path;

use hapi_sources::{Identities, Passphrase, SecretString, Stop};

use crate::error::Error;
use crate::terminal::prompt;
use crate::terminal::ui::Ui;

/// Reads an identity file; one that is encrypted asks for its passphrase on the terminal.
///
/// # Errors
/// [`Error::Identity`].
pub fn read(path: &Path, stop: &Stop, ui: &Ui) -> Result<Identities, Error> {
    let identities = Identities::read(path, &Terminal { stop })?;
    if identities.is_exposed() {
        ui.warn(format_args!(
            "other users can read the identity `{}`: `chmod 600` it",
            path.display()
        ));
    }
    Ok(identities)
}

struct Terminal<'a> {
    stop: &'a Stop,
}

impl Passphrase for Terminal<'_> {
    fn ask(&self, what: &str) -> Option<SecretString> {
        use std::io::IsTerminal;
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let question = format!("passphrase of {what}: ");
        let line = prompt::hidden_line(&question, self.stop).ok()?;
        Some(SecretString::from(line.as_str().to_owned()))
    }
}
