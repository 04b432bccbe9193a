//! What the end-to-end tests share: a home like a hub's, made with the real programs, and the real
//! binary run against it.

pub mod cheap;
pub mod hub;
pub mod servers;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustic_hapi::synthetic::{Hub, Shape, write_notes, write_wav};
use serde_json::Value;
use tempfile::TempDir;

/// Values that must never be found anywhere but in the live secrets.
pub const CANARIES: [&str; 2] = [
    "sk-canary-1f8e2d7c6b5a4938",
    "canary-jwt-secret-00112233445566",
];

/// A home with everything the shipped profile names, a repository's place, and an age identity.
pub struct Home {
    pub dir: TempDir,
    pub recipient: String,
}

/// What a command said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// A schedule was written; whether something calls it hangs on the machine.
    #[track_caller]
    pub fn written(self) -> Self {
        let code = if self.code == 3 { 3 } else { 0 };
        self.exits(code)
    }

    /// The exit code must be this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Home {
    /// A home with a small hub that nobody writes to.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// The same elsewhere than in /tmp.
    pub fn new_in(folder: &Path) -> Self {
        let dir = tempfile::tempdir_in(folder).unwrap();
        let home = dir.path().join("home");
        for folder in [
            ".hapi/scratchlist-attachments",
            ".config/hapi",
            "coding/hapi/docs/plans",
            "voice-test-output/empty",
        ] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let mut hub = Hub::create(&home.join(".hapi/hapi.db"), Shape::Plain, 42).unwrap();
        hub.add_messages(300, 50).unwrap();
        drop(hub);

        let hapi = home.join(".hapi");
        let env = format!(
            "# keys\nAPI_KEY={}\nexport JWT_SECRET='{}'\n",
            CANARIES[0], CANARIES[1]
        );
        fs::write(hapi.join("hub.env"), env).unwrap();
        fs::set_permissions(hapi.join("hub.env"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(
            hapi.join("settings.json"),
            "{\"cliToken\":\"t\",\"vapid\":\"v\"}",
        )
        .unwrap();
        fs::write(hapi.join("driver-status.json"), "{\"state\":\"idle\"}\n").unwrap();
        fs::write(hapi.join("scratchlist-attachments/a file.bin"), [7u8; 5000]).unwrap();

        let manifest = home.join("coding/hapi/driver-manifest.yaml");
        fs::write(&manifest, "drivers:\n  - name: one\n").unwrap();
        symlink(&manifest, home.join(".config/hapi/driver-manifest.yaml")).unwrap();

        write_wav(&home.join("voice-test-output/hello world.wav"), 1, 3).unwrap();
        fs::write(
            home.join("voice-test-output/results.json"),
            "{\"passed\":3}\n",
        )
        .unwrap();

        let plans = home.join("coding/hapi/docs/plans");
        write_notes(&plans, 4, 9).unwrap();
        let repository = home.join("coding/hapi");
        fs::write(plans.join("tracked.md"), "as committed\n").unwrap();
        fs::write(plans.join("modified.md"), "as committed\n").unwrap();
        fs::write(repository.join(".gitignore"), "docs/plans/ignored.md\n").unwrap();
        git(&repository, &["init", "-q"]);
        git(
            &repository,
            &[
                "add",
                ".gitignore",
                "docs/plans/tracked.md",
                "docs/plans/modified.md",
            ],
        );
        git(
            &repository,
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@t",
                "commit",
                "-q",
                "-m",
                "plans",
            ],
        );
        fs::write(plans.join("modified.md"), "changed since\n").unwrap();
        fs::write(plans.join("ignored.md"), "not for git\n").unwrap();

        let key = dir.path().join("identity.txt");
        run("age-keygen", &["-o".as_ref(), key.as_os_str()]);
        let recipient = run("age-keygen", &["-y".as_ref(), key.as_os_str()])
            .stdout
            .trim()
            .to_owned();
        Self { dir, recipient }
    }

    /// And with `init` done, on a repository with a cheap key.
    pub fn initialised() -> Self {
        let home = Self::new();
        cheap::repository(&home.repository(), &home.password());
        home.init().exits(0);
        home
    }

    /// Makes the key cheap with which the repository was made.
    pub fn cheapen(&self) {
        cheap::cheapen(&self.repository(), &self.password());
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn hapi(&self, name: &str) -> PathBuf {
        self.path().join(".hapi").join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.hapi("hapi.db")
    }

    pub fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    pub fn profile(&self) -> PathBuf {
        self.path().join(".config/rustic-hapi/hapi.toml")
    }

    pub fn password(&self) -> PathBuf {
        self.path().join(".config/rustic-hapi/hapi.password")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".local/state/rustic-hapi/hapi")
    }

    pub fn init(&self) -> Said {
        let repository = self.repository();
        self.init_at(repository.to_str().unwrap())
    }

    /// The same with a repository elsewhere.
    pub fn init_at(&self, location: &str) -> Said {
        self.init_command(location).output().unwrap().into()
    }

    pub fn init_command(&self, location: &str) -> Command {
        let mut command = self.command();
        command.args([
            "init",
            "--repository",
            location,
            "--allow-same-disk",
            "--recipient",
            &self.recipient,
        ]);
        command
    }

    /// Has the profile name an environment file with these lines.
    pub fn environment_file(&self, lines: &str) {
        let file = self.profile().with_file_name("hapi.environment");
        fs::write(&file, lines).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let line = format!("[repository]\nenvironment-file = {file:?}\n");
        self.edit_profile(|text| text.replace("[repository]\n", &line));
    }

    /// The binary with a clean environment, as cron has it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustic-hapi"));
        command
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// The binary called by a program that execs what follows its own arguments.
    pub fn through(&self, program: &str, before: &[&str], args: &[&str]) -> Command {
        let ours = self.command();
        let mut command = Command::new(program);
        command
            .args(before)
            .arg(ours.get_program())
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        for (name, value) in ours.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }

    pub fn hapi_command(&self, args: &[&str]) -> Said {
        self.command().args(args).output().unwrap().into()
    }

    /// The hub does something: what a run then finds has to be read.
    pub fn change(&self) {
        sqlite3(
            &self.database(),
            "UPDATE sessions SET updated_at = updated_at + 1",
        );
    }

    pub fn snapshot(&self) -> Said {
        self.hapi_command(&["snapshot", "--json"])
    }

    /// Runs at a time of its own, which builds with debug assertions allow.
    pub fn at(&self, time: &str, args: &[&str]) -> Said {
        self.command()
            .env("RUSTIC_HAPI_TEST_NOW", time)
            .args(args)
            .output()
            .unwrap()
            .into()
    }

    /// With one stream broken in the way that is asked for.
    pub fn faulty(&self, fault: &str) -> Said {
        self.command()
            .env("RUSTIC_HAPI_TEST_FAULT", fault)
            .args(["snapshot", "--json"])
            .output()
            .unwrap()
            .into()
    }

    /// The key that opens what the recipient's secrets are encrypted to.
    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("identity.txt")
    }

    /// A drill with further arguments; `--json` among them or not.
    pub fn drill(&self, args: &[&str]) -> Said {
        self.hapi_command(&[&["drill"], args].concat())
    }

    /// A restore into a folder.
    pub fn restore(&self, target: &Path, args: &[&str]) -> Said {
        let target = target.to_str().unwrap();
        self.hapi_command(&[&["restore", "--target", target], args].concat())
    }

    /// A command on a machine that has only the repository and the password.
    pub fn bare(&self, args: &[&str]) -> Command {
        let empty = self.dir.path().join("bare");
        fs::create_dir_all(&empty).unwrap();
        let mut command = self.command();
        command
            .env("HOME", empty)
            .args(args)
            .arg("--repository")
            .arg(self.repository())
            .arg("--password-file")
            .arg(self.password());
        command
    }

    /// The repository, opened with the library.
    pub fn engine(&self) -> rustic_core::Repository<rustic_core::OpenStatus> {
        let backends = rustic_backend::BackendOptions::default()
            .repository(self.repository().to_str().unwrap())
            .to_backends()
            .unwrap();
        let mut options = rustic_core::RepositoryOptions::default();
        options.no_cache = true;
        let password = fs::read_to_string(self.password()).unwrap();
        rustic_core::Repository::new(&options, &backends)
            .unwrap()
            .open(&rustic_core::Credentials::password(password.trim()))
            .unwrap()
    }

    /// Writes all snapshot files anew, as somebody with the password can.
    pub fn forge(&self, change: impl FnOnce(&mut Vec<rustic_core::repofile::SnapshotFile>)) {
        let engine = self.engine();
        let mut snapshots = engine.get_all_snapshots().unwrap();
        snapshots.sort_by_key(|s| s.time.timestamp());
        let old: Vec<_> = snapshots.iter().map(|s| s.id).collect();
        change(&mut snapshots);
        engine.save_snapshots(snapshots).unwrap();
        engine.delete_snapshots(&old).unwrap();
    }

    /// The ids of a series' snapshots, oldest first.
    pub fn ids(&self, tag: &str) -> Vec<String> {
        let of_series = |s: &Value| s["tags"].to_string().contains(&format!("\"{tag}\""));
        self.restic_snapshots()
            .iter()
            .filter(|s| of_series(s))
            .map(|s| s["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The lines of the drills' history.
    pub fn drills(&self) -> Vec<Value> {
        fs::read_to_string(self.state().join("drills.jsonl"))
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Stock restic on the repository.
    pub fn restic(&self, args: &[&str]) -> Said {
        let said = self.restic_command(args).output().unwrap();
        Said::from(said).exits(0)
    }

    pub fn restic_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command
            .env("HOME", self.dir.path())
            .env("RESTIC_REPOSITORY", self.repository())
            .env("RESTIC_PASSWORD_FILE", self.password())
            .arg("--no-cache")
            .args(args);
        command
    }

    pub fn restic_snapshots(&self) -> Vec<Value> {
        // A lock of a process that was killed is ours to clear, and nobody else's.
        let said = self.restic(&["snapshots", "--no-lock", "--json"]);
        said.json().as_array().cloned().unwrap_or_default()
    }

    /// The bytes of a file in the newest snapshot of a series.
    pub fn dump(&self, tag: &str, path: &Path) -> Vec<u8> {
        let output = self
            .restic_command(&["dump", "--tag", tag, "latest", path.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The manifest of the newest snapshot of a series.
    pub fn manifest(&self, tag: &str) -> Value {
        let bytes = self.dump(tag, &self.path().join(".hapi-manifest.json"));
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Changes the profile's text.
    pub fn edit_profile(&self, edit: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.profile()).unwrap();
        fs::write(self.profile(), edit(text)).unwrap();
    }

    /// A profile of one's own, with a repository that is there.
    pub fn write_profile(&self, name: &str, sources: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.toml"));
        let text = format!(
            "host = \"test\"\n[repository]\nlocation = {:?}\npassword-file = {:?}\nallow-same-disk = true\n[secrets]\nrecipients = [{:?}]\n[[series]]\nname = \"{name}\"\n{sources}",
            self.repository(),
            self.password(),
            self.recipient
        );
        fs::write(&path, text).unwrap();
        path
    }
}

/// A command that sees no process but its own, where hubs of other tests run on this machine and the command
/// looks for one.
pub fn alone(command: &Command) -> Command {
    let mut alone = Command::new("unshare");
    alone
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            alone.env(name, value);
        }
    }
    alone
}

/// A mounted tmpfs of a size, gone with the value.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(path: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        run(
            "mount",
            &[
                "-t".as_ref(),
                "tmpfs".as_ref(),
                "-o".as_ref(),
                options.as_ref(),
                "tmpfs".as_ref(),
                path.as_os_str(),
            ],
        );
        Self(path)
    }

    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        // Named with its source, else `mount` adds what the mount has, a user of another namespace included.
        run(
            "mount",
            &[
                "-o".as_ref(),
                options.as_ref(),
                "tmpfs".as_ref(),
                self.0.as_os_str(),
            ],
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A folder seen through `bindfs`, which can refuse what a file system may not have; to the program another disk.
pub struct BindFs(PathBuf);

impl BindFs {
    pub fn mount(from: &Path, to: PathBuf, options: &[&str]) -> Self {
        fs::create_dir_all(from).unwrap();
        fs::create_dir_all(&to).unwrap();
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([from.as_os_str(), to.as_os_str()]);
        run("bindfs", &arguments);
        Self(to)
    }
}

impl Drop for BindFs {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A hub that commits one message after the other, in a process of its own: `python3` with
/// SQLite, so that neither our SQLite nor our locks are its.
pub struct BusyHub(Child);

impl BusyHub {
    pub fn start(database: &Path) -> Self {
        let script = r#"
import sqlite3, sys, time, os
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=NORMAL")
db.execute("CREATE TABLE IF NOT EXISTS beats(n INTEGER PRIMARY KEY, pad TEXT)")
n = db.execute("SELECT coalesce(max(n),0) FROM beats").fetchone()[0]
print("ready", flush=True)
while True:
    n += 1
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO beats VALUES(?,?)", (n, os.urandom(200).hex()))
    db.execute("UPDATE beats SET pad=? WHERE n=?", (os.urandom(200).hex(), max(1, n // 2)))
    db.execute("COMMIT")
    time.sleep(0.003)
"#;
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(database)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0u8; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        thread::sleep(Duration::from_millis(200));
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL: the WAL stays hot.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for BusyHub {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A program that keeps rewriting a file in place and by rename.
pub struct Rewriter {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Rewriter {
    pub fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut n = 0u64;
            while !told.load(Ordering::SeqCst) {
                n += 1;
                let text = format!("{{\"state\":\"busy\",\"n\":{n}}}\n");
                let temporary = path.with_extension("tmp");
                fs::write(&temporary, text).unwrap();
                fs::rename(&temporary, &path).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// Runs a program that must be there and succeed.
#[track_caller]
pub fn run(program: &str, args: &[&OsStr]) -> Said {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("`{program}` is needed: {error}"));
    Said::from(output).exits(0)
}

pub fn git(folder: &Path, args: &[&str]) {
    let mut all = vec![OsStr::new("-C"), folder.as_os_str()];
    all.extend(args.iter().map(OsStr::new));
    run("git", &all);
}

/// One value of a query, asked of stock sqlite3.
#[track_caller]
pub fn sqlite3(database: &Path, sql: &str) -> String {
    // A hub may be writing.
    let patience = ["-cmd", ".timeout 20000"].map(OsStr::new);
    let args = [&patience[..], &[database.as_os_str(), sql.as_ref()]].concat();
    run("sqlite3", &args).stdout.trim().to_owned()
}

/// All files below a folder whose bytes hold the needle.
pub fn files_with(folder: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(needle.len()).any(|w| w == needle.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

/// Feeds a program's standard input and returns what it says.
pub fn feed(program: &str, args: &[&OsStr], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("`{program}` is needed: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// All files below a folder, with their sizes.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => folders.push(entry.path()),
                Ok(stat) => found.push((entry.path(), stat.len())),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

/// A copy with everything as it is.
pub fn copy(from: &Path, to: &Path) {
    run("cp", &["-aT".as_ref(), from.as_os_str(), to.as_os_str()]);
}

/// Runs a command on a terminal of its own, types each answer once its question is shown, and
/// returns all that the terminal showed.
pub fn on_terminal(command: &Command, answers: &[(&str, &str)]) -> Said {
    let script = r#"
import os, pty, sys, select, time
answers = [a.split("=", 1) for a in sys.argv[1].split("\n") if a]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
shown, seen = b"", 0
end = time.time() + 60
while time.time() < end:
    if select.select([fd], [], [], 1)[0]:
        try:
            more = os.read(fd, 4096)
        except OSError:
            break
        if not more:
            break
        shown += more
        if answers and answers[0][0].encode() in shown[seen:]:
            seen = len(shown)
            time.sleep(0.2)
            os.write(fd, answers.pop(0)[1].encode() + b"\n")
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
"#;
    let answers: Vec<String> = answers.iter().map(|(q, a)| format!("{q}={a}")).collect();
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", script, &answers.join("\n")])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            terminal.env(name, value);
        }
    }
    terminal.output().unwrap().into()
}
