//! The folders of `rustic-hapi/src` are layers, in the order of the table in ARCHITECTURE.md. Here the table
//! is held against the imports: a path into a folder above fails, and so does a circle of files, in either crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of a crate: their paths below `src`, and their texts.
type Sources = BTreeMap<PathBuf, String>;

/// A path in one file that leads to another file, with the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: PathBuf,
    to: PathBuf,
    line: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(of: &str) -> Sources {
    fn walk(folder: &Path, base: &Path, found: &mut Sources) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(base).unwrap().to_path_buf();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let base = root().join(of).join("src");
    let mut found = Sources::new();
    walk(&base, &base, &mut found);
    found
}

/// The first column of the table, from top to bottom.
fn layers() -> Vec<String> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .flat_map(|row| {
            let cell = row.split(" | ").next().unwrap().to_owned();
            cell.split(", ")
                .map(|name| name.trim_matches('`').trim_end_matches('/').to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The module that a file is: `machine/swap.rs` is `machine::swap`.
fn module(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let mut names: Vec<String> = path
        .iter()
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    if matches!(
        names.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        names.pop();
    }
    names
}

/// A file's code: no comments, no unit tests; lines stay where they are.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let lines = text.lines().map(|line| match line.trim_start() {
        comment if comment.starts_with("//") => "",
        _ => line.split(" // ").next().unwrap(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths that begin here: what stands before a brace goes with each name within.
fn paths(text: &str, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut inner = 0;
            while !group[inner..].starts_with('}') {
                let skip = group[inner..]
                    .find(|c: char| !c.is_whitespace() && c != ',')
                    .unwrap();
                inner += skip;
                if !group[inner..].starts_with('}') {
                    inner += paths(&group[inner..], &path, found).max(1);
                }
            }
            return at + inner + 2;
        }
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        path.push(rest[..end].to_owned());
        at += end;
        match text[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => {
                found.push(path);
                return at;
            }
        }
    }
}

/// Every `crate::`, `super::` and `self::` path of a file, and those that begin with a module of its own.
fn imports(from: &Path, all: &Sources) -> BTreeSet<Import> {
    let own = module(from);
    let text = code(&all[from]);
    let children: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'))
        .map(|name| format!("{name}::"))
        .collect();
    let starts = ["crate::", "super::", "self::"].map(str::to_owned);
    let mut imports = BTreeSet::new();
    for start in starts.iter().chain(&children) {
        for (at, _) in text.match_indices(start.as_str()) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || "_:".contains(before) {
                continue;
            }
            let base = match start.as_str() {
                "crate::" => Vec::new(),
                "super::" => own[..own.len() - 1].to_vec(),
                "self::" => own.clone(),
                child => [own.clone(), vec![child.trim_end_matches(':').to_owned()]].concat(),
            };
            let mut found = Vec::new();
            paths(&text[at + start.len()..], &base, &mut found);
            let line = text[..at].matches('\n').count() + 1;
            imports.extend(found.iter().filter_map(|path| {
                let to = file_of(path, all)?;
                (to != from).then(|| Import {
                    from: from.into(),
                    to,
                    line,
                })
            }));
        }
    }
    imports
}

/// The file that has what a path names.
fn file_of(path: &[String], all: &Sources) -> Option<PathBuf> {
    let mut path = path.to_vec();
    while path.contains(&"super".to_owned()) {
        let up = path.iter().position(|name| name == "super").unwrap();
        path.drain(up - 1..=up);
    }
    (1..=path.len()).rev().find_map(|length| {
        let module: PathBuf = path[..length].iter().collect();
        [module.with_extension("rs"), module.join("mod.rs")]
            .into_iter()
            .find(|file| all.contains_key(file))
    })
}

fn all_imports(all: &Sources) -> BTreeSet<Import> {
    // The root only lists what there is.
    let files = all.keys().filter(|file| *file != Path::new("lib.rs"));
    files.flat_map(|file| imports(file, all)).collect()
}

/// Imports of what stands above in the table, or not in it at all.
fn climbing(all: &Sources, layers: &[String]) -> Vec<String> {
    let rank = |file: &Path| {
        let top = file.iter().next().unwrap().to_str().unwrap();
        layers.iter().position(|layer| layer == top)
    };
    let climbs = |import: &Import| match (rank(&import.from), rank(&import.to)) {
        (Some(from), Some(to)) => to < from,
        _ => true,
    };
    let said = |i: &Import| {
        let (from, line, to) = (i.from.display(), i.line, i.to.display());
        format!("{from}:{line} climbs to {to}")
    };
    all_imports(all)
        .iter()
        .filter(|i| climbs(i))
        .map(said)
        .collect()
}

/// Files that import each other, directly or through others, each with the imports that keep it among them.
fn circles(all: &Sources) -> Vec<String> {
    let imports = all_imports(all);
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for import in &imports {
        next.entry(&import.from).or_default().insert(&import.to);
    }
    let leads = |from: &Path, to: &Path| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(file) = left.pop() {
            if seen.insert(file) {
                left.extend(next.get(file).into_iter().flatten());
            }
        }
        seen.contains(to)
    };
    imports
        .iter()
        .filter(|i| leads(&i.to, &i.from))
        .map(|i| format!("{}:{} -> {}", i.from.display(), i.line, i.to.display()))
        .collect()
}

#[test]
fn imports_lead_down_the_table_of_layers() {
    let (all, layers) = (sources("rustic-hapi"), layers());
    assert_eq!(climbing(&all, &layers), [""; 0]);
    let tops: BTreeSet<_> = all.keys().map(|file| file.iter().next().unwrap()).collect();
    for top in tops {
        let known = layers.iter().any(|layer| top == layer.as_str());
        assert!(
            known || top == "lib.rs",
            "{top:?} is not in ARCHITECTURE.md's table"
        );
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for name in ["rustic-hapi", "hapi-sources"] {
        assert_eq!(circles(&sources(name)), [""; 0], "{name}");
    }
}

#[test]
fn long_files_are_few_and_say_why() {
    let mut long = Vec::new();
    for (name, text) in ["rustic-hapi", "hapi-sources"]
        .iter()
        .flat_map(|name| sources(name))
    {
        let code = text.split("\n#[cfg(test)]\n").next().unwrap();
        let lines = code.lines().count();
        if lines <= 400 || name.ends_with("properties.rs") {
            continue;
        }
        let head = text.lines().take(12).collect::<String>();
        let why = head.contains("One file, since") || head.contains("One noun");
        assert!(lines <= 600 && why, "{}: {lines} lines", name.display());
        long.push(name);
    }
    assert!(long.len() <= 15, "{long:#?}");
}

#[test]
fn an_import_that_climbs_is_found_wherever_it_stands() {
    let (all, layers) = (sources("rustic-hapi"), layers());
    for planted in [
        "use crate::commands::init;",
        "use crate::{error::Error, commands::{check, init}};",
        "fn f() { let _ = super::super::commands::init::run; }",
    ] {
        let mut all = all.clone();
        let text = all.get_mut(Path::new("machine/disk.rs")).unwrap();
        *text = format!("{planted}\n{text}");
        let found = climbing(&all, &layers);
        let expected = "machine/disk.rs:1 climbs to commands/init.rs".to_owned();
        assert!(found.contains(&expected), "{planted}: {found:?}");
        assert!(!circles(&all).is_empty(), "{planted}");
    }
    assert_eq!(
        module(Path::new("machine/swap/site.rs")),
        ["machine", "swap", "site"]
    );
}
