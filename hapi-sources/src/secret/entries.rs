//! The entries of a secret: how many there are, and which of its values are worth looking for elsewhere.
//!
//! Values stay in memory that zeroes itself.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// Values of at least this many bytes are looked for in other files.
const LONG: usize = 16;

/// Counts the entries of a secret, and collects its longer values.
pub(crate) fn contents(plaintext: &[u8]) -> (u64, Vec<Zeroizing<Vec<u8>>>) {
    let mut values = Vec::new();
    if plaintext.trim_ascii_start().starts_with(b"{") {
        let members =
            serde_json::Deserializer::from_slice(plaintext).deserialize_map(Members(&mut values));
        if let Ok(members) = members {
            return (members, values);
        }
        values.clear();
    }
    // What pm2 starts is a list of objects.
    if plaintext.trim_ascii_start().starts_with(b"[") {
        let members =
            serde_json::Deserializer::from_slice(plaintext).deserialize_seq(Objects(&mut values));
        if let Ok(members) = members {
            return (members, values);
        }
        values.clear();
    }
    let lines = || {
        plaintext
            .split(|b| *b == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|l| !l.is_empty())
    };
    let assignments = lines().filter_map(assigned).count() as u64;
    // Of a unit of systemd only the environment may be secret: its commands and paths stand elsewhere, too.
    let is_unit = lines().any(|line| matches!(line, b"[Unit]" | b"[Service]"));
    for line in lines() {
        match assigned(line) {
            Some((b"Environment", value)) if is_unit => {
                let words = value.split(|b| b" \t\"'".contains(b));
                for (name, value) in words.filter_map(assigned) {
                    add(&mut values, name, value);
                }
            }
            _ if is_unit => {}
            Some((name, value)) => add(&mut values, name, value),
            // What has no name is all that the file is there for.
            None => add(&mut values, b"secret", line),
        }
    }
    match assignments {
        0 => (lines().count() as u64, values),
        n => (n, values),
    }
}

/// Name and value of `[export ]KEY=value`, without quotes around it.
fn assigned(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line
        .strip_prefix(b"export ")
        .unwrap_or(line)
        .trim_ascii_start();
    let equals = line.iter().position(|b| *b == b'=')?;
    let (name, value) = (
        line[..equals].trim_ascii_end(),
        line[equals + 1..].trim_ascii(),
    );
    let named = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let is_name = !name.is_empty() && !name[0].is_ascii_digit() && name.iter().all(named);
    is_name.then(|| {
        let bare = |q: &[u8]| value.strip_prefix(q)?.strip_suffix(q);
        (name, bare(b"\"").or_else(|| bare(b"'")).unwrap_or(value))
    })
}

/// Keeps a value worth looking for: long, neither comment, path, plain address nor PEM's frame, and a secret by its
/// name or its looks. A time zone, a model's name or a host's stand in many files.
fn add(values: &mut Vec<Zeroizing<Vec<u8>>>, name: &[u8], value: &[u8]) {
    let public = value.starts_with(b"#")
        || value.starts_with(b"/")
        || value.starts_with(b"-----")
        || (value.windows(3).any(|w| w == b"://") && !value.iter().any(|b| b"@?".contains(b)));
    if value.len() >= LONG && !public && (is_secrets_name(name) || looks_random(value)) {
        values.push(Zeroizing::new(value.to_vec()));
    }
}

/// Whether a name says that its value is secret.
fn is_secrets_name(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let words: [&[u8]; 9] = [
        b"key", b"token", b"secret", b"pass", b"pwd", b"cred", b"auth", b"cookie", b"salt",
    ];
    words
        .iter()
        .any(|word| name.windows(word.len()).any(|part| part == *word))
}

/// Whether a value has what no word has: a run of [`LONG`] letters and digits, mixed.
fn looks_random(value: &[u8]) -> bool {
    let mut runs = value.split(|b| !b.is_ascii_alphanumeric());
    runs.any(|run| {
        run.len() >= LONG
            && run.iter().any(u8::is_ascii_digit)
            && run.iter().any(u8::is_ascii_alphabetic)
    })
}

/// The same of a list of objects.
struct Objects<'a>(&'a mut Vec<Zeroizing<Vec<u8>>>);

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut objects = 0;
        while seq.next_element_seed(Leaves(self.0, ""))?.is_some() {
            objects += 1;
        }
        Ok(objects)
    }
}

/// Counts a JSON object's members and collects its string leaves, without building the document.
struct Members<'a>(&'a mut Vec<Zeroizing<Vec<u8>>>);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut members = 0;
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Leaves(self.0, &name))?;
            members += 1;
        }
        Ok(members)
    }
}

/// The leaves below a member of this name.
struct Leaves<'a>(&'a mut Vec<Zeroizing<Vec<u8>>>, &'a str);

impl<'de> DeserializeSeed<'de> for Leaves<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, s: &str) -> Result<(), E> {
        add(self.0, self.1.as_bytes(), s.as_bytes());
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Leaves(self.0, self.1))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Leaves(self.0, &name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_shape_and_values_kept_when_long() {
        let env = b"# keys\nexport A=\"0123456789abcdef\"\nB=short\n\nURL=https://example.org/a/b\nC='x'\n";
        let (n, values) = contents(env);
        assert_eq!((n, values.len()), (4, 1));
        assert_eq!(values[0].as_slice(), b"0123456789abcdef");
        let (n, values) =
            contents(br#" {"a": {"b": ["0123456789abcdef\n", 1.5]}, "c": null, "d": true}"#);
        assert_eq!((n, values.len()), (3, 1));
        assert_eq!(contents(b"one\n\ntwo\n").0, 2);
        assert_eq!(contents(b"{ not json\n").0, 1);
        assert_eq!(contents(b"").0, 0);
    }

    #[test]
    fn of_a_service_only_the_environment_is_looked_for() {
        let unit = b"[Unit]\nDescription=The hub of this machine and its friends\n[Service]\nExecStart=-/usr/bin/node --token-file /x/3f2a1b4c5d6e7f8a9b0c1d2e\nWorkingDirectory=~/3f2a1b4c5d6e7f8a9b0c1d2e\nEnvironment=\"API_KEY=0123456789abcdef\" PORT=1\n";
        let (n, values) = contents(unit);
        assert_eq!((n, values.len()), (4, 1));
        assert_eq!(values[0].as_slice(), b"0123456789abcdef");
        let dump = br#"[{"name": "hapi", "pm_exec_path": "/home/u/3f2a1b4c5d6e7f8a9b0c/hapi", "args": ["hub"],
            "env": {"OPENAI_API_KEY": "sk-0123456789abcdef", "PATH": "/usr/bin:/home/u/0123456789abcdef01"}}]"#;
        let (n, values) = contents(dump);
        assert_eq!((n, values.len()), (1, 1));
        assert_eq!(values[0].as_slice(), b"sk-0123456789abcdef");
    }

    #[test]
    fn what_stands_in_many_files_is_not_looked_for() {
        let env = b"TZ=America/Argentina/Buenos_Aires\nMODEL=claude-opus-4-5-20251101\nHOST=my-hub-01.tailnet-name.ts.net\nNAME='a long name of somebody'\n";
        assert!(contents(env).1.is_empty());
        let env = b"DB_PASSWORD=correct horse battery staple\nX=prefix-1f8e2d7c6b5a4938\n";
        assert_eq!(contents(env).1.len(), 2);
        let json = br#"{"zone": "America/Argentina/Buenos_Aires", "api": {"apiKey": ["correct horse battery"]}}"#;
        assert_eq!(contents(json).1.len(), 1);
        assert_eq!(contents(b"correct horse battery staple\n").1.len(), 1);
    }
}
