//! Text files as Windows, an editor or a script leave them: with a byte order mark, or in UTF-16. restic reads
//! each of them, and judges here with the same file.

use std::fs;
use std::path::Path;

use crate::common::{Home, run};

const PASSWORD: &str = "pässwörd 字 🗝";

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(bytes)
        .collect()
}

/// A text in each form, and what the form is called.
fn forms(text: &str) -> [(&'static str, Vec<u8>); 5] {
    let crlf = format!("{text}\r\n");
    [
        ("UTF-8", text.as_bytes().to_vec()),
        ("UTF-8, BOM", format!("\u{feff}{text}\n").into_bytes()),
        ("UTF-8, BOM, CRLF", format!("\u{feff}{crlf}").into_bytes()),
        ("UTF-16LE", utf16(&crlf, u16::to_le_bytes)),
        ("UTF-16BE", utf16(text, u16::to_be_bytes)),
    ]
}

fn password(home: &Home, bytes: &[u8]) {
    fs::create_dir_all(home.password().parent().unwrap()).unwrap();
    fs::write(home.password(), bytes).unwrap();
    private(&home.password());
}

fn private(file: &Path) {
    run("chmod", &["600".as_ref(), file.as_os_str()]);
}

#[test]
fn restic_opens_what_was_made_with_the_same_file() {
    for (form, bytes) in forms(PASSWORD) {
        let home = Home::new();
        password(&home, &bytes);
        home.init().exits(0);
        let said = home.hapi_command(&["snapshot"]).exits(0);
        assert!(!said.stderr.contains("BOM"), "{form}: {said:?}");
        assert_eq!(home.restic_snapshots().len(), 2, "{form}");
    }
}

#[test]
fn what_restic_made_with_a_file_opens_with_each_form_of_it() {
    let home = Home::new();
    password(&home, &forms(PASSWORD)[3].1);
    home.restic(&["init"]);
    home.init().exits(0);
    for (form, bytes) in forms(PASSWORD) {
        password(&home, &bytes);
        let said = home.hapi_command(&["snapshots"]).exits(0);
        assert!(!said.stderr.contains("BOM"), "{form}: {said:?}");
    }
    // A mark of the one and bytes of the other, half a character, half a pair, only a mark.
    for (bytes, code) in [
        (&b"\xff\xfea"[..], 2),
        (b"\xff\xfe\x00\xd8a\x00", 2),
        (b"\xff\xfe", 2),
        (b"\xff\xfea\x00", 12),
    ] {
        password(&home, bytes);
        let said = home.hapi_command(&["snapshots"]).exits(code);
        assert!(said.stderr.contains("hint: "), "{said:?}");
    }
}

#[test]
fn what_an_earlier_version_made_opens_and_the_hint_is_a_key_that_restic_can_use() {
    let home = Home::new();
    // The bytes as they are were the password.
    let file = format!("\u{feff}{PASSWORD}\r\n");
    password(&home, file.as_bytes());
    let mut init = home.restic_command(&["init"]);
    init.env_remove("RESTIC_PASSWORD_FILE");
    init.env("RESTIC_PASSWORD", format!("\u{feff}{PASSWORD}"));
    assert!(init.status().unwrap().success());
    home.init().exits(0);
    let said = home.hapi_command(&["snapshot"]).exits(0);
    let (_, hint) = said.stderr.split_once("hint: `").expect(&said.stderr);
    let (command, _) = hint.split_once("`\n").unwrap();
    run("sh", &["-c".as_ref(), command.as_ref()]);
    assert_eq!(home.restic_snapshots().len(), 2);
    let said = home.hapi_command(&["snapshots"]).exits(0);
    assert!(!said.stderr.contains("BOM"), "{said:?}");
}

#[test]
fn what_a_password_command_prints_is_not_decoded() {
    let home = Home::new();
    let raw = format!("\u{feff}{PASSWORD}");
    let file = home.dir.path().join("printed");
    fs::write(&file, &raw).unwrap();
    let command = format!("cat {}", file.display());
    let mut init = home.restic_command(&["init"]);
    init.env_remove("RESTIC_PASSWORD_FILE")
        .env("RESTIC_PASSWORD_COMMAND", &command);
    assert!(init.status().unwrap().success());
    let listed = |raw: &str| {
        fs::write(&file, raw).unwrap();
        let mut ours = home.command();
        ours.args(["snapshots", "--repository"])
            .arg(home.repository());
        ours.env("RESTIC_PASSWORD_COMMAND", &command)
            .status()
            .unwrap()
            .code()
    };
    assert_eq!((listed(&raw), listed(PASSWORD)), (Some(0), Some(12)));
}

#[test]
fn a_recovery_key_and_an_environment_file_are_read_in_each_form() {
    let home = Home::initialised();
    let key = home.dir.path().join("key");
    home.hapi_command(&[
        "recovery-kit",
        "--new-key",
        "--key-file",
        key.to_str().unwrap(),
    ])
    .exits(0);
    let text = fs::read_to_string(&key).unwrap();
    home.environment_file("");
    let environment = home.profile().with_file_name("hapi.environment");
    for ((form, kept), (_, lines)) in forms(text.trim())
        .into_iter()
        .zip(forms("RESTIC_REST_USERNAME=joe\nRESTIC_CACERT=/c.pem"))
    {
        fs::write(&key, &kept).unwrap();
        let said = home.hapi_command(&[
            "recovery-kit",
            "--confirm",
            "--key-file",
            key.to_str().unwrap(),
        ]);
        assert_eq!(said.code, 0, "{form}: {said:?}");
        let opened = home
            .restic_command(&["snapshots"])
            .env("RESTIC_PASSWORD_FILE", &key)
            .output()
            .unwrap();
        assert!(opened.status.success(), "{form}: {opened:?}");
        fs::write(&environment, &lines).unwrap();
        let said = home.hapi_command(&["env"]);
        assert_eq!(said.code, 0, "{form}: {said:?}");
    }
}
