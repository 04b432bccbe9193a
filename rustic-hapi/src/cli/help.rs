//! What `--help` shows beside the options: the commands in groups, and examples of each. Both are lists that a test
//! compares with the commands there are.

use clap::{Command, CommandFactory, FromArgMatches, parser::ValueSource};

use super::Cli;

/// The commands in the order in which they are needed.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Set up",
        &[
            "init",
            "schedule",
            "doctor",
            "notify",
            "profile",
            "completions",
        ],
    ),
    ("Every day", &["snapshot", "snapshots", "status"]),
    ("Get it back", &["restore", "drill", "recovery-kit", "env"]),
    ("Read conversations", &["sessions", "export"]),
    ("Look after the repository", &["check", "forget"]),
    ("Try it", &["demo"]),
];

/// Calls that people need first, and what each does.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "init",
        &[
            (
                "rustic-hapi init --repository /mnt/backup/hapi --recipient age1…",
                "a repository on a mounted disk; secrets are encrypted to this key",
            ),
            (
                "rustic-hapi init -r rest:https://storage:8000/hapi/ --environment-file ~/.config/rustic-hapi/server.env",
                "a server; asks for its user and password, and keeps them in that file",
            ),
            (
                "rustic-hapi init -r sftp:backup@storage:/srv/hapi --adopt HUB-ID",
                "on a new machine: continue the snapshots of a hub",
            ),
        ],
    ),
    (
        "schedule",
        &[
            (
                "rustic-hapi schedule --install",
                "a systemd timer of this user, at the times in the profile",
            ),
            (
                "rustic-hapi schedule --install --cron",
                "lines in this user's crontab",
            ),
            (
                "sudo rustic-hapi --home /home/op schedule --system --install",
                "system units that run as `op`",
            ),
        ],
    ),
    (
        "doctor",
        &[
            (
                "rustic-hapi doctor",
                "find what would make the next run fail",
            ),
            (
                "rustic-hapi doctor --as-cron",
                "the same with the few variables that cron sets",
            ),
            ("rustic-hapi doctor -v", "list what is in order as well"),
        ],
    ),
    (
        "notify",
        &[("rustic-hapi notify --test", "does a message arrive?")],
    ),
    (
        "profile",
        &[
            ("rustic-hapi profile check", "is it valid?"),
            ("rustic-hapi profile show", "all settings in force"),
        ],
    ),
    (
        "completions",
        &[
            ("source <(rustic-hapi completions bash)", "for this shell"),
            (
                "rustic-hapi completions zsh > ~/.zfunc/_rustic-hapi",
                "a folder in $fpath",
            ),
            (
                "rustic-hapi completions fish > ~/.config/fish/completions/rustic-hapi.fish",
                "for every fish",
            ),
        ],
    ),
    (
        "snapshot",
        &[
            ("rustic-hapi snapshot", "what a timer runs"),
            (
                "rustic-hapi snapshot --tag before-upgrade --keep 60d",
                "before a change, and keep it",
            ),
            (
                "rustic-hapi snapshot --only hapi.db -n",
                "copy and check one source; save nothing",
            ),
        ],
    ),
    (
        "snapshots",
        &[
            (
                "rustic-hapi snapshots --latest 5",
                "the newest five of each series",
            ),
            (
                "rustic-hapi snapshots --tag shrunk",
                "those after a loss of data",
            ),
            (
                "rustic-hapi snapshots --all-hosts --json",
                "all hosts in the repository, for a program",
            ),
        ],
    ),
    (
        "status",
        &[
            (
                "rustic-hapi status",
                "exit code 20 if backups are out of date",
            ),
            (
                "rustic-hapi status --max-age 36h --notify -q",
                "for a timer on another machine",
            ),
            (
                "rustic-hapi status --prometheus /var/lib/node_exporter/hapi.prom",
                "metrics for node_exporter",
            ),
        ],
    ),
    (
        "restore",
        &[
            (
                "rustic-hapi restore --target ~/restored",
                "the newest complete state, into a folder",
            ),
            (
                "rustic-hapi restore 1a2b3c4d --target ~/restored --source hapi.db",
                "one source of one snapshot",
            ),
            (
                "rustic-hapi restore --in-place",
                "the hub's database, with the hub stopped; shows both states and asks",
            ),
        ],
    ),
    (
        "drill",
        &[
            (
                "rustic-hapi drill",
                "restore the newest state, compare it, remove it again",
            ),
            (
                "rustic-hapi drill --identity /media/stick/hapi-identity.txt",
                "test that the secrets can be decrypted as well",
            ),
            ("rustic-hapi drill --older", "a random older snapshot"),
        ],
    ),
    (
        "recovery-kit",
        &[
            (
                "rustic-hapi recovery-kit",
                "a page to print; it has no secret in it",
            ),
            (
                "rustic-hapi recovery-kit --new-key",
                "show a second password, once",
            ),
            (
                "rustic-hapi recovery-kit --confirm",
                "type your written copy to test it",
            ),
        ],
    ),
    (
        "env",
        &[(
            "eval \"$(rustic-hapi env --with-credentials)\"; restic snapshots",
            "the repository, seen by restic",
        )],
    ),
    (
        "sessions",
        &[
            (
                "rustic-hapi sessions --search parser",
                "in titles, folders and messages",
            ),
            (
                "rustic-hapi sessions --all-snapshots",
                "those that were deleted as well",
            ),
            (
                "rustic-hapi sessions --live",
                "of the hub's database as it is now",
            ),
        ],
    ),
    (
        "export",
        &[
            (
                "rustic-hapi export 1a2b3c4d -o conversation.html",
                "a page for a browser, from the newest complete snapshot",
            ),
            (
                "rustic-hapi export 1a2b3c4d --all-snapshots --format markdown",
                "a deleted one, to read here",
            ),
        ],
    ),
    (
        "check",
        &[
            (
                "rustic-hapi check",
                "structure, manifests, and this week's share of the data",
            ),
            ("rustic-hapi check --read-data", "all data"),
        ],
    ),
    (
        "forget",
        &[
            (
                "rustic-hapi forget -n",
                "what would be kept and removed, and why",
            ),
            (
                "rustic-hapi forget --prune",
                "apply retention, and free space",
            ),
        ],
    ),
    (
        "demo",
        &[(
            "rustic-hapi demo --keep",
            "and look at its files afterwards",
        )],
    ),
];

/// Where people read on.
const DOCUMENTATION: &str = "`rustic-hapi COMMAND --help` has examples. Documentation: `man rustic-hapi`, README.md and docs/ of the source.";

/// The commands as clap has them, with groups and examples.
pub fn command() -> Command {
    let mut command = Cli::command();
    for (name, examples) in EXAMPLES {
        let width = examples.iter().map(|(call, _)| call.chars().count()).max();
        let lines = examples.iter().map(|(call, what)| match width {
            // On one line where that is legible.
            Some(width) if width <= 44 => format!("  {call:width$}  # {what}\n"),
            _ => format!("  # {what}\n  {call}\n"),
        });
        let text = format!("Examples:\n{}", lines.collect::<String>());
        command = command.mut_subcommand(name, |subcommand| subcommand.after_help(text));
    }
    let groups = groups(&command);
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}Options of every command:\n{{options}}\n\n{DOCUMENTATION}{{after-help}}"
    ))
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (title, names) in GROUPS {
        text += &format!("{title}:\n");
        for name in *names {
            let found = command.find_subcommand(name);
            let about = found.and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text += &format!("  {name:14}{about}\n");
        }
        text += "\n";
    }
    text
}

impl Cli {
    /// Reads this process's arguments.
    ///
    /// # Errors
    /// What clap has to say: `--help` and `--version` as well.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        let by_variable = |id: &&str| matches.value_source(id) == Some(ValueSource::EnvVariable);
        let ids = ["profile", "home", "repository", "password_file"];
        cli.global.by_variable = ids.into_iter().filter(by_variable).collect();
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_group_and_examples() {
        let command = command();
        let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
        let names = shown.map(Command::get_name);
        let mut all: Vec<_> = names.filter(|name| *name != "help").collect();
        let mut grouped: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let mut shown: Vec<_> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        for names in [&mut all, &mut grouped, &mut shown] {
            names.sort_unstable();
        }
        assert_eq!(grouped, all);
        assert_eq!(shown, all);
    }

    #[test]
    fn every_example_is_a_valid_call() {
        for (name, examples) in EXAMPLES {
            for (call, _) in *examples {
                let ours = &call[call.find("rustic-hapi").unwrap()..];
                let ours = ours.split([')', '>']).next().unwrap();
                let matches = command().try_get_matches_from(ours.split_whitespace());
                assert_eq!(matches.expect(call).subcommand_name(), Some(*name));
            }
        }
    }

    #[test]
    fn the_habits_of_restic_work() {
        let repository = |args: &[&str]| {
            let matches = command().try_get_matches_from(args).unwrap();
            Cli::from_arg_matches(&matches).unwrap().global.repository
        };
        for args in [
            ["rustic-hapi", "-r", "/mnt/x", "backup", "-n"].as_slice(),
            &[
                "rustic-hapi",
                "backup",
                "--repo=/mnt/x",
                "-p",
                "file",
                "-vv",
            ],
            &["rustic-hapi", "forget", "-n", "-r/mnt/x"],
        ] {
            assert_eq!(repository(args).as_deref(), Some("/mnt/x"));
        }
    }
}
