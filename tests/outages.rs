//! What happens to the way to a destination: servers that die, freeze, fail, run full or change their
//! mind, links that are slow, cut, or gone. After each: no snapshot that is not whole, `restic check
//! --read-data` clean, and the next run succeeds without help.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::servers::{Relay, Server, Sshd};
use crate::common::{Home, Said, Tmpfs, files_below, on_terminal, run, sqlite3};

const MB: u64 = 1_000_000;

/// A hub with so many megabytes that do not compress.
fn home_with(megabytes: u64) -> Home {
    let home = Home::new();
    add(&home, megabytes);
    home
}

fn add(home: &Home, megabytes: u64) {
    sqlite3(
        &home.database(),
        &format!(
            "CREATE TABLE IF NOT EXISTS bulk(b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{megabytes}) INSERT INTO bulk SELECT randomblob(1000000) FROM n;"
        ),
    );
}

/// Bytes of the packs in the repository's folder.
fn stored(home: &Home) -> u64 {
    let packs = files_below(&home.repository().join("data"));
    packs.iter().map(|(_, bytes)| bytes).sum()
}

fn begin(home: &Home) -> Child {
    home.command()
        .args(["-v", "snapshot"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ends(child: Child) -> Said {
    child.wait_with_output().unwrap().into()
}

/// What always holds: so many snapshots, all of it sound.
#[track_caller]
fn sound(home: &Home, snapshots: usize) {
    home.restic(&["unlock"]);
    assert_eq!(home.restic_snapshots().len(), snapshots);
    home.restic(&["check", "--read-data"]);
}

fn limits(home: &Home, text: &str) {
    home.edit_profile(|profile| format!("{profile}\n[limits]\n{text}\n"));
}

#[track_caller]
fn wait_for(mut it: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !it() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A storage host of one kind or the other.
enum Host {
    Rest(Server),
    Sftp(Sshd),
}

impl Host {
    fn rest(home: &Home) -> Self {
        Self::Rest(Server::rest(&home.repository(), &[]))
    }

    fn current_rest(home: &Home) -> Self {
        Self::Rest(Server::current_rest(&home.repository(), &[]))
    }

    fn sftp(home: &Home) -> Self {
        Self::Sftp(Sshd::start(&home.dir.path().join("sshd"), &home.path()))
    }

    fn server(&mut self) -> &mut Server {
        match self {
            Self::Rest(server) => server,
            Self::Sftp(sshd) => &mut sshd.server,
        }
    }

    /// A relay before it, and a repository made through that.
    fn behind_relay(&mut self, home: &Home) -> Relay {
        let relay = Relay::before(self.server().port);
        let location = match self {
            Self::Rest(_) => relay.location(),
            Self::Sftp(sshd) => {
                let known = home.path().join(".ssh/known_hosts");
                std::fs::write(known, sshd.keys(relay.port)).unwrap();
                sshd.location_by(relay.port, &home.repository())
            }
        };
        home.init_at(&location).exits(0);
        home.cheapen();
        relay
    }

    fn signal(&self, name: &str) {
        match self {
            Self::Rest(server) => server.signal(name),
            Self::Sftp(sshd) => sshd.signal_sessions(name),
        }
    }
}

#[test]
fn a_first_upload_that_is_cut_again_and_again_goes_on_where_it_was() {
    cut_again_and_again(Host::current_rest);
}

#[test]
fn a_first_upload_over_sftp_that_is_cut_again_and_again_goes_on_where_it_was() {
    cut_again_and_again(Host::sftp);
}

fn cut_again_and_again(host: fn(&Home) -> Host) {
    let size = 110;
    let home = home_with(size);
    let mut host = host(&home);
    let relay = host.behind_relay(&home);
    // One series, and so one snapshot or none.
    home.edit_profile(|text| format!("without = [\"voice-test-output\"]\n{text}"));
    let mut attempts = 0;
    loop {
        attempts += 1;
        assert!(attempts < 10, "it goes nowhere");
        relay.cut_after(Some(45 * MB));
        let said = home.hapi_command(&["-v", "snapshot"]);
        relay.cut_after(None);
        if said.code == 0 {
            assert!(said.stderr.contains("reuses "), "{said:?}");
            break;
        }
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.stderr
                .contains("hint: the network or the server broke off"),
            "{said:?}"
        );
        sound(&home, 0);
    }
    assert!(attempts >= 3, "{attempts}");
    // A pack or two of each attempt are lost.
    assert!(
        relay.sent() < size * MB * 17 / 10,
        "{} bytes in {attempts} attempts",
        relay.sent()
    );
    sound(&home, 1);
    home.drill(&[]).exits(0);
}

#[test]
fn a_server_is_killed_in_the_middle_of_an_upload() {
    for host in [Host::rest, Host::current_rest] {
        killed_in_the_middle(host);
    }
}

#[test]
fn an_sftp_server_is_killed_in_the_middle_of_an_upload() {
    killed_in_the_middle(Host::sftp);
}

fn killed_in_the_middle(host: fn(&Home) -> Host) {
    let home = home_with(1);
    let mut host = host(&home);
    let relay = host.behind_relay(&home);
    home.snapshot().exits(0);
    add(&home, 12);
    relay.rate(3 * MB);
    let before = relay.sent();
    let child = begin(&home);
    wait_for(|| relay.sent() > before + 4 * MB);
    // Whom it serves first: without the listener nobody finds them.
    host.signal("-KILL");
    host.server().kill();
    let begun = Instant::now();
    let said = ends(child).exits(1);
    assert!(
        begun.elapsed() < Duration::from_secs(50),
        "{:?}",
        begun.elapsed()
    );
    assert!(said.stderr.contains("127.0.0.1"), "{said:?}");
    assert!(said.stderr.contains("hint: "), "{said:?}");
    sound(&home, 2);
    host.server().again(&[]);
    relay.rate(0);
    home.snapshot().exits(0);
    sound(&home, 3);
    home.drill(&[]).exits(0);
}

#[test]
fn a_server_that_freezes_ends_the_run_after_the_limit() {
    frozen(Host::rest);
}

#[test]
fn an_sftp_server_that_freezes_ends_the_run_after_the_limit() {
    frozen(Host::sftp);
}

fn frozen(host: fn(&Home) -> Host) {
    let home = home_with(1);
    let mut host = host(&home);
    let relay = host.behind_relay(&home);
    home.snapshot().exits(0);
    limits(&home, "no-progress = \"4s\"");
    add(&home, 12);
    relay.rate(3 * MB);
    let before = relay.sent();
    let child = begin(&home);
    wait_for(|| relay.sent() > before + 4 * MB);
    host.signal("-STOP");
    let begun = Instant::now();
    let said = ends(child).exits(1);
    let took = begun.elapsed();
    // Four seconds, and what a run gets to end.
    assert!(
        took > Duration::from_secs(3) && took < Duration::from_secs(40),
        "{took:?}"
    );
    assert!(said.stderr.contains("nothing moved for 4 s"), "{said:?}");
    assert!(said.stderr.contains("127.0.0.1"), "{said:?}");
    host.signal("-CONT");
    relay.rate(0);
    thread::sleep(Duration::from_millis(500));
    sound(&home, 2);
    home.snapshot().exits(0);
    sound(&home, 3);
    let left = std::fs::read_dir(home.state().join("staging")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn ssh_that_freezes_is_ended_too() {
    let home = home_with(1);
    let mut host = Host::sftp(&home);
    let relay = host.behind_relay(&home);
    home.snapshot().exits(0);
    limits(&home, "no-progress = \"4s\"");
    add(&home, 12);
    relay.rate(3 * MB);
    let before = relay.sent();
    let child = begin(&home);
    wait_for(|| relay.sent() > before + 4 * MB);
    let ssh = pids_of(&format!("-p {} ", relay.port));
    assert!(!ssh.is_empty());
    for pid in &ssh {
        _ = Command::new("kill").args(["-STOP", pid]).status();
    }
    let begun = Instant::now();
    let said = ends(child).exits(1);
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    assert!(said.stderr.contains("nothing moved for 4 s"), "{said:?}");
    wait_for(|| pids_of(&format!("-p {} ", relay.port)).is_empty());
    relay.rate(0);
    sound(&home, 2);
    home.snapshot().exits(0);
    sound(&home, 3);
}

/// Processes whose command line holds a text.
fn pids_of(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(text)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn an_sftp_connection_that_breaks_now_and_then_is_made_again() {
    let home = home_with(20);
    let mut host = Host::sftp(&home);
    let relay = host.behind_relay(&home);
    let child = begin(&home);
    for _ in 0..3 {
        let before = relay.sent();
        wait_for(|| relay.sent() > before + 2 * MB);
        relay.cut_after(Some(1));
        thread::sleep(Duration::from_millis(700));
        relay.cut_after(None);
    }
    ends(child).exits(0);
    sound(&home, 2);
    home.drill(&[]).exits(0);
}

#[test]
fn rclone_that_freezes_is_ended_too() {
    let home = home_with(1);
    let config = home.dir.path().join("rclone.conf");
    std::fs::write(&config, "[disk]\ntype = local\n").unwrap();
    let location = format!("rclone:disk:{}", home.repository().display());
    let mut init = home.init_command(&location);
    init.env("RCLONE_CONFIG", &config);
    Said::from(init.output().unwrap()).exits(0);
    home.cheapen();
    home.environment_file(&format!("RCLONE_CONFIG={}\n", config.display()));
    home.snapshot().exits(0);
    limits(&home, "no-progress = \"4s\"");
    let place = format!("disk:{}", home.repository().display());
    let serving = || {
        pids_of(&format!("serve restic --addr 127.0.0.1:0 --contimeout 10s --low-level-retries 3 --b2-hard-delete {place}")).pop()
    };
    add(&home, 30);
    let before = stored(&home);
    let child = begin(&home);
    // What was seen is kept: while it becomes rclone it has no command line for a moment.
    let mut pid = None;
    wait_for(|| {
        pid = serving();
        pid.is_some()
    });
    let pid = pid.unwrap();
    // In the middle of the upload.
    wait_for(|| stored(&home) > before + 3 * MB);
    _ = Command::new("kill").args(["-STOP", &pid]).status();
    let begun = Instant::now();
    let said = ends(child).exits(1);
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    assert!(said.stderr.contains("nothing moved for 4 s"), "{said:?}");
    wait_for(|| serving().is_none());
    sound(&home, 2);
    home.snapshot().exits(0);
    sound(&home, 3);
}

#[test]
fn a_server_that_fails_now_and_then_is_asked_again() {
    let home = home_with(20);
    let server = Server::rest(&home.repository(), &[]);
    let relay = Relay::before(server.port);
    home.init_at(&relay.location()).exits(0);
    home.cheapen();
    relay.fail_every(4);
    home.snapshot().exits(0);
    add(&home, 3);
    home.snapshot().exits(0);
    assert!(relay.failed() > 5, "{}", relay.failed());
    relay.fail_every(0);
    sound(&home, 3);
    home.drill(&[]).exits(0);
}

#[test]
fn a_server_that_runs_full_says_so() {
    let home = home_with(1);
    let disk = Tmpfs::mount(home.repository(), "size=6m");
    let server = Server::current_rest(&home.repository(), &[]);
    home.init_at(&server.location()).exits(0);
    home.cheapen();
    home.snapshot().exits(0);
    add(&home, 12);
    let said = home.hapi_command(&["snapshot"]).exits(1);
    assert!(said.stderr.contains("127.0.0.1"), "{said:?}");
    // Whether its answer arrives before it hangs up is the system's to say.
    let known = ["is its disk full", "the server is full"];
    assert!(
        known.iter().any(|word| said.stderr.contains(word)),
        "{said:?}"
    );
    disk.remount("size=64m");
    sound(&home, 2);
    home.snapshot().exits(0);
    sound(&home, 3);
    drop(server);
}

#[test]
fn credentials_that_are_revoked_between_two_runs() {
    let home = Home::new();
    let mut server = Server::rest(&home.repository(), &["--user", "joe", "--pass", "one"]);
    let location = server.location().replace("http://", "http://joe:one@");
    home.init_at(&location).exits(0);
    home.cheapen();
    home.snapshot().exits(0);
    server.again(&["--pass", "another"]);
    let begun = Instant::now();
    let said = home.hapi_command(&["snapshot"]).exits(1);
    assert!(begun.elapsed() < Duration::from_secs(5), "it is final");
    assert!(said.stderr.contains("answers 401"), "{said:?}");
    assert!(
        said.stderr.contains("are user and password right?"),
        "{said:?}"
    );
    sound(&home, 2);
    server.again(&[]);
    home.snapshot().exits(0);
    sound(&home, 3);
}

#[test]
fn a_slow_link_is_slow_and_the_total_is_limited_once_there_is_a_snapshot() {
    slow_link(Host::rest);
}

#[test]
fn a_slow_link_over_sftp_is_slow_and_the_total_is_limited_once_there_is_a_snapshot() {
    slow_link(Host::sftp);
}

fn slow_link(host: fn(&Home) -> Host) {
    let home = home_with(11);
    let mut host = host(&home);
    let relay = host.behind_relay(&home);
    limits(&home, "no-progress = \"8s\"\ntotal = \"10s\"");
    // Slower than every limit but one: something moves.
    relay.rate(MB);
    let begun = Instant::now();
    home.snapshot().exits(0);
    assert!(
        begun.elapsed() > Duration::from_secs(11),
        "{:?}",
        begun.elapsed()
    );
    sound(&home, 2);
    add(&home, 11);
    let said = home.hapi_command(&["snapshot"]).exits(1);
    assert!(said.stderr.contains("10 s"), "{said:?}");
    assert!(said.stderr.contains("127.0.0.1"), "{said:?}");
    sound(&home, 2);
    relay.rate(0);
    home.snapshot().exits(0);
    sound(&home, 3);
}

/// Two network namespaces with a cable between them, gone with the value.
struct Cable {
    hub: String,
    storage: String,
    /// Its end at the storage host.
    device: String,
}

impl Cable {
    /// Called something of its own, so that two can be there side by side.
    fn lay(name: &str) -> Self {
        let id = format!("{name}{}", std::process::id());
        let (hub, storage) = (format!("hapi-h{id}"), format!("hapi-s{id}"));
        let (a, b) = (format!("hh{id}"), format!("hs{id}"));
        let device = b.clone();
        let cable = Self {
            hub,
            storage,
            device,
        };
        let (hub, storage) = (&cable.hub, &cable.storage);
        for line in [
            format!("netns add {hub}"),
            format!("netns add {storage}"),
            format!("link add {a} netns {hub} type veth peer name {b} netns {storage}"),
            format!("-n {hub} addr add 192.0.2.1/30 dev {a}"),
            format!("-n {storage} addr add 192.0.2.2/30 dev {b}"),
            format!("-n {hub} link set lo up"),
            format!("-n {storage} link set lo up"),
            format!("-n {hub} link set {a} up"),
            format!("-n {storage} link set {b} up"),
        ] {
            ip(&line);
        }
        cable
    }

    fn pull(&self, out: bool) {
        let state = if out { "down" } else { "up" };
        let (storage, device) = (&self.storage, &self.device);
        ip(&format!("-n {storage} link set {device} {state}"));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.hub, &self.storage] {
            _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(line: &str) {
    let args: Vec<_> = line.split(' ').map(AsRef::as_ref).collect();
    run("ip", &args);
}

#[test]
fn the_cable_is_pulled_in_the_middle() {
    let cable = Cable::lay("r");
    let home = home_with(1);
    std::fs::create_dir_all(home.repository()).unwrap();
    let mut server = Command::new("ip")
        .args(["netns", "exec", &cable.storage, "rclone", "serve", "restic"])
        .args(["--addr", "192.0.2.2:8000", "--bwlimit", "8M"])
        .arg(home.repository())
        .env("RCLONE_CONFIG", "/dev/null")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    pulled(&home, &cable, "rest:http://192.0.2.2:8000/", 8000);
    _ = server.kill();
    _ = server.wait();
    sound(&home, 3);
}

#[test]
fn the_cable_to_an_sftp_server_is_pulled_in_the_middle() {
    let cable = Cable::lay("s");
    let home = home_with(1);
    let lines = "Subsystem sftp internal-sftp\nListenAddress 192.0.2.2\n";
    // Its port is asked for on this side, and is the same there.
    let there = ["ip", "netns", "exec", cable.storage.as_str()];
    let sshd = Sshd::there(&home.dir.path().join("sshd"), &home.path(), lines, &there);
    let public = std::fs::read_to_string(home.dir.path().join("sshd/host.pub")).unwrap();
    let port = sshd.server.port;
    let known = format!("[192.0.2.2]:{port} {public}");
    std::fs::write(home.path().join(".ssh/known_hosts"), known).unwrap();
    let location = format!(
        "sftp://{}@192.0.2.2:{port}/{}",
        sshd.user,
        home.repository().display()
    );
    pulled(&home, &cable, &location, port);
    sound(&home, 3);
}

/// A run before, one while the cable is out, and one after.
fn pulled(home: &Home, cable: &Cable, location: &str, port: u16) {
    let there = |args: &[&str]| {
        let before = ["netns", "exec", cable.hub.as_str()];
        home.through("ip", &before, args)
    };
    wait_for(|| {
        let script = format!("exec 3<>/dev/tcp/192.0.2.2/{port}");
        let asked = Command::new("ip")
            .args(["netns", "exec", &cable.hub, "bash", "-c", &script])
            .stderr(Stdio::null())
            .status();
        asked.unwrap().success()
    });
    let recipient = home.recipient.clone();
    let init = there(&["init", "--repository", location, "--recipient", &recipient]).output();
    Said::from(init.unwrap()).exits(0);
    home.cheapen();
    limits(home, "no-progress = \"8s\"");
    Said::from(there(&["snapshot"]).output().unwrap()).exits(0);
    add(home, 30);
    let before = stored(home);
    let child = there(&["-v", "snapshot"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(|| stored(home) > before + 3 * MB);
    cable.pull(true);
    let begun = Instant::now();
    let said = ends(child).exits(1);
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    assert!(said.stderr.contains("192.0.2.2"), "{said:?}");
    // While it is out, it is told soon.
    let begun = Instant::now();
    let away = Said::from(there(&["snapshot"]).output().unwrap()).exits(1);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        away.stderr.contains("network (VPN, tailnet) up?") || away.stderr.contains("nothing moved"),
        "{away:?}"
    );
    cable.pull(false);
    Said::from(there(&["snapshot"]).output().unwrap()).exits(0);
}

#[test]
fn a_terminal_says_what_it_waits_for() {
    let home = Home::initialised();
    // Nobody listens there: it is refused at once, and tried again.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("rest:http://{}/", free.local_addr().unwrap());
    drop(free);
    let mut command = home.command();
    command
        .args(["-r", &place, "snapshots"])
        .env("TERM", "xterm");
    let said = on_terminal(&command, &[]);
    let shown = format!("note: waiting for `{place}` (attempt ");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.matches(&shown).count() > 1, "{said:?}");
    // Without a terminal there is only the error.
    let said = home.hapi_command(&["-r", &place, "snapshots"]).exits(1);
    assert!(!said.stderr.contains("waiting"), "{said:?}");
}
