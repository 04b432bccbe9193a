//! Every sentence of the program on one page: `tests/messages.txt` has all texts in the sources of both crates that people
//! may read, by file, and every `--help`. A change of words shows there in the diff. Nothing here judges them.
//!
//! `RUSTIC_HAPI_MESSAGES_WRITE=1` writes the page instead.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::run;

pub fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, all),
            false => all.push(path),
        }
    }
    all.sort();
}

/// The string literals of a source file, without those of its tests. What the compiler would refuse need not be
/// understood.
pub fn literals(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("#[error") {
            at += "#[error".len();
        } else if rest.starts_with("#[") || rest.starts_with("#![") {
            // Any other attribute is for the compiler.
            at += rest.find(']').map_or(rest.len(), |end| end + 1);
        } else if let Some(length) = character(rest) {
            at += length;
        } else if let Some(hashes) = raw(rest) {
            let begin = rest.find('"').unwrap() + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            let length = rest[begin..].find(&end).unwrap();
            found.push(rest[begin..begin + length].to_owned());
            at += begin + length + end.len();
        } else if rest.starts_with('"') {
            let mut end = 1;
            while rest.as_bytes()[end] != b'"' {
                end += 1 + usize::from(rest.as_bytes()[end] == b'\\');
            }
            found.push(unescaped(&rest[1..end]));
            at += end + 1;
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
    }
    found
}

/// How long the character literal is that begins here, if one does and no lifetime.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    match inner.starts_with('\\') {
        true => inner[2..].find('\'').map(|end| end + 4),
        false => {
            let first = inner.chars().next()?.len_utf8();
            inner[first..].starts_with('\'').then_some(first + 2)
        }
    }
}

/// With how many `#` a raw string begins here.
fn raw(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix("r").or_else(|| rest.strip_prefix("br"))?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    inner[hashes..].starts_with('"').then_some(hashes)
}

/// With the lines joined that only the source has apart.
fn unescaped(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |all, line| all + line.trim_start());
    joined.replace("\\\"", "\"")
}

/// Whether people may read it: words with a space between them, and no language of a machine's.
pub fn is_for_people(text: &str) -> bool {
    let machines = [
        "SELECT ",
        "PRAGMA ",
        "CREATE ",
        "INSERT ",
        "ATTACH ",
        "DELETE FROM ",
        "UPDATE ",
    ];
    let words = text.split(' ').filter(|word| {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        letters >= 2 && !word.starts_with('{')
    });
    words.count() >= 2 && !machines.iter().any(|machine| text.contains(machine))
}

#[test]
fn every_sentence_stands_on_one_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut page = String::from(
        "Every sentence of the program, by source file; written by tests/messages.rs.\n",
    );
    for name in ["hapi-sources/src", "rustic-hapi/src"] {
        let mut all = Vec::new();
        sources(&root.join(name), &mut all);
        for path in all
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        {
            let mut said: Vec<String> = literals(&fs::read_to_string(path).unwrap());
            said.retain(|text| is_for_people(text));
            if !said.is_empty() {
                let short = path.strip_prefix(&root).unwrap();
                page += &format!("\n## {}\n\n", short.display());
                said.iter()
                    .for_each(|text| page += &format!("{}\n", text.trim_end()));
            }
        }
    }
    let program = env!("CARGO_BIN_EXE_rustic-hapi");
    let help = run(program, &["--help".as_ref()]).stdout;
    page += &format!("\n## --help\n\n{help}");
    let commands = help.lines().filter_map(|line| line.strip_prefix("  "));
    let commands = commands.filter_map(|line| line.split_once("  "));
    for (name, _) in
        commands.filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    {
        if name.starts_with(|c: char| c.is_ascii_lowercase()) {
            let help = run(program, &[name.as_ref(), "--help".as_ref()]).stdout;
            // What every command has is above.
            let own = help.split("\nGlobal options:").next().unwrap();
            let examples = help.split_once("\nExamples:").map_or("", |(_, rest)| rest);
            page += &format!("\n## {name} --help\n\n{own}\nExamples:{examples}");
        }
    }
    let file = root.join("tests/messages.txt");
    if std::env::var_os("RUSTIC_HAPI_MESSAGES_WRITE").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let new = page
        .lines()
        .find(|line| !written.lines().any(|old| old == *line));
    assert!(
        written == page,
        "tests/messages.txt is out of date (first new line: {new:?}); run this test with RUSTIC_HAPI_MESSAGES_WRITE=1"
    );
}
