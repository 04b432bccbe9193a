//! Files, globs and folders: what is read while others write, and what a walk comes across.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

mod hub;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hapi_sources::{Capture, CaptureError, Content, Filter, Kind, Limits, Note, Source};
use hub::{Hub, content, run};

fn names(capture: &Capture, base: &Path) -> Vec<String> {
    let name = |p: &Path| p.strip_prefix(base).unwrap().to_string_lossy().into_owned();
    capture.entries.iter().map(|e| name(&e.path)).collect()
}

#[test]
fn a_file_that_never_stops_growing_is_unstable() {
    let hub = Hub::new();
    let path = hub.write("log", vec![7; 8 << 20]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = File::options().append(true).open(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                log.write_all(&[7; 4096]).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let sources = [Source::new("log", Kind::File, &path)];
        let limits = Limits {
            rereads: 2,
            ..Limits::default()
        };
        let start = Instant::now();
        let error = hub.capturer(&sources).limits(limits).capture(&sources[0]);
        done.store(true, Ordering::Relaxed);
        let error = error.unwrap_err();
        assert!(
            matches!(error, CaptureError::Unstable { attempts: 3, .. }),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(10));
    });
    assert_eq!(hub.staged(), 0);
    assert!(hub.capture(&Source::new("log", Kind::File, &path)).is_ok());
}

#[test]
fn a_file_replaced_by_rename_is_one_of_its_contents_and_never_a_mixture() {
    let hub = Hub::new();
    let path = hub.write("status.json", vec![0; 200_000]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..=255).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let new = hub.write("status.new", vec![n; 200_000]);
                fs::rename(new, &path).unwrap();
            }
        });
        for _ in 0..50 {
            let capture = hub
                .capture(&Source::new("status", Kind::File, &path))
                .unwrap();
            let bytes = content(capture.entries[0].bytes().unwrap());
            assert!(bytes.len() == 200_000 && bytes.iter().all(|b| *b == bytes[0]));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_link_is_followed_and_a_dangling_one_is_not_absence() {
    let hub = Hub::new();
    let target = hub.write("real/driver.yaml", "content");
    symlink(&target, hub.at("link.yaml")).unwrap();
    let mut source = Source::new("driver", Kind::File, hub.at("link.yaml"));
    source.required = false;
    let capture = hub.capture(&source).unwrap();
    assert_eq!(capture.entries[0].path, hub.at("link.yaml"));
    assert_eq!(content(capture.entries[0].bytes().unwrap()), b"content");
    fs::remove_file(target).unwrap();
    let error = hub.capture(&source).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the target of the symbolic link"),
        "{error}"
    );
}

#[test]
fn small_files_stay_in_memory_until_the_budget_is_spent() {
    let hub = Hub::new();
    for i in 0..300 {
        hub.write(&format!("many/{i:03}"), vec![1; 64 << 10]);
    }
    hub.write("many/large", vec![2; (64 << 10) + 1]);
    let capture = hub
        .capture(&Source::new("many", Kind::Dir, hub.at("many")))
        .unwrap();
    let staged = capture
        .entries
        .iter()
        .filter(|e| e.bytes().is_some_and(|b| b.staged_path().is_some()));
    assert_eq!(staged.count(), 300 - 256 + 1);
    assert_eq!(capture.bytes(), 300 * (64 << 10) + (64 << 10) + 1);
}

#[test]
fn twenty_thousand_files_take_seconds() {
    let hub = Hub::new();
    sqlite(&hub);
    for i in 0..20_000 {
        let path = hub.write(&format!("many/{}/{i}", i % 100), "small");
        if i % 100 == 0 {
            hub::settle(&path);
        }
    }
    let sources = [
        Source::new("db", Kind::Sqlite, hub.at("hapi.db")),
        Source::new("many", Kind::Dir, hub.at("many")),
    ];
    let start = Instant::now();
    let capture = hub.capturer(&sources).capture(&sources[1]).unwrap();
    assert_eq!(capture.entries.len(), 20_101);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

fn sqlite(hub: &Hub) {
    hub::sqlite3(&hub.at("hapi.db"), "CREATE TABLE t (x)");
}

#[test]
fn a_pattern_matches_as_documented() {
    let hub = Hub::new();
    for name in [
        "a.md",
        "b.txt",
        ".hidden.md",
        "sub/c.md",
        "sub/deep/d.md",
        "sub/[x].md",
        "é ü.md",
    ] {
        hub.write(name, name);
    }
    fs::create_dir(hub.at("folder.md")).unwrap();
    symlink(hub.at("a.md"), hub.at("link.md")).unwrap();
    symlink(hub.at("sub"), hub.at("linked")).unwrap();
    let find = |pattern: &str, exclude: &[&str]| {
        let mut source = Source::new("it", Kind::Glob, hub.at(pattern));
        source.exclude = exclude.iter().map(|s| s.to_string()).collect();
        let capture = hub.capture(&source).unwrap();
        assert!(capture.is_complete());
        names(&capture, &hub.home())
    };
    assert_eq!(
        find("*.md", &[]),
        [".hidden.md", "a.md", "link.md", "é ü.md"]
    );
    assert_eq!(find("*.md", &["link*", ".*"]), ["a.md", "é ü.md"]);
    assert_eq!(
        find("sub/**/*.md", &[]),
        ["sub/[x].md", "sub/c.md", "sub/deep/d.md"]
    );
    assert_eq!(find("*/c.md", &[]), ["linked/c.md", "sub/c.md"]);
    assert_eq!(find("*/**/d.md", &["sub/"]), Vec::<String>::new());
    assert_eq!(find("{a,b}.{md,txt}", &[]), ["a.md", "b.txt"]);
    assert_eq!(find("sub/[[]x].md", &[]), ["sub/[x].md"]);
    assert_eq!(
        find("*.none", &[]),
        Vec::<String>::new(),
        "an empty match is a state like others"
    );
    symlink(hub.at("nowhere"), hub.at("sub/broken.md")).unwrap();
    symlink(hub.at("nowhere"), hub.at("sub/broken.txt")).unwrap();
    for pattern in ["sub/*.md", "**/*.md"] {
        let capture = hub
            .capture(&Source::new("it", Kind::Glob, hub.at(pattern)))
            .unwrap();
        // An editor's lock is such a link: no reason to call the rest incomplete.
        assert!(capture.is_complete());
        let path = hub.at("sub/broken.md");
        assert_eq!(capture.notes, [Note::DanglingLink { path }]);
    }
    let bad = Source::new("it", Kind::Glob, hub.at("[a"));
    let error = hapi_sources::Capturer::new(&hub.staging, &[bad])
        .err()
        .unwrap();
    assert!(matches!(error, CaptureError::Source(_)), "{error}");
}

#[test]
fn a_folder_is_kept_as_it_is() {
    let hub = Hub::new();
    let root = hub.at("root");
    for name in ["b/1", "b/2.tmp", "b.x/3", "a", "skip/4", "b/skip/5"] {
        hub.write(&format!("root/{name}"), name);
    }
    fs::create_dir(root.join("empty")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("../b", root.join("b/loop")).unwrap();
    symlink("nowhere", root.join("broken")).unwrap();
    run("mkfifo", &[root.join("pipe").to_str().unwrap()]);
    symlink(&root, hub.at("linked")).unwrap();
    let mut source = Source::new("it", Kind::Dir, hub.at("linked"));
    source.exclude = vec!["skip/".into(), "**/*.tmp".into()];
    let capture = hub.capture(&source).unwrap();
    assert!(capture.is_complete());
    let expected = [
        "", "a", "b", "b.x", "b.x/3", "b/1", "b/loop", "b/skip", "b/skip/5", "broken", "empty",
    ];
    assert_eq!(names(&capture, &hub.at("linked")), expected);
    assert_eq!(
        capture.notes,
        [Note::SpecialFile {
            path: hub.at("linked/pipe")
        }]
    );
    let of = |name: &str| {
        capture
            .entries
            .iter()
            .find(|e| e.path == hub.at("linked").join(name))
            .unwrap()
    };
    assert!(matches!(&of("b/loop").content, Content::Symlink { target } if target == "../b"));
    assert!(matches!(of("empty").content, Content::Dir));
    assert_eq!(of("empty").metadata.mode, 0o040_750);
    assert_eq!(of("").metadata.mode & 0o170_000, 0o040_000);
}

#[test]
fn a_very_long_path_is_taken() {
    let hub = Hub::new();
    let mut path = hub.home();
    while path.as_os_str().len() < 3_900 {
        path.push("d".repeat(90));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), "deep").unwrap();
    let capture = hub
        .capture(&Source::new("it", Kind::Dir, hub.home()))
        .unwrap();
    assert!(capture.is_complete());
    assert_eq!(capture.entries.last().unwrap().path, path.join("file"));
    let capture = hub
        .capture(&Source::new("it", Kind::Glob, hub.at("**/file")))
        .unwrap();
    assert_eq!(capture.entries.len(), 1);
}

/// Run again as nobody by [`what_cannot_be_read_is_a_failure_and_the_rest_is_taken`].
#[test]
#[ignore = "run by another test, as another user"]
fn as_nobody() {
    let base = PathBuf::from(std::env::var_os("HAPI_SOURCES_TEST").unwrap());
    let staging = hapi_sources::Staging::create(&base.join("staging")).unwrap();
    for (kind, path) in [(Kind::Dir, "tree"), (Kind::Glob, "tree/**/*")] {
        let source = Source::new("it", kind, base.join(path));
        let mut capturer =
            hapi_sources::Capturer::new(&staging, std::slice::from_ref(&source)).unwrap();
        let capture = capturer.capture(&source).unwrap();
        let failed: Vec<_> = capture.failures.iter().map(|f| f.path.clone()).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(
            failed.contains(&base.join("tree/closed"))
                && failed.contains(&base.join("tree/unreadable"))
        );
        assert!(
            capture.entries.iter().any(|e| e.path.ends_with("z")),
            "it went on"
        );
    }
    let file = Source::new("it", Kind::File, base.join("tree/unreadable"));
    let mut capturer = hapi_sources::Capturer::new(&staging, &[]).unwrap();
    assert!(matches!(
        capturer.capture(&file),
        Err(CaptureError::Read { .. })
    ));
}

#[test]
fn what_cannot_be_read_is_a_failure_and_the_rest_is_taken() {
    let hub = Hub::new();
    hub.write("tree/closed/x", "x");
    hub.write("tree/unreadable", "y");
    hub.write("tree/z", "z");
    for name in ["tree/closed", "tree/unreadable"] {
        fs::set_permissions(hub.at(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    // A copy, as nobody may not enter the folders that a build of root's lies in. By another process: one that a
    // test beside this one starts would have the file open for writing, too, for a moment.
    let exe = hub.tmp.path().join("test");
    let own = std::env::current_exe().unwrap();
    run("cp", &[own.to_str().unwrap(), exe.to_str().unwrap()]);
    fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(exe);
    command
        .current_dir("/")
        .args(["--ignored", "--exact", "as_nobody"])
        .env("HAPI_SOURCES_TEST", hub.home());
    if rustix::process::geteuid().is_root() {
        for dir in [hub.tmp.path(), &hub.home()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(hub.home(), Some(65534), Some(65534)).unwrap();
        command.uid(65534).gid(65534);
    }
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stdout)
    );
    fs::set_permissions(hub.at("tree/closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn git(hub: &Hub, args: &[&str]) -> String {
    let home = hub.home();
    let mut all = vec![
        "-C",
        home.to_str().unwrap(),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
    ];
    all.extend(args);
    run("git", &all)
}

#[test]
fn only_what_git_cannot_give_back_is_taken() {
    let hub = Hub::new();
    let mut source = Source::new("plans", Kind::Glob, hub.at("docs/**/*.md"));
    source.filter = Some(Filter::GitUntracked);
    let take = || {
        let capture = hub.capture(&source).unwrap();
        assert!(capture.is_complete());
        (names(&capture, &hub.at("docs")), capture.notes)
    };
    for name in [
        "same.md",
        "changed.md",
        "staged.md",
        "sub/same.md",
        "a\nb.md",
        "\"quoted.md",
        "é.md",
    ] {
        hub.write(&format!("docs/{name}"), name);
    }
    let (all, notes) = take();
    assert_eq!(all.len(), 7);
    assert!(
        matches!(&notes[..], [Note::NoGit { .. }, Note::NoGit { .. }]),
        "{notes:?}"
    );
    git(&hub, &["init", "-q"]);
    assert_eq!(take(), (all.clone(), vec![]), "no commit yet");
    hub.write(".gitignore", "ignored.md\n");
    // A hostile repository: none of this may run.
    let evil = format!("touch {}", hub.at("ran").display());
    hub.write(".gitattributes", "*.md filter=evil\n");
    git(&hub, &["add", "."]);
    git(&hub, &["commit", "-q", "-m", "first"]);
    for key in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "core.sshCommand",
        "core.pager",
    ] {
        git(&hub, &["config", key, &evil]);
    }
    for name in ["docs/new.md", "docs/ignored.md", "docs/other/x.md"] {
        hub.write(name, name);
    }
    hub.write("docs/changed.md", "otherwise");
    hub.write("docs/staged.md", "otherwise");
    symlink("same.md", hub.at("docs/link.md")).unwrap();
    let expected = [
        "a\nb.md",
        "changed.md",
        "ignored.md",
        "link.md",
        "new.md",
        "other/x.md",
        "staged.md",
    ];
    let look = || {
        let (names, notes) = take();
        assert_eq!(names, expected);
        assert_eq!(notes, []);
        assert!(!hub.at("ran").exists());
    };
    look();
    if rustix::process::geteuid().is_root() {
        // Another user's repository, as a hub's is for root.
        run("chown", &["-R", "1234:1234", hub.home().to_str().unwrap()]);
        look();
    }
}

/// Moves a folder away as soon as the first bytes of it are read.
struct Mover {
    from: std::path::PathBuf,
    to: std::path::PathBuf,
}

impl hapi_sources::Observer for Mover {
    fn advance(&self, _bytes: u64) {
        _ = fs::rename(&self.from, &self.to);
    }
}

#[test]
fn a_folder_that_moves_away_under_the_walk_is_neither_whole_nor_absent() {
    for required in [true, false] {
        let hub = Hub::new();
        for n in 0..20 {
            hub.write(&format!("tree/{n}"), "content");
        }
        let mover = Mover {
            from: hub.at("tree"),
            to: hub.at("elsewhere"),
        };
        let source = Source {
            required,
            ..Source::new("it", Kind::Dir, hub.at("tree"))
        };
        let sources = [source];
        let error = hapi_sources::Capturer::new(&hub.staging, &sources)
            .unwrap()
            .observer(&mover)
            .capture(&sources[0])
            .unwrap_err();
        assert!(matches!(error, CaptureError::Unstable { .. }), "{error}");
    }
}

#[test]
fn a_transcript_that_grows_all_the_time_is_taken_up_to_a_whole_line() {
    use std::io::Write;
    let hub = Hub::new();
    let begin: String = (0..40_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let growing = hub.write("projects/a/session.jsonl", &begin);
    hub.write("projects/a/unfinished.jsonl", "{\"n\":0}\n{\"n\":");
    hub.write("projects/b/no-line-yet.jsonl", "{\"n\":");
    // Compressed lines: a byte of them says nothing.
    hub.write("projects/c/session.jsonl.zstd", b"\x28\xb5\x2f\xfd\n\x00");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(&growing).unwrap();
            // A line comes in two halves, so that there is nearly always an unfinished one.
            let end = Instant::now() + Duration::from_secs(20);
            for n in 0.. {
                if stop.load(Ordering::SeqCst) || Instant::now() > end {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
                write!(file, "{{\"grown\":").unwrap();
                writeln!(file, "{n}}}").unwrap();
            }
        });
        let source = Source {
            filter: Some(Filter::WholeLines),
            ..Source::new("it", Kind::Glob, hub.at("projects/**/*.{jsonl,jsonl.zstd}"))
        };
        for _ in 0..20 {
            let capture = hub.capture(&source).unwrap();
            assert!(capture.is_complete(), "{:?}", capture.failures);
            let texts: Vec<_> = capture
                .entries
                .iter()
                .map(|entry| String::from_utf8_lossy(&content(entry.bytes().unwrap())).into_owned())
                .collect();
            assert!(texts[0].starts_with(&begin) && texts[0].ends_with("}\n"));
            assert!(fs::read_to_string(&growing).unwrap().starts_with(&texts[0]));
            assert_eq!(texts[1..], ["{\"n\":0}\n", "", "(\u{fffd}/\u{fffd}\n\0"]);
        }
        // The same without the filter waits for a moment in which nothing is written. Only a busy machine has one.
        let still = Source::new("it", Kind::Glob, hub.at("projects/**/*.jsonl"));
        let fails = |_| hub.capture(&still).unwrap().failures.len() == 1;
        let is_needed = (0..20).any(fails);
        stop.store(true, Ordering::SeqCst);
        assert!(is_needed);
    });
}
