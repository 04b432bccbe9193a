//! The worst evening: somebody tired makes a mistake, and does what the program says. Each scene is a story through
//! the real binary: a state, a call, what it says; then the commands that it said are run as they stand there, and
//! the state must be good afterwards.

mod append_only;
mod choice;
mod damage;
mod first_days;
mod full_disk;
mod lost_words;
mod places;
mod root_once;
mod same_call;
mod second_place;
mod secrets;
mod small_hub;
mod small_things;
mod targets;
mod undo;
mod unreadable;
mod wrong_key;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Home, Said, run};

/// A user without a name on this machine, as in many a container.
pub const OPERATOR: u32 = 54_321;

/// Somebody's evening: a hub's home, and who sits before it.
pub struct Evening {
    pub home: Home,
    user: u32,
}

impl Evening {
    /// Root's own hub.
    pub fn of_root() -> Self {
        let home = Home::initialised();
        // What hints call by its name.
        let bin = home.dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // Another user may not get to where it was built.
        crate::common::copy(
            Path::new(env!("CARGO_BIN_EXE_rustic-hapi")),
            &bin.join("rustic-hapi"),
        );
        Self { home, user: 0 }
    }

    /// The hub of another user, whose are home and repository.
    pub fn of_operator() -> Self {
        let evening = Self::of_root();
        fs::set_permissions(evening.home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in [evening.home.path(), evening.home.repository()] {
            give(&folder, OPERATOR);
        }
        Self {
            user: OPERATOR,
            ..evening
        }
    }

    /// What the program says to whoever's evening it is.
    #[track_caller]
    pub fn says(&self, args: &[&str]) -> Said {
        let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        self.types(self.user, &format!("rustic-hapi {}", words.join(" ")))
    }

    /// The same to root.
    #[track_caller]
    pub fn says_to_root(&self, args: &[&str]) -> Said {
        let words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        self.types(0, &format!("rustic-hapi {}", words.join(" ")))
    }

    /// Runs every command that an output suggests, as it stands there, and returns what each said. `blanks` are the
    /// words that a reader fills in, `FILE` say, and what with.
    #[track_caller]
    pub fn followed(&self, said: &Said, blanks: &[(&str, &str)]) -> Vec<Said> {
        let suggested = suggested(said);
        assert!(!suggested.is_empty(), "nothing to follow: {said:?}");
        suggested
            .iter()
            .map(|command| self.follows(command, blanks))
            .collect()
    }

    /// Runs one suggested command, with what a reader fills in.
    #[track_caller]
    pub fn follows(&self, command: &str, blanks: &[(&str, &str)]) -> Said {
        crate::advice::followed(command);
        let mut command = command.to_owned();
        for (blank, word) in blanks {
            command = command.replace(blank, word);
        }
        let mut last = Said {
            code: 0,
            stdout: String::new(),
            stderr: String::new(),
        };
        for part in command.split(" && ") {
            last = match part.strip_prefix("sudo ") {
                None => self.types(self.user, part),
                Some(rest) => match rest.strip_prefix("-u ").and_then(|r| r.split_once(' ')) {
                    Some((user, rest)) => self.types(number_of(user), rest),
                    None => self.types(0, rest),
                },
            };
            if last.code != 0 {
                break;
            }
        }
        last
    }

    /// A line in a shell, as a user types it.
    pub fn types(&self, user: u32, line: &str) -> Said {
        let mut shell = match user {
            0 => Command::new("sh"),
            user => {
                let mut shell = Command::new("setpriv");
                shell.args([&format!("--reuid={user}"), &format!("--regid={user}")]);
                shell.args(["--clear-groups", "sh"]);
                shell
            }
        };
        let bin = self.home.dir.path().join("bin");
        shell
            .args(["-c", line])
            .env_clear()
            .env("HOME", self.home.path())
            .env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin:/sbin", bin.display()),
            )
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }
}

/// The commands that an output suggests: what stands in backticks, begins with a program, and goes on.
pub fn suggested(said: &Said) -> Vec<String> {
    let text = format!("{}\n{}", said.stderr, said.stdout);
    let mut found = Vec::new();
    for line in text.lines() {
        for span in line.split('`').skip(1).step_by(2) {
            let Some((program, _)) = span.split_once(' ') else {
                continue;
            };
            let known = ["rustic-hapi", "eval", "sudo", "systemctl", "loginctl"];
            let is_plain = program
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let installed = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
                .iter()
                .any(|folder| Path::new(folder).join(program).exists());
            if (known.contains(&program) || is_plain && installed)
                && !found.contains(&span.to_owned())
            {
                found.push(span.to_owned());
            }
        }
    }
    found
}

/// Whose a path is from now on, with all below it.
pub fn give(path: &Path, user: u32) {
    let owner = format!("{user}:{user}");
    run("chown", &["-R".as_ref(), owner.as_ref(), path.as_os_str()]);
}

/// A user as `sudo -u` takes it.
fn number_of(user: &str) -> u32 {
    let name = user.trim_matches('\'');
    match name.strip_prefix('#') {
        Some(number) => number.parse().unwrap(),
        None => run("id", &["-u".as_ref(), name.as_ref()])
            .stdout
            .trim()
            .parse()
            .unwrap(),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
