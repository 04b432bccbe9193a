//! Identities as `age-keygen`, `age` and `ssh-keygen` make them, and ciphertexts in every bad state.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret;
use hapi_sources::{
    Content, DecryptError, Identities, IdentityError, Kind, Passphrase, Recipients, SecretString,
    Source,
};
use hub::{Hub, content, run};

const ENV: &str = "# keys\nexport OPENAI_API_KEY=\"sk-1234567890abcdefghij\"\nPORT=3006\n";

/// Answers with these words, and counts how often it was asked.
struct Says(Option<&'static str>, Cell<u32>);

fn says(words: &'static str) -> Says {
    Says(Some(words), Cell::new(0))
}

fn nobody() -> Says {
    Says(None, Cell::new(0))
}

impl Passphrase for Says {
    fn ask(&self, what: &str) -> Option<SecretString> {
        assert!(what.starts_with('`') && what.contains('/'), "{what}");
        self.1.set(self.1.get() + 1);
        self.0.map(SecretString::from)
    }
}

fn read(path: &Path) -> Result<Identities, IdentityError> {
    let nobody = nobody();
    let read = Identities::read(path, &nobody);
    if read.is_ok() {
        assert_eq!(nobody.1.get(), 0);
    }
    read
}

/// What a capture makes of these bytes, and the entries it notes.
fn captured(hub: &Hub, bytes: &str, recipients: &[String]) -> (Vec<u8>, u64) {
    let path = hub.write("hub.env", bytes);
    let sources = [Source::new("hub.env", Kind::Secret, path)];
    let recipients = Recipients::parse(recipients).unwrap();
    let mut capturer = hub.capturer(&sources).recipients(Some(&recipients));
    match &capturer.capture(&sources[0]).unwrap().entries[0].content {
        Content::Secret { bytes, facts, .. } => (content(bytes), facts.entries),
        other => panic!("{other:?}"),
    }
}

fn opens(identities: &Identities, ciphertext: &[u8]) {
    let plaintext = identities.decrypt(ciphertext).unwrap();
    assert_eq!(plaintext.as_bytes(), ENV.as_bytes());
    assert_eq!(plaintext.len(), ENV.len() as u64);
    assert!(!plaintext.is_empty());
    assert_eq!(format!("{plaintext:?} {identities:?}"), "[secret] [secret]");
}

/// A key pair of `age-keygen`: its file and its recipient.
fn age_key(hub: &Hub, name: &str) -> (PathBuf, String) {
    let path = hub.at(name);
    run("age-keygen", &["-o", path.to_str().unwrap()]);
    let public = run("age-keygen", &["-y", path.to_str().unwrap()]);
    (path, public.trim().to_owned())
}

/// A key pair of `ssh-keygen`: its file and its recipient.
fn ssh_key(hub: &Hub, name: &str, options: &[&str], passphrase: &str) -> (PathBuf, String) {
    let path = hub.at(name);
    let file = path.to_str().unwrap();
    let mut args = vec!["-q", "-N", passphrase, "-C", "me@here", "-f", file];
    args.extend(options);
    run("ssh-keygen", &args);
    let public = fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public)
}

/// Encrypts with a passphrase, as `age -p` does, with little work.
fn with_passphrase(plaintext: &[u8], passphrase: &str, work: u8) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase));
    recipient.set_work_factor(work);
    age::encrypt(&recipient, plaintext).unwrap()
}

/// Nothing of the file shows, in no form of the error.
fn silent(error: &(impl std::error::Error + ?Sized), secret: &str) {
    let text = format!("{error} {error:?} {:?}", error.source()).to_uppercase();
    for word in secret.split_whitespace().filter(|w| w.len() > 12) {
        assert!(!text.contains(&word.to_uppercase()), "{text}");
    }
}

#[test]
fn identities_of_age_keygen_are_read() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let (ciphertext, entries) = captured(&hub, ENV, &[public]);
    let identities = read(&path).unwrap();
    opens(&identities, &ciphertext);
    let plaintext = identities.decrypt(&ciphertext).unwrap();
    assert_eq!(plaintext.entries(), entries);
    // More than one key, other ends of lines, blanks, and no end of the last line.
    let (_, other) = age_key(&hub, "other.txt");
    let both = fs::read_to_string(hub.at("other.txt")).unwrap()
        + "\n\r\n  "
        + &fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
    let both = read(&hub.write("both.txt", both.trim_end())).unwrap();
    opens(&both, &ciphertext);
    opens(&both, &captured(&hub, ENV, &[other]).0);
}

#[test]
fn the_age_program_and_this_open_each_others_files() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let (plain, out) = (hub.write("plain", ENV), hub.at("out.age"));
    let args = ["-r", &public, "-o"].map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let files = [out.to_str().unwrap(), plain.to_str().unwrap()];
    run("age", &[&args[..], &files].concat());
    opens(&read(&path).unwrap(), &fs::read(&out).unwrap());
}

#[test]
fn ssh_keys_are_read_with_and_without_a_passphrase() {
    let hub = Hub::new();
    let kinds: [(&str, &[&str]); 3] = [
        ("ed25519", &["-t", "ed25519"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("pem", &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
    ];
    for (name, options) in kinds {
        let (path, public) = ssh_key(&hub, name, options, "");
        let (ciphertext, _) = captured(&hub, ENV, &[public]);
        opens(&read(&path).unwrap(), &ciphertext);
    }
    for (name, options) in &kinds[..2] {
        let name = format!("locked-{name}");
        let (path, public) = ssh_key(&hub, &name, options, "open sesame");
        let (ciphertext, _) = captured(&hub, ENV, &[public]);
        let right = says("open sesame");
        let identities = Identities::read(&path, &right).unwrap();
        opens(&identities, &ciphertext);
        opens(&identities, &ciphertext);
        assert_eq!(right.1.get(), 1, "asked once, and never by a ciphertext");
        let secret = fs::read_to_string(&path).unwrap() + " close-sesame-please";
        for (who, wanted) in [
            (says("close-sesame-please"), "the passphrase does not open"),
            (says(""), "the passphrase does not open"),
            (nobody(), "is encrypted, and there is no terminal"),
        ] {
            let error = Identities::read(&path, &who).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
            silent(&error, &secret);
        }
    }
}

#[test]
fn identities_with_a_passphrase_are_read_binary_and_armored() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let (ciphertext, _) = captured(&hub, ENV, &[public]);
    let secret = fs::read_to_string(&path).unwrap();
    let binary = with_passphrase(secret.as_bytes(), "open sesame", 10);
    let mut armored = Vec::new();
    let mut writer =
        age::armor::ArmoredWriter::wrap_output(&mut armored, age::armor::Format::AsciiArmor)
            .unwrap();
    writer.write_all(&binary).unwrap();
    writer.finish().unwrap();
    for (name, bytes) in [("locked", &binary), ("locked.asc", &armored)] {
        let path = hub.write(name, bytes);
        let right = says("open sesame");
        opens(&Identities::read(&path, &right).unwrap(), &ciphertext);
        assert_eq!(right.1.get(), 1);
        let error = Identities::read(&path, &says("close-sesame-please")).unwrap_err();
        assert!(
            matches!(error, IdentityError::WrongPassphrase { .. }),
            "{error}"
        );
        silent(&error, &(secret.clone() + " close-sesame-please"));
        let error = read(&path).unwrap_err();
        assert!(
            matches!(error, IdentityError::NoPassphrase { .. }),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("terminal"));
        // Whatever is missing of it, it is never a file with fewer keys.
        for len in (1..bytes.len() - 1).step_by(7) {
            let path = hub.write("cut", &bytes[..len]);
            let error = Identities::read(&path, &says("open sesame")).unwrap_err();
            silent(&error, &secret);
        }
    }
}

/// `age -p` asks on the terminal, which `script` gives it.
#[test]
fn an_identity_that_age_encrypted_is_read() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let (ciphertext, _) = captured(&hub, ENV, &[public]);
    for options in ["-p", "-p -a"] {
        let locked = hub.at("locked.age");
        let command = format!("age {options} -o {} {}", locked.display(), path.display());
        let mut script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("script");
        let mut tty = script.stdin.take().unwrap();
        tty.write_all(b"open sesame\nopen sesame\n").unwrap();
        assert!(script.wait().unwrap().success());
        drop(tty);
        let identities = Identities::read(&locked, &says("open sesame")).unwrap();
        opens(&identities, &ciphertext);
    }
}

#[test]
fn too_much_work_is_refused_before_it_is_done() {
    let hub = Hub::new();
    let bytes = with_passphrase(b"AGE-SECRET-KEY-1", "open sesame", 1);
    let at = bytes.windows(3).position(|w| w == b" 1\n").unwrap();
    let mut hostile = bytes[..at].to_vec();
    hostile.extend_from_slice(b" 23");
    hostile.extend_from_slice(&bytes[at + 2..]);
    let path = hub.write("hostile", hostile);
    let error = Identities::read(&path, &says("open sesame")).unwrap_err();
    assert!(
        matches!(
            error,
            IdentityError::TooMuchWork {
                required: 23,
                limit: 22,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn either_of_two_recipients_opens_alone_and_another_does_not() {
    let hub = Hub::new();
    let (first, age1) = age_key(&hub, "key.txt");
    let (second, ssh) = ssh_key(&hub, "id", &["-t", "ed25519"], "");
    let (ciphertext, _) = captured(&hub, ENV, &[age1, ssh]);
    opens(&read(&first).unwrap(), &ciphertext);
    opens(&read(&second).unwrap(), &ciphertext);
    let others = [
        age_key(&hub, "other.txt").0,
        ssh_key(&hub, "other", &["-t", "ed25519"], "").0,
        ssh_key(&hub, "rsa", &["-t", "rsa", "-b", "2048"], "").0,
    ];
    for other in others {
        let error = read(&other).unwrap().decrypt(&ciphertext).unwrap_err();
        assert_eq!(error, DecryptError::NoMatchingKey);
        silent(&error, &(fs::read_to_string(other).unwrap() + ENV));
    }
}

#[test]
fn a_ciphertext_that_was_changed_or_cut_anywhere_is_an_error() {
    let hub = Hub::new();
    let (first, age1) = age_key(&hub, "key.txt");
    let (second, ssh) = ssh_key(&hub, "id", &["-t", "ed25519"], "");
    let (ciphertext, _) = captured(&hub, ENV, &[age1, ssh]);
    for path in [first, second] {
        let identities = read(&path).unwrap();
        let secret = fs::read_to_string(&path).unwrap() + ENV;
        for at in 0..ciphertext.len() {
            silent(&identities.decrypt(&ciphertext[..at]).unwrap_err(), &secret);
            for bit in [1, 0x20, 0x80] {
                let mut flipped = ciphertext.clone();
                flipped[at] ^= bit;
                let error = identities.decrypt(&flipped).unwrap_err();
                silent(&error, &secret);
            }
        }
        let longer = [&ciphertext[..], b"\n"].concat();
        assert_eq!(
            identities.decrypt(&longer).unwrap_err(),
            DecryptError::Damaged
        );
        for none in [&b"PORT=3006"[..], b"age-encryption.org/v2\n-> X25519"] {
            assert_eq!(identities.decrypt(none).unwrap_err(), DecryptError::NotAge);
        }
        for short in [&b""[..], b"age-encryption", &ciphertext[..100]] {
            assert_eq!(
                identities.decrypt(short).unwrap_err(),
                DecryptError::Damaged
            );
        }
    }
}

/// age encrypts in chunks of 64 KiB: what ends with one must still be told from what goes on.
#[test]
fn a_long_ciphertext_is_opened_whole_or_not_at_all() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let identities = read(&path).unwrap();
    const CHUNK: usize = (64 << 10) + 16;
    for len in [0, 1, 64 << 10, (64 << 10) + 1, 128 << 10, 200_000] {
        let plain = "x".repeat(len);
        let (ciphertext, entries) = captured(&hub, &plain, std::slice::from_ref(&public));
        let plaintext = identities.decrypt(&ciphertext).unwrap();
        assert!(plaintext.as_bytes() == plain.as_bytes());
        assert_eq!(
            (plaintext.entries(), plaintext.is_empty()),
            (entries, len == 0)
        );
        let chunks = len.div_ceil(64 << 10).max(1);
        let head = ciphertext.len() - len - 16 * chunks;
        for chunk in 0..=chunks {
            for near in [-1, 0, 1, 15, 16, 17] {
                let end = (head + chunk * CHUNK).checked_add_signed(near).unwrap();
                if end < ciphertext.len() {
                    let error = identities.decrypt(&ciphertext[..end]).unwrap_err();
                    assert_eq!(error, DecryptError::Damaged, "{len} {end}");
                }
            }
        }
        if len > 64 << 10 {
            // Without its first chunk, and with the first two exchanged.
            let (start, rest) = ciphertext.split_at(head);
            let without = [start, &rest[CHUNK..]].concat();
            assert!(identities.decrypt(&without).is_err());
            let exchanged = [start, &rest[CHUNK..], &rest[..CHUNK]].concat();
            assert!(identities.decrypt(&exchanged).is_err());
        }
    }
}

#[test]
fn entries_are_those_of_the_capture() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let identities = read(&path).unwrap();
    for (text, wanted) in [
        (ENV, 2),
        (r#"{"a": {"b": 1}, "c": [1, 2], "d": null}"#, 3),
        ("one\n\ntwo\nthree", 3),
        ("{ not json", 1),
        ("", 0),
    ] {
        let (ciphertext, entries) = captured(&hub, text, std::slice::from_ref(&public));
        let plaintext = identities.decrypt(&ciphertext).unwrap();
        assert_eq!((plaintext.entries(), entries), (wanted, wanted), "{text}");
    }
}

#[test]
fn what_is_no_identity_is_named_and_not_repeated() {
    let hub = Hub::new();
    let (path, public) = age_key(&hub, "key.txt");
    let secret = fs::read_to_string(&path).unwrap();
    let key = secret.lines().last().unwrap();
    let error = |content: &str| {
        let error = read(&hub.write("bad", content)).unwrap_err();
        silent(&error, &content.replace("-----", " "));
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let damaged = format!("# mine\n{}\n", key.replace("KEY-1", "KEY-1Q"));
    assert!(error(&damaged).0.starts_with("line 2 of `"));
    assert!(
        error(&format!("{key}\n\n{ENV}"))
            .0
            .starts_with("line 4 of `")
    );
    assert!(error(&key[..40]).0.starts_with("line 1 of `"));
    assert!(error("\u{fffd}\0\n").0.starts_with("line 1 of `"));
    assert!(error("# nothing\n\n").0.ends_with("has no identity in it"));
    assert!(error("").0.ends_with("has no identity in it"));
    assert!(error(&public).0.contains("is a public key"));
    for (text, found) in [
        ("AGE-PLUGIN-YUBIKEY-1QQPQQYCLXSQ", "an identity of a plugin"),
        ("AGE-SECRET-KEY-PQ-1QQPQQYCLXSQ", "a post-quantum identity"),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n",
            "a private key of another format",
        ),
    ] {
        let (text, hint) = error(text);
        assert!(text.contains(found) && !hint.is_empty(), "{text}");
    }
    // An age file, but to a key.
    let (ciphertext, _) = captured(&hub, &secret, &[public]);
    let text = read(&hub.write("bad", ciphertext)).unwrap_err().to_string();
    assert!(text.contains("an age file that no passphrase opens"));

    let (_, public) = ssh_key(&hub, "ecdsa", &["-t", "ecdsa"], "");
    let text = read(&hub.at("ecdsa")).unwrap_err().to_string();
    assert!(text.contains("neither ed25519 nor RSA"), "{text}");
    hub.write("ssh.pub", public.replace("ecdsa-sha2-nistp256", "ssh-rsa"));
    let error = read(&hub.at("ssh.pub")).unwrap_err();
    let private = hub.at("ssh").display().to_string();
    assert!(error.hint().unwrap().contains(&private), "{error}");
}

#[test]
fn only_a_small_regular_file_is_read_and_its_mode_is_seen() {
    let hub = Hub::new();
    let (path, _) = age_key(&hub, "key.txt");
    for (mode, exposed) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(read(&path).unwrap().is_exposed(), exposed, "{mode:o}");
    }
    assert!(matches!(
        read(&hub.home()),
        Err(IdentityError::WrongType {
            found: "a folder",
            ..
        })
    ));
    run("mkfifo", &[hub.at("pipe").to_str().unwrap()]);
    assert!(matches!(
        read(&hub.at("pipe")),
        Err(IdentityError::WrongType { .. })
    ));
    assert!(matches!(
        read(&hub.at("nowhere")),
        Err(IdentityError::Read { .. })
    ));
    let large = hub.write("large", "#\n".repeat((1 << 19) + 1));
    assert!(matches!(read(&large), Err(IdentityError::TooLarge { .. })));
    let large = format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}",
        "A".repeat(1 << 17)
    );
    let large = hub.write("large", large);
    assert!(matches!(read(&large), Err(IdentityError::TooLarge { .. })));
}

/// One bit of an RSA key's lengths made the parser index past the end of a number.
#[test]
fn a_damaged_ssh_key_is_an_error_and_not_a_panic() {
    let hub = Hub::new();
    for (name, options) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        let (path, public) = ssh_key(&hub, name, options, "");
        let (ciphertext, _) = captured(&hub, ENV, &[public]);
        let good = fs::read(&path).unwrap();
        let secret = String::from_utf8(good.clone()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let path = hub.write("bad", &bad);
            // A bit of the comment or of what is not looked at may well open it still.
            match read(&path) {
                Ok(identities) => {
                    if let Ok(plaintext) = identities.decrypt(&ciphertext) {
                        assert_eq!(plaintext.as_bytes(), ENV.as_bytes());
                    }
                }
                Err(error) => silent(&error, &secret.replace("-----", " ")),
            }
        }
        for len in (0..good.len() - 1).step_by(11) {
            assert!(read(&hub.write("bad", &good[..len])).is_err(), "{len}");
        }
    }
}

#[test]
fn the_secret_key_itself_never_shows() {
    let hub = Hub::new();
    let identity = age::x25519::Identity::generate();
    let text = identity.to_string();
    let path = hub.write("key", text.expose_secret());
    let identities = read(&path).unwrap();
    let passphrase = says("open sesame").ask("`/x`").unwrap();
    let shown = format!("{identities:?} {identities:#?} {passphrase:?}");
    assert!(!shown.contains(&text.expose_secret()[20..30]) && !shown.contains("sesame"));
}
