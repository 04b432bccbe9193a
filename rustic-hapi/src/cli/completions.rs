//! The completion script of a shell: clap's, static, but for the names of profiles, which the shell lists itself.

use clap::Command;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::help;
use crate::terminal::output::{JSON_VERSION, Output};

/// The script, for a shell to read.
pub fn run(shell: Shell) -> Output {
    let script = script(shell);
    let json = json!({ "version": JSON_VERSION, "command": "completions", "script": script });
    Output::verbatim(script, json)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "rustic-hapi", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => with_profiles_in_bash(&script),
        Shell::Zsh => script
            .replace(
                ":NAME|PATH:_default'",
                ":NAME|PATH:{_rustic_hapi_profiles; _files}'",
            )
            .replacen("#compdef rustic-hapi\n", ZSH, 1),
        Shell::Fish => {
            FISH.to_owned()
                + &script
                    .lines()
                    .map(|line| {
                        if line.contains(" -l profile ") {
                            format!("{line} -k -a \"(__rustic_hapi_profiles)\"\n")
                        } else if let Some(options) = line.trim().strip_prefix("string join \\n ") {
                            format!("    string join \\n {}\n", lettered(options))
                        } else {
                            format!("{line}\n")
                        }
                    })
                    .collect::<String>()
        }
        _ => script,
    }
}

/// The options as `argparse` of fish 3.1, Debian 11's, knows them: one without a letter has one that nobody types.
fn lettered(options: &str) -> String {
    let options = options.split(' ').zip('A'..);
    let options = options.map(|(option, letter)| match option.get(1..2) {
        Some("/") => option.to_owned(),
        _ => format!("{letter}-{option}"),
    });
    options.collect::<Vec<_>>().join(" ")
}

/// The commands without the hidden ones, which clap would offer.
fn visible() -> Command {
    let all = help::command();
    let shown = all.get_subcommands().filter(|c| !c.is_hide_set());
    Command::new("rustic-hapi")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(shown.cloned().collect::<Vec<_>>())
}

/// After `--profile` names come before files.
fn with_profiles_in_bash(script: &str) -> String {
    // Else nothing is completed after a command (https://github.com/clap-rs/clap/issues/6421).
    let script = script.replace("rustic__subcmd__hapi", "rustic__hapi");
    let mut text = BASH.to_owned();
    let mut is_profile = false;
    for line in script.lines() {
        if is_profile && line.trim_start().starts_with("COMPREPLY=") {
            let indent = &line[..line.len() - line.trim_start().len()];
            text += indent;
            text += "COMPREPLY=($(compgen -W \"$(_rustic_hapi_profiles)\" -- \"${cur}\") $(compgen -f \"${cur}\"))\n";
        } else {
            text += line;
            text.push('\n');
        }
        is_profile = line.trim() == "--profile)";
    }
    text
}

const BASH: &str = r#"_rustic_hapi_profiles() {
    local file
    for file in "${XDG_CONFIG_HOME:-$HOME/.config}"/rustic-hapi/*.toml /etc/rustic-hapi/*.toml; do
        file=${file##*/} file=${file%.toml}
        [ "$file" = '*' ] || printf '%s\n' "$file"
    done
}

"#;

const ZSH: &str = r#"#compdef rustic-hapi

_rustic_hapi_profiles() {
    local -a profiles
    profiles=(${XDG_CONFIG_HOME:-$HOME/.config}/rustic-hapi/*.toml(N:t:r) /etc/rustic-hapi/*.toml(N:t:r))
    compadd -a profiles
}
"#;

const FISH: &str = r#"function __rustic_hapi_profiles
    set -q XDG_CONFIG_HOME; and set -l config $XDG_CONFIG_HOME; or set -l config ~/.config
    for file in $config/rustic-hapi/*.toml /etc/rustic-hapi/*.toml
        string replace -r '.*/(.*)\.toml$' '$1' $file
    end
end

"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_a_letter_in_fish() {
        let script = script(Shell::Fish);
        assert!(
            script.contains("join \\n A-profile= B-home= r/repository= "),
            "{script}"
        );
    }

    /// What is put into clap's scripts hangs on how they look.
    #[test]
    fn profiles_are_completed_after_each_commands_option() {
        let commands = visible().get_subcommands().count();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            let found = script.matches("_rustic_hapi_profiles").count();
            // In fish an option of all commands is written once for those that have none below them.
            let expected = if shell == Shell::Fish { 2 } else { commands };
            assert!(found >= expected, "{shell}: {found} of {expected}");
        }
    }
}
