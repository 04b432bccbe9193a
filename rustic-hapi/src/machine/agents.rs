//! An agent keeps its transcripts in its home, or where a variable of its own says.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the variables say.
pub(crate) type Moved = BTreeMap<&'static str, PathBuf>;

/// Each variable, the folder that it stands in for, and what follows it there. The more special one comes first.
pub(crate) const VARIABLES: [(&str, &str, &str); 10] = [
    ("CLAUDE_CONFIG_DIR", "~/.claude/", ""),
    ("CODEX_HOME", "~/.codex/", ""),
    ("COPILOT_HOME", "~/.copilot/", ""),
    ("DSH_HOME", "~/.dsh/", ""),
    ("GEMINI_CLI_HOME", "~/.gemini/tmp/", ".gemini/tmp"),
    ("GROK_HOME", "~/.grok/", ""),
    ("KIMI_CODE_HOME", "~/.kimi-code/", ""),
    ("PI_CODING_AGENT_SESSION_DIR", "~/.pi/agent/sessions/", ""),
    ("PI_CODING_AGENT_DIR", "~/.pi/agent/", ""),
    ("XDG_DATA_HOME", "~/.local/share/", ""),
];

/// Where a source's path leads by what the variables say, where they say something of it.
pub(crate) fn elsewhere(path: &str, is_pattern: bool, moved: &Moved) -> Option<String> {
    let (folder, rest) = VARIABLES.iter().find_map(|(name, usual, below)| {
        Some((moved.get(name)?.join(below), path.strip_prefix(usual)?))
    })?;
    let mut place = String::new();
    for letter in folder.to_str()?.chars() {
        // In a pattern the folder's own characters mean themselves.
        if is_pattern && "*?[{\\".contains(letter) {
            place.push('\\');
        }
        place.push(letter);
    }
    Some(format!("{}/{rest}", place.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_moves_what_is_in_its_folder_and_nothing_else() {
        let moved = Moved::from([
            ("XDG_DATA_HOME", "/data/[x]".into()),
            ("PI_CODING_AGENT_DIR", "/pi".into()),
            ("GEMINI_CLI_HOME", "/g/".into()),
        ]);
        for (usual, expected) in [
            (
                "~/.local/share/opencode/*.db",
                Some(r"/data/\[x]/opencode/*.db"),
            ),
            (
                "~/.pi/agent/sessions/**/*.jsonl",
                Some("/pi/sessions/**/*.jsonl"),
            ),
            ("~/.gemini/tmp/*/x", Some("/g/.gemini/tmp/*/x")),
            ("~/.gemini/antigravity-cli/*.db", None),
            ("~/.codex/sessions/*", None),
        ] {
            assert_eq!(
                elsewhere(usual, true, &moved).as_deref(),
                expected,
                "{usual}"
            );
        }
    }
}
