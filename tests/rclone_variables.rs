//! Variables of rclone's own, in the operator's shell or in the environment file, have no say in how the rclone that
//! this program starts speaks, serves and lists. Each is tried with each rclone that there is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::common::Home;

/// Each would break a run, or hide what is in the repository.
const VARIABLES: [(&str, &str); 37] = [
    ("RCLONE_LOG_LEVEL", "ERROR"),
    ("RCLONE_LOG_FILE", "/dev/null"),
    ("RCLONE_LOG_FORMAT", "pid"),
    ("RCLONE_LOG_SYSTEMD", "true"),
    ("RCLONE_USE_JSON_LOG", "true"),
    ("RCLONE_QUIET", "true"),
    ("RCLONE_VERBOSE", "2"),
    ("RCLONE_SYSLOG", "true"),
    ("RCLONE_PROGRESS", "true"),
    ("RCLONE_STATS", "100ms"),
    ("RCLONE_STATS_ONE_LINE", "true"),
    ("RCLONE_DUMP", "headers"),
    ("RCLONE_INTERACTIVE", "true"),
    ("RCLONE_DRY_RUN", "true"),
    ("RCLONE_IMMUTABLE", "true"),
    ("RCLONE_PRIVATE_REPOS", "true"),
    ("RCLONE_APPEND_ONLY", "true"),
    ("RCLONE_STDIO", "true"),
    ("RCLONE_ADDR", "127.0.0.1:1"),
    ("RCLONE_BASEURL", "elsewhere"),
    ("RCLONE_USER", "canary"),
    ("RCLONE_PASS", "canary"),
    ("RCLONE_HTPASSWD", "/nowhere"),
    ("RCLONE_CERT", "/nowhere"),
    ("RCLONE_KEY", "/nowhere"),
    ("RCLONE_CLIENT_CA", "/nowhere"),
    ("RCLONE_MIN_TLS_VERSION", "none"),
    ("RCLONE_RC", "true"),
    ("RCLONE_RC_ADDR", "256.0.0.1:1"),
    ("RCLONE_EXCLUDE", "**"),
    ("RCLONE_FILTER", "- *"),
    ("RCLONE_MAX_AGE", "1s"),
    ("RCLONE_MIN_SIZE", "1G"),
    ("RCLONE_MAX_DEPTH", "1"),
    ("RCLONE_FILES_FROM", "/dev/null"),
    ("RCLONE_FORMAT", "s"),
    ("RCLONE_DIRS_ONLY", "true"),
];

/// The rclones of this machine: Debian's, and the newer one that `tests/run.sh` brings.
fn rclones() -> Vec<PathBuf> {
    let mut there = vec![PathBuf::from("/usr/bin")];
    if let Some(home) = std::env::var_os("HOME") {
        there.push(PathBuf::from(home).join(".cache/rustic-hapi/tools/bin"));
    }
    there.retain(|folder| folder.join("rclone").exists());
    there
}

fn at(home: &Home, path: &str, variables: &[(&str, &str)], args: &[&str]) -> (i32, String) {
    let mut command: Command = home.command();
    command
        .env("PATH", path)
        .env("RCLONE_CONFIG", home.dir.path().join("rclone.conf"));
    let output = command
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn no_variable_of_rclones_changes_what_a_run_does() {
    let folders = rclones();
    assert!(!folders.is_empty(), "`rclone` is needed");
    for folder in folders {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.display());
        let home = Home::initialised();
        fs::write(
            home.dir.path().join("rclone.conf"),
            "[disk]\ntype = local\n",
        )
        .unwrap();
        let local = format!("{:?}", home.repository());
        let through = format!("\"rclone:disk:{}\"", home.repository().display());
        home.edit_profile(|text| text.replace(&local, &through));
        home.environment_file("");
        let file = home.profile().with_file_name("hapi.environment");
        let (code, text) = at(&home, &path, &[], &["snapshot"]);
        assert_eq!(code, 0, "{text}");
        for variable in VARIABLES {
            let (name, value) = variable;
            let (code, text) = at(&home, &path, &[variable], &["snapshots"]);
            assert!(
                code == 0 && text.contains("complete"),
                "{path}: {name}: {text}"
            );
            fs::write(&file, format!("{name}='{value}'\n")).unwrap();
            let (code, text) = at(&home, &path, &[], &["snapshots"]);
            assert!(
                code == 0 && text.contains("complete"),
                "{path}: {name} in the file: {text}"
            );
            fs::write(&file, "").unwrap();
        }
        // All of them, and what writes, locks and removes.
        home.change();
        for args in [&["snapshot"][..], &["forget", "--prune"], &["check"]] {
            let (code, text) = at(&home, &path, &VARIABLES, args);
            assert_eq!(code, 0, "{path}: {args:?}: {text}");
        }
        let (before, _) = (home.restic_snapshots().len(), home.restic(&["check"]));
        assert!(before >= 3);
        // What says how a place is reached is the operator's.
        let (code, text) = at(
            &home,
            &path,
            &[("RCLONE_CONFIG", "/nowhere")],
            &["snapshots"],
        );
        assert_ne!(code, 0, "{text}");
    }
}
