//! Whom to tell how a run went: `[notify]`, read by itself, so that it is known even where the rest of the
//! profile is broken.

use serde::{Deserialize, Serialize};

use crate::profile::lookup::Lookup;

/// Whom to tell: `[notify]` in the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Notify {
    /// Asked with POST: `URL/start`, `URL` after a success, `URL/fail` after one with something odd about
    /// it, `URL/EXITCODE` after anything else.
    pub url: Option<String>,
    /// Run by `sh -c`, with the outcome in its environment and JSON on its standard input.
    pub command: Option<String>,
}

impl Notify {
    /// Finds out whom to tell. A profile that is not valid is read as far as its `[notify]` goes; one
    /// that is not there has nobody.
    pub fn find(lookup: &Lookup) -> Self {
        let text = lookup
            .find()
            .ok()
            .flatten()
            .and_then(|path| std::fs::read(path).ok());
        text.map(|text| Self::read(&String::from_utf8_lossy(&text)))
            .unwrap_or_default()
    }

    fn read(text: &str) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Whole {
            notify: Notify,
        }
        match toml::from_str::<Whole>(text) {
            Ok(whole) => whole.notify,
            Err(_) => Self::line_by_line(text),
        }
    }

    /// Of a text that as a whole makes no sense, each line that does.
    fn line_by_line(text: &str) -> Self {
        let mut found = Self::default();
        let mut inside = false;
        for line in text.lines() {
            let bare: String = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            if bare.starts_with('[') {
                inside = bare == "[notify]";
                continue;
            }
            let line = line.trim();
            let line = match (line.strip_prefix("notify."), inside) {
                (Some(dotted), _) => dotted,
                (None, true) => line,
                (None, false) => continue,
            };
            let Ok(table) = toml::from_str::<toml::Table>(line) else {
                continue;
            };
            let text = |key: &str| table.get(key)?.as_str().map(str::to_owned);
            found.url = text("url").or(found.url);
            found.command = text("command").or(found.command);
        }
        found
    }

    /// Whether anybody is to be told.
    pub fn is_empty(&self) -> bool {
        self.url.is_none() && self.command.is_none()
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn fact(&self) -> Option<String> {
        let url = self.url.as_deref()?;
        let plain = url.starts_with("http://") || url.starts_with("https://");
        (!plain || reqwest::Url::parse(url).is_err())
            .then(|| "`url` is not an http or https address".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_profile_still_says_whom_to_tell() {
        let whole = "host = \"a\"\n[notify]\nurl = \"http://h/x\"\n[retention]\nkeep-daily = 14\n";
        assert_eq!(Notify::read(whole).url.as_deref(), Some("http://h/x"));
        let broken = "host = = \"a\"\n[[source]\n[notify] # us\nurl = \"http://h/x\"\n[retention\n";
        assert_eq!(Notify::read(broken).url.as_deref(), Some("http://h/x"));
        for text in [
            "[notify]\nurl = \"http://h/x\"\ncommand = \"mail -s \"hub\" root\"\n",
            "[notify]\nurl = \"http://h/x\"\ntimeout = 5\n",
            "= 1\n[ notify ]\nurl = \"http://h/x\"\n",
            "= 1\nnotify.url = \"http://h/x\"\n",
        ] {
            assert_eq!(
                Notify::read(text).url.as_deref(),
                Some("http://h/x"),
                "{text}"
            );
        }
        assert!(Notify::read("nonsense").is_empty());
    }
}
