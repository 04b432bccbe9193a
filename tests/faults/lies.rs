//! A repository that lies: trees whose names lead out of the target, links to pass through, sizes that no
//! disk holds, in snapshots that pass for ours. Nothing is written but below the target.
//!
//! Manifests that lie are in tests/restore.rs; here it is what stock restic would restore by.

use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustic_core::repofile::{Metadata, Node, NodeType, SnapshotFile};
use rustic_core::{
    BackupOptions, ParentOptions, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticResult,
};

use crate::common::{Home, files_below};

#[derive(Clone)]
struct Lies(Vec<(PathBuf, Node, Option<Vec<u8>>)>);

struct Content(Vec<u8>);

impl ReadSourceOpen for Content {
    type Reader = Box<dyn Read + Send>;

    fn open(self) -> RusticResult<Self::Reader> {
        Ok(Box::new(Cursor::new(self.0)))
    }
}

impl ReadSource for Lies {
    type Open = Content;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<Content>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(path, node, content)| {
                Ok(ReadSourceEntry {
                    path: path.clone(),
                    node: node.clone(),
                    open: content.clone().map(Content),
                })
            })
            .collect();
        entries.into_iter()
    }
}

fn metadata() -> Metadata {
    Metadata {
        mode: Some(0o644),
        ..Metadata::default()
    }
}

/// A file at a path, whose node bears another name.
fn file(folder: &Path, nth: usize, name: &str) -> (PathBuf, Node, Option<Vec<u8>>) {
    let mut node = Node::new_node("x".as_ref(), NodeType::File, metadata());
    node.name = name.to_owned();
    (
        folder.join(format!("{nth:02}")),
        node,
        Some(b"evil\n".to_vec()),
    )
}

#[test]
fn a_tree_that_lies_writes_nothing_outside_of_the_target() {
    let home = Home::initialised();
    let first = home.snapshot().exits(0).json();
    let ours = home.ids("hapi").pop().unwrap();
    let dir = home.dir.path();
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let escapes = outside.join("evil").to_str().unwrap().to_owned();
    let base = home.path().join("lies");

    let names = [
        "..",
        "../evil",
        "../../../../../../../../tmp/rustic-hapi-evil",
        "a/b",
        escapes.as_str(),
        "/",
        "",
        ".",
        "\\x2e\\x2e",
        "\\x2e\\x2e\\x2fevil",
        "nul\\x00name",
    ];
    let mut entries: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(nth, name)| file(&base, nth, name))
        .collect();
    // A link out of the target, and a folder of its name to follow it with.
    let mut link = Node::new_node("x".as_ref(), NodeType::from_link(&outside), metadata());
    link.name = "way-out".to_owned();
    entries.push((base.join("90"), link, None));
    let mut passes = Node::new_node("x".as_ref(), NodeType::File, metadata());
    passes.name = "way-out/evil".to_owned();
    entries.push((base.join("91"), passes, Some(b"evil\n".to_vec())));
    // One byte that says it is all there are.
    let mut huge = Node::new_node("huge".as_ref(), NodeType::File, metadata());
    huge.meta.size = u64::MAX;
    entries.push((base.join("92"), huge, Some(b"x".to_vec())));
    // And one that is as it should be.
    let good = Node::new_node("good".as_ref(), NodeType::File, metadata());
    entries.push((base.join("93"), good, Some(b"good\n".to_vec())));

    let engine = home.engine();
    let real: Vec<SnapshotFile> = engine.get_all_snapshots().unwrap();
    let real = real
        .into_iter()
        .find(|s| s.id.to_hex().as_str() == ours)
        .unwrap();
    // It bears host, tags, program and description of the real one, a day later.
    let forged = SnapshotFile {
        original: None,
        time: real.time.clone() + jiff::Span::new().hours(24),
        ..real
    };
    let engine = engine.to_indexed_ids().unwrap();
    engine
        .archive(
            &BackupOptions::default().parent_opts(ParentOptions::default().force(true)),
            &Lies(entries),
            forged,
            std::slice::from_ref(&base),
        )
        .unwrap();
    let forged = home
        .ids("hapi")
        .into_iter()
        .find(|id| *id != ours)
        .expect("it is listed");
    assert!(first["series"].is_array());

    // A home to restore over, which the target is not.
    let target = dir.join("target");
    fs::create_dir(&target).unwrap();
    symlink(&outside, target.join("way-out")).unwrap();
    let quiet = || {
        assert_eq!(files_below(&outside), []);
        assert!(!Path::new("/tmp/rustic-hapi-evil").exists());
        assert!(!dir.join("evil").exists() && !home.path().join("evil").exists());
    };
    for again in [&[][..], &["--overwrite"][..]] {
        let said = home.restore(&target, &[&[&forged[..8]], again].concat());
        assert!([1, 3, 21].contains(&said.code), "{said:?}");
        quiet();
    }
    let said = home.drill(&[&forged[..8]]);
    assert!([21, 22].contains(&said.code), "{said:?}");
    quiet();
    let said = home.hapi_command(&["restore", "--in-place", &forged[..8]]);
    assert_ne!(said.code, 0, "{said:?}");
    quiet();
    for args in [
        &["snapshots"][..],
        &["status"],
        &["check", "--read-data"],
        &["doctor"],
    ] {
        let said = home.hapi_command(args);
        assert_ne!(said.code, 101, "{args:?}: {said:?}");
        quiet();
    }
    // What was there before is whole, and the next run goes on.
    home.snapshot().exits(0);
    home.drill(&[&ours[..8]]).exits(0);
}
