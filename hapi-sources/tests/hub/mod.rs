//! A throwaway hub for the tests: its folder, staging, identities, and programs run beside it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hapi_sources::{Bytes, Capture, CaptureError, Capturer, Recipients, Source, Staging};

pub struct Hub {
    pub tmp: tempfile::TempDir,
    pub staging: Staging,
    pub identity: age::x25519::Identity,
    pub recipients: Recipients,
}

impl Hub {
    pub fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let staging = Staging::create(&tmp.path().join("staging")).unwrap();
        fs::create_dir(tmp.path().join("home")).unwrap();
        let identity = age::x25519::Identity::generate();
        let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
        Self {
            tmp,
            staging,
            identity,
            recipients,
        }
    }

    pub fn home(&self) -> PathBuf {
        self.tmp.path().join("home")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn capturer(&self, sources: &[Source]) -> Capturer<'_> {
        Capturer::new(&self.staging, sources)
            .unwrap()
            .recipients(Some(&self.recipients))
    }

    pub fn capture(&self, source: &Source) -> Result<Capture, CaptureError> {
        self.capturer(std::slice::from_ref(source)).capture(source)
    }

    pub fn staged(&self) -> usize {
        fs::read_dir(self.staging.path()).unwrap().count()
    }
}

pub fn content(bytes: &Bytes) -> Vec<u8> {
    let mut v = Vec::new();
    bytes.open().unwrap().read_to_end(&mut v).unwrap();
    assert_eq!(v.len() as u64, bytes.len());
    v
}

/// Makes a file look long settled, so that it is read once.
pub fn settle(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Runs a program to its end; a missing one fails the test.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        text(&out.stderr)
    );
    text(&out.stdout)
}

/// Runs the `sqlite3` program: another process than ours, as a hub is.
pub fn sqlite3(db: &Path, sql: &str) -> String {
    run("sqlite3", &[db.to_str().unwrap(), sql])
        .trim()
        .to_owned()
}

/// A Python program that uses SQLite, ended with the guard.
pub struct Python(Child);

impl Python {
    /// Starts it and waits until it has created `ready` (its first argument).
    pub fn start(code: &str, db: &Path) -> Self {
        let ready = db.with_extension("ready");
        let child = Command::new("python3")
            .args(["-c", code])
            .args([&ready, db])
            .stdin(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut python = Self(child);
        let start = Instant::now();
        while !ready.exists() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "python3 does not get ready"
            );
            assert!(
                python.0.try_wait().unwrap().is_none(),
                "python3 ended early"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_file(ready).unwrap();
        python
    }

    /// SIGKILL: nothing is closed, nothing checkpointed.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
