//! The pages, as they are written: every command block of README.md and docs/ is pasted into a shell, page by page,
//! on a machine with a hub and a disk at /mnt/backup. A block that cannot run there says why in the line before
//! (`<!-- not run: … -->`). The runbook has tests of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{BindFs, Home, Said};

/// A block of commands, or why it is not run.
struct Block {
    commands: String,
    not_run: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut not_run = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if let Some(reason) = bare.strip_prefix("<!-- not run: ") {
            not_run = reason.strip_suffix(" -->").map(str::to_owned);
            assert!(not_run.is_some(), "{line}");
        } else if let Some(language) = bare.strip_prefix("```") {
            let indent = line.len() - bare.len();
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "```")
                .map(|line| line.get(indent..).unwrap_or(""))
                .collect();
            let not_run = not_run.take();
            match language {
                "sh" => blocks.push(Block {
                    commands: block.join("\n"),
                    not_run,
                }),
                _ => assert!(not_run.is_none(), "no command: {block:?}"),
            }
        } else if !bare.is_empty() {
            assert!(not_run.is_none(), "no block follows: {line}");
        }
    }
    blocks
}

/// Every page but the runbook.
fn pages() -> Vec<(PathBuf, Vec<Block>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).unwrap();
    pages.extend(docs.map(|entry| entry.unwrap().path()).filter(|path| {
        path.extension().is_some_and(|e| e == "md") && !path.ends_with("runbook.md")
    }));
    pages.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, blocks(&text))
    };
    pages.into_iter().map(read).collect()
}

/// A machine with a hub, the disk at /mnt/backup, and `hapi-identity.txt` in the working folder.
struct Machine {
    /// Unmounted before the home goes.
    _disk: BindFs,
    home: Home,
}

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        let at = home.dir.path();
        for folder in ["behind", "bin", "work"] {
            fs::create_dir(at.join(folder)).unwrap();
        }
        symlink(
            env!("CARGO_BIN_EXE_rustic-hapi"),
            at.join("bin/rustic-hapi"),
        )
        .unwrap();
        let disk = BindFs::mount(&at.join("behind"), at.join("disk"), &[]);
        Self { _disk: disk, home }
    }

    fn bash(&self, script: &str) -> Said {
        let at = self.home.dir.path();
        let mounted = format!(
            "mount -t tmpfs none /mnt && mkdir /mnt/backup && mount --bind '{}' /mnt/backup\n\
             exec 2>&1\nset -eux -o pipefail\n{script}",
            at.join("disk").display()
        );
        let output = Command::new("unshare")
            .args(["-m", "bash", "-c", &mounted])
            .env_clear()
            .env(
                "PATH",
                format!(
                    "{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    at.join("bin").display()
                ),
            )
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .current_dir(at.join("work"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.into()
    }

    /// Runs the blocks of a page one after the other, as somebody who reads it.
    fn follows(&self, page: &Path, blocks: &[Block]) {
        let run: Vec<&str> = blocks
            .iter()
            .filter(|block| block.not_run.is_none())
            .map(|block| block.commands.as_str())
            .collect();
        let all = run.join("\n");
        let mut script = String::new();
        if !all.contains("age-keygen") {
            script += &format!(
                "cp '{}' hapi-identity.txt\n",
                self.home.identity().display()
            );
        }
        if !all.contains("rustic-hapi init") {
            script += "rustic-hapi init --repository /mnt/backup/hapi --recipient age1… >/dev/null\nrustic-hapi snapshot\n";
        }
        let script = (script + &all).replace("age1…", "$(age-keygen -y hapi-identity.txt)");
        let said = self.bash(&script);
        assert_eq!(said.code, 0, "{}:\n{}", page.display(), said.stdout);
    }
}

#[test]
fn every_command_block_of_a_page_runs() {
    for (page, blocks) in pages() {
        if blocks.iter().any(|block| block.not_run.is_none()) {
            Machine::new().follows(&page, &blocks);
        }
    }
}

#[test]
fn the_blocks_that_are_not_run_say_why() {
    for (page, blocks) in pages() {
        for reason in blocks.iter().filter_map(|block| block.not_run.as_ref()) {
            println!("{}: {reason}", page.display());
            assert!(reason.len() > 10, "{reason}");
        }
    }
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .map(|name| root.join(name))
        .into();
    let docs = fs::read_dir(root.join("docs")).unwrap();
    pages.extend(docs.map(|entry| entry.unwrap().path()));
    let index = fs::read_to_string(root.join("docs/README.md")).unwrap();
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            let target = page.parent().unwrap().join(file);
            assert!(target.exists(), "{}: {link}", page.display());
        }
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(
            !page.starts_with(root.join("docs")) || name == "README.md" || index.contains(name),
            "{name} is not in the index"
        );
    }
}
