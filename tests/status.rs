//! Status through the real binary: what it says of histories, to a second machine, to programs and
//! to Prometheus, and what it asks of a server.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Home, Said, sqlite3};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// Filled, filled, partial, missed, filled: 2 March 2026 was a Monday.
fn five_slots() -> Home {
    let home = Home::initialised();
    let status = home.hapi("driver-status.json");
    let aside = home.hapi("aside.json");
    home.at("2026-03-02T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    home.at("2026-03-02T18:00:10Z", &["snapshot", "-q"])
        .exits(0);
    fs::rename(&status, &aside).unwrap();
    home.at("2026-03-03T06:00:10Z", &["snapshot", "-q"])
        .exits(3);
    fs::rename(&aside, &status).unwrap();
    home.at(
        "2026-03-03T20:00:00Z",
        &["snapshot", "-q", "--only", "hapi.db"],
    )
    .exits(0);
    home.at("2026-03-04T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    home
}

fn states(document: &Value, series: usize) -> Vec<String> {
    document["series"][series]["slots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slot| slot["state"].as_str().unwrap().to_owned())
        .filter(|state| state != "before")
        .collect()
}

#[test]
fn fresh_late_and_stale_are_told_apart_by_slots_and_age() {
    let home = five_slots();
    let asked = |time: &str, more: &[&str], exit: i32| {
        let args = [&["status", "--json"], more].concat();
        home.at(time, &args).exits(exit).json()
    };
    let fresh = asked("2026-03-04T07:30:00Z", &[], 0);
    assert_eq!(fresh["series"][0]["verdict"], "fresh");
    assert_eq!(
        states(&fresh, 0),
        ["filled", "filled", "partial", "missed", "filled"]
    );
    assert_eq!(
        fresh["series"][0]["next-slot"].as_str().unwrap(),
        "2026-03-04T18:00:00+00:00"
    );
    assert_eq!(fresh["series"][0]["max-age-seconds"], 13 * 3600);
    assert_eq!(
        fresh["series"][0]["slots"].as_array().unwrap().len(),
        28,
        "{fresh:#}"
    );
    // The weekly one rode along with the first run, whose slot was the Sunday before.
    assert_eq!(fresh["series"][1]["name"], "hapi-weekly");
    assert_eq!(states(&fresh, 1), ["filled"]);
    assert_eq!(
        fresh["series"][1]["next-slot"].as_str().unwrap(),
        "2026-03-08T06:00:00+00:00"
    );

    let pending = asked("2026-03-04T18:30:00Z", &[], 0);
    assert_eq!(pending["series"][0]["verdict"], "fresh");
    assert_eq!(states(&pending, 0).last().unwrap(), "pending");

    let stale = asked("2026-03-04T19:01:00Z", &[], 20);
    assert_eq!(stale["series"][0]["verdict"], "stale");
    assert_eq!(states(&stale, 0).last().unwrap(), "missed");
    assert_eq!(stale["series"][1]["verdict"], "fresh");
    let late = asked("2026-03-04T19:01:00Z", &["--max-age", "26h"], 0);
    assert_eq!(late["series"][0]["verdict"], "late");
    asked("2026-03-04T12:00:00Z", &["--max-age", "5h"], 20);

    // A week and a day later the weekly one is too old, too, and `--max-age` is not its limit.
    let later = asked("2026-03-10T07:00:00Z", &["--max-age", "52w"], 20);
    assert_eq!(later["series"][0]["verdict"], "late");
    assert_eq!(later["series"][1]["verdict"], "stale");

    let said = home.at("2026-03-04T19:01:00Z", &["status", "-q"]).exits(20);
    assert_eq!(said.stdout, "");
    assert!(
        said.stderr.contains("13 h old; the limit is 13 h"),
        "{said:?}"
    );
}

#[test]
fn a_snapshot_from_the_future_fills_nothing_yet() {
    let home = Home::initialised();
    home.at("2026-03-02T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    home.at("2026-03-09T06:00:10Z", &["snapshot", "-q"])
        .exits(0);
    let said = home
        .at("2026-03-03T07:30:00Z", &["status", "--json"])
        .exits(20);
    assert!(said.stderr.contains("is the clock right?"), "{said:?}");
    let document = said.json();
    assert_eq!(states(&document, 0), ["filled", "missed", "missed"]);
    assert_eq!(document["series"][0]["in-the-future"], 1);
}

#[test]
fn the_picture_has_a_row_a_slot_and_plain_signs_for_plain_terminals() {
    let home = five_slots();
    let drawn = |variables: &[(&str, &str)]| -> String {
        let said: Said = home
            .command()
            .envs(variables.iter().copied())
            .env("RUSTIC_HAPI_TEST_NOW", "2026-03-04T07:30:00Z")
            .arg("status")
            .output()
            .unwrap()
            .into();
        said.exits(0).stdout
    };
    let plain = drawn(&[]);
    assert!(plain.is_ascii(), "{plain}");
    let rows = |text: &str, signs: [&str; 2]| {
        for (time, signs) in ["06:00", "18:00"].iter().zip(signs) {
            let row = text.lines().find(|l| l.trim_start().starts_with(time));
            let row: Vec<&str> = row.unwrap().split_whitespace().skip(1).collect();
            assert_eq!(row.concat(), signs, "{text}");
        }
    };
    rows(&plain, ["#%#", "#x"]);
    let drawing = drawn(&[("LANG", "C.UTF-8")]);
    rows(&drawing, ["■◧■", "■✗"]);
    assert!(drawing.contains("next slot today 18:00"), "{drawing}");
    assert!(drawn(&[("LANG", "C.UTF-8"), ("TERM", "dumb")]).is_ascii());
    for line in drawing.lines() {
        assert!(line.chars().count() <= 80 || line.contains('/'), "{line}");
    }
    // The hub of the test is idle.
    assert!(drawing.contains("hapi.db has had no new rows"), "{drawing}");
}

#[test]
fn a_repository_without_snapshots_is_stale() {
    let home = Home::initialised();
    let said = home.hapi_command(&["status"]).exits(20);
    assert!(
        said.stdout.contains("there is no complete snapshot"),
        "{said:?}"
    );
    let document = home.hapi_command(&["status", "--json"]).exits(20).json();
    assert_eq!(document["series"][0]["newest"], Value::Null);
    assert!(states(&document, 0).is_empty());
    // Without a profile, too.
    second_machine(&home, "2026-03-04T07:30:00Z", &[]).exits(20);
}

/// Another home, with nothing but the repository and its password.
fn second_machine(home: &Home, time: &str, more: &[&str]) -> Said {
    let elsewhere = tempfile::tempdir().unwrap();
    let repository = home.repository();
    let password = home.password();
    let args = [
        &[
            "status",
            "--json",
            "--repository",
            repository.to_str().unwrap(),
            "--password-file",
            password.to_str().unwrap(),
        ],
        more,
    ]
    .concat();
    home.command()
        .env("HOME", elsewhere.path())
        .env("RUSTIC_HAPI_TEST_NOW", time)
        .args(args)
        .output()
        .unwrap()
        .into()
}

#[test]
fn a_second_machine_without_a_profile_judges_by_age() {
    let home = five_slots();
    let said = second_machine(&home, "2026-03-05T07:30:00Z", &[]).exits(0);
    assert!(
        said.stderr.contains("only their age is checked"),
        "{said:?}"
    );
    let document = said.json();
    assert_eq!(document["profile"], Value::Null);
    assert_eq!(document["series"][0]["name"], "hapi");
    assert_eq!(document["series"][0]["verdict"], "fresh");
    assert!(states(&document, 0).is_empty());
    assert_eq!(document["series"][1]["verdict"], "fresh");
    assert_eq!(document["last-drill"], Value::Null);

    second_machine(&home, "2026-03-05T08:30:00Z", &[]).exits(20);
    second_machine(&home, "2026-03-05T08:30:00Z", &["--max-age", "27h"]).exits(0);
    second_machine(&home, "2026-03-05T07:30:00Z", &["--host", "nobody"]).exits(2);
}

/// Reads the text format: names and labels to values; every family stands together, and is typed.
fn metrics(path: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(path).unwrap();
    let mut samples = Vec::new();
    let mut typed = BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(kind, "gauge");
            assert!(typed.insert(name), "{name} is typed twice");
            family = name;
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (bare, labels) = name.split_once('{').unwrap();
            assert_eq!(bare, family, "{line}");
            assert!(labels.ends_with("\"}"), "{line}");
            samples.push((name.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}

#[track_caller]
fn metric(path: &Path, name: &str) -> f64 {
    let samples = metrics(path);
    let found: Vec<_> = samples.iter().filter(|(n, _)| n == name).collect();
    assert_eq!(found.len(), 1, "{name} in {samples:#?}");
    found[0].1
}

const NEWEST: &str =
    "rustic_hapi_snapshot_last_complete_timestamp_seconds{profile=\"hapi\",series=\"hapi\"}";
const EXIT: &str = "rustic_hapi_last_run_exit_code{profile=\"hapi\"}";
const ENDED: &str = "rustic_hapi_last_run_timestamp_seconds{profile=\"hapi\"}";

#[test]
fn status_writes_metrics_that_prometheus_reads() {
    let home = five_slots();
    let file = home.dir.path().join("hapi.prom");
    fs::write(&file, "something older\n").unwrap();
    let args = ["status", "-q", "--prometheus", file.to_str().unwrap()];
    home.at("2026-03-04T07:00:10Z", &args).exits(0);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let newest = "2026-03-04T06:00:10Z".parse::<DateTime<Utc>>().unwrap();
    assert!(metric(&file, NEWEST).eq(&(newest.timestamp() as f64)));
    let of = |name: &str| metric(&file, &format!("rustic_hapi_{name}"));
    let close = |is: f64, should: f64| assert!((is - should).abs() < 0.5, "{is} {should}");
    close(of("slots_missed{profile=\"hapi\",series=\"hapi\"}"), 1.0);
    let max_age = of("snapshot_max_age_seconds{profile=\"hapi\",series=\"hapi\"}");
    close(max_age, 13.0 * 3600.0);
    close(
        of("rows{profile=\"hapi\",series=\"hapi\",source=\"hapi.db\",table=\"messages\"}"),
        sqlite3(&home.database(), "SELECT count(*) FROM messages")
            .parse()
            .unwrap(),
    );
    close(metric(&file, EXIT), 0.0);
    assert!(of("repository_bytes{profile=\"hapi\"}") > 1000.0);
    // Nothing but the file is left in its folder.
    let left: Vec<_> = fs::read_dir(home.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("tmp") || name.contains("rustic"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // Where it cannot be written, that is an error, and the old one stays.
    let nowhere = home.dir.path().join("not/there.prom");
    let args = ["status", "-q", "--prometheus", nowhere.to_str().unwrap()];
    home.at("2026-03-04T07:00:10Z", &args).exits(1);
}

#[test]
fn each_run_writes_metrics_however_it_ends() {
    let home = Home::initialised();
    let file = home.dir.path().join("hapi.prom");
    home.edit_profile(|text| format!("{text}\n[metrics]\ntextfile = {file:?}\n"));
    let stamp = |time: &str| time.parse::<DateTime<Utc>>().unwrap().timestamp() as f64;
    let ended = |time: &str, exit: f64| {
        assert!(metric(&file, EXIT).eq(&exit), "{:#?}", metrics(&file));
        assert!(metric(&file, ENDED).eq(&stamp(time)));
    };
    // What was only tried is no run.
    home.at("2026-03-02T06:00:00Z", &["snapshot", "-q", "--dry-run"])
        .exits(0);
    assert!(!file.exists());

    let password = home.password();
    let right = fs::read(&password).unwrap();
    let wrong = || fs::write(&password, "not this one\n").unwrap();
    // The very first run fails: there is nothing else to tell.
    wrong();
    home.at("2026-03-02T06:00:00Z", &["snapshot", "-q"])
        .exits(12);
    ended("2026-03-02T06:00:00Z", 12.0);
    assert_eq!(metrics(&file).len(), 2);
    fs::write(&password, &right).unwrap();

    home.at("2026-03-02T18:00:00Z", &["snapshot", "-q"])
        .exits(0);
    ended("2026-03-02T18:00:00Z", 0.0);
    let newest = || assert!(metric(&file, NEWEST).eq(&stamp("2026-03-02T18:00:00Z")));
    newest();
    let known = metrics(&file).len();

    // Later failures keep what was known.
    wrong();
    home.at("2026-03-03T06:00:00Z", &["snapshot", "-q"])
        .exits(12);
    ended("2026-03-03T06:00:00Z", 12.0);
    newest();
    assert_eq!(metrics(&file).len(), known);
    fs::write(&password, &right).unwrap();

    let locks = home.state().parent().unwrap().join("locks");
    let lock = fs::read_dir(locks).unwrap().next().unwrap().unwrap().path();
    let held = fs::File::open(lock).unwrap();
    held.lock().unwrap();
    home.at("2026-03-03T18:00:00Z", &["snapshot", "-q"])
        .exits(11);
    ended("2026-03-03T18:00:00Z", 11.0);
    drop(held);

    let away = home.dir.path().join("unmounted");
    fs::rename(home.repository(), &away).unwrap();
    home.at("2026-03-04T06:00:00Z", &["snapshot", "-q"])
        .exits(10);
    ended("2026-03-04T06:00:00Z", 10.0);
    newest();
    fs::rename(&away, home.repository()).unwrap();

    // A partial snapshot is told as such, and the file that cannot be written is a warning.
    fs::remove_file(home.hapi("driver-status.json")).unwrap();
    home.at("2026-03-04T18:00:00Z", &["snapshot", "-q"])
        .exits(3);
    ended("2026-03-04T18:00:00Z", 3.0);
    let status = home
        .at("2026-03-04T18:00:00Z", &["status", "--json"])
        .exits(20)
        .json();
    assert_eq!(status["last-run"]["exit"], 3);
    home.edit_profile(|text| text.replace("hapi.prom", "gone/hapi.prom"));
    let said = home
        .at("2026-03-05T06:00:00Z", &["snapshot", "-q"])
        .exits(3);
    assert!(
        said.stderr.contains("the metrics were not written"),
        "{said:?}"
    );
}

#[test]
fn damaged_records_of_this_machine_hide_nothing() {
    let home = five_slots();
    home.at("2026-03-04T06:30:00Z", &["drill", "-q"]).exits(0);
    home.at("2026-03-04T06:40:00Z", &["check", "-q"]).exits(0);
    let history = home.state().join("drills.jsonl");
    let good = fs::read_to_string(&history).unwrap();
    fs::write(&history, format!("{{\"torn\n{good}\u{0}\u{0}{{\"time\": 3")).unwrap();
    let said = home
        .at("2026-03-04T07:30:00Z", &["status", "--json"])
        .exits(0);
    let document = said.json();
    assert_eq!(document["last-drill"]["outcome"], "proven");
    assert!(document["last-check"]["read"]["one-of"].is_u64());
    let text = home.at("2026-03-04T07:30:00Z", &["status"]).exits(0).stdout;
    assert!(text.contains("60 min ago: proven"), "{text}");

    fs::write(&history, [0xff, 0xfe, b'\n']).unwrap();
    fs::remove_file(home.state().join("check.json")).unwrap();
    fs::create_dir(home.state().join("check.json")).unwrap();
    let said = home
        .at("2026-03-04T07:30:00Z", &["status", "--json"])
        .exits(0);
    assert!(said.stderr.contains("check.json"), "{said:?}");
    let document = said.json();
    assert_eq!(document["last-drill"], Value::Null);
    assert_eq!(document["last-check"], Value::Null);
    // A damaged snapshot file is told, and the others still count.
    let folder = home.repository().join("snapshots");
    let first = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    let path = first.path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, "no snapshot").unwrap();
    let said = home.at("2026-03-04T07:30:00Z", &["status", "--json"]);
    assert!(said.stderr.contains("is damaged"), "{said:?}");
    assert!(said.json()["series"].is_array());
}

/// `rclone serve restic` on loopback, behind a proxy that writes the requests down.
struct Server {
    child: Child,
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("rclone")
            .args(["serve", "restic", "--addr"])
            .arg(format!("127.0.0.1:{behind}"))
            .args(["--user", "joe", "--pass", "s3cret"])
            .arg(folder)
            .env("RCLONE_CONFIG", "/dev/null")
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("`rclone` is needed: {error}"));
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", behind)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(20));
        }
        let requests = Arc::new(Mutex::new(Vec::new()));
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = front.local_addr().unwrap().port();
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for client in front.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", behind)).unwrap();
                let log = Arc::clone(&log);
                let there = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass_on(there.0, there.1, |bytes| note(&log, bytes)));
                thread::spawn(move || pass_on(server, client, |_| ()));
            }
        });
        Self {
            child,
            port,
            requests,
        }
    }

    fn location(&self) -> String {
        format!("rest:http://joe:s3cret@127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, seen: impl Fn(&[u8])) {
    _ = to.set_nodelay(true);
    let mut buffer = [0u8; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        seen(&buffer[..n]);
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Write);
}

/// The first line of each request; a client that only reads sends nothing else that looks like one.
fn note(log: &Mutex<Vec<String>>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter(|line| line.contains(" HTTP/1."));
    log.lock().unwrap().extend(lines.map(str::to_owned));
}

#[test]
fn sixty_snapshots_over_rest_need_neither_index_nor_packs() {
    let home = Home::initialised();
    let begin: DateTime<Utc> = "2026-03-02T06:00:00Z".parse().unwrap();
    let mut nth = 0;
    while home
        .repository()
        .join("snapshots")
        .read_dir()
        .unwrap()
        .count()
        < 60
    {
        let time = (begin + TimeDelta::hours(12 * nth)).to_rfc3339();
        home.at(&time, &["snapshot", "-q", "--no-forget"]).exits(0);
        nth += 1;
    }
    let now = (begin + TimeDelta::hours(12 * nth - 11)).to_rfc3339();
    let server = Server::start(&home.repository());
    let location = server.location();
    let ask = |more: &[&str]| {
        let args = [&["status", "--repository", &location], more].concat();
        let started = Instant::now();
        let said = home.at(&now, &args);
        (said, started.elapsed())
    };
    let (said, first) = ask(&["--json"]);
    let document = said.exits(0).json();
    assert_eq!(document["repository"]["snapshots"], 60);
    assert!(states(&document, 0).iter().all(|state| state == "filled"));
    let requests = std::mem::take(&mut *server.requests.lock().unwrap());
    let fetched = |folder: &str| {
        let of = |line: &&String| {
            let path = line.split(' ').nth(1).unwrap();
            path.trim_start_matches('/')
                .strip_prefix(folder)
                .is_some_and(|id| id.len() > 60)
        };
        requests.iter().filter(of).count()
    };
    assert_eq!(fetched("data/"), 0, "{requests:#?}");
    assert_eq!(fetched("index/"), 0, "{requests:#?}");
    assert_eq!(fetched("snapshots/"), 60, "{requests:#?}");

    // From the cache, the second time.
    let (again, second) = ask(&["--json"]);
    again.exits(0);
    println!("{} requests; {first:?}, then {second:?}", requests.len());

    // What is handed over opens nothing.
    for args in [&["--markdown"][..], &["--json"], &[]] {
        let (said, _) = ask(args);
        let said = said.exits(0);
        for text in [&said.stdout, &said.stderr] {
            assert!(!text.contains("s3cret") && !text.contains("joe"), "{text}");
        }
        let location = format!("rest:http://***@127.0.0.1:{}/", server.port);
        assert!(said.stdout.contains(&location), "{}", said.stdout);
    }
    let (said, _) = ask(&["--markdown"]);
    for what in [
        "| schedule | 06:00, 18:00, local time; `hapi-weekly` weekly, Sunday |",
        "| last drill | never on this machine |",
        "| retention | oldest 2026-03-02",
        "series `hapi`",
    ] {
        assert!(said.stdout.contains(what), "{what}: {}", said.stdout);
    }
    let password = fs::read_to_string(home.password()).unwrap();
    assert!(!said.stdout.contains(password.trim()));
}

#[test]
fn what_is_fresh_and_not_well_is_told() {
    let home = Home::initialised();
    home.at("2026-03-01T06:00:00Z", &["snapshot"]).exits(0);
    let look = || home.at("2026-03-01T19:00:00Z", &["status"]).exits(0);
    assert!(!look().stderr.contains("far less"));
    sqlite3(&home.database(), "DELETE FROM messages");
    home.at("2026-03-01T18:00:00Z", &["snapshot"]).exits(0);
    assert!(look().stderr.contains("far less"));
    // It is the newest one's id that ends it, so status names that.
    home.at("2026-03-01T18:30:00Z", &["snapshot"]).exits(0);
    let id = home.restic_snapshots().pop().unwrap()["id"]
        .as_str()
        .unwrap()[..8]
        .to_owned();
    let hint = format!("add \"{id}\" to `acknowledged`");
    let said = look().stderr;
    assert!(said.contains(&hint), "{said}");
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{id}\"]\n"));
    assert!(!look().stderr.contains("far less"));
}
