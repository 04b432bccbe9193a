//! Whose snapshot is it: two hubs in one repository, a hub that moved or was cloned, and snapshots that
//! somebody else removed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::{Home, Said, alone, run, sqlite3};

const NOW: &str = "2026-06-08T12:00:00Z";

/// Two hubs, `a` and `b`, with one host name, one home and one repository, as version 0.1.0 left them
/// (`tests/fixtures/two-hubs-0.1.0.sh`). Their paths are absolute, so there is one at a time.
struct Fixture(
    PathBuf,
    #[allow(dead_code, reason = "held while it is used")] fs::File,
);

impl Fixture {
    fn unpack() -> Self {
        let lock = fs::File::create("/tmp/rustic-hapi-0.1.0-fixture.lock").unwrap();
        lock.lock().unwrap();
        let folder = PathBuf::from("/tmp/rustic-hapi-0.1.0-fixture");
        _ = fs::remove_dir_all(&folder);
        let archive = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/two-hubs-0.1.0.tar.gz"
        );
        run("tar", &["-C", "/tmp", "-xzf", archive].map(AsRef::as_ref));
        Self(folder, lock)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn command_at(&self, time: &str, hub: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustic-hapi"));
        command
            .env_clear()
            .env("HOME", self.at("home"))
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("RUSTIC_HAPI_TEST_NOW", time)
            .arg("--profile")
            .arg(self.at(&format!("{hub}.toml")))
            .args(args);
        command
    }

    fn run_at(&self, time: &str, hub: &str, args: &[&str]) -> Said {
        self.command_at(time, hub, args).output().unwrap().into()
    }

    /// `init`, which looks for running hubs.
    fn init(&self, hub: &str, args: &[&str]) -> Said {
        let args = [&["init"], args].concat();
        let command = self.command_at(NOW, hub, &args);
        alone(&command).output().unwrap().into()
    }

    fn run(&self, hub: &str, args: &[&str]) -> Said {
        self.run_at(NOW, hub, args)
    }

    fn edit(&self, hub: &str, change: impl Fn(String) -> String) {
        let path = self.at(&format!("{hub}.toml"));
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Series and time of what a hub sees.
    fn seen(&self, hub: &str) -> Vec<(String, String)> {
        let json = self.run(hub, &["snapshots", "--json"]).exits(0).json();
        json["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| {
                let text = |key: &str| s[key].as_str().unwrap().to_owned();
                (text("series"), text("time"))
            })
            .collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_hubs_of_one_machine_are_never_taken_for_one() {
    let both = Fixture::unpack();
    // The older snapshots belong to the hub whose database they hold; of the weekly ones nobody can tell.
    for (hub, minute) in [("a", "06:00"), ("b", "06:05")] {
        let seen = both.seen(hub);
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(
            seen.iter().all(|(_, time)| time.contains(minute)),
            "{seen:?}"
        );
    }

    // The newest snapshot of all is b's; what comes back here is a's.
    for hub in ["a", "b"] {
        let database = both.at(&format!("home/{hub}/hapi.db"));
        let rows = sqlite3(&database, "SELECT group_concat(hub, '|') FROM sessions");
        sqlite3(&database, "DELETE FROM sessions");
        both.run(hub, &["restore", "--in-place", "--yes"]).exits(0);
        let restored = sqlite3(&database, "SELECT group_concat(hub, '|') FROM sessions");
        assert_eq!(restored, rows, "{hub}");
    }

    // Each takes the weekly series for itself, and proves its own.
    for hub in ["a", "b"] {
        let said = both
            .run_at("2026-06-08T18:00:00Z", hub, &["snapshot", "--json"])
            .exits(0);
        assert_eq!(
            said.json()["series"].as_array().unwrap().len(),
            2,
            "{hub}: {said:?}"
        );
        both.run_at("2026-06-08T18:01:00Z", hub, &["drill"])
            .exits(0);
        // That days are missing, check says, too.
        let said = both.run_at("2026-06-08T18:01:00Z", hub, &["check"]);
        assert!(
            said.stderr
                .contains("another hub of this host has snapshots"),
            "{said:?}"
        );
    }
    assert_eq!(both.seen("a").len(), 4);

    // One retention for each: two months on, a's has removed nothing of b's, nor what is nobody's.
    for day in ["2026-07-05", "2026-07-12", "2026-08-02", "2026-08-09"] {
        let time = format!("{day}T06:00:00Z");
        both.run_at(&time, "a", &["snapshot", "--json"]);
    }
    let plan = both.run_at(
        "2026-08-09T07:00:00Z",
        "a",
        &["forget", "--dry-run", "--json"],
    );
    assert!(!plan.stdout.contains("06:05"), "{plan:?}");
    both.run_at("2026-08-09T07:00:00Z", "a", &["forget"])
        .exits(0);
    assert_eq!(both.seen("b").len(), 4);
    let all = both
        .run("a", &["snapshots", "--all-hosts", "--json"])
        .exits(0)
        .json();
    let unknown = all["snapshots"].as_array().unwrap().iter().filter(|s| {
        s["series"] == "hapi-weekly"
            && s["time"].as_str().unwrap().contains("T06:00:00")
            && s["time"].as_str().unwrap() < "2026-06-09"
    });
    assert_eq!(unknown.count(), 2);

    // A machine with nothing but the password is asked which one.
    let bare = |args: &[&str]| -> Said {
        Command::new(env!("CARGO_BIN_EXE_rustic-hapi"))
            .env_clear()
            .env("HOME", both.at("nowhere"))
            .env("PATH", "/usr/bin:/bin")
            .args(args)
            .arg("--repository")
            .arg(both.at("repository"))
            .arg("--password-file")
            .arg(both.at("password"))
            .output()
            .unwrap()
            .into()
    };
    let said = bare(&["snapshots"]).exits(2);
    let ids: Vec<&str> = said
        .stderr
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() == 32)
        .collect();
    assert_eq!(ids.len(), 2, "{said:?}");
    for id in ids {
        let target = both.at(&format!("restored-{id}"));
        let target = target.to_str().unwrap();
        bare(&[
            "restore", "--host", id, "--source", "hapi.db", "--target", target,
        ])
        .exits(0);
    }
}

/// A home that moves takes its snapshots along, by the id in the profile or by one command.
fn moving(both: &Fixture, hub: &str, written: bool) {
    if written {
        both.init(hub, &[]).exits(0);
        let text = fs::read_to_string(both.at(&format!("{hub}.toml"))).unwrap();
        assert!(text.contains("hub-id"), "{text}");
    }
    let before = both.seen(hub).len();
    let moved = both.at(&format!("home/moved-{hub}"));
    fs::rename(both.at(&format!("home/{hub}")), &moved).unwrap();
    both.edit(hub, |text| {
        text.replace(&format!("/home/{hub}\""), &format!("/home/moved-{hub}\""))
    });
    if !written {
        assert_eq!(both.seen(hub).len(), 0);
        let said = both.run(hub, &["status"]);
        assert!(
            said.stderr.contains("init --adopt") || said.stdout.contains("init --adopt"),
            "{said:?}"
        );
        let said = both.init(hub, &[]).exits(2);
        let id = said
            .stderr
            .split(|c: char| !c.is_ascii_hexdigit())
            .filter(|word| word.len() == 32)
            .find(|id| {
                let line = said
                    .stderr
                    .lines()
                    .find(|line| line.trim_start().starts_with(id));
                line.is_some_and(|line| line.contains(&format!("/home/{hub}/hapi.db")))
            })
            .unwrap();
        both.init(hub, &["--adopt", id]).exits(0);
    }
    assert_eq!(both.seen(hub).len(), before);
    // What lay elsewhere comes here only if it is named.
    let said = both.run(hub, &["restore", "--in-place"]).exits(2);
    let id = said.stderr.split(" restore ").nth(1).unwrap();
    let id = id.split_whitespace().next().unwrap().to_owned();
    both.run(hub, &["restore", &id, "--in-place"]).exits(0);
    let rows = sqlite3(
        &moved.join("hapi.db"),
        "SELECT DISTINCT substr(hub, 1, 1) FROM sessions",
    );
    assert_eq!(rows, hub);
    both.run_at("2026-06-08T18:00:00Z", hub, &["snapshot", "-q"])
        .exits(0);
    both.run_at(
        "2026-06-08T18:02:00Z",
        hub,
        &["restore", "--in-place", "--yes"],
    )
    .exits(0);
}

#[test]
fn a_home_that_moved_keeps_its_snapshots() {
    let both = Fixture::unpack();
    moving(&both, "a", true);
    moving(&both, "b", false);
}

fn warned(said: &Said, what: &str) -> bool {
    said.stderr.contains(what)
}

#[test]
fn init_on_a_new_machine_says_which_hubs_there_are_and_goes_on_with_one() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let there = home.ids("hapi").len();
    // The disk died: profile and state are gone, path and host name are what they were.
    let password = home.dir.path().join("kept-password");
    fs::copy(home.password(), &password).unwrap();
    let begin_anew = || {
        for gone in [".config/rustic-hapi", ".local/state/rustic-hapi"] {
            _ = fs::remove_dir_all(home.path().join(gone));
        }
    };
    let init = |more: &[&str]| -> Said {
        let mut command = home.init_command(home.repository().to_str().unwrap());
        command.arg("--password-file").arg(&password).args(more);
        command.output().unwrap().into()
    };
    begin_anew();
    let said = init(&[]).exits(0);
    assert!(
        said.stdout.contains("continues the snapshots of"),
        "{said:?}"
    );
    // The weekly series has been taken this week.
    let said = home.snapshot().exits(0).json();
    assert_eq!(said["series"].as_array().unwrap().len(), 1, "{said:#}");
    // Another host name: it is told, and adopted by its id.
    begin_anew();
    let said = init(&["--host", "new-box", "--json"]).exits(0).json();
    let hub = &said["hubs"][0];
    assert_eq!(hub["database"], home.database().to_str().unwrap());
    begin_anew();
    init(&["--adopt", hub["id"].as_str().unwrap()]).exits(0);
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(profile.contains(hub["host"].as_str().unwrap()), "{profile}");
    // Nothing of the hub is back yet: what it has is in its snapshots.
    begin_anew();
    let gone = home.dir.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let parts = [".hapi", ".config/hapi", "coding", "voice-test-output"];
    for (nth, part) in parts.iter().enumerate() {
        fs::rename(home.path().join(part), gone.join(nth.to_string())).unwrap();
    }
    // The hub of a test beside this one may run.
    let empty = home.path().join(".hapi");
    let id = hub["id"].as_str().unwrap();
    init(&["--adopt", id, "--hapi-home", empty.to_str().unwrap()]).exits(0);
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(profile.contains("extends = \"hapi\"\n"), "{profile}");
    for (nth, part) in parts.iter().enumerate() {
        fs::create_dir_all(home.path().join(part).parent().unwrap()).unwrap();
        _ = fs::remove_dir_all(home.path().join(part));
        fs::rename(gone.join(nth.to_string()), home.path().join(part)).unwrap();
    }
    fs::copy(&password, home.password()).unwrap();
    home.change();
    let said = home.snapshot().exits(0);
    assert_eq!(
        said.json()["series"].as_array().unwrap().len(),
        1,
        "{said:?}"
    );
    assert!(home.ids("hapi").len() > there);
    init(&["--adopt", "00000000"]).exits(2);
    begin_anew();
    init(&[
        "--adopt",
        hub["id"].as_str().unwrap(),
        "--host",
        "other-box",
    ])
    .exits(2);
}

#[test]
fn a_clone_that_writes_too_is_told_until_it_is_acknowledged() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let clone = home.dir.path().join("clone");
    crate::common::copy(&home.path().join(".local/state"), &clone);
    let as_clone = |args: &[&str]| -> Said {
        let mut command = home.command();
        command.env("XDG_STATE_HOME", &clone).args(args);
        command.output().unwrap().into()
    };
    home.change();
    home.snapshot().exits(0);
    for _ in 0..2 {
        home.change();
        let said = as_clone(&["snapshot"]).exits(0);
        assert!(
            warned(&said, "another machine writes snapshots of this hub"),
            "{said:?}"
        );
    }
    home.change();
    let said = home.snapshot().exits(0);
    assert!(warned(&said, "another machine writes"), "{said:?}");
    assert_eq!(home.hapi_command(&["check"]).code, 1);
    let newest = said.stderr.split("add \"").nth(1).unwrap()[..8].to_owned();
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{newest}\"]\n"));
    home.change();
    assert!(!warned(&home.snapshot().exits(0), "another machine writes"));
}

#[test]
fn snapshots_that_somebody_else_removed_are_missed() {
    const GONE: &str = "snapshots that this machine saved are gone";
    let home = Home::initialised();
    for _ in 0..4 {
        home.change();
        assert!(!warned(&home.snapshot().exits(0), GONE));
    }
    // What restic writes anew is no loss.
    home.restic(&["tag", "--add", "looked-at", "latest"]);
    assert!(!warned(&home.hapi_command(&["status"]), GONE));
    let ids = home.ids("hapi");
    home.restic(&["forget", &ids[2], &ids[3]]);
    let status = || {
        let said = home.hapi_command(&["status"]);
        format!("{}{}", said.stdout, said.stderr)
    };
    assert!(
        status().contains(GONE) && status().contains(&ids[2][..8]),
        "{}",
        status()
    );
    let check = home.hapi_command(&["check"]).exits(1);
    assert!(format!("{check:?}").contains(GONE));
    assert!(home.hapi_command(&["doctor"]).stdout.contains(GONE));
    // A run tells it once, as something odd; status goes on.
    home.change();
    let first = home.snapshot().exits(0);
    assert!(warned(&first, GONE), "{first:?}");
    home.change();
    assert!(!warned(&home.snapshot().exits(0), GONE));
    let text = status();
    assert!(text.contains(GONE), "{text}");
    let newest = text.split("add \"").nth(1).unwrap()[..8].to_owned();
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{newest}\"]\n"));
    assert!(!status().contains(GONE), "{}", status());
    home.snapshot().exits(0);

    // The storage was set back to an earlier state.
    let earlier = home.dir.path().join("earlier");
    crate::common::copy(&home.repository(), &earlier);
    for _ in 0..2 {
        home.change();
        home.snapshot().exits(0);
    }
    fs::remove_dir_all(home.repository()).unwrap();
    fs::rename(&earlier, home.repository()).unwrap();
    home.change();
    assert!(warned(&home.snapshot().exits(0), GONE));
}

#[test]
fn a_run_into_another_repository_does_not_make_the_first_one_forgotten() {
    const GONE: &str = "snapshots that this machine saved are gone";
    let home = Home::initialised();
    for _ in 0..3 {
        home.change();
        home.snapshot().exits(0);
    }
    let ids = home.ids("hapi");
    let first = fs::read_to_string(home.profile()).unwrap();
    let other = home.dir.path().join("other");
    let password = fs::read(home.password()).unwrap();
    crate::common::cheap::repository(&other, &home.password());
    home.edit_profile(|text| {
        let text = text.replace(home.repository().to_str().unwrap(), other.to_str().unwrap());
        let of_it = |line: &&str| !line.starts_with("id = ");
        text.lines().filter(of_it).collect::<Vec<_>>().join("\n")
    });
    home.change();
    assert!(!warned(&home.snapshot().exits(0), GONE));
    fs::write(home.profile(), first).unwrap();
    fs::write(home.password(), password).unwrap();
    home.restic(&["forget", &ids[1]]);
    home.change();
    assert!(warned(&home.snapshot().exits(0), GONE));
}

#[test]
fn what_retention_removes_by_its_rules_is_not_missed_whoever_applies_them() {
    const GONE: &str = "snapshots that this machine saved are gone";
    let home = Home::initialised();
    let at = |day: u32, args: &[&str]| {
        let (month, day) = (1 + day / 28, 1 + day % 28);
        home.at(&format!("2027-{month:02}-{day:02}T06:00:00Z"), args)
    };
    for day in 0..20 {
        home.change();
        let said = at(day, &["snapshot", "--no-forget"]);
        assert!(!warned(&said, GONE), "{said:?}");
    }
    // By the same policy on another machine, which has no ledger of this one.
    let elsewhere = home.dir.path().join("elsewhere");
    let mut forget = home.command();
    forget
        .env("XDG_STATE_HOME", &elsewhere)
        .env("RUSTIC_HAPI_TEST_NOW", "2027-03-15T06:00:00Z")
        .args(["forget"]);
    let before = home.ids("hapi").len();
    let forgot: Said = forget.output().unwrap().into();
    forgot.exits(0);
    assert!(home.ids("hapi").len() < before, "nothing was removed");
    home.change();
    let said = home.at("2027-03-15T18:00:00Z", &["snapshot"]);
    assert!(!warned(&said, GONE), "{said:?}");
}

#[test]
fn what_the_profile_no_longer_names_is_not_gone() {
    const GONE: &str = "snapshots that this machine saved are gone";
    let home = Home::initialised();
    home.snapshot().exits(0);
    home.change();
    home.snapshot().exits(0);
    let ids = home.ids("hapi");
    home.restic(&["tag", "--set", "mine", &ids[0]]);
    home.edit_profile(|text| text.replacen("host = ", "host = \"renamed-box\" # ", 1));
    home.change();
    let said = home.snapshot();
    assert!(!warned(&said, GONE), "{said:?}");
    // Nor is what cannot be read.
    let newest = home.ids("hapi").pop().unwrap();
    let file = home.repository().join("snapshots").join(newest);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..50]).unwrap();
    let check = home.hapi_command(&["check"]);
    assert!(!format!("{check:?}").contains(GONE), "{check:?}");
}

#[test]
fn a_copied_profile_with_another_database_is_refused() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    sqlite3(&other.join("hapi.db"), "CREATE TABLE sessions (id)");
    let copy = home.profile().with_file_name("second.toml");
    let text = fs::read_to_string(home.profile()).unwrap();
    fs::write(&copy, format!("hapi-home = {other:?}\n{text}")).unwrap();
    for profile in ["second", "hapi"] {
        let said = home
            .hapi_command(&["--profile", profile, "snapshot"])
            .exits(2);
        assert!(said.stderr.contains("the same `hub-id`"), "{said:?}");
    }
    // A second place for the same hub is in order.
    let text = text.replace(home.repository().to_str().unwrap(), "/tmp/elsewhere");
    fs::write(&copy, text).unwrap();
    home.change();
    home.snapshot().exits(0);
}

#[test]
fn a_profile_does_not_take_the_schedule_of_another_of_its_name() {
    let (one, other) = (Home::initialised(), Home::initialised());
    let users = tempfile::tempdir().unwrap();
    let path = crate::doctor::with_crontab(&one);
    let command = |args: &[&str]| {
        let mut command = one.command();
        let said = command.env("HOME", users.path()).env("PATH", &path);
        Said::from(said.args(args).output().unwrap())
    };
    let of = |home: &Home, args: &[&str]| {
        let home = home.path();
        command(&[&["--home", home.to_str().unwrap()], args].concat())
    };
    let is_scheduled = |home: &Home| {
        let said = of(home, &["doctor"]).stdout;
        !said.contains("nothing runs `snapshot`")
    };
    for kind in [&["--cron"][..], &[]] {
        let schedule = |action| [&["schedule", action], kind].concat();
        // What there is to call it is another matter.
        let said = of(&one, &schedule("--install"));
        assert!(said.stderr.contains("written, but"), "{said:?}");
        assert!(is_scheduled(&one) && !is_scheduled(&other), "{kind:?}");
        for action in ["--install", "--remove"] {
            let said = of(&other, &schedule(action)).exits(2);
            let profile = one.profile();
            let fact = format!(
                " runs another profile of this name, `{}`",
                profile.display()
            );
            assert!(said.stderr.contains(&fact), "{}", said.stderr);
            assert!(is_scheduled(&one) && !is_scheduled(&other), "{kind:?}");
        }
        let said = of(&other, &schedule("--install")).stderr;
        let advised = said.rsplit('`').nth(1).unwrap();
        crate::advice::followed(advised);
        let words = shell_words::split(advised).unwrap();
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        command(&words).exits(0);
        assert!(!is_scheduled(&one), "{kind:?}");
        of(&other, &schedule("--install"));
        assert!(is_scheduled(&other), "{kind:?}");
        of(&other, &schedule("--remove")).exits(0);
    }
}
