//! Disks that return EIO, before or in the middle of a file, by a shim between the program and the C
//! library: SQLite and Rust's library both call it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, Home, Said, run, sqlite3};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

/// Fails a call on files whose path has `FAIL_PATH` in it, once `FAIL_AFTER` such calls went well.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long calls;

static int fails(const char *op, int fd) {
    const char *wanted = getenv("FAIL_OP"), *part = getenv("FAIL_PATH"), *after = getenv("FAIL_AFTER");
    char link[64], path[4096];
    if (!wanted || !part || !after || strcmp(op, wanted)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!strstr(path, part)) return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) <= atol(after)) return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t read(int fd, void *b, size_t n) { REAL(read); return fails("read", fd) ? -1 : real(fd, b, n); }
ssize_t pread(int fd, void *b, size_t n, off_t o) { REAL(pread); return fails("read", fd) ? -1 : real(fd, b, n, o); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { REAL(pread64); return fails("read", fd) ? -1 : real(fd, b, n, o); }
ssize_t write(int fd, const void *b, size_t n) { REAL(write); return fails("write", fd) ? -1 : real(fd, b, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(pwrite); return fails("write", fd) ? -1 : real(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(pwrite64); return fails("write", fd) ? -1 : real(fd, b, n, o); }
int fsync(int fd) { REAL(fsync); return fails("sync", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails("sync", fd) ? -1 : real(fd); }
"#;

fn shim(home: &Home) -> PathBuf {
    let (source, library) = (
        home.dir.path().join("shim.c"),
        home.dir.path().join("shim.so"),
    );
    fs::write(&source, SHIM).unwrap();
    run(
        "cc",
        &[
            "-shared".as_ref(),
            "-fPIC".as_ref(),
            "-O1".as_ref(),
            "-o".as_ref(),
            library.as_os_str(),
            source.as_os_str(),
            "-ldl".as_ref(),
        ],
    );
    library
}

/// A command for which such a call on such a path fails after so many that went well. It ends with one of these
/// codes, and says what the matter was unless that is 0.
fn failing(
    mut command: Command,
    shim: &Path,
    (op, part, after): (&str, &str, u64),
    codes: &[i32],
) -> Said {
    // `faketime` has a shim of its own, and keeps what is there.
    command
        .env("LD_PRELOAD", shim)
        .env("FAIL_OP", op)
        .env("FAIL_PATH", part)
        .env("FAIL_AFTER", after.to_string());
    let said = Said::from(command.output().unwrap());
    println!("exit {}", said.code);
    assert!(codes.contains(&said.code), "{command:?}: {said:?}");
    let told = said.stderr.to_lowercase();
    assert!(
        said.code == 0 || told.contains("os error 5") || told.contains("i/o error"),
        "{command:?}: {said:?}"
    );
    said
}

#[test]
fn a_disk_that_returns_errors_makes_no_snapshot_that_is_not_whole() {
    let mut dice = Dice::new("I/O errors");
    let home = Home::initialised();
    let shim = shim(&home);
    let mut judge = Judge::default();
    let first = home.snapshot().exits(0);
    judge.hear(&home, &first);
    // What fails, where, and whether anything may still be saved.
    let repository = home.repository().to_string_lossy().into_owned();
    let home_text = home.path().to_string_lossy().into_owned();
    let places: Vec<(&str, String)> = vec![
        ("read", format!("{home_text}/.hapi/hapi.db")),
        ("read", "driver-status.json".to_owned()),
        ("read", "hub.env".to_owned()),
        ("read", "/staging/".to_owned()),
        ("write", "/staging/".to_owned()),
        ("sync", "/staging/".to_owned()),
        ("write", format!("{repository}/data")),
        ("sync", format!("{repository}/data")),
        ("write", format!("{repository}/index")),
        ("write", format!("{repository}/snapshots")),
        ("sync", format!("{repository}/snapshots")),
        ("write", format!("{repository}/locks")),
        ("read", format!("{repository}/data")),
        ("read", format!("{repository}/index")),
        ("read", format!("{repository}/snapshots")),
        ("write", "rustic-hapi/hapi/".to_owned()),
    ];
    let (mut hit, rounds) = (0, rounds(places.len() as u64));
    for round in 0..rounds {
        let (op, part) = &places[usize::try_from(round).unwrap() % places.len()];
        let after = match round < places.len() as u64 {
            true => 0,
            false => dice.below(40),
        };
        sqlite3(
            &home.database(),
            "UPDATE sessions SET updated_at = updated_at + 1",
        );
        let mut command = home.command();
        command.args(["snapshot", "--json"]);
        println!("round {round}: {op} of {part} after {after}");
        let said = failing(command, &shim, (op, part, after), &[0, 1, 3]);
        hit += u64::from(said.code != 0);
        judge.hear(&home, &said);
        judge.judge(&home, &mut |n| dice.below(n), 2);
        let next = home.snapshot().exits(0);
        judge.hear(&home, &next);
        Judge::clean(&home);
    }
    assert!(hit * 4 >= rounds, "the shim hit {hit} of {rounds} runs");
    println!("{rounds} rounds, {hit} runs hit, nothing lost");
}

/// What deletes, and what reads back: nothing may go that is needed, and an error is one of the disk's.
#[test]
fn a_disk_that_returns_errors_to_other_commands_takes_nothing_from_the_repository() {
    let mut dice = Dice::new("I/O errors of other commands");
    let home = Home::initialised();
    let shim = shim(&home);
    let mut judge = Judge::default();
    judge.hear(&home, &home.snapshot().exits(0));
    let repository = home.repository().to_string_lossy().into_owned();
    let below = |folder: &str| format!("{repository}/{folder}");
    let target = home.dir.path().join("target");
    let target_text = target.to_str().unwrap();
    let (prune, restore): (&[&str], &[&str]) = (
        &["forget", "--prune"],
        &["restore", "--target", target_text],
    );
    let (check, drill): (&[&str], &[&str]) = (&["check", "--read-data"], &["drill"]);
    let acts: [(&[&str], &str, String); 14] = [
        (prune, "write", below("index")),
        (prune, "sync", below("index")),
        (prune, "read", below("index")),
        (prune, "write", below("data")),
        (prune, "read", below("data")),
        (prune, "read", below("snapshots")),
        (prune, "write", below("locks")),
        (restore, "read", below("data")),
        (restore, "read", below("index")),
        (restore, "write", target_text.to_owned()),
        (restore, "sync", target_text.to_owned()),
        (check, "read", below("data")),
        (drill, "read", below("data")),
        (drill, "write", "/staging/".to_owned()),
    ];
    let (mut hit, rounds) = (0, rounds(acts.len() as u64));
    for round in 0..rounds {
        let (args, op, part) = &acts[usize::try_from(round).unwrap() % acts.len()];
        let after = match round < acts.len() as u64 {
            true => 0,
            false => dice.below(12),
        };
        if *args == prune {
            // Something for it to do, which is old enough to go at once every other time.
            sqlite3(
                &home.database(),
                "UPDATE messages SET content = randomblob(3000) WHERE rowid % 5 = 0",
            );
            judge.hear(&home, &home.snapshot().exits(0));
            judge.keep_two(&home, false);
        }
        let later = ["30 hours"];
        let command = match *args == prune && dice.below(2) == 0 {
            true => home.through("faketime", &later, args),
            false => {
                let mut command = home.command();
                command.args(*args);
                command
            }
        };
        println!("round {round}: {args:?} with {op} of {part} after {after}");
        let said = failing(command, &shim, (op, part, after), &[0, 1, 3, 21, 22]);
        hit += u64::from(said.code != 0);
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
        judge.judge(&home, &mut |n| dice.below(n), 2);
        judge.hear(&home, &home.snapshot().exits(0));
        Judge::clean(&home);
    }
    assert!(hit * 4 >= rounds, "the shim hit {hit} of {rounds} commands");
    println!("{rounds} rounds, {hit} commands hit, nothing lost");
}

/// A mount of a folder elsewhere, as a disk of its own would be, which can be made read-only.
struct Bind(PathBuf);

impl Bind {
    fn mount(from: &Path, to: PathBuf) -> Self {
        fs::create_dir_all(&to).unwrap();
        run(
            "mount",
            &["--bind".as_ref(), from.as_os_str(), to.as_os_str()],
        );
        Self(to)
    }

    /// As the kernel does with a file system that it no longer trusts; it refuses while a file is being
    /// written, so this may be asked again.
    fn turn(&self, how: &str) -> bool {
        let options = format!("remount,bind,{how}");
        let turned = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .stderr(Stdio::null())
            .status();
        turned.unwrap().success()
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_turns_read_only_makes_no_snapshot_that_is_not_whole() {
    let mut dice = Dice::new("read-only");
    let home = Home::initialised();
    // The profile knows the repository by where it is mounted.
    let mounted = home.dir.path().join("mounted");
    let bind = Bind::mount(&home.repository(), mounted.clone());
    let (from, to) = (home.repository(), mounted);
    home.edit_profile(|text| text.replace(from.to_str().unwrap(), to.to_str().unwrap()));
    let mut judge = Judge::default();
    judge.hear(&home, &home.snapshot().exits(0));
    let (mut hit, rounds) = (0, rounds(8));
    let mut longest = Duration::from_millis(900);
    for round in 0..rounds {
        let hub = BusyHub::start(&home.database());
        let after = dice.moment(longest);
        let mut command = home.command();
        command.args(["snapshot", "--json"]);
        let begun = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(after);
        while !bind.turn("ro") && child.try_wait().unwrap().is_none() {}
        let said = Said::from(child.wait_with_output().unwrap());
        if said.code == 0 {
            longest = begun.elapsed();
        }
        println!(
            "round {round}: read-only after {after:?}: exit {}",
            said.code
        );
        assert!([0, 1, 3].contains(&said.code), "{said:?}");
        if said.code != 0 {
            hit += 1;
            let told = said.stderr.to_lowercase();
            assert!(told.contains("read-only"), "{said:?}");
        }
        drop(hub);
        assert!(bind.turn("rw"));
        judge.hear(&home, &said);
        judge.judge(&home, &mut |n| dice.below(n), 2);
        judge.hear(&home, &home.snapshot().exits(0));
        Judge::clean(&home);
    }
    assert!(hit > 0, "it was never read-only in time");
    println!("{rounds} rounds, {hit} runs hit, nothing lost");
}
