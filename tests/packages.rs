//! What packages have besides the program: completions, man pages (their content is tested beside the code), a
//! version that says what it was built from, and the files that a packaged crate needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Home, Said};

/// What bash offers where a line ends so.
fn completed(home: &Home, script: &Path, words: &[&str]) -> String {
    let line = words
        .iter()
        .map(|word| format!("{word:?} "))
        .collect::<String>();
    let previous = words[words.len() - 2];
    let text = format!(
        "source {}; COMP_WORDS=({line}) COMP_CWORD={}; _rustic__hapi {:?} {:?} {previous:?}; echo ${{COMPREPLY[@]}}",
        script.display(),
        words.len() - 1,
        words[0],
        words[words.len() - 1],
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &text])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME");
    Said::from(bash.output().unwrap()).exits(0).stdout
}

#[test]
fn bash_completes_commands_options_and_profiles() {
    let home = Home::initialised();
    let script = home.path().join("completions");
    let said = Said::from(home.bare(&["completions", "bash"]).output().unwrap()).exits(0);
    fs::write(&script, said.stdout).unwrap();
    fs::copy(home.profile(), home.profile().with_file_name("other.toml")).unwrap();

    let completed = |words: &[&str]| completed(&home, &script, words);
    assert_eq!(completed(&["rustic-hapi", "sn"]), "snapshot snapshots\n");
    assert_eq!(completed(&["rustic-hapi", "drill", "--id"]), "--identity\n");
    let profiles = completed(&["rustic-hapi", "status", "--profile", ""]);
    assert!(profiles.starts_with("hapi other"), "{profiles}");
    assert_eq!(
        completed(&["rustic-hapi", "status", "--profile", "ot"]),
        "other\n"
    );
}

#[test]
fn the_version_names_what_the_data_depend_on() {
    let home = Home::initialised();
    let said = Said::from(home.bare(&["--version"]).output().unwrap()).exits(0);
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock: toml::Table = toml::from_str(&fs::read_to_string(lock).unwrap()).unwrap();
    let packages = lock["package"].as_array().unwrap();
    let engine = packages
        .iter()
        .find(|package| package["name"].as_str() == Some("rustic_core"));
    let engine = engine.unwrap()["version"].as_str().unwrap();
    for line in [
        concat!("rustic-hapi ", env!("CARGO_PKG_VERSION")).to_owned(),
        format!("engine: rustic_core {engine}"),
        format!("SQLite: {}", hapi_sources::sqlite_version()),
    ] {
        assert!(
            said.stdout.lines().any(|said| said == line),
            "{line}: {said:?}"
        );
    }
}

/// The README's links, too, lead to files that the crate has.
#[test]
fn a_packaged_crate_is_whole() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(package.join("README.md")).unwrap();
    let links = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
    let profiles = [
        "profiles/hapi.toml",
        "profiles/hapi-stock.toml",
        "profiles/full.toml",
    ];
    let mut needed: Vec<&str> = links.chain(profiles).collect();
    needed.push("LICENSE-MIT");

    let listed = Command::new(env!("CARGO"))
        .args([
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "-p",
            "rustic-hapi",
        ])
        .current_dir(package)
        .output()
        .unwrap();
    let listed = Said::from(listed).exits(0).stdout;
    // What the sources include, from where they are.
    let mut included = Vec::new();
    for source in listed.lines().filter(|file| file.ends_with(".rs")) {
        let text = fs::read_to_string(package.join(source)).unwrap();
        for path in text.split("include_str!(\"").skip(1) {
            let path = path.split('"').next().unwrap();
            let mut folders: Vec<&str> = source.split('/').collect();
            folders.pop();
            for part in path.split('/') {
                match part {
                    ".." => _ = folders.pop(),
                    part => folders.push(part),
                }
            }
            // One `..` too many leads out of the crate, to what is beside it in a checkout only.
            let depth = source.matches('/').count();
            assert!(path.matches("../").count() <= depth, "{source}: {path}");
            included.push(folders.join("/"));
        }
    }
    needed.extend(included.iter().map(String::as_str));
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|file| !listed.lines().any(|line| line == *file))
        .collect();
    assert!(missing.is_empty(), "not packaged: {missing:?} of\n{listed}");
}
