//! The runbook, as it is written: each section of `docs/runbook.md` is run in one bash session, with
//! the real programs, on the situation that it is for.
//!
//! A test names its section and has one line for each of its blocks: what the reader does before he
//! pastes it. So a section or a block that no test knows fails.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{BindFs, CANARIES, Home, Said, sqlite3};

const MONDAY: &str = "2026-11-16T06:00:00Z";
const TUESDAY: &str = "2026-11-17T06:00:00Z";
const WEDNESDAY: &str = "2026-11-18T06:00:00Z";
const NOW: &str = "2026-11-18T12:00:00Z";

/// The section of the runbook, and nothing else, that each test is of.
const SECTIONS: [&str; 10] = [
    "Before anything else",
    "The disk died",
    "A migration emptied the database",
    "One file is needed from last Tuesday",
    "One conversation is needed",
    "The password is lost",
    "The storage host is lost",
    "Moving to a new machine",
    "What does not come back",
    "With restic, age and sqlite3 alone",
];

#[derive(Default)]
struct Section {
    title: String,
    /// To be pasted.
    commands: Vec<String>,
    /// Lines that are said to be seen.
    shown: Vec<String>,
}

/// Every section of the runbook, with every fenced block.
fn runbook() -> Vec<Section> {
    let page = include_str!("../docs/runbook.md");
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section {
                title: title.to_owned(),
                ..Section::default()
            });
        }
        let indent = line.len() - line.trim_start().len();
        let Some(language) = line[indent..].strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or(""))
            .collect();
        let section = sections.last_mut().expect("a block before any section");
        match language {
            "sh" => section.commands.push(block.join("\n")),
            "text" => section.shown.extend(block.iter().map(|&l| l.to_owned())),
            other => panic!("a block in `{other}` is neither run nor looked for"),
        }
    }
    sections
}

/// A pattern in which `…` stands for anything.
fn is_like(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default().trim_end();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        match rest.find(part.trim()) {
            Some(at) => rest = &rest[at + part.trim().len()..],
            None => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('…')
}

/// A machine with a hub, a repository on a disk of its own, and a recovery key in a drawer.
struct Machine {
    /// Unmounted before the home goes.
    _disk: BindFs,
    home: Home,
    drawer: PathBuf,
    storage: PathBuf,
    bin: PathBuf,
}

/// `systemctl`, as far as the runbook needs it: it ends the hub, and starts it.
const SYSTEMCTL: &str = r#"#!/usr/bin/env bash
set -eu
here=$(dirname "$0")
[ "$2" = hapi.service ]
case "$1" in
stop)
    [ -e "$here/pid" ] || exit 0
    pid=$(cat "$here/pid")
    kill "$pid"
    while [ -n "$(ls "/proc/$pid/fd" 2>/dev/null)" ]; do sleep 0.02; done
    rm "$here/pid"
    ;;
start)
    [ ! -e "$here/pid" ]
    rm -f "$here/ready"
    python3 "$here/hub.py" "$HOME/.hapi/hapi.db" "$here/ready" </dev/null >/dev/null 2>&1 &
    echo $! > "$here/pid"
    for _ in $(seq 500); do
        [ ! -e "$here/ready" ] || exit 0
        sleep 0.02
    done
    exit 1
    ;;
*) exit 1 ;;
esac
"#;

/// A hub that commits one message after the other. Like the real one it makes a database where it
/// finds none.
const HUB: &str = r#"
import os, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS beats(n INTEGER PRIMARY KEY, pad TEXT)")
db.execute("INSERT INTO beats(pad) VALUES('first')")
open(sys.argv[2], "w").close()
while True:
    db.execute("INSERT INTO beats(pad) VALUES(?)", (os.urandom(200).hex(),))
    time.sleep(0.02)
"#;

impl Machine {
    /// The hub runs. There are snapshots of Monday and of Tuesday, and they differ.
    fn new() -> Self {
        let home = Home::new();
        let at = |name: &str| {
            let path = home.dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let machine = Self {
            drawer: at("drawer"),
            _disk: BindFs::mount(&at("disk"), home.dir.path().join("storage"), &[]),
            storage: home.dir.path().join("storage"),
            bin: at("bin"),
            home,
        };
        for (name, text) in [
            ("systemctl", SYSTEMCTL),
            ("sudo", "#!/bin/sh\nexec \"$@\"\n"),
            ("hub.py", HUB),
        ] {
            let path = machine.bin.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(
            env!("CARGO_BIN_EXE_rustic-hapi"),
            machine.bin.join("rustic-hapi"),
        )
        .unwrap();
        fs::write(machine.plan(), "monday\n").unwrap();
        machine
            .said(&[
                "init",
                "--repository",
                machine.repository().to_str().unwrap(),
                "--recipient",
                &machine.home.recipient,
                "--recovery-key",
                machine.key().to_str().unwrap(),
                // Whatever the machine that runs this is called.
                "--host",
                "the-hub",
            ])
            .exits(0);
        machine.home.at(MONDAY, &["snapshot", "--all"]).exits(0);
        machine.sql("DELETE FROM sessions WHERE rowid = (SELECT max(rowid) FROM sessions)");
        fs::write(machine.plan(), "tuesday\n").unwrap();
        machine.bash("systemctl start hapi.service").exits(0);
        machine.home.at(TUESDAY, &["snapshot", "--all"]).exits(0);
        fs::write(machine.plan(), "wednesday\n").unwrap();
        machine
    }

    fn repository(&self) -> PathBuf {
        self.storage.join("hapi")
    }

    fn key(&self) -> PathBuf {
        self.drawer.join("recovery-key")
    }

    fn plan(&self) -> PathBuf {
        self.home.path().join("coding/hapi/docs/plans/ignored.md")
    }

    fn scratch(&self) -> PathBuf {
        self.home.dir.path().join("scratch")
    }

    /// Everything on the disk is gone, and the hub with it.
    fn lose_the_disk(&self) {
        self.bash("systemctl stop hapi.service").exits(0);
        fs::remove_dir_all(self.home.path()).unwrap();
        fs::create_dir(self.home.path()).unwrap();
    }

    fn said(&self, args: &[&str]) -> Said {
        self.home.at(NOW, args)
    }

    fn sql(&self, sql: &str) -> String {
        sqlite3(
            &self.home.database(),
            &format!("PRAGMA busy_timeout=20000; {sql}"),
        )
        .lines()
        .skip(1)
        .collect()
    }

    fn sessions(&self) -> u64 {
        self.sql("SELECT count(*) FROM sessions").parse().unwrap()
    }

    fn hub_runs(&self) -> bool {
        let pid = fs::read_to_string(self.bin.join("pid")).unwrap_or_default();
        !pid.is_empty() && Path::new("/proc").join(pid.trim()).join("fd/0").exists()
    }

    /// The ids of the main series, the oldest first.
    fn snapshots(&self) -> Vec<String> {
        let listed = self.said(&["snapshots", "--json"]).exits(0).json();
        let all = listed["snapshots"].as_array().unwrap().iter();
        all.filter(|s| s["series"] == "hapi")
            .map(|s| s["id"].as_str().unwrap()[..8].to_owned())
            .collect()
    }

    /// The id of the key that `init` made first: it has no user.
    fn ordinary_key(&self) -> String {
        let keys = self.bash(&format!(
            "restic -r '{}' -p '{}' key list --json",
            self.repository().display(),
            self.key().display()
        ));
        let keys = keys.exits(0).json();
        let mut keys = keys.as_array().unwrap().iter();
        let key = keys.find(|key| key["userName"] == "").unwrap();
        key["id"].as_str().unwrap().to_owned()
    }

    fn bash(&self, script: &str) -> Said {
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1\nset -euo pipefail\n{script}")])
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin.display()),
            )
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .env("RUSTIC_HAPI_TEST_NOW", NOW)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.into()
    }

    /// Runs the blocks of a section, each after what the reader does before it. Returns what each
    /// of them said; `recognised` is what he saw before.
    fn follow(&self, title: &str, recognised: &str, before: &[&str]) -> Vec<String> {
        const MARK: &str = "---- the next block ----";
        assert!(SECTIONS.contains(&title), "{title}");
        let sections = runbook();
        let section = sections.iter().find(|s| s.title == title).unwrap();
        assert_eq!(
            section.commands.len(),
            before.len(),
            "the blocks of `{title}`"
        );
        let mut script = String::new();
        for (name, value) in [
            ("REPOSITORY", self.repository().to_str().unwrap()),
            ("RECOVERY_KEY", self.key().to_str().unwrap()),
            ("PASSWORD_FILE", self.key().to_str().unwrap()),
            (
                "IDENTITY",
                self.home.dir.path().join("identity.txt").to_str().unwrap(),
            ),
            ("RECIPIENT", &self.home.recipient),
            ("SCRATCH", self.scratch().to_str().unwrap()),
            ("HUB", "hapi.service"),
        ] {
            script += &format!("{name}='{value}'\n");
        }
        for (reader, block) in before.iter().zip(&section.commands) {
            script += &format!("{reader}\necho '{MARK}'\n{block}\n");
        }
        let said = self.bash(&script).exits(0);
        let seen = format!("{recognised}\n{}", said.stdout);
        for pattern in &section.shown {
            assert!(
                seen.lines().any(|line| is_like(line, pattern)),
                "nothing is like `{pattern}`:\n{seen}"
            );
        }
        said.stdout
            .split(MARK)
            .skip(1)
            .map(|said| said.trim_start().to_owned())
            .collect()
    }

    /// What a restored home must have.
    fn is_whole(&self, home: &Path) {
        let env = fs::read_to_string(home.join(".hapi/hub.env")).unwrap();
        assert!(CANARIES.iter().all(|canary| env.contains(canary)));
        for file in [
            ".hapi/settings.json",
            ".hapi/scratchlist-attachments/a file.bin",
            ".config/hapi/driver-manifest.yaml",
            "voice-test-output/results.json",
            "coding/hapi/docs/plans/modified.md",
        ] {
            assert!(home.join(file).exists(), "{file}");
        }
        assert!(!self.scratch().exists(), "secrets in plain were left");
        assert!(self.hub_runs());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        _ = self.bash("systemctl stop hapi.service");
    }
}

/// What the look at a restored database says.
fn ok(sessions: u64) -> String {
    format!("ok\n{sessions}\n")
}

#[test]
fn each_section_has_its_test() {
    let titles: Vec<_> = runbook().into_iter().map(|s| s.title).collect();
    assert_eq!(titles, SECTIONS);
}

#[test]
fn before_anything_else_the_hub_is_stopped() {
    let machine = Machine::new();
    assert!(machine.hub_runs());
    machine.follow("Before anything else", "", &[""]);
    assert!(!machine.hub_runs());
}

#[test]
fn the_disk_died() {
    let machine = Machine::new();
    let sessions = machine.sessions();
    let snapshots = machine.snapshots();
    machine.lose_the_disk();
    let said = machine.follow(
        "The disk died",
        "",
        &["", "", "", "", "HUB_HOST=the-hub", ""],
    );
    for snapshot in &snapshots {
        assert!(said[0].contains(snapshot) && said[4].contains(snapshot));
    }
    assert!(said[0].contains("\nproven: "), "{}", said[0]);
    assert_eq!(said[3], ok(sessions));
    machine.is_whole(&machine.home.path());
    assert_eq!(machine.sessions(), sessions);
    assert_eq!(fs::read_to_string(machine.plan()).unwrap(), "tuesday\n");
    assert_eq!(machine.snapshots().len(), snapshots.len() + 1);
}

#[test]
fn a_hub_that_was_started_on_the_empty_disk_is_not_overwritten() {
    let machine = Machine::new();
    machine.lose_the_disk();
    fs::create_dir(machine.home.hapi("")).unwrap();
    sqlite3(&machine.home.database(), "CREATE TABLE sessions(id)");
    let section = &runbook()[1];
    assert_eq!(section.title, SECTIONS[1]);
    let said = machine.bash(&format!(
        "SCRATCH=/nonexistent OLD_HOME=/x\n{}",
        section.commands[2]
    ));
    assert!(said.exits(0).stdout.contains("a hub was started here"));
    assert_eq!(machine.sessions(), 0);
}

#[test]
fn a_migration_emptied_the_database() {
    let machine = Machine::new();
    let sessions = machine.sessions();
    machine.sql("DELETE FROM sessions; PRAGMA user_version = 99");
    let emptied = machine.home.at(WEDNESDAY, &["snapshot"]).exits(0);
    let snapshots = machine.snapshots();
    let (tuesday, shrunk) = (&snapshots[1], &snapshots[2]);
    let pinned = machine.said(&["forget", "--dry-run"]).exits(0).stdout;
    assert!(pinned.contains("before shrunk"), "{pinned}");
    let refused = machine.said(&["restore", tuesday, "--in-place"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("is open in process"),
        "{refused:?}"
    );

    let said = machine.follow(
        "A migration emptied the database",
        &emptied.stderr,
        &[
            "",
            &format!("SNAPSHOT={tuesday}"),
            "",
            "",
            "",
            &format!("SHRUNK={shrunk}"),
        ],
    );
    assert!(said[1].contains("proven") && said[1].contains("nothing was changed"));
    assert_eq!(said[3], ok(sessions));
    assert!(machine.hub_runs());
    assert_eq!(machine.sessions(), sessions);
    assert!(!said[5].contains("before shrunk"), "{}", said[5]);

    // What the restore printed brings the emptied database back.
    let undo = said[2]
        .split("to undo this, with the hub stopped: `")
        .nth(1)
        .and_then(|rest| rest.split('`').next())
        .unwrap_or_else(|| panic!("{}", said[2]));
    machine
        .bash(&format!("systemctl stop hapi.service\n{undo}"))
        .exits(0);
    assert_eq!(machine.sessions(), 0);
}

#[test]
fn one_file_is_needed_from_last_tuesday() {
    let machine = Machine::new();
    machine.home.at(WEDNESDAY, &["snapshot"]).exits(0);
    let tuesday = &machine.snapshots()[1];
    let file = machine.plan();
    let said = machine.follow(
        "One file is needed from last Tuesday",
        "",
        &[
            &format!("FILE='{}' SOURCE=plans", file.display()),
            &format!("SNAPSHOT={tuesday}"),
            "",
            "",
        ],
    );
    assert!(
        said[0].matches(tuesday.as_str()).count() >= 2,
        "{}",
        said[0]
    );
    assert!(
        said[2].contains("< tuesday\n---\n> wednesday"),
        "{}",
        said[2]
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "tuesday\n");
    assert!(machine.hub_runs());
    machine
        .bash(&format!(
            "FILE='{}'\nmv \"$FILE.~1~\" \"$FILE\"",
            file.display()
        ))
        .exits(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "wednesday\n");
    // A secret has another name in a snapshot.
    let runbook = runbook();
    let page = runbook.iter().find(|s| s.title.starts_with("One file"));
    let find = &page.unwrap().commands[0];
    let secret = machine.home.hapi("hub.env");
    let said = machine
        .bash(&format!("FILE='{}'\n{find}", secret.display()))
        .exits(0);
    assert!(said.stdout.contains("hub.env.age"), "{said:?}");
}

#[test]
fn one_conversation_is_needed() {
    let machine = Machine::new();
    let page = machine.home.dir.path().join("page.html");
    let said = machine.follow(
        "One conversation is needed",
        "",
        &[
            // It was deleted on Monday.
            &format!("WORDS=project-77 PAGE='{}'", page.display()),
            "SESSION=$(rustic-hapi sessions --all-snapshots --search project-77 --json | sed -n 's/.*\"id\": \"\\(.*\\)\".*/\\1/p')",
        ],
    );
    let monday = &machine.snapshots()[0];
    assert!(said[0].contains(&format!("[{monday}]")), "{}", said[0]);
    assert!(said[1].contains(" messages, "), "{}", said[1]);
    assert!(fs::read_to_string(&page).unwrap().ends_with("</html>\n"));
    assert!(machine.hub_runs());
}

#[test]
fn the_password_is_lost() {
    let machine = Machine::new();
    let old = machine.drawer.join("old-password");
    fs::rename(machine.home.password(), &old).unwrap();
    let lost = machine.said(&["snapshot"]);
    assert_ne!(lost.code, 0);
    let said = machine.follow(
        "The password is lost",
        &lost.stderr,
        &["", "", "", &format!("OLD_KEY={}", machine.ordinary_key())],
    );
    assert!(said[2].contains("opens the repository"), "{}", said[2]);
    assert_eq!(machine.snapshots().len(), 3);
    let mode = fs::metadata(machine.home.password()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let with_old = ["--password-file", old.to_str().unwrap(), "snapshots"];
    machine.said(&with_old).exits(12);
    let listed = machine.bash("eval \"$(rustic-hapi env)\"; restic key list --json");
    assert_eq!(listed.exits(0).json().as_array().unwrap().len(), 2);
}

#[test]
fn the_storage_host_is_lost() {
    let machine = Machine::new();
    let old = machine.snapshots();
    let away = machine.storage.join("away");
    fs::rename(machine.repository(), &away).unwrap();
    let lost = machine.said(&["snapshot"]).exits(10);
    let profile = fs::read_to_string(machine.home.profile()).unwrap();
    let said = machine.follow(
        "The storage host is lost",
        &lost.stderr,
        &[
            &format!(
                "NEW_REPOSITORY={0}/new NEW_RECOVERY_KEY={1}/new-key SECOND_REPOSITORY={0}/second",
                machine.storage.display(),
                machine.drawer.display()
            ),
            "",
            "",
            "",
        ],
    );
    assert!(said[2].contains("proven: "), "{}", said[2]);
    assert!(said[3].contains("proven: "), "{}", said[3]);
    assert_eq!(machine.snapshots().len(), 2);
    let second = machine.said(&["--from", "attic", "snapshots", "--json"]);
    assert_eq!(second.json()["snapshots"].as_array().unwrap().len(), 3);
    let key = machine.drawer.join("new-key");
    let confirm = ["recovery-kit", "--confirm", "--key-file"];
    machine
        .said(&[&confirm[..], &[key.to_str().unwrap()]].concat())
        .exits(0);

    // The old host comes back after all.
    fs::rename(&away, machine.repository()).unwrap();
    machine
        .bash("mv ~/.config/rustic-hapi/hapi.toml.before ~/.config/rustic-hapi/hapi.toml")
        .exits(0);
    assert_eq!(fs::read_to_string(machine.home.profile()).unwrap(), profile);
    assert_eq!(machine.snapshots(), old);
}

#[test]
fn moving_to_a_new_machine() {
    let machine = Machine::new();
    let sessions = machine.sessions();
    let carry = machine.home.dir.path().join("carry");
    fs::create_dir(&carry).unwrap();
    let new = machine.home.dir.path().join("new-home");
    fs::create_dir(&new).unwrap();
    let said = machine.follow(
        "Moving to a new machine",
        "",
        &[
            &format!("CARRY='{}'", carry.display()),
            &format!("OLD_HOME=$HOME; export HOME='{}'", new.display()),
            "",
            "",
            "",
            "",
        ],
    );
    assert!(said[1].contains("proven: "), "{}", said[1]);
    assert_eq!(said[4], ok(sessions));
    machine.is_whole(&new);
    let plan = new.join("coding/hapi/docs/plans/ignored.md");
    assert_eq!(fs::read_to_string(plan).unwrap(), "wednesday\n");
    // Monday, Tuesday, the last of the old machine, and the first of this one: one history.
    assert_eq!(machine.snapshots().len(), 4);
    assert_eq!(said[5].matches("  hapi  ").count(), 4, "{}", said[5]);
}

#[test]
fn what_does_not_come_back() {
    let machine = Machine::new();
    let status = machine.home.hapi("driver-status.json");
    fs::write(&status, "{\"state\":\"running\"}\n").unwrap();
    machine.home.at(WEDNESDAY, &["snapshot"]).exits(0);
    machine.bash("systemctl stop hapi.service").exits(0);
    fs::write(&status, "{\"state\":\"idle\"}\n").unwrap();
    machine
        .said(&[
            "restore",
            "--in-place",
            "--yes",
            "--source",
            "driver-status",
        ])
        .exits(0);
    assert!(fs::read_to_string(&status).unwrap().contains("running"));
    machine.follow("What does not come back", "", &[""]);
    assert!(!status.exists());
    let aside = machine.home.hapi("driver-status.json.restored");
    assert!(fs::read_to_string(aside).unwrap().contains("running"));
}

#[test]
fn with_restic_age_and_sqlite3_alone() {
    let machine = Machine::new();
    let sessions = machine.sessions();
    let tuesday = machine.snapshots()[1].clone();
    machine.sql("DELETE FROM sessions");
    fs::write(machine.home.hapi("hub.env"), "overwritten\n").unwrap();
    fs::remove_file(machine.bin.join("rustic-hapi")).unwrap();
    let said = machine.follow(
        "With restic, age and sqlite3 alone",
        "",
        &["", &format!("SNAPSHOT={tuesday}"), "", ""],
    );
    assert!(said[1].contains(&ok(sessions)), "{}", said[1]);
    assert_eq!(said[3], ok(sessions));
    assert!(machine.hub_runs());
    assert_eq!(machine.sessions(), sessions);
    let env = fs::read_to_string(machine.home.hapi("hub.env")).unwrap();
    assert!(env.contains(CANARIES[0]));
    assert!(machine.home.hapi("aside/hapi.db-wal").exists());
}
