//! What is refused before anything is on record, so that it is nobody's run: a call that would leave files of root's
//! with another user, and one that asks for what the profile does not have.

use crate::cli::conversations::{ExportArgs, SessionsArgs};
use crate::cli::{Cli, Command};
use crate::destination::location::Location;
use crate::error::Error;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::state::owner;

impl Cli {
    /// Makes sure that a call may begin. What the operator should know where it may all the same.
    ///
    /// # Errors
    /// A usage error.
    pub fn may_begin(&self, lookup: &Lookup) -> Result<Option<String>, Error> {
        if let Some(name) = lookup.from.as_ref().filter(|_| !self.reads_a_place()) {
            return Err(Error::usage(
                format!(
                    "`--from {name}` is for commands that use one place, and this one does not"
                ),
                "leave it out: `snapshot` brings all copies up to date, and `init --copy NAME` creates one",
            ));
        }
        let warning = self.leaves_nothing_behind(lookup)?;
        // What else is wrong with the profile, the run itself says.
        if let (Command::Snapshot(args), Ok(profile)) = (&self.command, Profile::load(lookup)) {
            args.request()?.check(&profile)?;
        }
        Ok(warning)
    }

    /// Whether it is about the main repository or a copy, whichever is meant.
    fn reads_a_place(&self) -> bool {
        matches!(
            &self.command,
            Command::Sessions(SessionsArgs { place, .. }) | Command::Export(ExportArgs { place, .. }) if !place.live
        ) || matches!(
            self.command,
            Command::Snapshots { .. }
                | Command::Status(_)
                | Command::Drill(_)
                | Command::Restore(_)
                | Command::Check { .. }
                | Command::Doctor { .. }
                | Command::Forget(_)
                | Command::Env { .. }
                | Command::RecoveryKit(_)
        )
    }

    /// Makes sure that a call that writes leaves nothing of root's with another user; what the operator should
    /// know where it does all the same. Restoring gives what it writes to whose it was, and the rest only looks.
    ///
    /// # Errors
    /// A usage error with the call that does.
    fn leaves_nothing_behind(&self, lookup: &Lookup) -> Result<Option<String>, Error> {
        let writes = match &self.command {
            Command::Init(_)
            | Command::Snapshot(_)
            | Command::Forget(_)
            | Command::Check { .. }
            | Command::Drill(_) => true,
            Command::RecoveryKit(args) => args.new_key || args.confirm,
            // What it has called as root would be refused.
            Command::Schedule(args) => args.install && !args.system,
            _ => false,
        };
        if !writes {
            return Ok(None);
        }
        let in_full = |error: Error| match (error, &self.command) {
            (
                Error::Usage {
                    fact,
                    hint: Some(hint),
                },
                Command::Schedule(_),
            ) => Error::usage(
                fact,
                format!(
                    "{hint}; or `rustic-hapi schedule --system --install`, which runs as the hub's user"
                ),
            ),
            (error, _) => error,
        };
        let found = Profile::load_or_reach(lookup);
        let foreign = match &found {
            Ok(found) => {
                let from = found.reading();
                let copies = from.profile.map_or(&[][..], |profile| &profile.copies);
                let copies = copies.iter().map(|copy| &copy.reach);
                let mut foreign = None;
                for reach in std::iter::once(from.reach).chain(copies) {
                    let found = owner::leaves_nothing_behind(Some(&reach.location), &reach.state)
                        .map_err(in_full)?;
                    foreign = foreign.or(found);
                }
                foreign
            }
            // `init` has none yet; what is wrong with another is told by whoever needs it.
            Err(_) => {
                let (Ok(home), Ok(state)) = (lookup.home(), lookup.state()) else {
                    return Ok(None);
                };
                let location = lookup.repository.as_deref();
                let location = location.and_then(|text| Location::parse(text, &home).ok());
                owner::leaves_nothing_behind(location.as_ref(), &state)?
            }
        };
        Ok(foreign.map(|foreign| format!("{}; hint: {}", foreign.in_words(), foreign.hint())))
    }
}
