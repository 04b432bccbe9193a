//! `schedule`: what it prints is taken by systemd and by Debian's cron, does its work in the sandbox
//! it describes, and nothing of anybody else's is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, Home, Said, feed, run, sqlite3};
use rustic_hapi::schedule::{self, Action, Installed, Kind, Machine, Request, State};
use rustic_hapi::{Environment, Lookup};

/// One crontab is there for all tests; what was in it before is put back.
pub struct Crontab {
    before: Option<Vec<u8>>,
    /// The machine has one crontab for root, and another run of the tests may be at it.
    _alone: fs::File,
}

impl Crontab {
    pub fn take() -> Self {
        let alone = fs::File::create("/tmp/rustic-hapi-crontab.lock").unwrap();
        alone.lock().unwrap();
        let before = Self::read();
        let crontab = Self {
            before,
            _alone: alone,
        };
        _ = Command::new("crontab").arg("-r").output();
        crontab
    }

    fn read() -> Option<Vec<u8>> {
        let output = Command::new("crontab").arg("-l").output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    fn write(text: &[u8]) {
        assert!(feed("crontab", &["-".as_ref()], text).status.success());
    }
}

impl Drop for Crontab {
    fn drop(&mut self) {
        match &self.before {
            Some(text) => Self::write(text),
            None => _ = Command::new("crontab").arg("-r").output(),
        }
    }
}

/// The units that are printed, by their names.
fn printed(said: &Said) -> Vec<(String, String)> {
    let json = said.json();
    let files = json["files"].as_array().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    files
        .iter()
        .map(|file| {
            let path = text(&file["path"]);
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, text(&file["text"]))
        })
        .collect()
}

/// The values of a key in a unit.
fn values(unit: &str, key: &str) -> Vec<String> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

/// `systemd-analyze verify` has nothing to say about units that lie in a folder of their own.
#[track_caller]
fn verify(units: &[(String, String)], user: bool) {
    let said = verdict(units, user);
    assert!(said.is_empty(), "{said}\n{units:#?}");
    for (_, text) in units {
        for calendar in values(text, "OnCalendar") {
            run("systemd-analyze", &["calendar".as_ref(), calendar.as_ref()]);
        }
    }
}

/// What it has to say.
fn verdict(units: &[(String, String)], user: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = units
        .iter()
        .map(|(name, text)| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let mut command = Command::new("systemd-analyze");
    command
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .env("XDG_RUNTIME_DIR", folder.path());
    if user {
        command.arg("--user");
    }
    let said: Said = command
        .args(["--man=no", "--recursive-errors=no", "verify"])
        .args(&paths)
        .output()
        .unwrap()
        .into();
    let about_ours: Vec<_> = said
        .stderr
        .lines()
        .filter(|line| line.contains("rustic-hapi"))
        .collect();
    match (said.code, about_ours.is_empty()) {
        (0, _) | (_, false) => about_ours.join("\n"),
        (_, true) => format!("{said:?}"),
    }
}

#[test]
fn systemd_would_say_if_something_were_wrong() {
    let home = Home::initialised();
    let units = printed(&print(&home, &["--system"]));
    for (right, wrong) in [
        ("ProtectSystem=strict", "ProtectSystem=strickt"),
        ("ReadWritePaths=\"-", "ReadWritePaths=\"-not/absolute"),
        ("ExecStart=\"", "ExecStart=\"/nowhere"),
        ("OnCalendar=*-*-* 06", "OnCalendar=*-*-* 26"),
    ] {
        let broken: Vec<_> = units
            .iter()
            .map(|(name, text)| (name.clone(), text.replacen(right, wrong, 1)))
            .collect();
        assert_ne!(broken, units, "{right}");
        assert_ne!(verdict(&broken, false), "", "{wrong}");
    }
}

fn slots(home: &Home, at: &str) {
    home.edit_profile(|text| format!("{text}\n[schedule]\nat = {at}\n"));
}

fn print(home: &Home, args: &[&str]) -> Said {
    let args = [&["schedule", "--json"], args].concat();
    home.hapi_command(&args).exits(0)
}

#[test]
fn systemd_takes_what_is_printed() {
    let home = Home::initialised();
    for scope in [&[][..], &["--system"]] {
        let said = print(&home, scope);
        let units = printed(&said);
        verify(&units, scope.is_empty());
        assert_eq!(
            values(&units[1].1, "OnCalendar"),
            ["*-*-* 06:00:00", "*-*-* 18:00:00"]
        );
        // The destination and the home are below /tmp.
        assert!(values(&units[0].1, "PrivateTmp").is_empty());
        assert_eq!(
            values(&units[0].1, "User").len(),
            usize::from(!scope.is_empty())
        );
    }
    // The text on a terminal is the same.
    let text = home.hapi_command(&["schedule"]).exits(0).stdout;
    for (_, unit) in printed(&print(&home, &[])) {
        assert!(text.contains(&unit), "{text}");
    }
}

#[test]
fn systemd_takes_odd_paths_and_four_slots() {
    let home = Home::initialised();
    slots(&home, r#"["00:05", "06:00", "12:05", "18:00"]"#);
    let odd = home.dir.path().join("a b/100% \"$HOME\" \\x");
    fs::create_dir_all(&odd).unwrap();
    let profile = odd.join("100% mine.toml");
    fs::copy(home.profile(), &profile).unwrap();
    // Whether systemd finds the program tells whether it reads our quotes as we mean them.
    let binary = home.dir.path().join("a b/100% $HOME");
    crate::common::copy(Path::new(env!("CARGO_BIN_EXE_rustic-hapi")), &binary);
    for scope in [&[][..], &["--system"]] {
        let output = Command::new(&binary)
            .env_clear()
            .env("HOME", home.path())
            .env("PATH", "/usr/bin:/bin")
            .args(["schedule", "--json", "--profile", profile.to_str().unwrap()])
            .args(["--password-file", odd.to_str().unwrap()])
            .args(scope)
            .output();
        let units = printed(&Said::from(output.unwrap()).exits(0));
        assert_eq!(units[0].0, r"rustic-hapi-100\x25\x20mine.service");
        verify(&units, scope.is_empty());
        assert_eq!(values(&units[1].1, "OnCalendar").len(), 4);
    }
    // Nor does systemd start every program.
    let quoted = odd.join("rustic-hapi");
    fs::rename(&binary, &quoted).unwrap();
    let output = Command::new(&quoted)
        .env_clear()
        .env("HOME", home.path())
        .arg("schedule")
        .output();
    let said = Said::from(output.unwrap()).exits(2);
    assert!(
        said.stderr.contains("systemd starts no program"),
        "{said:?}"
    );
    // Control characters have no way of being written.
    let profile = odd.join("a\nb.toml");
    fs::copy(home.profile(), &profile).unwrap();
    let said = home.hapi_command(&["schedule", "--profile", profile.to_str().unwrap()]);
    assert!(said.exits(2).stderr.contains("control characters"));
}

#[test]
fn a_location_with_a_password_is_not_printed() {
    let home = Home::initialised();
    let location = "rest:http://joe:s3cret@127.0.0.1:1/";
    let said = home.hapi_command(&["schedule", "--repository", location]);
    let said = said.exits(2);
    assert!(!format!("{said:?}").contains("s3cret"));
    home.edit_profile(|text| {
        let location = format!("location = {location:?}\n#");
        text.replacen("location =", &location, 1)
    });
    let said = print(&home, &["--system"]);
    assert!(!said.stdout.contains("s3cret"));
    let units = printed(&said);
    verify(&units, false);
    assert_eq!(values(&units[0].1, "Wants"), ["network-online.target"]);
    assert!(units[0].1.contains(".cache/rustic\""));
}

#[test]
fn timers_of_the_user_come_and_go() {
    let home = Home::initialised();
    let folder = home.path().join(".config/systemd/user");
    let install = || home.hapi_command(&["schedule", "--install", "--json"]);
    let first = install().exits(3).json();
    assert_eq!(first["changed"], true);
    assert!(
        first["to-type"]
            .to_string()
            .contains("systemctl --user enable --now rustic-hapi-hapi.timer")
    );
    let service = folder.join("rustic-hapi-hapi.service");
    let written = fs::metadata(&service).unwrap();
    assert_eq!(install().exits(3).json()["changed"], false);
    let again = fs::metadata(&service).unwrap();
    assert_eq!(written.modified().unwrap(), again.modified().unwrap());
    for (name, text) in printed(&print(&home, &[])) {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), text);
    }
    slots(&home, r#"["03:00"]"#);
    assert_eq!(install().exits(3).json()["changed"], true);

    let others = folder.join("other.service");
    fs::write(&others, "[Unit]\n").unwrap();
    // The profile need not be there any more.
    fs::remove_file(home.profile()).unwrap();
    let remove = || home.hapi_command(&["schedule", "--remove", "--json"]);
    assert_eq!(remove().exits(0).json()["changed"], true);
    assert_eq!(remove().exits(0).json()["changed"], false);
    let left: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn units_of_others_are_left_alone() {
    let home = Home::initialised();
    let folder = home.path().join(".config/systemd/user");
    fs::create_dir_all(&folder).unwrap();
    let timer = folder.join("rustic-hapi-hapi.timer");
    fs::write(&timer, "[Timer]\nOnCalendar=daily\n").unwrap();
    for action in ["--install", "--remove"] {
        let said = home.hapi_command(&["schedule", action]).exits(2);
        assert!(said.stderr.contains("was not written by"), "{said:?}");
    }
    assert!(!folder.join("rustic-hapi-hapi.service").exists());
    fs::remove_file(&timer).unwrap();
    std::os::unix::fs::symlink("/dev/null", &timer).unwrap();
    home.hapi_command(&["schedule", "--install"]).exits(2);
    assert_eq!(fs::read_link(&timer).unwrap(), Path::new("/dev/null"));
}

/// What the tests have for a machine: no systemd, and a folder of theirs for units.
fn machine(home: &Home) -> Machine {
    Machine {
        binary: env!("CARGO_BIN_EXE_rustic-hapi").into(),
        path: "/usr/bin:/bin".into(),
        rclone_config: None,
        runtime: None,
        system_units: home.dir.path().join("system"),
        booted: home.dir.path().join("not-booted"),
    }
}

fn lookup(home: &Home) -> Lookup {
    Lookup {
        env: Environment {
            home: Some(home.path()),
            ..Environment::default()
        },
        ..Lookup::default()
    }
}

fn look(home: &Home) -> Installed {
    let lookup = lookup(home);
    let profile = rustic_hapi::Profile::load(&lookup).unwrap();
    schedule::installed(&profile, &lookup, &machine(home))
}

#[test]
fn what_is_installed_is_told() {
    let _crontab = Crontab::take();
    let home = Home::initialised();
    let here = |enabled, current| State::Present {
        enabled,
        current,
        missing: None,
    };
    let none = Installed {
        user_timer: State::Absent,
        system_timer: State::Absent,
        cron: State::Absent,
    };
    assert_eq!(look(&home), none);
    let (lookup, machine) = (lookup(&home), machine(&home));
    let go = |kind, action| {
        let request = Request {
            kind,
            action,
            user: None,
        };
        schedule::run(&lookup, request, &machine).unwrap().output()
    };
    go(Kind::SystemTimer, Action::Install);
    assert_eq!(look(&home).system_timer, here(false, Some(true)));
    // As `systemctl enable` does.
    let wants = machine.system_units.join("timers.target.wants");
    fs::create_dir(&wants).unwrap();
    let link = wants.join("rustic-hapi-hapi.timer");
    std::os::unix::fs::symlink("../rustic-hapi-hapi.timer", &link).unwrap();
    assert_eq!(look(&home).system_timer, here(true, Some(true)));

    let second = go(Kind::Cron, Action::Install);
    assert!(
        second
            .complaints
            .iter()
            .any(|c| c.contains("happens twice") || c.contains("nothing calls it")),
        "{second:?}"
    );
    assert_eq!(look(&home).cron, here(true, Some(true)));
    slots(&home, r#"["03:00"]"#);
    let now = look(&home);
    assert_eq!(now.cron, here(true, Some(false)));
    assert_eq!(now.system_timer, here(true, Some(false)));

    go(Kind::SystemTimer, Action::Remove);
    go(Kind::Cron, Action::Remove);
    assert_eq!(look(&home), none);
    assert!(fs::symlink_metadata(&link).is_err());
}

#[test]
fn the_user_of_a_system_timer_is_the_databases() {
    let home = Home::initialised();
    let owner = |user: &str| {
        run("chown", &[user.as_ref(), home.database().as_os_str()]);
        let home_of = home.path();
        let args = ["--system", "--home", home_of.to_str().unwrap()];
        let said = print(&home, &args);
        (said.json()["user"].as_str().unwrap().to_owned(), said)
    };
    let (user, said) = owner("root");
    assert_eq!(user, "root");
    let service = &printed(&said)[0].1;
    assert!(values(service, "CapabilityBoundingSet")[0].contains("CAP_DAC_OVERRIDE"));
    let (user, said) = owner("daemon");
    assert_eq!(user, "daemon");
    let service = &printed(&said)[0].1;
    assert_eq!(values(service, "CapabilityBoundingSet"), [""]);
    // The password is root's alone.
    assert!(said.stderr.contains("`daemon` may not read it"), "{said:?}");
    // Who is named counts, and who is not there does not.
    let home_of = home.path();
    let home_of = home_of.to_str().unwrap();
    let named = |user| {
        [
            "schedule", "--json", "--system", "--home", home_of, "--user", user,
        ]
    };
    let said = home.hapi_command(&named("root")).exits(0);
    assert_eq!(said.json()["user"], "root");
    home.hapi_command(&named("nobody-of-ours")).exits(2);
    fs::remove_file(home.database()).unwrap();
    let said = home.hapi_command(&named("root")[..5]).exits(2);
    assert!(said.stderr.contains("--system --user NAME"), "{said:?}");
}

#[test]
fn the_crontabs_other_lines_stay_byte_for_byte() {
    let _crontab = Crontab::take();
    let home = Home::initialised();
    let install = || home.hapi_command(&["schedule", "--install", "--cron", "--json"]);
    let remove = || home.hapi_command(&["schedule", "--remove", "--cron", "--json"]);
    // Into none, and back to none.
    assert_eq!(install().written().json()["changed"], true);
    let block = Crontab::read().unwrap();
    assert_eq!(
        String::from_utf8(block.clone()).unwrap(),
        home.hapi_command(&["schedule", "--cron"]).exits(0).stdout
    );
    assert_eq!(remove().exits(0).json()["changed"], true);
    assert_eq!(Crontab::read(), None);
    assert_eq!(remove().exits(0).json()["changed"], false);

    let before = b"MAILTO=\"\"\n# of \xff others\n\n5 4 * * 1\ttrue  \n";
    let after = b"# rustic-hapi other: begin\n# rustic-hapi other: end\n1 1 1 1 * false\n";
    Crontab::write(&[&before[..], after].concat());
    let said = install().written();
    assert!(said.stderr.contains("`MAILTO` is empty"), "{said:?}");
    let all = Crontab::read().unwrap();
    assert_eq!(all, [&before[..], after, &block].concat());
    assert_eq!(install().written().json()["changed"], false);
    assert_eq!(Crontab::read().unwrap(), all);
    // A changed one stays where it is.
    Crontab::write(&[&before[..], &block, after].concat());
    slots(&home, r#"["03:00"]"#);
    assert_eq!(install().written().json()["changed"], true);
    let text = Crontab::read().unwrap();
    assert!(text.starts_with(before) && text.ends_with(after));
    assert_ne!(text, all);
    remove().exits(0);
    assert_eq!(Crontab::read().unwrap(), [&before[..], after].concat());

    let damaged = [&before[..], b"# rustic-hapi hapi: begin\n", after].concat();
    Crontab::write(&damaged);
    for said in [install(), remove()] {
        assert!(said.exits(2).stderr.contains("without its end"));
    }
    assert_eq!(Crontab::read().unwrap(), damaged);
}

/// `UPDATE_DOCS=1` writes the page instead.
#[test]
fn the_page_shows_what_is_printed() {
    let home = Home::new_in(Path::new("/home"));
    home.init().exits(0);
    run("chown", &["daemon".as_ref(), home.database().as_os_str()]);
    let machine = Machine {
        binary: "/home/you/.cargo/bin/rustic-hapi".into(),
        ..machine(&home)
    };
    let lookup = Lookup {
        home: Some(home.path()),
        ..Lookup::default()
    };
    let request = Request {
        kind: Kind::SystemTimer,
        action: Action::Print,
        user: None,
    };
    let report = schedule::run(&lookup, request, &machine).unwrap();
    let text = report
        .output()
        .text(&rustic_hapi::Ui::new(rustic_hapi::Verbosity::Normal, true))
        .replace(home.path().to_str().unwrap(), "/home/you")
        .replace(home.repository().to_str().unwrap(), "/mnt/backup/hapi")
        .replace(
            machine.system_units.to_str().unwrap(),
            "/etc/systemd/system",
        )
        .replace("User=daemon", "User=you");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schedule.md");
    let page = fs::read_to_string(&path).unwrap();
    let [begin, end] = ["<!-- printed: begin -->\n", "<!-- printed: end -->\n"];
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let wanted = format!("{before}{begin}```ini\n{text}```\n{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(page == wanted, "the page is out of date: {text}");
}

/// Debian's own, ended by its process id.
pub struct Cron(std::process::Child);

impl Cron {
    pub fn start() -> Self {
        let cron = Command::new("/usr/sbin/cron")
            .arg("-f")
            .env_remove("TZ")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(cron)
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn debians_cron_runs_it() {
    let _crontab = Crontab::take();
    let home = Home::initialised();
    // A path that a shell, and cron itself, would take apart.
    let odd = home.dir.path().join("it's 100% odd");
    fs::create_dir(&odd).unwrap();
    let profile = odd.join("my hapi.toml");
    let date = |format: &str| {
        let output = Command::new("date").env_remove("TZ").arg(format).output();
        String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    // A crontab that comes in a minute's last seconds may be read after the next has begun.
    let second: u64 = date("+%S").parse().unwrap();
    if second > 50 {
        thread::sleep(Duration::from_secs(62 - second));
    }
    let output = Command::new("date")
        .env_remove("TZ")
        .args(["-d", "+1 minute", "+%H:%M"])
        .output();
    let next = String::from_utf8(output.unwrap().stdout).unwrap();
    slots(&home, &format!("[{:?}]", next.trim()));
    fs::rename(home.profile(), &profile).unwrap();
    let password = home.password();
    let args = [
        "--profile",
        profile.to_str().unwrap(),
        "--password-file",
        password.to_str().unwrap(),
        "schedule",
        "--install",
        "--cron",
    ];
    home.hapi_command(&args).written();
    // Where one runs already, as on a real machine, a second one ends at once.
    let _cron = Cron::start();
    let end = Instant::now() + Duration::from_secs(100);
    while home.restic_snapshots().len() < 2 {
        assert!(
            Instant::now() < end,
            "cron took no snapshots: {:?}",
            Crontab::read()
        );
        thread::sleep(Duration::from_secs(2));
    }
    // The run is over when it lets go of its lock; its home must not go before.
    let mut over = args[..4].to_vec();
    over.extend(["forget", "--dry-run", "--lock-wait", "60s"]);
    home.hapi_command(&over).exits(0);
}

/// A run in the sandbox that a printed service describes, by other means than systemd.
struct Sandbox {
    home: Home,
    binary: PathBuf,
}

impl Sandbox {
    /// A home that no private /tmp hides, with the program in it.
    fn new() -> Self {
        let home = Home::new_in(Path::new("/home"));
        home.init().exits(0);
        let binary = home.dir.path().join("rustic-hapi");
        crate::common::copy(Path::new(env!("CARGO_BIN_EXE_rustic-hapi")), &binary);
        Self { home, binary }
    }

    fn service(&self) -> String {
        let output = Command::new(&self.binary)
            .args(["schedule", "--system", "--json"])
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        let said = Said::from(output).exits(0);
        printed(&said)[0].1.clone()
    }

    fn run(&self, writable: &[String]) -> Said {
        let mut command = Command::new("bwrap");
        command
            .args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"])
            .args(["--tmpfs", "/tmp", "--tmpfs", "/var/tmp"])
            .args(["--cap-drop", "ALL", "--die-with-parent", "--clearenv"]);
        for path in writable {
            command.args(["--bind", path, path]);
        }
        for (name, value) in [
            ("HOME", self.home.path().to_str().unwrap()),
            ("PATH", "/usr/bin:/bin"),
        ] {
            command.args(["--setenv", name, value]);
        }
        // bwrap itself sets no-new-privileges.
        command
            .arg("--")
            .arg(&self.binary)
            .args(["--profile", self.home.profile().to_str().unwrap()])
            .args(["snapshot", "--json"])
            .output()
            .unwrap()
            .into()
    }
}

#[test]
fn the_sandbox_leaves_room_for_a_run() {
    let sandbox = Sandbox::new();
    let service = sandbox.service();
    assert_eq!(values(&service, "PrivateTmp"), ["true"]);
    assert_eq!(values(&service, "ProtectSystem"), ["strict"]);
    let writable: Vec<String> = values(&service, "ReadWritePaths")
        .iter()
        .map(|path| path.trim_matches('"').trim_start_matches('-').to_owned())
        .collect();
    let database = sandbox.home.database();

    let hub = BusyHub::start(&database);
    sandbox.run(&writable).exits(0);
    hub.kill();

    // Stopped, as systemd stops it: the last connection takes the side files with it.
    let closed = || {
        sqlite3(&database, "PRAGMA wal_checkpoint(TRUNCATE)");
        for suffix in ["-wal", "-shm"] {
            let file = sandbox.home.hapi(&format!("hapi.db{suffix}"));
            assert!(!file.exists(), "{}", file.display());
        }
        assert_eq!(fs::read(&database).unwrap()[18], 2, "still a WAL database");
    };
    closed();
    sandbox.run(&writable).exits(0);

    // The control: without the database's folder it is the stopped hub's that fails.
    closed();
    let folder = database.parent().unwrap().to_str().unwrap();
    let without: Vec<String> = writable.iter().filter(|p| *p != folder).cloned().collect();
    assert_eq!(without.len() + 1, writable.len());
    let said = sandbox.run(&without);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("unable to open database"), "{said:?}");
}
