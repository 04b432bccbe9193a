//! What was asked for and could not be written is no success, wherever it was to go. A reader that went away is
//! no failure.

use std::fs::{self, File};
use std::process::Stdio;

use crate::common::{Home, Said, Tmpfs};
use serde_json::Value;

fn into(home: &Home, args: &[&str], stdout: impl Into<Stdio>) -> Said {
    let output = home
        .command()
        .args(args)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output();
    output.unwrap().into()
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

const SAY: &[&[&str]] = &[
    &["env"],
    &["schedule"],
    &["recovery-kit"],
    &["recovery-kit", "--json"],
    &["snapshots"],
    &["snapshots", "--json"],
    &["status"],
    &["status", "--json"],
    &["status", "--markdown"],
    &["profile", "show"],
    &["profile", "check"],
    &["check", "--json"],
    &["drill", "--json"],
    &["forget", "--dry-run", "--json"],
    &["--version"],
    &["--help"],
    &["help", "snapshot"],
];

#[test]
fn what_does_not_fit_on_a_disk_is_exit_1_and_names_the_file() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let mounted = home.dir.path().join("full");
    let _tmpfs = Tmpfs::mount(mounted.clone(), "size=8k");
    // One page is free: the beginning of a long page fits.
    fs::write(mounted.join("rest"), [0; 4096]).unwrap();
    let page = mounted.join("kit.md");
    let said = into(&home, &["recovery-kit"], File::create(&page).unwrap()).exits(1);
    assert!(fs::metadata(&page).unwrap().len() > 0);
    let place = format!("(`{}`): No space left", page.display());
    assert!(said.stderr.contains(&place), "{}", said.stderr);
    assert!(said.stderr.contains("hint: make room there"));
    for args in SAY {
        let said = into(&home, args, full());
        assert_eq!(said.code, 1, "{args:?}: {said:?}");
        assert!(said.stderr.contains("No space left"), "{args:?}: {said:?}");
    }
    // What a command writes itself, with nothing wrong with its standard output.
    let file = mounted.join("file");
    let file = file.to_str().unwrap();
    for args in [
        ["recovery-kit", "--new-key", "--key-file", file].as_slice(),
        &["status", "--prometheus", file],
    ] {
        let said = home.hapi_command(args);
        assert_eq!(said.code, 1, "{args:?}: {said:?}");
        assert!(said.stderr.contains("No space left"), "{args:?}: {said:?}");
    }
}

#[test]
fn a_snapshot_that_was_saved_and_could_not_say_so_is_exit_3() {
    let home = Home::initialised();
    let told = home.dir.path().join("told");
    home.edit_profile(|text| {
        let command = format!("cat >> {}", told.display());
        format!("{text}\n[notify]\ncommand = {command:?}\n")
    });
    into(&home, &["snapshot", "--dry-run"], full()).exits(1);
    assert!(home.ids("hapi").is_empty());
    for (n, args) in [&["snapshot"][..], &["snapshot", "--json"]]
        .iter()
        .enumerate()
    {
        home.change();
        let said = into(&home, args, full()).exits(3);
        assert!(said.stderr.contains("the snapshot is saved"), "{said:?}");
        assert_eq!(home.ids("hapi").len(), n + 1);
    }
    home.restic(&["check"]);
    // The record and whoever is told say the same.
    let last_line = |path| -> Value {
        let text = fs::read_to_string(path).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    let message = last_line(told);
    assert_eq!(message["outcome"], "partial");
    assert_eq!(message["exit"], 3);
    assert!(message["text"].to_string().contains("No space left"));
    assert_eq!(last_line(home.state().join("runs.jsonl"))["exit"], 3);
    // Nothing was to be said, so nothing is missing.
    home.change();
    into(&home, &["snapshot", "-q"], full()).exits(0);
}

#[test]
fn a_failure_keeps_its_own_exit_code() {
    let home = Home::initialised();
    let args = ["env", "--profile", "/no/such.toml", "--json"];
    let said = into(&home, &args, full()).exits(2);
    assert!(said.stderr.contains("No space left"), "{said:?}");
    into(&home, &["status", "--json"], full()).exits(20);
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    for args in SAY {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = into(&home, args, writer);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        assert!(!said.stderr.contains("error"), "{args:?}: {said:?}");
    }
    // The same of a socket, as `sshd` gives one.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(ours);
    into(&home, &["env"], std::os::fd::OwnedFd::from(theirs)).exits(0);
}

#[test]
fn a_descriptor_that_cannot_be_written_to_is_a_failure() {
    let home = Home::initialised();
    let said = into(&home, &["env"], File::open("/dev/null").unwrap()).exits(1);
    assert!(said.stderr.contains("Bad file descriptor"), "{said:?}");
}

#[test]
fn a_limit_on_the_size_of_files_is_a_failure_that_is_told() {
    let home = Home::initialised();
    let page = home.dir.path().join("kit.md");
    let script = format!("ulimit -f 1; exec \"$@\" > {}", page.display());
    let limited = ["-c", &script, "bash"];
    let said = home.through("bash", &limited, &["recovery-kit"]).output();
    let said = Said::from(said.unwrap()).exits(1);
    assert!(said.stderr.contains("File too large"), "{said:?}");
    // And where it is met within the work.
    let limited = ["-c", "ulimit -f 40; exec \"$@\"", "bash"];
    let said = home.through("bash", &limited, &["snapshot"]).output();
    let said = Said::from(said.unwrap());
    let saved = !home.ids("hapi").is_empty();
    assert_eq!(said.code, if saved { 3 } else { 1 }, "{said:?}");
    assert!(said.stderr.contains("File too large"), "{said:?}");
    home.restic(&["check"]);
    home.snapshot().exits(0);
}

#[test]
fn a_pipe_that_does_not_block_gets_everything() {
    let home = Home::initialised();
    let whole = home.hapi_command(&["recovery-kit"]).exits(0).stdout;
    assert!(whole.len() > 4096);
    // Another program that has the same pipe set it so, and it is full for a while.
    let script = r#"
import fcntl, os, subprocess, sys, time
r, w = os.pipe()
fcntl.fcntl(w, 1031, 4096)
os.set_blocking(w, False)
child = subprocess.Popen(sys.argv[1:], stdout=w)
os.close(w)
time.sleep(1)
while got := os.read(r, 100):
    os.write(1, got)
sys.exit(child.wait())
"#;
    let said = home.through("python3", &["-c", script], &["recovery-kit"]);
    let said = Said::from({ said }.output().unwrap()).exits(0);
    assert_eq!(said.stdout.len(), whole.len());
}
