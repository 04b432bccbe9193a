//! Secrets: what age opens again, what is reused, and what never shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hapi_sources::{
    Capture, CaptureError, Content, Kind, Note, Recipients, SecretCache, SecretFacts, Source,
};
use hub::{Hub, content, run};

const ENV: &str = "# keys\nexport OPENAI_API_KEY=\"sk-1234567890abcdefghij\"\nPORT=3006\n";

fn source(path: &Path) -> Source {
    Source::new("hub.env", Kind::Secret, path)
}

fn ciphertext(capture: &Capture) -> (Vec<u8>, SecretFacts) {
    match &capture.entries[0].content {
        Content::Secret { bytes, facts, .. } => (content(bytes), facts.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stock_age_opens_it_with_each_identity() {
    let hub = Hub::new();
    let (x25519, ssh) = (hub.at("key.txt"), hub.at("id"));
    run("age-keygen", &["-o", x25519.to_str().unwrap()]);
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "me@here",
            "-f",
            ssh.to_str().unwrap(),
        ],
    );
    let rsa = hub.at("rsa");
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "rsa",
            "-b",
            "2048",
            "-N",
            "",
            "-f",
            rsa.to_str().unwrap(),
        ],
    );
    let public = |p: &str| fs::read_to_string(hub.at(p)).unwrap();
    let age1 = run("age-keygen", &["-y", x25519.to_str().unwrap()]);
    let bare = public("id.pub").rsplit_once(' ').unwrap().0.to_owned();
    let recipients = Recipients::parse(&[age1, public("id.pub"), public("rsa.pub")]).unwrap();
    assert!(!format!("{recipients}").contains("me@here"));
    Recipients::parse(&[bare]).unwrap();
    let path = hub.write("hub.env", ENV);
    let sources = [source(&path)];
    let mut capturer = hub.capturer(&sources).recipients(Some(&recipients));
    let (bytes, facts) = ciphertext(&capturer.capture(&sources[0]).unwrap());
    assert_eq!(
        facts,
        SecretFacts {
            entries: 2,
            reused: false
        }
    );
    let file = hub.write("hub.env.age", bytes);
    for identity in [&x25519, &ssh, &rsa] {
        let plain = run(
            "age",
            &[
                "-d",
                "-i",
                identity.to_str().unwrap(),
                file.to_str().unwrap(),
            ],
        );
        assert_eq!(plain, ENV);
    }
}

struct Cached {
    hub: Hub,
    path: PathBuf,
    now: SystemTime,
}

impl Cached {
    fn new() -> Self {
        let hub = Hub::new();
        let path = hub.write("hub.env", ENV);
        let cached = Self {
            hub,
            path,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        };
        assert!(!cached.reused(cached.now).0);
        cached
    }

    fn dir(&self) -> PathBuf {
        self.hub.tmp.path().join("cache")
    }

    fn entry(&self) -> PathBuf {
        let names = fs::read_dir(self.dir()).unwrap().map(|e| e.unwrap().path());
        let entries: Vec<_> = names.filter(|p| p.file_name().unwrap() != "key").collect();
        let [entry] = &entries[..] else {
            panic!("{entries:?}")
        };
        entry.clone()
    }

    fn capture(&self, now: SystemTime, recipients: &Recipients) -> Capture {
        let cache = SecretCache::open(&self.dir()).unwrap();
        let sources = [source(&self.path)];
        let capturer = self.hub.capturer(&sources).recipients(Some(recipients));
        capturer
            .secret_cache(Some(&cache))
            .now(now)
            .capture(&sources[0])
            .unwrap()
    }

    /// Whether the ciphertext was reused, and what was noted. It always opens.
    fn reused(&self, now: SystemTime) -> (bool, Vec<Note>) {
        let capture = self.capture(now, &self.hub.recipients);
        let (bytes, facts) = ciphertext(&capture);
        let plain = fs::read(&self.path).unwrap();
        assert_eq!(age::decrypt(&self.hub.identity, &bytes).unwrap(), plain);
        (facts.reused, capture.notes)
    }
}

#[test]
fn an_unchanged_secret_is_the_same_bytes_for_a_week() {
    let c = Cached::new();
    let first = ciphertext(&c.capture(c.now, &c.hub.recipients)).0;
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(
        ciphertext(&c.capture(c.now + day * 7, &c.hub.recipients)).0,
        first
    );
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&c.dir()), mode(&c.dir().join("key")), mode(&c.entry())),
        (0o700, 0o600, 0o600)
    );
    assert_eq!(
        c.reused(c.now - Duration::from_secs(1)),
        (false, vec![]),
        "made in the future"
    );
    assert_eq!(
        c.reused(c.now + day * 8),
        (false, vec![]),
        "older than a week"
    );
    assert_eq!(c.reused(c.now + day * 8), (true, vec![]));
}

#[test]
fn another_plaintext_or_recipient_is_encrypted_anew() {
    let c = Cached::new();
    assert!(c.reused(c.now).0);
    fs::write(&c.path, ENV.replace("3006", "3007")).unwrap();
    assert_eq!(c.reused(c.now), (false, vec![]));
    let other = age::x25519::Identity::generate();
    let two = [
        c.hub.identity.to_public().to_string(),
        other.to_public().to_string(),
    ];
    let (bytes, facts) = ciphertext(&c.capture(c.now, &Recipients::parse(&two).unwrap()));
    assert!(!facts.reused);
    age::decrypt(&other, &bytes).unwrap();
    // The order of the recipients does not matter.
    let turned = [two[1].clone(), two[0].clone()];
    assert!(
        ciphertext(&c.capture(c.now, &Recipients::parse(&turned).unwrap()))
            .1
            .reused
    );
}

#[test]
fn an_odd_cache_entry_is_never_used() {
    let c = Cached::new();
    let good = fs::read(c.entry()).unwrap();
    for at in [16, 24, 40, 56, 60, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(c.entry(), bad).unwrap();
        assert_eq!(c.reused(c.now), (false, vec![]), "byte {at}");
        assert!(c.reused(c.now).0);
    }
    let cut: [&[u8]; 4] = [
        b"",
        &good[..20],
        &good[..56],
        b"another magic, and then enough bytes to be an entry of it",
    ];
    for bad in cut {
        fs::write(c.entry(), bad).unwrap();
        let (reused, notes) = c.reused(c.now);
        assert!(!reused && matches!(&notes[..], [Note::SecretCache { .. }]));
    }
    fs::write(c.entry(), &good[..good.len() - 1]).unwrap();
    assert!(!c.reused(c.now).0);
    // Another secret's entry under this one's name.
    let former = fs::read(c.entry()).unwrap();
    let mut other = c.hub.write("other.env", ENV);
    let mut c = c;
    std::mem::swap(&mut c.path, &mut other);
    let mine = c.entry();
    c.reused(c.now);
    for e in fs::read_dir(c.dir()).unwrap().map(|e| e.unwrap().path()) {
        if e != mine && e.file_name().unwrap() != "key" {
            fs::write(e, &former).unwrap();
        }
    }
    assert!(!c.reused(c.now).0);
}

#[test]
fn a_lost_or_cut_key_costs_one_encryption() {
    let c = Cached::new();
    fs::remove_file(c.dir().join("key")).unwrap();
    assert!(!c.reused(c.now).0);
    assert!(c.reused(c.now).0);
    fs::write(c.dir().join("key"), "short").unwrap();
    assert!(!c.reused(c.now).0);
    assert_eq!(fs::metadata(c.dir().join("key")).unwrap().len(), 32);
    assert!(c.reused(c.now).0);
}

#[test]
fn a_cache_that_cannot_be_written_is_a_note() {
    let hub = Hub::new();
    let path = hub.write("hub.env", ENV);
    let dir = hub.tmp.path().join("cache");
    let cache = SecretCache::open(&dir).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let sources = [source(&path)];
    let capture = hub
        .capturer(&sources)
        .secret_cache(Some(&cache))
        .capture(&sources[0])
        .unwrap();
    assert!(matches!(&capture.notes[..], [Note::SecretCache { .. }]));
    assert!(capture.is_complete());
}

#[test]
fn without_recipients_nothing_is_captured_and_copies_are_still_known() {
    let hub = Hub::new();
    let path = hub.write("hub.env", ENV);
    hub.write("folder/hub.env.bak", ENV);
    let sources = [
        source(&path),
        Source::new("folder", Kind::Dir, hub.at("folder")),
    ];
    let captures = hub
        .capturer(&sources)
        .recipients(None)
        .capture_all(&sources);
    assert!(matches!(
        captures[0],
        Err(CaptureError::NoRecipients { .. })
    ));
    let folder = captures[1].as_ref().unwrap();
    assert!(matches!(&folder.notes[..], [Note::SecretElsewhere { .. }]));
}

#[test]
fn copies_links_and_quotes_of_a_secret_are_told() {
    let hub = Hub::new();
    let path = hub.write("hub.env", ENV);
    hub.write("folder/copy", ENV);
    hub.write(
        "folder/quote",
        "a log line with sk-1234567890abcdefghij in it",
    );
    hub.write("folder/plain", "PORT=3006");
    fs::hard_link(&path, hub.at("folder/hard")).unwrap();
    let sources = [
        Source::new("folder", Kind::Dir, hub.at("folder")),
        Source::new("copy", Kind::File, hub.at("folder/copy")),
        source(&path),
    ];
    let captures = hub.capturer(&sources).capture_all(&sources);
    let folder = captures[0].as_ref().unwrap();
    let names: Vec<_> = folder
        .entries
        .iter()
        .skip(1)
        .map(|e| e.path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["plain", "quote"]);
    let noted = |wanted: fn(&Note) -> bool| folder.notes.iter().filter(|n| wanted(n)).count();
    assert_eq!(noted(|n| matches!(n, Note::SecretElsewhere { .. })), 2);
    assert_eq!(noted(|n| matches!(n, Note::QuotesSecret { .. })), 1);
    let copy = captures[1].as_ref().unwrap();
    assert!(copy.entries.is_empty());
    assert!(
        matches!(&copy.notes[..], [Note::SecretElsewhere { secret, .. }] if secret == "hub.env")
    );
    assert!(!format!("{captures:?}").contains("sk-1234"));
}
