//! What every kind of source does alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use hapi_sources::{
    CaptureError, Content, Filter, Kind, Metadata, Scope, SecretCache, Source, Stop,
};
use hub::{Hub, content, settle};
use sha2::{Digest, Sha256};

/// What else there is to a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    /// A secret: the rest of a folder.
    Rest,
    /// Files that grow line by line, as most agents' transcripts.
    Lines,
    /// Databases by a pattern, as the other agents'.
    Pattern,
}
use Form::{Lines, Pattern, Plain, Rest};

const KINDS: [(Kind, Form); 8] = [
    (Kind::Secret, Plain),
    (Kind::Secret, Rest),
    (Kind::Sqlite, Plain),
    (Kind::Sqlite, Pattern),
    (Kind::File, Plain),
    (Kind::Glob, Plain),
    (Kind::Glob, Lines),
    (Kind::Dir, Plain),
];

fn source((kind, form): (Kind, Form), path: PathBuf) -> Source {
    Source {
        scope: match form {
            Rest => Scope::Rest,
            _ => Scope::File,
        },
        filter: (form == Lines).then_some(Filter::WholeLines),
        ..Source::new("it", kind, path)
    }
}

/// Not UTF-8, with a space and a newline.
fn odd_name() -> OsString {
    OsString::from_vec(b"an odd\nname \xff.db".to_vec())
}

struct Case {
    hub: Hub,
    source: Source,
    live: PathBuf,
    plain: Vec<u8>,
}

fn case(what: (Kind, Form)) -> Case {
    let kind = what.0;
    let hub = Hub::new();
    let folder = hub.home().join(odd_name());
    fs::create_dir(&folder).unwrap();
    let live = folder.join(odd_name());
    let plain = b"TOKEN=a value of the live file\n".to_vec();
    if kind == Kind::Sqlite {
        let db = rusqlite::Connection::open(&live).unwrap();
        db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('a value of the live file')")
            .unwrap();
    } else {
        fs::write(&live, &plain).unwrap();
    }
    settle(&live);
    fs::set_permissions(&live, fs::Permissions::from_mode(0o640)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&live, Some(1234), Some(2345)).unwrap();
    }
    let path = match kind {
        _ if what.1 == Pattern => folder.join("*.db"),
        Kind::Glob => folder.join("*"),
        Kind::Dir => folder,
        Kind::Secret if what.1 == Rest => folder,
        Kind::Secret | Kind::Sqlite | Kind::File => live.clone(),
    };
    Case {
        hub,
        source: source(what, path),
        live,
        plain,
    }
}

fn metadata(path: &Path) -> Metadata {
    let m = fs::metadata(path).unwrap();
    Metadata {
        mode: m.mode(),
        uid: m.uid(),
        gid: m.gid(),
        mtime: m.modified().unwrap(),
    }
}

#[test]
fn bytes_are_whole_and_named_owned_and_hashed_right() {
    for what in KINDS {
        let Case {
            hub,
            source,
            live,
            plain,
        } = case(what);
        let before = (metadata(&live), fs::read(&live).unwrap());
        let capture = hub.capture(&source).unwrap();
        assert!(
            capture.is_complete() && !capture.absent && capture.notes.is_empty(),
            "{what:?}"
        );
        assert_eq!(
            capture.bytes(),
            capture.entries.iter().map(|e| e.len()).sum::<u64>()
        );
        let files: Vec<_> = capture
            .entries
            .iter()
            .filter(|e| e.bytes().is_some())
            .collect();
        let [entry] = files[..] else {
            panic!("{what:?}: {files:?}")
        };
        let bytes = content(entry.bytes().unwrap());
        assert_eq!(entry.len(), bytes.len() as u64);
        assert_eq!(
            entry.sha256().unwrap().0,
            <[u8; 32]>::from(Sha256::digest(&bytes)),
            "{what:?}"
        );
        assert_eq!(entry.metadata, before.0, "{what:?}");
        match &entry.content {
            Content::File { .. } => assert_eq!((&entry.path, bytes), (&live, plain)),
            Content::Secret { .. } => {
                let mut name = live.clone().into_os_string();
                name.push(".age");
                assert_eq!(entry.path.as_os_str(), name);
                assert_eq!(age::decrypt(&hub.identity, &bytes).unwrap(), plain);
            }
            Content::Database { bytes, .. } => {
                let db = rusqlite::Connection::open(bytes.staged_path().unwrap()).unwrap();
                let x: String = db.query_row("SELECT x FROM t", [], |r| r.get(0)).unwrap();
                assert_eq!(
                    (&entry.path, x.as_str()),
                    (&live, "a value of the live file")
                );
            }
            Content::Dir | Content::Symlink { .. } => unreachable!(),
        }
        assert_eq!(
            (metadata(&live), fs::read(&live).unwrap()),
            before,
            "{what:?}: source touched"
        );
    }
}

#[test]
fn the_same_state_twice_is_the_same_bytes() {
    for what in KINDS {
        let Case { hub, source, .. } = case(what);
        let cache = SecretCache::open(&hub.tmp.path().join("cache")).unwrap();
        let look = || {
            let sources = [source.clone()];
            let mut capturer = hub.capturer(&sources).secret_cache(Some(&cache));
            let capture = capturer.capture(&source).unwrap();
            let entry = |e: &hapi_sources::Entry| (e.path.clone(), e.metadata, e.sha256());
            capture.entries.iter().map(entry).collect::<Vec<_>>()
        };
        assert_eq!(look(), look(), "{what:?}");
    }
}

#[test]
fn missing_is_an_error_where_required_and_absent_where_not() {
    for what in KINDS {
        let hub = Hub::new();
        let name = match what {
            (Kind::Glob, _) | (_, Pattern) => "nowhere/*",
            _ => "nowhere",
        };
        let mut source = source(what, hub.at(name));
        let error = hub.capture(&source).unwrap_err();
        assert!(
            matches!(error, CaptureError::Missing { .. }),
            "{what:?}: {error}"
        );
        source.required = false;
        let capture = hub.capture(&source).unwrap();
        assert!(
            capture.absent && capture.is_complete() && capture.entries.is_empty(),
            "{what:?}"
        );
    }
}

#[test]
fn another_type_is_said_so() {
    for what in KINDS {
        let kind = what.0;
        let hub = Hub::new();
        // What should be a file is a folder, what should be a folder is a file.
        let path = match kind {
            _ if what.1 == Pattern => hub.write("it", "file").join("*"),
            Kind::Glob => hub.write("it", "file").join("*"),
            Kind::Dir => hub.write("it", "file"),
            _ if what.1 == Rest => hub.write("it", "file"),
            _ => hub.home(),
        };
        let mut source = source(what, path);
        source.required = false;
        let error = hub.capture(&source).unwrap_err();
        assert!(
            matches!(error, CaptureError::WrongType { .. }),
            "{what:?}: {error}"
        );
    }
}

#[test]
fn a_named_pipe_is_not_waited_for() {
    for what in KINDS {
        let kind = what.0;
        let hub = Hub::new();
        hub::run("mkfifo", &[hub.at("pipe").to_str().unwrap()]);
        let path = match kind {
            _ if what.1 == Pattern => hub.at("*"),
            Kind::Glob => hub.at("*"),
            Kind::Dir => hub.home(),
            _ if what.1 == Rest => hub.home(),
            _ => hub.at("pipe"),
        };
        match hub.capture(&source(what, path)) {
            // Nobody would miss it.
            Ok(capture) if what.1 == Rest => assert!(capture.absent && capture.left_out.is_empty()),
            Ok(capture) => {
                assert!(matches!(
                    &capture.notes[..],
                    [hapi_sources::Note::SpecialFile { .. }]
                ));
            }
            Err(e) => assert!(matches!(e, CaptureError::WrongType { .. }), "{what:?}: {e}"),
        }
    }
}

#[test]
fn the_stop_flag_ends_it() {
    for what in KINDS {
        let Case { hub, source, .. } = case(what);
        let stop = Stop::default();
        stop.set();
        let sources = [source.clone(), source];
        let mut capturer = hub.capturer(&sources).stop(stop);
        for capture in capturer.capture_all(&sources) {
            assert!(matches!(capture, Err(CaptureError::Stopped)), "{what:?}");
        }
        assert_eq!(hub.staged(), 0);
    }
}

#[test]
fn nothing_stays_in_the_staging_folder() {
    for what in KINDS {
        let kind = what.0;
        let Case {
            hub, source, live, ..
        } = case(what);
        if kind != Kind::Sqlite && kind != Kind::Secret {
            fs::write(&live, vec![b'\n'; 3 << 20]).unwrap();
        }
        let capture = hub.capture(&source).unwrap();
        assert_eq!(hub.staged(), usize::from(kind != Kind::Secret), "{what:?}");
        drop(capture);
        assert_eq!(hub.staged(), 0, "{what:?}");
    }
}

#[test]
fn a_failed_staging_folder_ends_the_run_and_keeps_the_order() {
    let Case { hub, source, .. } = case((Kind::Sqlite, Plain));
    let file = hub.write("small", "in memory");
    let sources = [Source::new("small", Kind::File, file), source];
    let mut capturer = hub.capturer(&sources);
    fs::remove_dir_all(hub.staging.path()).unwrap();
    let captures = capturer.capture_all(&sources);
    assert_eq!(captures.len(), 2);
    for capture in captures {
        assert!(matches!(capture, Err(CaptureError::Staging(_))));
    }
}
