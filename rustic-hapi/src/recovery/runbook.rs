//! A runbook is the commands that get everything back: exact, quoted for a shell, and right when
//! they are pasted without a look, since that is when they are used.
//!
//! Scratch folder first; the live files only with the hub stopped, and a database only together
//! with its `-wal`, `-shm` and `-journal`.

use std::path::{Path, PathBuf};

use hapi_sources::{Kind, Source};

use crate::destination::location::Location;
use crate::machine::shell::quoted;
use crate::profile::Profile;
use crate::profile::reach::Password;
use crate::profile::sources::Series;

/// The commands for one profile.
#[derive(Debug)]
pub(crate) struct Runbook<'a> {
    pub(crate) profile: &'a Profile,
    /// The id that the repository must have.
    pub(crate) id: Option<&'a str>,
}

impl Runbook<'_> {
    /// With restic, age and sqlite3 alone: a section of Markdown.
    pub(crate) fn stock(&self) -> String {
        let mut text = "## With restic, age and sqlite3\n\nThe commands are for bash, in one session, as root or as the user whose files these were. Paths are those\nof the old machine.\n".to_owned();
        text += &step(
            "The programs. On Debian or Ubuntu:",
            "apt-get install -y restic age sqlite3\n",
        );
        text += &step(
            "The repository. Without the password file leave its line out, and type the recovery key when restic asks\nfor the password: capital letters, dashes included. The id must be the one above.",
            &self.open_commands(),
        );
        text += &step(
            "Into a scratch folder, on a disk with room (`TMPDIR=/mnt/… ` before `mktemp` chooses one), never onto the live\nfiles. `last_sound` finds the newest snapshot of the list that is not tagged `only`, `damaged`, `wal-kept` or\n`shrunk`, and not `partial` if there is one; put another id for it if you want that one.",
            &self.restore_commands(),
        );
        let databases = self.check_commands();
        if !databases.is_empty() {
            text += &step(
                "Is the database whole? It must say `ok`; the count is of the first table that the profile counts, and\n`.hapi-manifest.json` in the restored home has what all of them should be.",
                &databases,
            );
        }
        if self.has_secrets() {
            text += &step(
                "The secrets, with one of the identities above. They then lie in the scratch folder in plain.",
                &self.decrypt_commands(),
            );
        }
        text += &step(
            "Only then, back into place. **The hub has to be stopped first**, by its unit, which would restart it if it were\njust killed. And **the database's `-wal`, `-shm` and `-journal` go out of the way together with it**: SQLite would\nplay a leftover `-wal` into the restored file, and the result is wrong without a word. The owner is that of the\nfolder, which has to be the hub's user.",
            &self.put_back_commands(),
        );
        text += &step(
            "When the hub runs and shows its sessions: the scratch folder holds secrets in plain, and the files set aside\n(`*.aside-*`, `*.~1~`) are no longer needed.",
            "rm -rf \"$scratch\"\n",
        );
        text
    }

    pub(crate) fn open_commands(&self) -> String {
        let profile = self.profile;
        let mut text = String::new();
        if let Some((_, how)) = profile.reach.needs() {
            text += &format!("# {how}\n");
        }
        text += &format!("export RESTIC_REPOSITORY={}\n", quoted(&self.location()));
        text += &match &profile.reach.password {
            Password::File(path) => format!(
                "export RESTIC_PASSWORD_FILE={}\n",
                quoted(&path.to_string_lossy())
            ),
            Password::Command(command) => {
                format!("export RESTIC_PASSWORD_COMMAND={}\n", quoted(command))
            }
            Password::Given(_) => "export RESTIC_PASSWORD='the password'\n".to_owned(),
        };
        text += "restic cat config";
        if let Some(id) = self.id {
            text += &format!(" | grep {}", quoted(id));
        }
        text.push('\n');
        for series in &profile.series {
            text += &format!(
                "restic snapshots --tag {} --host {}\n",
                series.name,
                quoted(&profile.host)
            );
        }
        text
    }

    fn restore_commands(&self) -> String {
        let mut text = format!("umask 077\nscratch=$(mktemp -d)\n{LAST_SOUND}");
        for series in &self.profile.series {
            let of = format!(
                "--tag {} --host {}",
                series.name,
                quoted(&self.profile.host)
            );
            text += &format!(
                "id=$(last_sound {of})\nrestic restore \"${{id:-latest}}\" {of} --target {}\n",
                restored(series)
            );
        }
        text
    }

    fn check_commands(&self) -> String {
        let mut text = String::new();
        for (series, source) in self.of(|source| source.kind == Kind::Sqlite) {
            let count = source.count.first().map_or(String::new(), |table| {
                format!(" SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""))
            });
            let sql = quoted(&format!("PRAGMA integrity_check;{count}"));
            text += &each_database(
                series,
                source,
                &format!("sqlite3 -readonly \"$database\" {sql}\n"),
            );
        }
        text
    }

    fn decrypt_commands(&self) -> String {
        let mut text = "IDENTITY=~/hapi-identity.txt    # where yours is\n".to_owned();
        for series in self.series_with_secrets() {
            text += &format!(
                "find {} -type f -name '*.age' | while IFS= read -r file; do\n    if [ ! -e \"${{file%.age}}\" ]; then age -d -i \"$IDENTITY\" -o \"${{file%.age}}\" \"$file\"; fi\ndone\n",
                restored(series)
            );
        }
        text
    }

    /// In a shell of its own that ends at the first failure: what is pasted goes on after one, and
    /// the next line would start a hub without a database.
    fn put_back_commands(&self) -> String {
        let mut text =
            "HUB=hapi.service    # as `systemctl list-units` has it\n(\nset -eu\nsystemctl stop \"$HUB\"\n"
                .to_owned();
        for (series, source) in self.of(|source| source.kind == Kind::Sqlite) {
            let act = format!(
                "live=${{database#{}}}\nmkdir -p \"$(dirname \"$live\")\"\ncp -p \"$database\" \"$live.new\"\nchown --reference=\"$(dirname \"$live\")\" \"$live.new\"\naside=$live.aside-$(date +%Y%m%d-%H%M%S)\nmkdir \"$aside\"\nfor file in \"$live\" \"$live-wal\" \"$live-shm\" \"$live-journal\"; do\n    if [ -e \"$file\" ]; then mv \"$file\" \"$aside/\"; fi\ndone\nmv \"$live.new\" \"$live\"\n",
                restored(series)
            );
            text += &each_database(series, source, &act);
        }
        for series in self.series_with_secrets() {
            text += &format!(
                "find {restored} -type f -name '*.age' | while IFS= read -r file; do\n    opened=${{file%.age}}\n    live=${{opened#{restored}}}\n    if [ -e \"$opened\" ]; then\n        mkdir -p \"$(dirname \"$live\")\"\n        cp -p --backup=numbered \"$opened\" \"$live\"\n        chown --reference=\"$(dirname \"$live\")\" \"$live\"\n    fi\ndone\n",
                restored = restored(series)
            );
        }
        for series in &self.profile.series {
            let files = self.paths(series, |kind| kind == Kind::File);
            if !files.is_empty() {
                text += &format!(
                    "for path in {files}; do\n    if [ -e {from} ]; then\n        mkdir -p \"$(dirname \"$path\")\"\n        cp -p --backup=numbered {from} \"$path\"\n        chown --reference=\"$(dirname \"$path\")\" \"$path\"\n    fi\ndone\n",
                    from = path_within(series, "")
                );
            }
            let folders = self.paths(series, |kind| matches!(kind, Kind::Dir | Kind::Glob));
            if !folders.is_empty() {
                text += &format!(
                    "for path in {folders}; do\n    if [ -d {from} ]; then\n        mkdir -p \"$path\"\n        cp -a --backup=numbered {within} \"$path/\"\n    fi\ndone\n",
                    from = path_within(series, ""),
                    within = path_within(series, "/.")
                );
            }
        }
        text += "systemctl start \"$HUB\"\n)\n";
        text
    }

    /// With this program: a section of Markdown.
    pub(crate) fn ours(&self) -> String {
        let profile = self.profile;
        let usual = Path::new("rustic-hapi/hapi.toml");
        let program = match profile.file.ends_with(usual) {
            true => "rustic-hapi".to_owned(),
            false => format!(
                "rustic-hapi --profile {}",
                quoted(&profile.file.to_string_lossy())
            ),
        };
        let (mut identity, mut set) = ("", "");
        if self.has_secrets() {
            identity = " --identity \"$IDENTITY\"";
            set = "IDENTITY=~/hapi-identity.txt    # where yours is\n";
        }
        let mut text = "## With rustic-hapi\n".to_owned();
        text += &step(
            "On this machine, with the profile: a proof that everything comes back, and everything into a folder.",
            &format!(
                "{set}{program} drill{identity}\n{program} restore --target \"$(mktemp -d)\"{identity}\n"
            ),
        );
        text += &step(
            "The databases back into place, with the hub stopped (other sources with `--source NAME`). It shows what is\nthere now and what would come, and asks; where the newest snapshot lost rows or is damaged, it stops and\nnames the ids to choose from.",
            &format!(
                "systemctl stop hapi.service    # as `systemctl list-units` has it\n{program} restore --in-place\n"
            ),
        );
        text += &step(
            "When it says `restored in place`:",
            "systemctl start hapi.service\n",
        );
        text += &step(
            "On a new one, without the profile. The password file may hold the recovery key: one line, mode 0600.",
            &format!(
                "{set}rustic-hapi --repository {} --password-file ~/hapi.password restore --target \"$(mktemp -d)\"{identity}\n",
                quoted(&self.location())
            ),
        );
        text
    }

    /// The location as it is typed, with blanks for credentials.
    fn location(&self) -> String {
        let location = self.profile.reach.location.to_string();
        if self.profile.reach.needs() != Some(Location::REST_NEEDS) {
            return location;
        }
        match self.profile.reach.location.has_credentials() {
            true => location.replacen("***@", "USER:PASSWORD@", 1),
            false => location.replacen("://", "://USER:PASSWORD@", 1),
        }
    }

    fn has_secrets(&self) -> bool {
        self.series_with_secrets().next().is_some()
    }

    /// Secrets may be anywhere: a source may stand for files that the hub's settings name.
    fn series_with_secrets(&self) -> impl Iterator<Item = &Series> {
        let has = |series: &&Series| {
            let mut secrets = self.of(|source| source.kind == Kind::Secret);
            secrets.any(|(of, _)| of == *series)
        };
        self.profile.series.iter().filter(has)
    }

    fn of(&self, wanted: impl Fn(&Source) -> bool) -> impl Iterator<Item = (&Series, &Source)> {
        self.profile
            .sources
            .iter()
            .filter(move |row| wanted(&row.source))
            .filter_map(|row| {
                let series = self.profile.series.iter().find(|s| s.name == row.series)?;
                Some((series, &row.source))
            })
    }

    /// The paths of a series' sources as words of a shell; of a pattern the folder it begins in.
    fn paths(&self, series: &Series, wanted: impl Fn(Kind) -> bool) -> String {
        let words: Vec<_> = self
            .of(|source| wanted(source.kind))
            .filter(|(of, _)| *of == series)
            .map(|(_, source)| match source.kind {
                Kind::Glob => quoted(&beginning(&source.path).to_string_lossy()),
                _ => quoted(&source.path.to_string_lossy()),
            })
            .collect();
        words.join(" ")
    }
}

/// A shell function: the id of the newest snapshot that says nothing against itself. restic lists them oldest
/// first, each beginning with its time.
const LAST_SOUND: &str = r#"last_sound() {
    sound=$(restic snapshots --json "$@" | sed 's/},{"time"/}\n{"time"/g' | grep -vE '"(only|damaged|wal-kept|shrunk)"')
    whole=$(printf '%s\n' "$sound" | grep -v '"partial"')
    printf '%s\n' "${whole:-$sound}" | tail -n 1 | sed -n 's/.*"id":"\([0-9a-f]*\)".*/\1/p'
}
"#;

/// Where a series is restored to; its name is a plain word.
fn restored(series: &Series) -> String {
    format!("\"$scratch/{}\"", series.name)
}

/// The same with what `$path` says, and something after it.
fn path_within(series: &Series, rest: &str) -> String {
    format!("\"$scratch/{}$path{rest}\"", series.name)
}

/// A loop over the restored databases of a source, which may be a pattern.
fn each_database(series: &Series, source: &Source, act: &str) -> String {
    let path = source.path.to_string_lossy();
    let pattern = path.contains(SPECIAL);
    let words = match pattern {
        true => pattern_word(&path),
        false => quoted(&path),
    };
    let mut text = String::new();
    if pattern {
        text += "shopt -s globstar dotglob nullglob\n";
    }
    text += &format!("for database in {}{words}; do\n", restored(series));
    let guard = !pattern && !source.required;
    if guard {
        text += "    [ -e \"$database\" ] || continue\n";
    }
    for line in act.lines() {
        text += &format!("    {line}\n");
    }
    text + "done\n"
}

const SPECIAL: [char; 4] = ['*', '?', '[', ']'];

/// A pattern for bash: what is special stays so, everything else is quoted.
fn pattern_word(pattern: &str) -> String {
    pattern
        .split_inclusive(SPECIAL)
        .map(|part| match part.strip_suffix(SPECIAL) {
            Some("") => part.to_owned(),
            Some(plain) => format!("{}{}", quoted(plain), &part[plain.len()..]),
            None => quoted(part),
        })
        .collect()
}

/// The folder that everything a pattern matches lies in.
fn beginning(pattern: &Path) -> PathBuf {
    let parent = pattern.parent().unwrap_or(pattern);
    parent
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(SPECIAL))
        .collect()
}

fn step(text: &str, commands: &str) -> String {
    format!("\n{text}\n\n```sh\n{commands}```\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_keeps_what_is_special_and_quotes_the_rest() {
        assert_eq!(pattern_word("/a b/*.db"), "'/a b/'*.db");
        assert_eq!(pattern_word("/x y/**/[a b]?"), "'/x y/'**/['a b']?");
        assert_eq!(beginning(Path::new("/x/y/*/z.db")), Path::new("/x/y"));
        assert_eq!(beginning(Path::new("/x/plans/*.md")), Path::new("/x/plans"));
    }
}
