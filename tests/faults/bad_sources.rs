//! Sources that are broken in each way there is. What a run does with each, its exit code, its words and what
//! is then in the repository, is a table in docs/reliability.md, which this test makes: with
//! `RUSTIC_HAPI_FAULTS_WRITE=1` it writes it, and otherwise it compares.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::{Home, Said, run, sqlite3};

/// One way to be broken.
struct Case {
    what: &'static str,
    kind: &'static str,
    make: fn(&Path),
}

const CASES: [Case; 23] = [
    Case {
        what: "a database cut short in the middle of a page",
        kind: "sqlite",
        make: |path| {
            database(path);
            let size = fs::metadata(path).unwrap().len();
            cut(path, size - 6000);
        },
    },
    Case {
        what: "a database with a page of zeros",
        kind: "sqlite",
        make: |path| {
            database(path);
            overwrite(path, 2 * 4096, &[0; 4096]);
        },
    },
    Case {
        what: "a database with another header",
        kind: "sqlite",
        make: |path| {
            database(path);
            overwrite(path, 0, b"not what it was!");
        },
    },
    Case {
        what: "a database with a WAL cut in the middle of a frame",
        kind: "sqlite",
        make: |path| {
            with_wal(path);
            let wal = side(path, "-wal");
            let size = fs::metadata(&wal).unwrap().len();
            cut(&wal, size - 2000);
        },
    },
    Case {
        what: "a database whose `-shm` is gone",
        kind: "sqlite",
        make: |path| {
            with_wal(path);
            fs::remove_file(side(path, "-shm")).unwrap();
        },
    },
    Case {
        what: "a table of a module that nobody knows",
        kind: "sqlite",
        make: |path| {
            database(path);
            sqlite3(
                path,
                "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES('table','odd','odd',0,'CREATE VIRTUAL TABLE odd USING nobodys_module(a)')",
            );
        },
    },
    Case {
        what: "an index by a function that nobody knows",
        kind: "sqlite",
        make: |path| {
            database(path);
            sqlite3(
                path,
                "CREATE INDEX odd ON t(lower(b)); PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql='CREATE INDEX odd ON t(nobodys_function(b))' WHERE name='odd'",
            );
        },
    },
    Case {
        what: "a column with a collation that nobody knows",
        kind: "sqlite",
        make: |path| {
            database(path);
            sqlite3(
                path,
                "CREATE TABLE c(x TEXT COLLATE NOCASE UNIQUE); INSERT INTO c VALUES('a'); PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql='CREATE TABLE c(x TEXT COLLATE NOBODYS UNIQUE)' WHERE name='c'",
            );
        },
    },
    Case {
        what: "a database of 0 bytes",
        kind: "sqlite",
        make: |path| drop(File::create(path).unwrap()),
    },
    Case {
        what: "a text where a database should be",
        kind: "sqlite",
        make: |path| fs::write(path, "not a database, and long enough to be none").unwrap(),
    },
    Case {
        what: "a folder where a database should be",
        kind: "sqlite",
        make: |path| fs::create_dir(path).unwrap(),
    },
    Case {
        what: "a file of 0 bytes",
        kind: "file",
        make: |path| drop(File::create(path).unwrap()),
    },
    Case {
        what: "a folder where a file should be",
        kind: "file",
        make: |path| fs::create_dir(path).unwrap(),
    },
    Case {
        what: "a file where a folder should be",
        kind: "dir",
        make: |path| fs::write(path, "x").unwrap(),
    },
    Case {
        what: "a named pipe",
        kind: "file",
        make: |path| drop(run("mkfifo", &[path.as_os_str()])),
    },
    Case {
        what: "a device",
        kind: "file",
        make: |path| {
            let kind: [&OsStr; 3] = ["c".as_ref(), "1".as_ref(), "5".as_ref()];
            run("mknod", &[&[path.as_os_str()], &kind[..]].concat());
        },
    },
    Case {
        what: "a symbolic link to itself",
        kind: "file",
        make: |path| symlink(path, path).unwrap(),
    },
    Case {
        what: "a symbolic link that leads nowhere",
        kind: "file",
        make: |path| symlink("/nonexistent/target", path).unwrap(),
    },
    Case {
        what: "a file that never stops growing",
        kind: "file",
        make: |path| {
            // So much that it grows during each read, also where this thread has to wait for its turn.
            File::create(path).unwrap().set_len(32 << 20).unwrap();
            // Until it is removed.
            let path = path.to_path_buf();
            thread::spawn(move || {
                while let Ok(mut file) = File::options().append(true).open(&path) {
                    _ = file.write_all(&[0; 10_000]);
                    thread::sleep(Duration::from_micros(300));
                }
            });
        },
    },
    Case {
        what: "a folder with names that have newlines and are not UTF-8",
        kind: "dir",
        make: |path| {
            fs::create_dir(path).unwrap();
            fs::write(path.join("two\nlines"), "x").unwrap();
            fs::write(path.join(OsStr::from_bytes(b"not \xff utf-8")), "y").unwrap();
        },
    },
    Case {
        what: "a secret of 10 MB",
        kind: "secret",
        make: |path| fs::write(path, vec![b'k'; 10_000_000]).unwrap(),
    },
    Case {
        what: "a folder of 20,000 files",
        kind: "dir",
        make: |path| {
            fs::create_dir(path).unwrap();
            for n in 0..20_000 {
                fs::write(path.join(format!("{n:05}")), n.to_string()).unwrap();
            }
        },
    },
    Case {
        what: "a path of almost 4,000 characters",
        kind: "dir",
        make: |path| {
            let mut deep = path.to_path_buf();
            while deep.as_os_str().len() < 3_600 {
                deep.push("d".repeat(200));
            }
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("file"), "x").unwrap();
        },
    },
];

fn database(path: &Path) {
    sqlite3(
        path,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE INDEX i ON t(b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO t SELECT i, printf('%040d', i * 7919 % 2003) FROM n",
    );
}

/// One whose last rows are in the WAL alone, its writer killed.
fn with_wal(path: &Path) {
    let script = "import sqlite3,sys,os,signal\ndb=sqlite3.connect(sys.argv[1],isolation_level=None)\ndb.execute('PRAGMA journal_mode=WAL')\ndb.execute('CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)')\nfor n in range(50): db.execute('INSERT INTO t VALUES(?,?)',(n,'x'*500))\nos.kill(os.getpid(),signal.SIGKILL)";
    let ended = Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .status();
    assert!(!ended.unwrap().success());
}

fn side(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn cut(path: &Path, size: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(size).unwrap();
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
    assert!(file.read_at(&mut [0; 1], at).is_err(), "opened for writing");
}

#[test]
fn each_broken_source_is_told_and_the_rest_is_kept() {
    let mut table = String::from(
        "| the source is | exit | message | what is in the repository |\n|---|---|---|---|\n",
    );
    let home = Home::initialised();
    let good = home.hapi("driver-status.json");
    for (nth, case) in CASES.iter().enumerate() {
        let folder = home.path().join(format!("case-{nth}"));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("it");
        (case.make)(&path);
        table += &row(&home, case, &format!("case{nth}"), &path, &good);
        fs::remove_dir_all(&folder).unwrap();
    }
    home.restic(&["check", "--read-data"]);

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reliability.md");
    let text = fs::read_to_string(&document).unwrap();
    let (begin, end) = ("<!-- bad sources -->\n", "<!-- end -->");
    let (head, rest) = text.split_once(begin).expect("its place");
    let (old, tail) = rest.split_once(end).expect("its end");
    if std::env::var_os("RUSTIC_HAPI_FAULTS_WRITE").is_some() {
        fs::write(&document, format!("{head}{begin}{table}{end}{tail}")).unwrap();
    } else {
        assert_eq!(
            old, table,
            "docs/reliability.md is not what happens: RUSTIC_HAPI_FAULTS_WRITE=1 writes it anew"
        );
    }
}

/// Takes it beside a file that is well.
fn row(home: &Home, case: &Case, name: &str, path: &Path, good: &Path) -> String {
    let sources = format!(
        "[[source]]\nname = \"it\"\npath = {path:?}\nkind = \"{}\"\n[[source]]\nname = \"good\"\npath = {good:?}\nkind = \"file\"\n",
        case.kind
    );
    let profile = home.write_profile(name, &sources);
    let said = home.hapi_command(&["--profile", profile.to_str().unwrap(), "snapshot", "--json"]);
    assert!([0, 3].contains(&said.code), "{}: {said:?}", case.what);
    let report = said.json();
    let series = &report["series"][0];
    let id = series["snapshot"]
        .as_str()
        .expect("the other source is kept");
    let it = &series["sources"][0];
    let outcome = it["outcome"].as_str().unwrap();
    assert_eq!(series["complete"] == true, said.code == 0, "{}", case.what);
    let there = Command::new("restic")
        .args(["--no-cache", "-q", "ls", id])
        .env("HOME", home.dir.path())
        .env("RESTIC_REPOSITORY", home.repository())
        .env("RESTIC_PASSWORD_FILE", home.password())
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&there.stdout);
    let folder = path.parent().unwrap().to_str().unwrap();
    let files = listed
        .lines()
        .filter(|l| l.starts_with(&format!("{folder}/")))
        .count();
    let told = said
        .stderr
        .lines()
        .find(|line| line.contains(": it: "))
        .unwrap_or("")
        .replace(path.to_str().unwrap(), "PATH")
        .replace('|', "\\|");
    let told: String = told.chars().take(170).collect();
    let kept = match (outcome, files) {
        ("failed", 0) => "nothing of it; the rest, `partial`".to_owned(),
        ("damaged", _) => "it, as it is; `damaged` and `partial`".to_owned(),
        ("complete", 1) => "it".to_owned(),
        ("complete", _) => "all of it".to_owned(),
        (other, n) => format!("{n} names of it, {other}"),
    };
    format!("| {} | {} | {told} | {kept} |\n", case.what, said.code)
}

/// Root may read anything, so the runs are another user's.
#[test]
fn permission_taken_away_between_two_runs_is_told_and_the_rest_is_kept() {
    const USER: u32 = 54_321;
    let home = Home::initialised();
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in [home.path(), home.repository()] {
        run(
            "chown",
            &["-R".as_ref(), "54321:54321".as_ref(), folder.as_os_str()],
        );
    }
    let snapshot = || -> Said {
        let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
        home.through(
            "setpriv",
            &[&user, &group, "--clear-groups"],
            &["snapshot", "--json"],
        )
        .output()
        .unwrap()
        .into()
    };
    snapshot().exits(0);
    for name in ["hapi.db", "hub.env", "driver-status.json"] {
        let path = home.hapi(name);
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let said = snapshot().exits(3);
        let report = said.json();
        let sources = report["series"][0]["sources"].as_array().unwrap();
        for source in sources {
            let refused = name.starts_with(source["name"].as_str().unwrap());
            let outcome = source["outcome"].as_str().unwrap();
            assert_eq!(outcome == "failed", refused, "{source:#}");
        }
        assert!(said.stderr.contains(path.to_str().unwrap()), "{said:?}");
        assert!(said.stderr.contains("hint: "), "{said:?}");
        chown(&path, Some(USER), Some(USER)).unwrap();
        snapshot().exits(0);
    }
    home.restic(&["check", "--read-data"]);
}
