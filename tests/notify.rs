//! Telling somebody: real HTTP servers on loopback, commands, and runs that end in every way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, CANARIES, Home, sqlite3};
use serde_json::Value;

/// Python's HTTP server, which writes down what it is asked.
struct Server {
    child: Child,
    port: u16,
    log: tempfile::NamedTempFile,
}

impl Server {
    /// `answer` is a status, or `hang`.
    fn start(answer: &str) -> Self {
        let script = r#"
import http.server, json, sys, time
log, answer = sys.argv[1], sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        with open(log, "a") as f:
            f.write(json.dumps({"path": self.path, "body": body}) + "\n")
        if answer == "hang":
            time.sleep(60)
        self.send_response(int(answer)); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(log.path())
            .arg(answer)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            port: line.trim().parse().unwrap(),
            child,
            log,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/ping/secret-uuid", self.port)
    }

    /// Path without the query, and body, of each request.
    fn asked(&self) -> Vec<(String, String)> {
        fs::read_to_string(self.log.path())
            .unwrap()
            .lines()
            .map(|line| {
                let request: Value = serde_json::from_str(line).unwrap();
                let path = request["path"].as_str().unwrap();
                let (path, query) = path.split_once('?').unwrap();
                assert!(query.starts_with("rid="), "{query}");
                (
                    path.to_owned(),
                    request["body"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.asked().into_iter().map(|(path, _)| path).collect();
        for path in &mut paths {
            *path = path.replace("/ping/secret-uuid", "");
        }
        paths
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn told_by(home: &Home, url: Option<&str>, command: Option<&str>) {
    home.edit_profile(|text| {
        let mut text = text.split("\n[notify]").next().unwrap().to_owned() + "\n[notify]\n";
        text += &url
            .map(|url| format!("url = {url:?}\n"))
            .unwrap_or_default();
        text += &command
            .map(|command| format!("command = {command:?}\n"))
            .unwrap_or_default();
        text
    });
}

fn runs(home: &Home) -> Vec<Value> {
    fs::read_to_string(home.state().join("runs.jsonl"))
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn success_partial_failure_and_recovery_are_told() {
    let home = Home::initialised();
    let server = Server::start("200");
    let said = home.dir.path().join("said");
    let command = format!(
        "{{ echo \"$RUSTIC_HAPI_OUTCOME $RUSTIC_HAPI_EXIT $RUSTIC_HAPI_RUN\"; cat; }} >> {}",
        said.display()
    );
    told_by(&home, Some(&server.url()), Some(&command));
    let run = home.hapi_command(&["snapshot"]).exits(0);
    assert!(run.stdout.contains("(run "), "{run:?}");

    // Something is missing.
    fs::rename(home.hapi("hub.env"), home.hapi("hub.env.away")).unwrap();
    home.hapi_command(&["snapshot"]).exits(3);
    fs::rename(home.hapi("hub.env.away"), home.hapi("hub.env")).unwrap();
    // Nothing works: the repository is away.
    let away = home.dir.path().join("away");
    fs::rename(home.repository(), &away).unwrap();
    let mail = home.hapi_command(&["-q", "snapshot"]).exits(10);
    fs::rename(&away, home.repository()).unwrap();
    home.hapi_command(&["snapshot"]).exits(0);
    home.hapi_command(&["snapshot"]).exits(0);
    assert_eq!(
        server.paths(),
        [
            "/start", "/fail", "/start", "/3", "/start", "/10", "/start", "", "/start", ""
        ]
    );
    let bodies: Vec<String> = server.asked().into_iter().map(|(_, body)| body).collect();
    assert!(bodies[5].contains("there is no repository"), "{bodies:?}");
    // The first line says whose run it was and how it ended, in a mail and in a message; then what, once.
    let first = ", profile hapi: snapshot failed (exit code 10)";
    let opening = bodies[5].lines().next().unwrap();
    assert!(opening.ends_with(first), "{bodies:?}");
    assert!(
        mail.stderr.starts_with(&format!("error: {opening}\n")),
        "{mail:?}"
    );
    for text in [&bodies[5], &mail.stderr] {
        assert_eq!(text.matches("there is no repository").count(), 1, "{text}");
        assert!(
            text.contains("the last complete snapshot run was "),
            "{text}"
        );
    }
    let id = bodies[5].trim_end().rsplit(' ').next().unwrap();
    assert_eq!(bodies[5].matches(&id[..8]).count(), 1, "{bodies:?}");
    assert_eq!(mail.stderr.matches(&id[..8]).count(), 1, "{mail:?}");
    assert!(
        bodies[3].contains("\nhapi ") && bodies[3].contains("PARTIAL"),
        "{bodies:?}"
    );

    let lines: Vec<String> = fs::read_to_string(&said)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let outcomes: Vec<&str> = lines
        .iter()
        .step_by(2)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    // The hub of these tests has not been written to for long, which is told by the first run.
    assert_eq!(
        outcomes,
        ["anomaly", "partial", "failure", "recovery", "success"]
    );
    let document: Value = serde_json::from_str(&lines[5]).unwrap();
    assert_eq!(
        (&document["outcome"], &document["exit"]),
        (&"failure".into(), &10.into())
    );

    // The same id in the notification, on record and in the log.
    let runs = runs(&home);
    assert_eq!(runs.len(), 5, "{runs:?}");
    let id = runs[0]["id"].as_str().unwrap();
    assert!(lines[0].ends_with(id), "{lines:?}");
    assert!(run.stdout.contains(&id[..8]), "{run:?}");
}

#[test]
fn it_is_told_whatever_keeps_a_run_from_its_work() {
    let home = Home::initialised();
    let server = Server::start("200");
    told_by(&home, Some(&server.url()), None);
    // The profile is broken.
    home.edit_profile(|text| format!("host = = 1\n{text}"));
    home.hapi_command(&["snapshot"]).exits(2);
    home.edit_profile(|text| text.replace("host = = 1\n", ""));
    // The password is wrong.
    let password = fs::read(home.password()).unwrap();
    fs::write(home.password(), "wrong\n").unwrap();
    home.hapi_command(&["snapshot"]).exits(12);
    fs::write(home.password(), password).unwrap();
    // Another run holds the lock: one that waits for a database that is locked.
    let lock = Command::new("python3")
        .args(["-c", "import sqlite3,sys,time\ndb=sqlite3.connect(sys.argv[1],isolation_level=None)\ndb.execute('PRAGMA journal_mode=DELETE')\ndb.execute('BEGIN EXCLUSIVE')\nprint('ready',flush=True)\ntime.sleep(60)"])
        .arg(home.database())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lock = lock;
    let mut ready = String::new();
    BufReader::new(lock.stdout.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let mut first = home
        .command()
        .args(["-q", "snapshot"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(3));
    home.hapi_command(&["snapshot"]).exits(11);
    // And a signal ends the first one.
    Command::new("kill")
        .args(["-TERM", &first.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
    lock.kill().unwrap();
    lock.wait().unwrap();
    let paths: Vec<String> = server
        .paths()
        .into_iter()
        .filter(|p| p != "/start")
        .collect();
    assert_eq!(paths, ["/2", "/12", "/11", "/143"]);
    let left: Vec<_> = fs::read_dir(home.state().join("staging"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_signal_ends_a_run_with_its_code_and_nothing_behind() {
    let home = Home::initialised();
    let hub = BusyHub::start(&home.database());
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let before = home.restic_snapshots().len();
        let mut child = home
            .command()
            .args(["-v", "snapshot"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stderr.take().unwrap());
        let mut told = told.lines().map_while(Result::ok);
        // In the middle, and before anything is saved.
        assert!(told.any(|line| line.contains("holds the lock")));
        Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        let rest: Vec<String> = told.collect();
        let ended = child.wait().unwrap().code();
        assert_eq!(ended, Some(code), "{signal}");
        let safe = "hint: no half snapshot was saved; ";
        assert!(rest.iter().any(|line| line.starts_with(safe)), "{rest:?}");
        assert_eq!(home.restic_snapshots().len(), before);
    }

    // A terminal that is closed; and a SIGHUP that restic sends to see whether a lock's process lives.
    let script = r#"
import os, pty, signal, sys, time
pause = sys.argv.pop(1)
pid, terminal = pty.fork()
if pid == 0:
    # The tests may run under nohup, which a run would take for its own.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
shown = b""
while b"holds the lock" not in shown:
    shown += os.read(terminal, 4096)
os.close(terminal)
time.sleep(1)
os.unlink(pause)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"#;
    // In the middle of the run, which waits there for as long as the file is there.
    let pause = home.dir.path().join("pause");
    fs::write(&pause, "").unwrap();
    home.change();
    let before = home.restic_snapshots().len();
    let said = home
        .through(
            "python3",
            &["-c", script, pause.to_str().unwrap()],
            &["-v", "snapshot"],
        )
        .env("RUSTIC_HAPI_TEST_FAULT", "pause:hapi.db")
        .env("RUSTIC_HAPI_TEST_PAUSE", &pause)
        .output();
    assert_eq!(said.unwrap().status.code(), Some(129));
    assert_eq!(home.restic_snapshots().len(), before);
    let mut child = home.command().args(["snapshot", "-q"]).spawn().unwrap();
    thread::sleep(Duration::from_millis(60));
    Command::new("kill")
        .args(["-HUP", &child.id().to_string()])
        .status()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(hub);
    assert!(runs(&home).iter().any(|run| run["exit"] == 129));
}

#[test]
fn a_server_that_hangs_or_fails_changes_nothing() {
    let home = Home::initialised();
    // That nothing is written to this hub is told here, once.
    home.snapshot().exits(0);
    for answer in ["hang", "500"] {
        let server = Server::start(answer);
        told_by(&home, Some(&server.url()), Some("exit 7"));
        let started = Instant::now();
        let said = home.hapi_command(&["snapshot"]).exits(0);
        // The run's second or two, on a busy machine, and no more than ten.
        assert!(
            started.elapsed() < Duration::from_secs(14),
            "{:?}",
            started.elapsed()
        );
        assert!(
            said.stderr.contains("could not reach the notification URL"),
            "{said:?}"
        );
        assert!(said.stderr.contains("command failed"), "{said:?}");
        // The address lets anyone who has it report in our name.
        assert!(!said.stderr.contains("secret-uuid"), "{said:?}");
        let ends = server.paths().iter().filter(|path| path.is_empty()).count();
        assert_eq!(ends, 2, "once more, and no more: {:?}", server.paths());
    }
    told_by(&home, Some("http://127.0.0.1:1/x"), Some("sleep 60"));
    let started = Instant::now();
    let said = home.hapi_command(&["snapshot"]).exits(0);
    assert!(
        started.elapsed() < Duration::from_secs(25),
        "{:?}",
        started.elapsed()
    );
    assert!(said.stderr.contains("did not end within 10 s"), "{said:?}");
}

#[test]
fn what_is_told_holds_no_secret() {
    let home = Home::initialised();
    let server = Server::start("200");
    let said: PathBuf = home.dir.path().join("said");
    told_by(
        &home,
        Some(&server.url()),
        Some(&format!("{{ env; cat; }} >> {}", said.display())),
    );
    home.hapi_command(&["snapshot"]).exits(0);
    fs::write(home.hapi("driver-status.json"), CANARIES[0]).unwrap();
    home.hapi_command(&["snapshot"]);
    // A location with credentials, and nobody there.
    home.edit_profile(|text| {
        text.replace(
            &format!("location = {:?}", home.repository()),
            "location = \"rest:http://user:canary-of-the-server@127.0.0.1:1/x\"",
        )
    });
    let failed = home.hapi_command(&["snapshot"]);
    assert_ne!(failed.code, 0);
    let password = fs::read_to_string(home.password()).unwrap();
    let mut all = fs::read_to_string(&said).unwrap();
    for (_, body) in server.asked() {
        all += &body;
    }
    all += &fs::read_to_string(home.state().join("runs.jsonl")).unwrap();
    all += &failed.stderr;
    assert!(
        all.contains("127.0.0.1:1/x"),
        "the search would find it: {all}"
    );
    for canary in [
        CANARIES[0],
        CANARIES[1],
        "canary-of-the-server",
        password.trim(),
    ] {
        assert!(!all.contains(canary), "{canary}: {all}");
    }
}

#[test]
fn a_log_is_lines_of_json_where_that_is_asked_for() {
    let home = Home::initialised();
    fs::rename(home.hapi("hub.env"), home.hapi("away")).unwrap();
    let said = home
        .hapi_command(&["snapshot", "--log-format", "json"])
        .exits(3);
    let lines: Vec<Value> = said
        .stderr
        .lines()
        .chain(said.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let id = runs(&home)[0]["id"].clone();
    assert!(lines.iter().all(|line| line["run"] == id), "{lines:?}");
    assert!(
        lines.iter().any(|line| line["level"] == "error"),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line["level"] == "info"),
        "{lines:?}"
    );
    // More, or less, by the environment.
    let steps = |level: &str| {
        let mut command = home.command();
        let output = command
            .env("RUSTIC_HAPI_LOG", level)
            .arg("snapshot")
            .output()
            .unwrap();
        (output.stderr.len(), output.stdout.len())
    };
    assert!(steps("debug").0 > steps("info").0);
    assert_eq!(steps("error").1, 0);
}

#[test]
fn fourteen_days_of_empty_databases_do_not_cost_the_last_good_one() {
    let home = Home::initialised();
    home.at("2026-03-01T06:00:00Z", &["snapshot"]).exits(0);
    let good = home.restic_snapshots().last().unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    sqlite3(
        &home.database(),
        "DELETE FROM messages; DELETE FROM sessions",
    );
    let mut told = 0;
    for day in 2..=20 {
        let said = home
            .at(&format!("2026-03-{day:02}T06:00:00Z"), &["snapshot"])
            .exits(0);
        told += usize::from(said.stderr.contains("tagged shrunk"));
    }
    assert_eq!(told, 1, "told once");
    let ids: Vec<String> = home
        .restic_snapshots()
        .iter()
        .map(|s| s["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.contains(&good));
    let said = home
        .at("2026-03-20T07:00:00Z", &["forget", "--dry-run"])
        .exits(0);
    assert!(said.stdout.contains("shrunk"), "{said:?}");
}

#[test]
fn a_third_less_is_told_and_so_is_a_database_that_nothing_is_written_to() {
    let home = Home::initialised();
    let newest: i64 = sqlite3(&home.database(), "SELECT max(created_at) FROM messages")
        .parse()
        .unwrap();
    let at = |days: i64| {
        chrono::DateTime::from_timestamp_millis(newest + days * 86_400_000 + 3_600_000)
            .unwrap()
            .to_rfc3339()
    };
    let says = |days: i64, what: &str| {
        let said = home.at(&at(days), &["snapshot"]).exits(0);
        said.stderr.contains(what)
    };
    // Told after a week; not by each run, but again after as long a time.
    let told: Vec<bool> = [0, 6, 7, 8, 14]
        .map(|day| says(day, "is it the database"))
        .to_vec();
    assert_eq!(told, [false, false, true, false, true]);
    // An older one in its place is quiet from the first run on.
    let add = |days: i64| {
        let sql = "INSERT INTO messages SELECT hex(randomblob(8)), session_id, content, {}, seq, NULL, NULL FROM messages LIMIT 1";
        let time = newest + days * 86_400_000;
        sqlite3(&home.database(), &sql.replace("{}", &time.to_string()));
    };
    add(20);
    assert!(!says(20, "is it the database"));
    sqlite3(
        &home.database(),
        &format!("DELETE FROM messages WHERE created_at > {newest}"),
    );
    let told: Vec<bool> = [21, 22].map(|day| says(day, "is it the database")).to_vec();
    assert_eq!(told, [true, false]);
    let says = |days: i64, what: &str| says(days + 20, what);

    let lose = |part: &str| {
        let sql = format!(
            "DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages LIMIT (SELECT count(*) * {part} FROM messages))"
        );
        sqlite3(&home.database(), &sql);
    };
    lose("3 / 10");
    assert!(!says(15, "tagged shrunk"));
    lose("4 / 10");
    assert!(says(16, "tagged shrunk"));
}

#[test]
fn another_machine_tells_that_it_is_stale_and_that_it_is_so_no_more() {
    let home = Home::initialised();
    home.at("2026-03-01T06:00:00Z", &["snapshot"]).exits(0);
    let server = Server::start("200");
    told_by(&home, Some(&server.url()), None);
    let look = |time: &str, code| {
        home.at(time, &["status", "--notify", "-q"]).exits(code);
    };
    look("2026-03-01T08:00:00Z", 0);
    assert_eq!(server.paths(), Vec::<String>::new());
    look("2026-03-03T08:00:00Z", 20);
    told_by(&home, None, None);
    home.at("2026-03-03T18:00:00Z", &["snapshot"]).exits(0);
    told_by(&home, Some(&server.url()), None);
    look("2026-03-03T19:00:00Z", 0);
    look("2026-03-03T20:00:00Z", 0);
    assert_eq!(server.paths(), ["/20", ""]);
}

#[test]
fn a_second_signal_ends_at_once() {
    let home = Home::initialised();
    // A server that accepts and never answers holds the run up.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    home.edit_profile(|text| {
        text.replace(
            &format!("location = {:?}", home.repository()),
            &format!("location = \"rest:http://127.0.0.1:{port}/\""),
        )
    });
    let mut child = home
        .command()
        .arg("snapshot")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    let signal = |child: &Child| {
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
    };
    signal(&child);
    thread::sleep(Duration::from_millis(300));
    signal(&child);
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(5));

    // One is enough, with a little patience: nobody waits for such a server for minutes.
    let server = Server::start("200");
    told_by(&home, Some(&server.url()), None);
    let mut child = home
        .command()
        .arg("snapshot")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(500));
    signal(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // The one before has no end on record.
    assert_eq!(server.paths(), ["/start", "/fail", "/130"]);
    let left: Vec<_> = fs::read_dir(home.state().join("staging"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_test_message_reaches_every_place_or_says_which_it_does_not() {
    let home = Home::initialised();
    let said = home.hapi_command(&["notify", "--test"]).exits(2);
    assert!(said.stderr.contains("[notify]"), "{said:?}");
    let server = Server::start("200");
    let told = home.dir.path().join("told");
    let command = format!("cat > {}", told.display());
    told_by(&home, Some(&server.url()), Some(&command));
    let said = home.hapi_command(&["notify", "--test"]).exits(0);
    assert!(said.stdout.contains("url and command"), "{said:?}");
    assert_eq!(server.paths(), ["/fail"]);
    assert!(
        fs::read_to_string(&told)
            .unwrap()
            .contains("nothing is wrong")
    );
    told_by(&home, Some(&server.url()), Some("exit 3"));
    let said = home.hapi_command(&["notify", "--test"]).exits(1);
    assert!(said.stderr.contains("command failed"), "{said:?}");
    assert!(runs(&home).is_empty(), "a test is no run");
}
