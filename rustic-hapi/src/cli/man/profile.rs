//! `rustic-hapi.toml(5)` is `profiles/full.toml` in another dress: each table is a section, each key an entry, and
//! the comment above it what it means.

use clap_mangen::roff::{Roff, bold, roman};

const FULL: &str = include_str!("../../../profiles/full.toml");

/// The page.
pub(super) fn page() -> String {
    let mut roff = Roff::new();
    let source = concat!("rustic-hapi ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["rustic-hapi.toml", "5", "", source, "rustic-hapi"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "rustic-hapi.toml - the profile of a HAPI hub's backup",
    )]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("A profile says what of a hub is saved, where to, when, and for how long. "),
        bold("rustic-hapi init"),
        roman(" writes one, "),
        bold("rustic-hapi profile check"),
        roman(" checks it, "),
        bold("rustic-hapi profile show"),
        roman(" prints it with what it inherits. Below are all keys, each with an example of a value."),
    ]);
    // What has no key below it yet.
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = FULL.lines();
    while let Some(line) = lines.next() {
        let remark = line.strip_prefix("# ");
        if line.starts_with('[') {
            roff.control("SH", [line]);
        } else if let Some(key) = remark
            .filter(|text| is_entry(text))
            .or_else(|| is_entry(line).then_some(line))
        {
            let mut value = vec![key];
            while value.first().is_some_and(|line| line.ends_with('['))
                && value.last() != Some(&"]")
            {
                value.extend(lines.next());
            }
            entry(&mut roff, &value, &comment);
            comment.clear();
        } else if let Some(remark) = remark {
            comment.push(remark);
        } else if !comment.is_empty() {
            // A remark on the whole file.
            roff.control("PP", []);
            as_written(&mut roff, comment.drain(..));
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("rustic-hapi"), roman("(1)")]);
    roff.to_roff()
}

/// Lines that stay as they are.
pub(super) fn as_written<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

/// `key = value`.
fn is_entry(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    })
}

fn entry(roff: &mut Roff, value: &[&str], comment: &[&str]) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in value {
        roff.text([bold(*line)]);
    }
    roff.control("fi", []);
    roff.control("RS", []);
    as_written(roff, comment.iter().copied());
    roff.control("RE", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_profile_is_missing() {
        let page = page().replace('\\', "");
        for line in FULL.lines().filter(|line| !line.is_empty()) {
            let line = line.strip_prefix("# ").unwrap_or(line).replace('\\', "");
            assert!(page.contains(line.trim()), "{line}\n{page}");
        }
    }
}
