//! Locks, both ways, against the real restic: it keeps its hands off while we work, we keep ours off
//! while it works, and what a crash leaves stands in nobody's way.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Home, Said, run};
use serde_json::Value;

/// A run that waits in the middle of its archive until it is let go.
struct Held {
    child: Option<Child>,
    file: PathBuf,
}

impl Held {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut command = home.command();
        command.args(args);
        Self::of(home, command)
    }

    fn of(home: &Home, mut command: Command) -> Self {
        home.change();
        let file = tempfile::Builder::new()
            .prefix("pause-")
            .tempfile_in(home.dir.path())
            .unwrap()
            .into_temp_path()
            .keep()
            .unwrap();
        let before = locks(home);
        let child = command
            .env("RUSTIC_HAPI_TEST_FAULT", "pause:hapi.db")
            .env("RUSTIC_HAPI_TEST_PAUSE", &file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(|| locks(home).len() > before.len());
        // The archive begins a little later than the lock is there.
        thread::sleep(Duration::from_millis(700));
        Self {
            child: Some(child),
            file,
        }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        run("kill", &[name.as_ref(), pid.as_ref()]);
    }

    fn let_go(&self) {
        _ = fs::remove_file(&self.file);
    }

    fn ends(mut self) -> Said {
        self.let_go();
        self.child
            .take()
            .unwrap()
            .wait_with_output()
            .unwrap()
            .into()
    }

    /// SIGKILL, to the process that has the lock: `faketime` is its parent.
    fn killed(mut self, home: &Home) {
        let id = locks(home).remove(0);
        let lock = home.restic(&["cat", "lock", &id, "--no-lock", "-q"]).json();
        let pid = lock["pid"].to_string();
        run("kill", &["-KILL".as_ref(), pid.as_ref()]);
        self.child.take().unwrap().wait().unwrap();
        self.let_go();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            _ = child.kill();
            _ = child.wait();
        }
        self.let_go();
    }
}

#[track_caller]
fn wait_for(mut it: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !it() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn locks(home: &Home) -> Vec<String> {
    fs::read_dir(home.repository().join("locks"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.len() == 64)
        .collect()
}

fn snapshots(home: &Home) -> Vec<String> {
    let listed = home.restic(&["snapshots", "--no-lock", "--json"]).json();
    let ids = listed.as_array().cloned().unwrap_or_default();
    ids.iter()
        .map(|s| s["id"].as_str().unwrap().to_owned())
        .collect()
}

fn runs(home: &Home, command: &str) -> Vec<Value> {
    fs::read_to_string(home.state().join("runs.jsonl"))
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|run| run["command"] == command)
        .collect()
}

/// A `restic backup` that reads its standard input until it is closed: a shared lock for as long.
struct ResticBackup {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl ResticBackup {
    fn start(home: &Home) -> Self {
        let before = locks(home).len();
        let mut child = home
            .restic_command(&["backup", "--stdin", "--host", "someone-else", "-q"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"something\n").unwrap();
        wait_for(|| locks(home).len() > before);
        Self {
            child,
            stdin: Some(stdin),
        }
    }

    fn ends(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ResticBackup {
    fn drop(&mut self) {
        drop(self.stdin.take());
        _ = self.child.wait();
    }
}

#[test]
fn restic_keeps_its_hands_off_while_a_run_archives() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let before = snapshots(&home);
    let held = Held::start(&home, &["snapshot", "--json"]);

    // It reads our lock.
    let listed = home.restic(&["list", "locks", "--no-lock", "-q"]).stdout;
    let ids: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(ids.len(), 1, "{listed}");
    let lock = home
        .restic(&["cat", "lock", ids[0], "--no-lock", "-q"])
        .json();
    assert_eq!(lock["pid"], held.pid());
    assert_eq!(lock["exclusive"], false);
    let name = run("uname", &["-n".as_ref()]).stdout;
    assert_eq!(lock["hostname"], name.trim());

    // What deletes is refused, what adds is not.
    for refused in [
        &["prune"][..],
        &["forget", "--keep-last", "1", "--prune"],
        &["check"],
        &["rebuild-index"],
    ] {
        let said = Said::from(home.restic_command(refused).output().unwrap());
        assert_eq!(said.code, 1, "{refused:?}: {said:?}");
        assert!(said.stderr.contains("already locked"), "{said:?}");
    }
    home.restic(&["backup", "--host", "someone-else", "/etc/hostname"]);
    // `unlock` removes what is stale, and ours is not.
    home.restic(&["unlock"]);
    assert_eq!(locks(&home).len(), 1);

    held.ends().exits(0);
    assert_eq!(locks(&home), Vec::<String>::new());
    assert_eq!(snapshots(&home).len(), before.len() + 2);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_run_waits_while_restic_has_the_repository_alone() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    // So slow that it is still at it.
    let mut check = home
        .restic_command(&["check", "--read-data", "--limit-download", "60"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(|| !locks(&home).is_empty());
    let begun = Instant::now();
    let child = home
        .command()
        .args(["-v", "snapshot"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(check.wait().unwrap().success());
    let alone = begun.elapsed();
    let said = Said::from(child.wait_with_output().unwrap()).exits(0);
    let waited = begun.elapsed();
    assert!(
        alone > Duration::from_secs(2),
        "restic was too fast: {alone:?}"
    );
    assert!(waited > alone, "{waited:?} {alone:?}");
    assert!(
        said.stderr.contains("waiting for a lock: process"),
        "{}",
        said.stderr
    );
    assert!(locks(&home).is_empty());

    // Who forgets by hand waits, too, and then says who is in the way.
    let backup = ResticBackup::start(&home);
    let output = home
        .command()
        .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
        .arg("forget")
        .output();
    let said = Said::from(output.unwrap()).exits(11);
    assert!(said.stderr.contains("is locked: process"), "{said:?}");
    assert!(said.stderr.contains("with others"), "{said:?}");
    // A timer has nobody to tell.
    let output = home
        .command()
        .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
        .args(["forget", "--unattended"])
        .output();
    Said::from(output.unwrap()).exits(0);
    backup.ends();
    home.hapi_command(&["forget"]).exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn what_a_killed_run_leaves_is_cleared_by_the_next() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    Held::start(&home, &["snapshot", "-q"]).killed(&home);
    assert_eq!(locks(&home).len(), 1);
    let said = home.hapi_command(&["-v", "snapshot"]).exits(0);
    assert!(said.stderr.contains("removed the stale lock"), "{said:?}");
    assert!(locks(&home).is_empty());

    // Or by restic.
    Held::start(&home, &["snapshot", "-q"]).killed(&home);
    assert_eq!(locks(&home).len(), 1);
    home.restic(&["unlock"]);
    assert!(locks(&home).is_empty());

    // One that is told to end leaves none.
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let held = Held::start(&home, &["snapshot", "-q"]);
        held.signal(signal);
        held.ends().exits(code);
        assert!(locks(&home).is_empty(), "{signal}");
    }
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_lock_of_another_machine_counts_for_half_an_hour() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    // Another host's name, and another time for the second.
    for (time, stale) in [(None, false), (Some("2 hours ago"), true)] {
        let mut before = vec![
            "--uts",
            "sh",
            "-c",
            "hostname elsewhere && exec \"$@\"",
            "sh",
        ];
        before.extend(time.iter().flat_map(|time| ["faketime", time]));
        let command = home.through("unshare", &before, &["snapshot", "-q"]);
        Held::of(&home, command).killed(&home);
        assert_eq!(locks(&home).len(), 1);
        // Shared locks go together, whoever has them.
        let said = home.hapi_command(&["-v", "snapshot"]).exits(0);
        assert_eq!(
            said.stderr.contains("removed the stale lock"),
            stale,
            "{said:?}"
        );
        assert_eq!(locks(&home).is_empty(), stale);
        if !stale {
            let output = home
                .command()
                .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
                .arg("forget")
                .output();
            let said = Said::from(output.unwrap()).exits(11);
            assert!(said.stderr.contains("on elsewhere"), "{said:?}");
            home.restic(&["unlock", "--remove-all"]);
        }
    }
}

#[test]
fn a_run_whose_lock_is_removed_by_force_writes_no_snapshot() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let before = snapshots(&home);
    let held = Held::start(&home, &["snapshot"]);
    home.restic(&["unlock", "--remove-all"]);
    home.restic(&["prune"]);
    let said = held.ends().exits(1);
    assert!(
        said.stderr
            .contains("another program removed the lock of this run"),
        "{said:?}"
    );
    assert_eq!(snapshots(&home), before);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

/// Snapshots of forty days, so that retention has something to remove.
fn forty_days(home: &Home) {
    home.at("2026-03-01T06:00:00Z", &["snapshot", "-q"])
        .exits(0);
    home.forge(|snapshots| {
        let main: Vec<_> = snapshots
            .iter()
            .filter(|s| s.tags.contains("hapi"))
            .cloned()
            .collect();
        for day in 1..40 {
            let mut copy = main[0].clone();
            copy.time = copy
                .time
                .checked_add(jiff::Span::new().hours(24 * day))
                .unwrap();
            copy.original = None;
            snapshots.push(copy);
        }
    });
}

#[test]
fn retention_is_postponed_while_others_are_at_it_and_told_after_three_days() {
    let home = Home::initialised();
    forty_days(&home);
    let at = |time: &str| -> Said {
        home.command()
            .env("RUSTIC_HAPI_TEST_NOW", time)
            .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
            .args(["snapshot", "--json"])
            .output()
            .unwrap()
            .into()
    };
    let there = snapshots(&home).len();
    let backup = ResticBackup::start(&home);
    let first = at("2026-04-10T06:00:00Z").exits(0);
    let retention = &first.json()["retention"];
    assert_eq!(retention["removed"], serde_json::json!([]));
    assert!(
        retention["postponed"].as_str().unwrap().contains("process"),
        "{retention}"
    );
    at("2026-04-12T06:00:00Z").exits(0);
    let late = at("2026-04-13T18:00:00Z").exits(3);
    assert!(
        late.stderr.contains("at each run since 2026-04-10"),
        "{late:?}"
    );
    assert!(
        late.stderr.contains("rustic-hapi doctor` lists the locks"),
        "{late:?}"
    );
    assert!(snapshots(&home).len() > there, "nothing was removed");
    backup.ends();

    let removed = at("2026-04-14T06:00:00Z").exits(0).json();
    assert!(
        !removed["retention"]["removed"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{removed}"
    );
    // The next wait begins anew.
    assert!(!home.state().join("retention-postponed").exists());
    assert!(locks(&home).is_empty());
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_run_prunes_once_a_week_after_it_has_told_that_it_saved() {
    let home = Home::initialised();
    let at = |time: &str| home.at(time, &["snapshot", "-q"]);
    at("2026-03-02T06:00:00Z").exits(0);
    assert!(runs(&home, "prune").is_empty(), "there is nothing to prune");
    // Something that nobody needs any more.
    let waste = home.dir.path().join("waste");
    fs::write(&waste, waste_of(3 << 20)).unwrap();
    home.restic(&["backup", "--host", "someone-else", waste.to_str().unwrap()]);
    home.restic(&["forget", "--host", "someone-else", "--keep-tag", "none"]);
    let size = |home: &Home| -> u64 {
        crate::common::files_below(&home.repository().join("data"))
            .iter()
            .map(|(_, bytes)| bytes)
            .sum()
    };
    let with_waste = size(&home);
    at("2026-03-03T06:00:00Z").exits(0);
    assert!(runs(&home, "prune").is_empty(), "the week is not over");

    // Somebody else is at it: the next run prunes.
    let backup = ResticBackup::start(&home);
    let output = home
        .command()
        .env("RUSTIC_HAPI_TEST_NOW", "2026-03-09T06:00:00Z")
        .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
        .args(["-v", "snapshot"])
        .output();
    let said = Said::from(output.unwrap()).exits(0);
    assert!(said.stderr.contains("the prune is postponed"), "{said:?}");
    backup.ends();
    assert!(size(&home) >= with_waste);

    let said = home
        .at("2026-03-09T18:00:00Z", &["-v", "snapshot"])
        .exits(0);
    assert!(said.stderr.contains("pruned: "), "{said:?}");
    assert!(size(&home) >= with_waste, "only marked as yet");
    at("2026-03-10T06:00:00Z").exits(0);
    assert_eq!(runs(&home, "prune").len(), 2);
    // The engine goes by its own clock for how long a pack is marked.
    let mut later = home.through("faketime", &["30 hours"], &["snapshot", "-q"]);
    later.env("RUSTIC_HAPI_TEST_NOW", "2026-03-16T18:00:00Z");
    Said::from(later.output().unwrap()).exits(0);
    assert!(
        size(&home) < with_waste - (2 << 20),
        "{} of {with_waste}",
        size(&home)
    );
    home.restic(&["check", "--read-data"]);

    // Not where it is not wanted.
    home.edit_profile(|text| format!("{text}\n[retention]\nprune = false\n"));
    at("2026-03-24T06:00:00Z").exits(0);
    assert_eq!(runs(&home, "prune").len(), 3);
}

/// Bytes that do not compress.
fn waste_of(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn two_hosts_use_one_repository_at_once() {
    let one = Home::initialised();
    let two = Home::new();
    fs::create_dir_all(two.profile().parent().unwrap()).unwrap();
    fs::copy(one.password(), two.password()).unwrap();
    let repository = one.repository();
    let args = [
        "init",
        "--repository",
        repository.to_str().unwrap(),
        "--allow-same-disk",
        "--host",
        "second",
        "--recipient",
        &two.recipient,
    ];
    two.hapi_command(&args).exits(0);

    let begun = [&one, &two].map(|home| {
        home.command()
            .args(["snapshot", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for child in begun {
        Said::from(child.wait_with_output().unwrap()).exits(0);
    }
    assert_eq!(snapshots(&one).len(), 4);
    let listed = |home: &Home, args: &[&str]| -> usize {
        let args = [&["snapshots", "--json"], args].concat();
        let document = home.hapi_command(&args).exits(0).json();
        document["snapshots"].as_array().unwrap().len()
    };
    assert_eq!(listed(&one, &[]), 2);
    assert_eq!(listed(&two, &[]), 2);
    assert_eq!(listed(&two, &["--all-hosts"]), 4);
    // Main series, then weekly; of each the newest.
    two.hapi_command(&["snapshot", "--tag", "before-upgrade", "--tag", "by-hand"])
        .exits(0);
    assert_eq!(listed(&two, &[]), 3);
    assert_eq!(listed(&two, &["--latest", "1"]), 2);
    assert_eq!(
        listed(&two, &["--tag", "before-upgrade", "--tag", "by-hand"]),
        1
    );
    let none = two.hapi_command(&["snapshots", "--tag", "shrunk"]).exits(0);
    assert_eq!(none.stdout, "none of the 3 snapshots has these tags\n");
    two.hapi_command(&["snapshots", "--latest", "0"]).exits(2);
    let text = two
        .hapi_command(&["snapshots", "--all-hosts", "--latest", "1"])
        .exits(0)
        .stdout;
    let seconds = text
        .lines()
        .filter(|line| line.contains("  second"))
        .count();
    assert!(text.starts_with("id "), "{text}");
    assert_eq!((text.lines().count(), seconds), (5, 2), "{text}");

    // Each one's retention leaves the other's alone.
    for home in [&one, &two] {
        home.hapi_command(&["forget"]).exits(0);
        home.hapi_command(&["drill"]).exits(0);
    }
    assert_eq!(snapshots(&one).len(), 5);
    one.restic(&["check", "--read-data"]);
}

#[test]
fn a_lock_that_was_removed_is_not_put_down_again() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let before = snapshots(&home);
    let mut command = home.command();
    command
        .args(["snapshot"])
        .env("RUSTIC_HAPI_TEST_LOCK_REFRESH", "1");
    let held = Held::of(&home, command);
    // It is refreshed for as long as it is there.
    let first = locks(&home);
    wait_for(|| locks(&home).len() == 1 && locks(&home) != first);
    // As while this machine sleeps.
    held.signal("-STOP");
    home.restic(&["unlock", "--remove-all"]);
    held.signal("-CONT");
    thread::sleep(Duration::from_secs(4));
    assert!(locks(&home).is_empty(), "it is put down again");
    home.restic(&["prune"]);
    held.ends().exits(1);
    assert_eq!(snapshots(&home), before);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_process_of_another_container_is_not_taken_for_gone() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    // It has this machine's name, and a process id that means nothing here.
    let restic = home.restic_command(&["backup", "--stdin", "--host", "someone-else", "-q"]);
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "sh", "-c"])
        .arg("for n in $(seq 300); do true & wait; done; exec \"$@\"")
        .arg("sh")
        .arg(restic.get_program())
        .args(restic.get_args())
        .stdin(Stdio::piped());
    for (name, value) in restic.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"something\n").unwrap();
    wait_for(|| !locks(&home).is_empty());
    let output = home
        .command()
        .env("RUSTIC_HAPI_TEST_LOCK_WAIT", "1")
        .args(["forget", "--prune"])
        .output();
    let said = Said::from(output.unwrap()).exits(11);
    assert!(!said.stderr.contains("removed the stale lock"), "{said:?}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    home.hapi_command(&["forget", "--prune"]).exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn what_a_prune_of_ours_marked_and_restics_deleted_is_no_damage() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let waste = home.dir.path().join("waste");
    fs::write(&waste, waste_of(3 << 20)).unwrap();
    home.restic(&["backup", "--host", "someone-else", waste.to_str().unwrap()]);
    home.restic(&["forget", "--host", "someone-else", "--keep-tag", "none"]);
    home.hapi_command(&["forget", "--prune"]).exits(0);
    home.restic(&["prune"]);
    home.hapi_command(&["check"]).exits(0);
    let mut later = home.through("faketime", &["30 hours"], &["forget", "--prune"]);
    Said::from(later.output().unwrap()).exits(0);
    home.hapi_command(&["check", "--read-data"]).exits(0);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn what_an_upload_left_torn_is_healed_by_the_next_run() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    Held::start(&home, &["snapshot", "-q"]).killed(&home);
    // Some destinations give an upload that is cut its final name: an index, and a lock.
    let folder = home.repository().join("index");
    for entry in fs::read_dir(&folder).unwrap().flatten() {
        let bytes = fs::read(entry.path()).unwrap();
        fs::set_permissions(
            entry.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        fs::write(entry.path(), &bytes[..bytes.len() / 2]).unwrap();
    }
    let torn = home.repository().join("locks").join("ab".repeat(32));
    fs::write(&torn, "").unwrap();
    let said = home.hapi_command(&["snapshot"]).exits(0);
    assert!(said.stderr.contains("removed the index file"), "{said:?}");
    assert!(!torn.exists());
    home.restic(&["check", "--read-data"]);
    home.drill(&[]).exits(0);

    // A snapshot file: nothing is deleted with half a list, and everything else goes on.
    let name = home.repository().join("snapshots").join("cd".repeat(32));
    fs::write(&name, "torn").unwrap();
    let said = home.hapi_command(&["snapshot"]).exits(3);
    assert!(said.stderr.contains("cdcdcdcd is damaged"), "{said:?}");
    assert!(
        said.stderr.contains("remove it from the folder"),
        "{said:?}"
    );
    // Also where retention has no say.
    home.hapi_command(&["snapshot", "--no-forget"]).exits(3);
    fs::remove_file(&name).unwrap();
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}
