//! File systems that cannot do everything: no modes (SMB, WebDAV, FAT), no sync of a folder (CIFS). Where nothing
//! is lost by it, a run is as good as on any other; where others could read what is private, there is none.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{BindFs, Home, Said, files_below, files_with, run};

#[test]
fn a_repository_where_modes_cannot_be_changed_is_as_good() {
    let home = Home::new();
    let behind = home.dir.path().join("behind");
    for options in [
        &["--chmod-deny", "--chown-deny"][..],
        &["--chmod-deny", "--perms=0777"],
        // All that FAT shows: everything is everybody's.
        &["--chmod-ignore", "--perms=a=rwX"],
    ] {
        let mount = BindFs::mount(&behind, home.repository(), options);
        home.init().exits(0);
        home.snapshot().exits(0);
        home.hapi_command(&["forget", "--prune"]).exits(0);
        home.hapi_command(&["drill"]).exits(0);
        home.restic(&["check"]);
        assert!(!home.restic_snapshots().is_empty());
        drop(mount);
    }
}

#[test]
fn doctor_tries_the_repository_as_a_run_uses_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let subject = |said: &Said| {
        let findings = said.json()["findings"].as_array().unwrap().clone();
        findings
            .into_iter()
            .find(|f| f["subject"] == "locks")
            .unwrap()
    };
    let said = home.hapi_command(&["doctor", "--json"]);
    assert_eq!(subject(&said)["verdict"], "ok", "{said:?}");
    assert!(files_below(&home.repository().join("locks")).is_empty());
    let locks = home.repository().join("locks");
    let chattr = |how: &str| run("chattr", &[OsStr::new(how), locks.as_os_str()]);
    chattr("+i");
    let said = home.hapi_command(&["doctor", "--json"]);
    chattr("-i");
    assert_eq!(subject(&said)["verdict"], "fail", "{said:?}");
    assert!(subject(&said)["remedy"].to_string().contains("lsattr"));
    assert_eq!(said.code, 1);
}

#[test]
fn what_is_private_is_not_put_where_everybody_reads_it() {
    let home = Home::initialised();
    let open = home.dir.path().join("open");
    let _mount = BindFs::mount(
        &home.dir.path().join("behind"),
        open.clone(),
        &["--chmod-ignore", "--perms=a=rwX"],
    );
    // Captures, before they are encrypted.
    home.edit_profile(|text| format!("staging = \"{}\"\n{text}", open.join("staging").display()));
    let said = home.snapshot().exits(1);
    assert!(
        said.stderr.contains("other users could read it"),
        "{said:?}"
    );
    assert!(home.restic_snapshots().is_empty());
    let said = home.hapi_command(&["doctor"]);
    assert!(said.stdout.contains("has no file modes"), "{said:?}");
    assert!(!said.stdout.contains("chmod 700"), "{said:?}");
    home.edit_profile(|text| text.replace("/open/staging", "/staging"));
    home.snapshot().exits(0);
    // A recovery key, and secrets in plain.
    let key = open.join("key");
    let made = [
        "recovery-kit",
        "--new-key",
        "--key-file",
        key.to_str().unwrap(),
    ];
    let said = home.hapi_command(&made).exits(1);
    assert!(
        said.stderr.contains("other users could read it"),
        "{said:?}"
    );
    assert!(!key.exists());
    let target = open.join("restored");
    let said = home.hapi_command(&[
        "restore",
        "--target",
        target.to_str().unwrap(),
        "--identity",
        home.identity().to_str().unwrap(),
    ]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(files_with(&open, "sk-canary").is_empty());
    // The database is no secret of ours to refuse: it comes where the operator wants it.
    let said = home.hapi_command(&[
        "restore",
        "--source",
        "hapi.db",
        "--target",
        open.join("database").to_str().unwrap(),
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("other users can read"), "{said:?}");
}

/// A run in which each fsync of these paths fails.
fn with_fsync(home: &Home, error: &str, paths: &[PathBuf]) -> Said {
    let real = home.command();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"]);
    strace.args(["-e", &format!("inject=fsync:error={error}")]);
    for path in paths {
        strace.arg("-P").arg(path);
    }
    strace.arg(real.get_program()).args(real.get_args());
    strace.args(["snapshot", "--json"]).stdin(Stdio::null());
    for (name, value) in real.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace.output().unwrap().into()
}

#[test]
fn folders_that_cannot_be_synced_are_no_failure_and_a_failing_disk_is_one() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let repository = home.repository();
    let mut folders: Vec<PathBuf> = ["locks", "snapshots", "index", "keys"]
        .iter()
        .map(|name| repository.join(name))
        .collect();
    folders.extend((0..256).map(|n| repository.join("data").join(format!("{n:02x}"))));
    folders.extend([home.state(), home.state().parent().unwrap().join("locks")]);
    folders.retain(|folder| folder.exists());
    for error in ["EINVAL", "EOPNOTSUPP", "ENOSYS", "ENOENT", "EPERM"] {
        home.change();
        let said = with_fsync(&home, error, &folders).exits(0);
        assert_eq!(said.json()["exit"], 0, "{error}");
    }
    let count = home.restic_snapshots().len();
    for error in ["EIO", "ENOSPC", "EDQUOT"] {
        home.change();
        let said = with_fsync(&home, error, &folders);
        assert_ne!(said.code, 0, "{error}: {said:?}");
    }
    assert_eq!(home.restic_snapshots().len(), count);
    home.restic(&["check"]);
}
