//! A call is how the program was started: the options that decide which profile, home and repository are
//! meant. A command that somebody is advised to run has to repeat them, else it acts on another repository.
//!
//! Advice is written plainly, as `` `rustic-hapi drill --older` ``. Everything that is said goes through
//! [`Call::complete`], which puts the options into it; so no advice can lack them. `` `rustic-hapi … --adopt ID` ``
//! is the same call once more, with that besides.

use crate::machine::shell::quoted;

/// The program's name, as advice has it.
const PROGRAM: &str = "rustic-hapi ";

/// Stands for all arguments of the call.
const AGAIN: &str = "…";

/// Names the copy that is meant in place of the main repository.
pub(crate) const FROM: &str = "--from";

/// The commands that take it.
const OF_A_PLACE: [&str; 11] = [
    "snapshots",
    "status",
    "drill",
    "restore",
    "sessions",
    "export",
    "check",
    "doctor",
    "forget",
    "env",
    "recovery-kit",
];

/// The options that advice repeats, in order, and all arguments of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    options: Vec<(&'static str, String)>,
    again: Vec<String>,
}

impl Call {
    /// The options that were given with their values, and all arguments; none of them may be a secret.
    pub(crate) fn new(
        options: impl IntoIterator<Item = (&'static str, Option<String>)>,
        arguments: impl IntoIterator<Item = String>,
    ) -> Self {
        let given = |(option, value): (_, Option<String>)| Some((option, quoted(&value?)));
        Self {
            options: options.into_iter().filter_map(given).collect(),
            again: arguments.into_iter().map(|word| quoted(&word)).collect(),
        }
    }

    /// After the profile says where the repository is, these are enough.
    #[must_use]
    pub fn of_the_profile(&self) -> Self {
        let options = self.options.iter();
        let kept = options.filter(|(option, _)| ["--profile", "--home"].contains(option));
        Self {
            options: kept.cloned().collect(),
            again: self.again.clone(),
        }
    }

    /// The same of a copy: what is advised is about that place.
    #[must_use]
    pub fn of_copy(&self, name: &str) -> Self {
        let options = self.options.iter();
        let kept = options.filter(|(option, _)| ["--profile", "--home"].contains(option));
        let from = (FROM, quoted(name));
        Self {
            options: kept.cloned().chain([from]).collect(),
            again: self.again.clone(),
        }
    }

    /// The text, each command of ours between backticks with the options of this call. One that has them
    /// already stays as it is.
    pub(crate) fn complete(&self, text: &str) -> String {
        if !text.contains(PROGRAM) {
            return text.to_owned();
        }
        let lines = text.split_inclusive('\n');
        lines.map(|line| self.complete_line(line)).collect()
    }

    fn complete_line(&self, line: &str) -> String {
        let spans = line.split('`').enumerate();
        let completed = spans.map(|(nth, span)| match nth % 2 {
            0 => span.to_owned(),
            _ => self.complete_command(span),
        });
        completed.collect::<Vec<_>>().join("`")
    }

    /// `sudo -u op rustic-hapi snapshot`, `eval "$(rustic-hapi env)"; restic unlock`: wherever it is called.
    fn complete_command(&self, command: &str) -> String {
        let mut out = String::with_capacity(command.len());
        let mut rest = command;
        while let Some(at) = rest.find(PROGRAM) {
            let (before, after) = rest.split_at(at + PROGRAM.len());
            out += before;
            rest = after;
            if let Some(more) = after.strip_prefix(AGAIN) {
                if !self.again.is_empty() {
                    out += &self.again_without(more).join(" ");
                    rest = more;
                }
                continue;
            }
            let begins = at == 0 || before[..at].ends_with([' ', '(', '/']);
            if begins && after.starts_with(|c: char| c.is_ascii_lowercase()) {
                let verb = after.split([' ', ')']).next().unwrap_or_default();
                let fits = |option: &str| option != FROM || OF_A_PLACE.contains(&verb);
                for (option, value) in &self.options {
                    if fits(option) && !command.contains(&format!("{option} ")) {
                        out += &format!("{option} {value} ");
                    }
                }
                // What makes a repository makes that of the copy.
                let copy = self.options.iter().find(|(option, _)| *option == FROM);
                if let (Some((_, name)), "init") = (copy, after) {
                    out += &format!("init --copy {name}");
                    rest = "";
                }
            }
        }
        out + rest
    }
}

impl Call {
    /// The arguments of the call without the options that are given anew.
    fn again_without(&self, anew: &str) -> Vec<&str> {
        let mut words = anew.split([' ', ')']).peekable();
        let mut given = Vec::new();
        while let Some(word) = words.next() {
            if word.starts_with("--") {
                let has_value = words.peek().is_some_and(|next| !next.starts_with('-'));
                given.push((word, has_value));
            }
        }
        let mut kept = Vec::new();
        let mut again = self.again.iter().map(String::as_str);
        while let Some(word) = again.next() {
            let name = word.split('=').next().unwrap_or(word);
            match given.iter().find(|(option, _)| *option == name) {
                Some((_, true)) if name == word => _ = again.next(),
                Some(_) => {}
                None => kept.push(word),
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_gives_no_option_twice() {
        let all = "init --host vm --allow-same-disk --adopt=1 --repository r";
        let call = Call::new([], all.split(' ').map(str::to_owned));
        for (said, meant) in [
            (
                "`rustic-hapi … --host NAME`",
                "`rustic-hapi init --allow-same-disk --adopt=1 --repository r --host NAME`",
            ),
            (
                "`rustic-hapi … --adopt 2 --allow-same-disk`",
                "`rustic-hapi init --host vm --repository r --adopt 2 --allow-same-disk`",
            ),
        ] {
            assert_eq!(call.complete(said), meant);
        }
    }

    #[test]
    fn advice_repeats_the_options_of_the_call_once() {
        let options = [
            ("--profile", Some("tw".into())),
            ("--home", Some("/home/o p".into())),
            ("--repository", None),
        ];
        let attic = Call::new([], []).of_copy("attic");
        for (said, meant) in [
            ("`rustic-hapi drill`", "`rustic-hapi --from attic drill`"),
            (
                "`eval \"$(rustic-hapi env)\"; restic unlock`",
                "`eval \"$(rustic-hapi --from attic env)\"; restic unlock`",
            ),
            ("`rustic-hapi snapshot`", "`rustic-hapi snapshot`"),
            ("`rustic-hapi init`", "`rustic-hapi init --copy attic`"),
            (
                "`rustic-hapi check --from main`",
                "`rustic-hapi check --from main`",
            ),
        ] {
            assert_eq!(attic.complete(said), meant);
        }
        let all = "--profile=tw init --recipient age1".split(' ');
        let call = Call::new(options, all.map(str::to_owned));
        for (said, meant) in [
            (
                "hint: `rustic-hapi doctor` tells",
                "hint: `rustic-hapi --profile tw --home '/home/o p' doctor` tells",
            ),
            (
                "`sudo -u op rustic-hapi snapshot`",
                "`sudo -u op rustic-hapi --profile tw --home '/home/o p' snapshot`",
            ),
            (
                "`eval \"$(rustic-hapi env)\"; restic unlock`",
                "`eval \"$(rustic-hapi --profile tw --home '/home/o p' env)\"; restic unlock`",
            ),
            (
                "`rustic-hapi init --profile COPY --host x`",
                "`rustic-hapi --home '/home/o p' init --profile COPY --host x`",
            ),
            (
                "`rustic-hapi … --adopt ID`",
                "`rustic-hapi --profile=tw init --recipient age1 --adopt ID`",
            ),
            (
                "`sudo -u op rustic-hapi …`",
                "`sudo -u op rustic-hapi --profile=tw init --recipient age1`",
            ),
            ("`rustic-hapi --help`", "`rustic-hapi --help`"),
            ("rustic-hapi doctor", "rustic-hapi doctor"),
        ] {
            assert_eq!(call.complete(said), meant);
            assert_eq!(call.complete(meant), meant);
        }
    }
}
