//! git is asked one thing: which files does `HEAD` hold with just this content?
//!
//! Only plumbing is run (`rev-parse`, `ls-tree`, `hash-object --no-filters`): no index, hence no
//! fsmonitor, no filters, no hooks. The repository may belong to another user, and we may be root.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::capture::Note;
use crate::error::CaptureError;
use crate::stop::Stop;

/// How long one call of git may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Those of the paths that git can give back as they are, and a note for each folder about which
/// it could not be asked.
pub(crate) fn in_head(
    program: &OsStr,
    paths: &[PathBuf],
    stop: &Stop,
) -> Result<(HashSet<PathBuf>, Vec<Note>), CaptureError> {
    let mut folders: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for path in paths {
        folders
            .entry(path.parent().unwrap_or(path))
            .or_default()
            .push(path);
    }
    let (mut same, mut notes) = (HashSet::new(), Vec::new());
    for (folder, files) in folders {
        match ask(
            &Git {
                program,
                folder,
                stop,
                limit: LIMIT,
            },
            &files,
        ) {
            Ok(found) => same.extend(found),
            Err(_) if stop.is_set() => return Err(CaptureError::Stopped),
            Err(reason) => notes.push(Note::NoGit {
                path: folder.to_owned(),
                reason,
            }),
        }
    }
    Ok((same, notes))
}

fn ask(git: &Git<'_>, files: &[&Path]) -> Result<Vec<PathBuf>, String> {
    let inside = git
        .run(&["rev-parse", "--is-inside-work-tree"], &[])?
        .success()?;
    if inside.trim_ascii() != b"true" {
        return Err("it is not in the work tree of a repository".into());
    }
    if git
        .run(&["rev-parse", "--quiet", "--verify", "HEAD^{tree}"], &[])?
        .code
        == Some(1)
    {
        // No commit yet: git cannot give anything back.
        return Ok(Vec::new());
    }
    let listing = git.run(&["ls-tree", "-z", "HEAD"], &[])?.success()?;
    let blobs: HashMap<&[u8], &[u8]> = listing.split(|b| *b == 0).filter_map(blob).collect();
    let mut asked = Vec::new();
    let mut input = Vec::new();
    for path in files {
        let Some(name) = path.file_name().map(OsStr::as_bytes) else {
            continue;
        };
        // One name a line, a leading quote means C escapes: other names are taken to be safe.
        // The whole path, as git reads names from standard input from the top of the work tree.
        let whole = path.as_os_str().as_bytes();
        let plain = !whole.contains(&b'\n') && !whole.starts_with(b"\"");
        let regular = path.symlink_metadata().is_ok_and(|m| m.is_file());
        if plain
            && regular
            && let Some(id) = blobs.get(name)
        {
            asked.push((*path, *id));
            input.extend_from_slice(whole);
            input.push(b'\n');
        }
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let ids = git
        .run(&["hash-object", "--no-filters", "--stdin-paths"], &input)?
        .success()?;
    let ids: Vec<&[u8]> = ids
        .split(|b| *b == b'\n')
        .filter(|id| !id.is_empty())
        .collect();
    if ids.len() != asked.len() {
        return Err("git hash-object answered for another number of files".into());
    }
    let same = asked.iter().zip(ids).filter(|((_, head), now)| head == now);
    Ok(same.map(|((path, _), _)| path.to_path_buf()).collect())
}

/// Name and id of a regular file: `<mode> blob <id>\t<name>`.
fn blob(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = line.iter().position(|b| *b == b'\t')?;
    let mut fields = line[..tab].split(|b| *b == b' ');
    let (mode, kind, id) = (fields.next()?, fields.next()?, fields.next()?);
    (mode.starts_with(b"100") && kind == b"blob").then_some((&line[tab + 1..], id))
}

struct Git<'a> {
    program: &'a OsStr,
    folder: &'a Path,
    stop: &'a Stop,
    limit: Duration,
}

struct Output {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn success(self) -> Result<Vec<u8>, String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.lines().next().unwrap_or("").trim();
        Err(if line.is_empty() {
            format!("git ended with {:?}", self.code)
        } else {
            line.to_owned()
        })
    }
}

impl Git<'_> {
    fn run(&self, args: &[&str], input: &[u8]) -> Result<Output, String> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        let mut child = Command::new(self.program)
            .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "--no-optional-locks",
                "--no-pager",
                "-C",
            ])
            .arg(self.folder)
            .args(args)
            .env_clear()
            .env("PATH", path)
            .envs([
                ("LC_ALL", "C"),
                ("GIT_TERMINAL_PROMPT", "0"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
            ])
            .envs([
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_NO_LAZY_FETCH", "1"),
            ])
            .stdin(if input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("git cannot be run: {e}"))?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
            let out = scope.spawn(move || read_all(stdout));
            let err = scope.spawn(move || read_all(stderr));
            let mut pause = Duration::from_millis(1);
            let ended = loop {
                if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
                    break Ok(status.code());
                }
                if self.stop.is_set() || start.elapsed() > self.limit {
                    // Its own group: whatever it started goes with it, and the pipes close.
                    if let Some(pid) = Pid::from_raw(child.id() as i32) {
                        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
                    }
                    let _ = child.wait();
                    break Err(format!("git took longer than {} s", self.limit.as_secs()));
                }
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            };
            let read = |t: thread::ScopedJoinHandle<'_, Vec<u8>>| t.join().unwrap_or_default();
            let (stdout, stderr) = (read(out), read(err));
            Ok(Output {
                code: ended?,
                stdout,
                stderr,
            })
        })
    }
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    // A read that fails leaves the answer short, and a short answer is noticed.
    let _ = pipe.map(|mut p| p.read_to_end(&mut all));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("git");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn no_git_is_a_note() {
        let tmp = tempfile::tempdir().unwrap();
        let files = [tmp.path().join("a")];
        let (same, notes) = in_head("/nowhere/git".as_ref(), &files, &Stop::default()).unwrap();
        assert!(same.is_empty());
        assert!(
            matches!(&notes[..], [Note::NoGit { reason, .. }] if reason.contains("cannot be run"))
        );
    }

    #[test]
    fn a_git_that_hangs_is_killed() {
        let tmp = tempfile::tempdir().unwrap();
        let program = script(tmp.path(), "#!/bin/sh\nsleep 60\n");
        let (stop, limit) = (Stop::default(), Duration::from_millis(100));
        let git = Git {
            program: program.as_os_str(),
            folder: tmp.path(),
            stop: &stop,
            limit,
        };
        let start = Instant::now();
        assert!(ask(&git, &[]).unwrap_err().contains("longer"));
        assert!(start.elapsed() < Duration::from_secs(10));
        stop.set();
        let files = [tmp.path().join("a")];
        let stopped = in_head(program.as_os_str(), &files, &stop);
        assert!(matches!(stopped, Err(CaptureError::Stopped)));
    }

    #[test]
    fn tree_lines_of_regular_files_count() {
        assert_eq!(
            blob(b"100644 blob abc\ta b"),
            Some((&b"a b"[..], &b"abc"[..]))
        );
        assert_eq!(blob(b"120000 blob abc\tlink"), None);
        assert_eq!(blob(b"040000 tree abc\tsub"), None);
        assert_eq!(blob(b""), None);
    }
}
