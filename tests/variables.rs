//! What restic users have in their shells: `RESTIC_*`, and password commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Home, Said};

fn with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = home.command();
    command.args(args).envs(variables.iter().copied());
    command.output().unwrap().into()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn variables_are_enough_where_there_is_no_profile() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let nobody = text(&home.dir.path().join("nobody"));
    let (place, file) = (text(&home.repository()), text(&home.password()));
    let command = format!("cat '{file}'");
    let bare = |args: &[&str], variables: &[(&str, &str)]| {
        let all = [&[("HOME", nobody.as_str())], variables].concat();
        with(&home, args, &all)
    };
    for variables in [
        [
            ("RESTIC_REPOSITORY", place.as_str()),
            ("RESTIC_PASSWORD_FILE", file.as_str()),
        ],
        [
            ("RESTIC_REPOSITORY", &place),
            ("RESTIC_PASSWORD_COMMAND", &command),
        ],
    ] {
        let listed = bare(&["snapshots", "--json"], &variables).exits(0).json();
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2);
    }
    let target = text(&home.dir.path().join("back"));
    bare(
        &["restore", "--target", &target],
        &[
            ("RESTIC_REPOSITORY", &place),
            ("RESTIC_PASSWORD_COMMAND", &command),
        ],
    )
    .exits(0);
    bare(&["snapshots"], &[("RESTIC_REPOSITORY", &place)]).exits(2);
}

#[test]
fn another_repository_is_an_error_and_a_flag_decides() {
    let home = Home::initialised();
    let (place, file) = (text(&home.repository()), text(&home.password()));
    let snapshots = |variables: &[(&str, &str)]| with(&home, &["snapshots"], variables);
    snapshots(&[
        ("RESTIC_REPOSITORY", &place),
        ("RESTIC_PASSWORD_FILE", &file),
    ])
    .exits(0);
    snapshots(&[("RESTIC_REPOSITORY", &format!("{place}/"))]).exits(0);
    for (variables, name) in [
        (
            &[("RESTIC_REPOSITORY", "/mnt/s3cret")][..],
            "RESTIC_REPOSITORY",
        ),
        (
            &[("RESTIC_REPOSITORY", "rest:http://u:s3cret@h/")],
            "RESTIC_REPOSITORY",
        ),
        (&[("RESTIC_REPOSITORY", "s3cret")], "RESTIC_REPOSITORY"),
    ] {
        let said = snapshots(variables).exits(2);
        assert!(said.stderr.contains(name), "{said:?}");
        assert!(said.stderr.contains("hint: "), "{said:?}");
        let shown = format!("{}{}", said.stdout, said.stderr);
        // A relative path is no secret, and has to be named.
        assert!(
            !shown.contains("s3cret") || variables[0].1 == "s3cret",
            "{shown}"
        );
    }
    let args = [
        "--repository",
        &place,
        "--password-file",
        &file,
        "snapshots",
    ];
    with(
        &home,
        &args,
        &[
            ("RESTIC_REPOSITORY", "/mnt/other"),
            ("RESTIC_PASSWORD_FILE", "/x"),
        ],
    )
    .exits(0);
    // What they should be is asked of the profile alone.
    let env = with(&home, &["env"], &[("RESTIC_REPOSITORY", "/mnt/other")]).exits(0);
    assert!(
        env.stdout.contains(&format!("RESTIC_REPOSITORY={place}\n")),
        "{env:?}"
    );
    // The profile counts before its password, and rustic's are rustic's.
    snapshots(&[
        ("RESTIC_PASSWORD_FILE", "/x"),
        ("RUSTIC_REPOSITORY", "/mnt/other"),
    ])
    .exits(0);
    let nobody = text(&home.dir.path().join("nobody"));
    let two = [
        ("HOME", nobody.as_str()),
        ("RESTIC_REPOSITORY", &place),
        ("RESTIC_PASSWORD_FILE", &file),
        ("RESTIC_PASSWORD_COMMAND", "echo s3cret"),
    ];
    let said = snapshots(&two).exits(2);
    assert!(said.stderr.contains("RESTIC_PASSWORD_COMMAND"), "{said:?}");
    assert!(!said.stderr.contains("s3cret"), "{said:?}");
    // Empty is absent, as with restic.
    snapshots(&[("RESTIC_REPOSITORY", "")]).exits(0);
}

#[test]
fn init_writes_down_what_the_variables_say_and_a_timer_needs_it() {
    let home = Home::new();
    let place = text(&home.repository());
    let file = text(&home.dir.path().join("restic.password"));
    fs::write(&file, "a password of one's own\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [
        ("RESTIC_REPOSITORY", place.as_str()),
        ("RESTIC_PASSWORD_FILE", file.as_str()),
    ];
    let recipient = home.recipient.clone();
    let init = ["init", "--allow-same-disk", "--recipient", &recipient];
    with(&home, &init, &variables).exits(0);
    home.snapshot().exits(0);
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(
        profile.contains(&place) && profile.contains(&file),
        "{profile}"
    );

    home.edit_profile(|text| text.replace(&format!("location = \"{place}\"\n"), ""));
    with(&home, &["snapshot", "-q"], &variables).exits(0);
    let refused = with(&home, &["schedule"], &variables).exits(2);
    assert!(
        refused
            .stderr
            .contains("needs `RESTIC_REPOSITORY`, which scheduled runs do not have"),
        "{refused:?}"
    );
}

#[test]
fn a_password_command_is_split_as_a_shell_splits_and_has_to_print_one_line() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let kept = home.dir.path().join("a password");
    fs::rename(home.password(), &kept).unwrap();
    let command = |line: &str| {
        home.edit_profile(|text| {
            let lines = text.lines().filter(|l| !l.starts_with("password-command"));
            let text: String = lines.map(|l| format!("{l}\n")).collect();
            let line = toml_text(line);
            text.replace(
                "[repository]\n",
                &format!("[repository]\npassword-command = {line}\n"),
            )
        });
    };
    command(&format!("cat '{}'", kept.display()));
    home.snapshot().exits(0);
    home.drill(&[]).exits(0);
    let env = home.hapi_command(&["env"]).exits(0).stdout;
    assert!(env.contains("RESTIC_PASSWORD_COMMAND="), "{env}");
    let script = format!("{env} restic --no-cache snapshots --json");
    crate::common::run("sh", &["-c".as_ref(), script.as_ref()]);
    home.hapi_command(&["doctor"]);
    home.hapi_command(&["recovery-kit"]).exits(0);

    for (line, code, fact) in [
        (
            "echo 'not the password'",
            12,
            "the password that the password command prints",
        ),
        ("printf 'two\\nlines\\n'", 2, "more than one line"),
        ("true", 2, "is empty"),
        ("false", 2, "failed with exit status: 1"),
        ("/nonexistent/program", 2, "cannot be started"),
        ("cat 'unbalanced", 2, "is not well-formed"),
        ("", 2, "is empty"),
    ] {
        command(line);
        let said = home.hapi_command(&["snapshots"]).exits(code);
        assert!(said.stderr.contains(fact), "{line}: {said:?}");
        assert!(said.stderr.contains("hint: "), "{line}: {said:?}");
    }
    // One that waits for somebody is ended with us.
    command("sleep 600");
    let mut child = home.command().args(["snapshot", "-q"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let pid = child.id().to_string();
    crate::common::run("kill", &["-TERM".as_ref(), pid.as_ref()]);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Both is one too many.
    command("true");
    let file = toml_text(kept.to_str().unwrap());
    home.edit_profile(|text| {
        text.replace(
            "[repository]\n",
            &format!("[repository]\npassword-file = {file}\n"),
        )
    });
    home.hapi_command(&["snapshots"]).exits(2);
}

fn toml_text(text: &str) -> String {
    format!("{text:?}")
}
