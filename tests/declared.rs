//! A file below `tests/` that no binary declares is compiled by nobody, and its tests never run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that a source file declares as modules: itself, and below it.
fn declared_by(file: &Path, found: &mut BTreeSet<PathBuf>) {
    found.insert(file.to_path_buf());
    let folder = match file.file_stem().unwrap().to_str().unwrap() {
        "main" | "mod" => file.parent().unwrap().to_path_buf(),
        _ => file.with_extension(""),
    };
    let text = fs::read_to_string(file).unwrap();
    let mut path = None;
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("#[path = \"") {
            path = named.strip_suffix("\"]");
        }
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let module = line
            .strip_prefix("mod ")
            .and_then(|name| name.strip_suffix(';'));
        let Some(module) = module else { continue };
        let candidates = match path.take() {
            Some(path) => vec![file.parent().unwrap().join(path)],
            None => vec![
                folder.join(format!("{module}.rs")),
                folder.join(module).join("mod.rs"),
            ],
        };
        let there = candidates.into_iter().find(|path| path.exists());
        let there = fs::canonicalize(there.unwrap()).unwrap();
        declared_by(&there, found);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        })
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

#[test]
fn no_file_is_forgotten() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let mut declared = BTreeSet::new();
    for kind in ["test", "bench"] {
        for target in manifest[kind].as_array().unwrap() {
            let path = package.join(target["path"].as_str().unwrap());
            declared_by(&fs::canonicalize(path).unwrap(), &mut declared);
        }
    }
    let tests = fs::canonicalize(package.join("../tests")).unwrap();
    let forgotten: Vec<PathBuf> = files(&tests)
        .into_iter()
        .filter(|path| !declared.contains(path))
        .collect();
    assert!(
        forgotten.is_empty(),
        "declare these as modules in tests/main.rs or tests/faults/main.rs: {forgotten:?}"
    );
}

/// A name that no test has any more would skip nothing, and nobody would notice.
#[test]
fn what_needs_root_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let sources: String = [tests.clone(), tests.join("../hapi-sources/tests")]
        .iter()
        .flat_map(|folder| files(folder))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for line in fs::read_to_string(tests.join("needs_root.txt"))
        .unwrap()
        .lines()
    {
        let name = line.split('#').next().unwrap().trim();
        // A whole module, or a function.
        let is_there = match name.strip_suffix("::") {
            Some(module) => tests.join(module.replace("::", "/") + ".rs").exists(),
            None => {
                let function = name.rsplit("::").next().unwrap();
                sources.contains(&format!("fn {function}("))
            }
        };
        assert!(name.is_empty() || is_there, "{name}");
    }
}
