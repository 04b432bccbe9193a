//! A crontab is a user's, and one block of it is ours: the lines between two markers, which carry
//! the profile's name. Every other byte stays as it is.
//!
//! There is no variable line in the block: it would apply to every line of others below. What the job would not get
//! otherwise is set in the command itself, and only that: a mail of cron's has the command as its subject.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::Timelike;

use super::job::Job;
use super::tool;
use crate::error::Error;
use crate::machine::shell::quoted;

/// Debian's cron takes a command of less than 1,000 bytes (`MAX_COMMAND`).
const MAX_COMMAND: usize = 998;

/// What cron's jobs have without being told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// `HOME`: that of the user, from the password database.
    pub(crate) home: PathBuf,
    /// Variables that lines above ours set, and `TZ` where every process has it.
    pub(crate) set: Vec<String>,
}

impl Given {
    fn has(&self, name: &str, value: &str, job: &Job) -> bool {
        let by_cron = match name {
            "HOME" => self.home.as_os_str() == value,
            "PATH" => job.short_path_will_do,
            _ => false,
        };
        by_cron && self.set.iter().all(|set| set != name)
    }
}

/// The lines for a job, markers included.
///
/// # Errors
/// [`Error::Usage`] for what crons do not agree on, and for a command that is too long.
pub(crate) fn block(job: &Job, given: &Given) -> Result<String, Error> {
    let command = command(job, given)?;
    let mut by_minute: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for slot in &job.slots {
        let hours = by_minute.entry(slot.minute()).or_default();
        hours.push(slot.hour().to_string());
    }
    let [begin, end] = markers(&job.name);
    let mut text = format!("{begin}\n");
    for (minute, hours) in by_minute {
        text += &format!("{minute} {} * * * {command}\n", hours.join(","));
    }
    Ok(text + &end + "\n")
}

fn command(job: &Job, given: &Given) -> Result<String, Error> {
    let mut words = Vec::new();
    // Slots are local times.
    if given.set.iter().any(|set| set == "TZ") {
        words.push("-u TZ".to_owned());
    }
    for (name, value) in &job.variables {
        if !given.has(name, value, job) {
            words.push(format!("{name}={}", word(value)));
        }
    }
    if !words.is_empty() {
        words.insert(0, "/usr/bin/env".to_owned());
    }
    words.push(word(&job.binary));
    words.extend(job.options.iter().map(|option| word(option)));
    let refused = |fact: String, hint: &str| Error::usage(fact, hint.to_owned());
    let all = job.variables.iter().map(|(_, value)| value);
    if let Some(odd) = all
        .chain([&job.binary])
        .chain(&job.options)
        .find(|text| text.contains('\\'))
    {
        return Err(refused(
            format!("`{odd}` has a backslash in it"),
            "cron programs treat that differently: rename it, or use a systemd timer",
        ));
    }
    // Cron makes a line's end of `%`.
    let program = words.join(" ").replace('%', "\\%");
    // Only trouble is worth a mail.
    let command = format!("{program} -q snapshot --drill");
    if command.len() > MAX_COMMAND {
        return Err(refused(
            format!(
                "the command has {} bytes, cron takes {MAX_COMMAND}",
                command.len()
            ),
            "use shorter paths, or a systemd timer",
        ));
    }
    Ok(command)
}

/// Quoted only where it has to be: a crontab is read by humans.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=+,@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

fn markers(name: &str) -> [String; 2] {
    ["begin", "end"].map(|which| format!("# rustic-hapi {name}: {which}"))
}

/// Whether a cron is running; `None` where this user does not see the processes of others.
pub(crate) fn cron_runs() -> Option<bool> {
    let name = |process: &Path| fs::read_to_string(process.join("comm"));
    name(Path::new("/proc/1")).ok()?;
    let crons = ["cron", "crond", "fcron", "systemd-cron", "busybox"];
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut names = processes.filter_map(|process| name(&process.path()).ok());
    Some(names.any(|name| crons.contains(&name.trim())))
}

/// A crontab in three parts, none of which has to be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crontab {
    before: Vec<u8>,
    /// Ours, if it is there.
    pub(crate) block: Option<Vec<u8>>,
    after: Vec<u8>,
}

impl Crontab {
    /// The crontab of the user that runs this; an absent one is an empty one.
    ///
    /// # Errors
    /// [`Error::Tool`] where there is no cron or the user may not use it, and as
    /// [`Crontab::parse`].
    pub(crate) fn read(name: &str) -> Result<Self, Error> {
        let mut command = Command::new("crontab");
        let output = tool::ask(command.arg("-l"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        // There is no exit code of its own for it; busybox has the second wording.
        let absent = said.contains("no crontab for") || said.contains("No such file");
        match output.status.success() {
            true => Self::parse(&output.stdout, name),
            false if absent => Self::parse(b"", name),
            false => Err(tool::failed(&command, &output)),
        }
    }

    /// Finds the block of a profile.
    ///
    /// # Errors
    /// [`Error::Usage`] where a marker is missing or there are two blocks: then it is not known
    /// which lines are ours.
    pub(crate) fn parse(text: &[u8], name: &str) -> Result<Self, Error> {
        let [begin, end] = markers(name);
        let damaged = |fact: &str| {
            Error::usage(
                format!("the crontab has {fact}"),
                "nothing was changed; with `crontab -e` remove rustic-hapi's lines and their markers, then run this again",
            )
        };
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        let mut at = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let is = |marker: &str| line.trim_ascii() == marker.trim_end().as_bytes();
            match at {
                0 if is(&begin) => at = 1,
                _ if is(&begin) && at == 1 => {
                    return Err(damaged(&format!("`{begin}` twice before its end")));
                }
                _ if is(&begin) => return Err(damaged(&format!("two blocks `{begin}`"))),
                _ if is(&end) && at != 1 => {
                    return Err(damaged(&format!("`{end}` without its begin")));
                }
                _ => {}
            }
            parts[at].extend_from_slice(line);
            if at == 1 && is(&end) {
                at = 2;
            }
        }
        if at == 1 {
            return Err(damaged(&format!("`{begin}` without its end")));
        }
        let [before, block, after] = parts;
        Ok(Self {
            before,
            block: (at == 2).then_some(block),
            after,
        })
    }

    /// With another block in the place of ours, at the end if there was none.
    #[must_use]
    pub(crate) fn with(mut self, block: Option<&str>) -> Self {
        // Cron ignores a last line without its end, and ours must begin on its own.
        if self.block.is_none()
            && block.is_some()
            && self.before.last().is_some_and(|b| *b != b'\n')
        {
            self.before.push(b'\n');
        }
        self.block = block.map(|text| text.as_bytes().to_vec());
        self
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let block = self.block.as_deref().unwrap_or_default();
        [&self.before, block, &self.after].concat()
    }

    /// Makes it the user's crontab; an empty one is none.
    ///
    /// # Errors
    /// [`Error::Tool`] where cron does not take it.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let bytes = self.bytes();
        if bytes.is_empty() {
            return tool::output(Command::new("crontab").arg("-r")).map(|_| ());
        }
        tool::feed(Command::new("crontab").arg("-"), &bytes)
    }

    /// The variables that lines of others above set.
    pub(crate) fn set_above(&self) -> impl Iterator<Item = (String, String)> {
        let text = String::from_utf8_lossy(&self.before).into_owned();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.into_iter().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let bare = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
            let key = bare(key);
            let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (!key.is_empty() && key.chars().all(named)).then(|| (key, bare(value)))
        })
    }

    /// What lines of others above do to ours.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let last = |name: &str| self.set_above().filter(|(key, _)| key == name).last();
        let mut warnings = Vec::new();
        if last("MAILTO").is_some_and(|(_, to)| to.is_empty()) {
            warnings.push(
                "warning: `MAILTO` is empty in the crontab, so you get no mail when a run fails"
                    .to_owned(),
            );
        }
        if let Some((_, zone)) = last("CRON_TZ").filter(|(_, zone)| !zone.is_empty()) {
            warnings.push(format!(
                "warning: `CRON_TZ={zone}` in the crontab shifts the slots, which are local times"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveTime;

    use super::*;

    fn job(binary: &str, slots: &[(u32, u32)]) -> Job {
        Job {
            name: "hapi".into(),
            binary: binary.into(),
            options: vec!["--profile".into(), "/h/hapi.toml".into()],
            variables: vec![("HOME", "/h".into()), ("PATH", "/bin".into())],
            short_path_will_do: true,
            slots: slots
                .iter()
                .filter_map(|(h, m)| NaiveTime::from_hms_opt(*h, *m, 0))
                .collect(),
        }
    }

    fn bare() -> Given {
        Given::default()
    }

    #[test]
    fn what_cron_gives_is_not_said() {
        let mut job = job("/b/rustic-hapi", &[(6, 0)]);
        let mut given = Given {
            home: "/h".into(),
            set: Vec::new(),
        };
        let line = |job: &Job, given: &Given| {
            block(job, given)
                .unwrap()
                .lines()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        let end = "/b/rustic-hapi --profile /h/hapi.toml -q snapshot --drill";
        assert_eq!(line(&job, &given), format!("0 6 * * * {end}"));
        job.variables.push(("HAPI_HOME", "/x".into()));
        let with = format!("0 6 * * * /usr/bin/env HAPI_HOME=/x {end}");
        assert_eq!(line(&job, &given), with);
        job.short_path_will_do = false;
        let with = format!("0 6 * * * /usr/bin/env PATH=/bin HAPI_HOME=/x {end}");
        assert_eq!(line(&job, &given), with);
        let above = Crontab::parse(b"TZ = UTC\n HOME=/y\n* * * * * a=b\n", "hapi").unwrap();
        given.set = above.set_above().map(|(name, _)| name).collect();
        assert_eq!(given.set, ["TZ", "HOME"]);
        let with = format!("0 6 * * * /usr/bin/env -u TZ HOME=/h PATH=/bin HAPI_HOME=/x {end}");
        assert_eq!(line(&job, &given), with);
    }

    #[test]
    fn slots_of_one_minute_are_one_line() {
        let job = job("/b/rustic-hapi", &[(0, 5), (6, 0), (12, 5), (18, 0)]);
        let text = block(&job, &bare()).unwrap();
        assert_eq!(
            text,
            "# rustic-hapi hapi: begin\n\
             0 6,18 * * * /usr/bin/env HOME=/h /b/rustic-hapi --profile /h/hapi.toml -q snapshot --drill\n\
             5 0,12 * * * /usr/bin/env HOME=/h /b/rustic-hapi --profile /h/hapi.toml -q snapshot --drill\n\
             # rustic-hapi hapi: end\n"
        );
    }

    #[test]
    fn words_of_a_shell_and_of_cron() {
        let text = block(&job("/a b/100%/it's", &[(6, 0)]), &bare()).unwrap();
        assert!(text.contains(r"'/a b/100\%/it'\''s'"), "{text}");
        assert!(block(&job(r"/a\b", &[(6, 0)]), &bare()).is_err());
        assert!(block(&job(&"x".repeat(980), &[(6, 0)]), &bare()).is_err());
    }

    #[test]
    fn lines_of_others_stay_byte_for_byte() {
        let ours = block(&job("/b", &[(6, 0)]), &bare()).unwrap();
        let others: [&[u8]; 5] = [
            b"",
            b"MAILTO=me\n\n* * * * * true\n",
            b"# rustic-hapi other: begin\n# rustic-hapi other: end\n",
            b"\xff\xfe\r\n # rustic-hapi\n",
            b"# rustic-hapi hapi: beginning\n",
        ];
        for before in others {
            for after in others {
                let text = [before, ours.as_bytes(), after].concat();
                let crontab = Crontab::parse(&text, "hapi").unwrap();
                assert_eq!(crontab.clone().with(Some(&ours)).bytes(), text);
                assert_eq!(crontab.with(None).bytes(), [before, after].concat());
            }
            let new = Crontab::parse(before, "hapi").unwrap();
            assert_eq!(
                new.with(Some(&ours)).bytes(),
                [before, ours.as_bytes()].concat()
            );
        }
        let unended = Crontab::parse(b"* * * * * true", "hapi").unwrap();
        assert!(
            unended
                .with(Some(&ours))
                .bytes()
                .starts_with(b"* * * * * true\n# rustic")
        );
    }

    #[test]
    fn damaged_blocks_are_refused() {
        let (begin, end) = ("# rustic-hapi hapi: begin\n", "# rustic-hapi hapi: end\n");
        for text in [
            begin.to_owned(),
            end.to_owned(),
            format!("{end}{begin}"),
            format!("{begin}{begin}{end}"),
            format!("{begin}{end}{end}"),
            format!("{begin}{end}x\n{begin}{end}"),
        ] {
            assert!(Crontab::parse(text.as_bytes(), "hapi").is_err(), "{text}");
        }
    }

    #[test]
    fn variables_of_others_above_are_told() {
        let warnings = |text: &str| Crontab::parse(text.as_bytes(), "hapi").unwrap().warnings();
        assert_eq!(warnings("MAILTO=\"\"\nCRON_TZ = UTC\n").len(), 2);
        assert_eq!(warnings("MAILTO=\nMAILTO=me\n").len(), 0);
        let below = "# rustic-hapi hapi: begin\n# rustic-hapi hapi: end\nMAILTO=\n";
        assert_eq!(warnings(below).len(), 0);
    }
}
