//! Recipients are the public keys that secrets are encrypted to: age's own (`age1…`) and SSH's.
//!
//! They are taken as people have them: one a string, or many in one, as in a recipients file of age's,
//! in `authorized_keys` (with options and comments) and in `https://…/you.keys`. All of them are used;
//! one that cannot be used refuses the whole list, by name.

use std::fmt;
use std::io::{self, Write};

use age::{Recipient, ssh, x25519};

use crate::error::RecipientError;

/// How the types of SSH keys begin, as `ssh-keygen` writes them.
const SSH_TYPES: [&str; 6] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ssh-dss",
    "ecdsa-sha2-",
    "sk-ssh-ed25519@",
    "sk-ecdsa-sha2-",
];

/// The public keys that secrets are encrypted to.
pub struct Recipients {
    keys: Vec<Box<dyn Recipient + Send + Sync>>,
    /// Sorted, without the comments of SSH keys: what the cache compares.
    names: Vec<String>,
}

impl Recipients {
    /// Reads recipients, one or more a string, and makes sure that age takes them together.
    ///
    /// # Errors
    /// The first one that cannot be used, or that there is none.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, RecipientError> {
        let mut names = Vec::new();
        for text in texts {
            names.append(&mut Self::split(text.as_ref())?);
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(RecipientError::Empty);
        }
        let keys: Result<_, _> = names.iter().map(|name| key(name)).collect();
        let parsed = Self { keys: keys?, names };
        parsed
            .encryptor()
            .map_err(|e| RecipientError::Mixed(e.to_string()))?;
        Ok(parsed)
    }

    /// The recipients in a text, in order, without comments: `age1…`, or an SSH key's type and data.
    ///
    /// # Errors
    /// A line that holds none, and is neither empty nor a comment (`# …`).
    pub fn split(text: &str) -> Result<Vec<String>, RecipientError> {
        let upper = text.to_ascii_uppercase();
        if ["AGE-SECRET-KEY-", "AGE-PLUGIN-", "PRIVATE KEY-----"]
            .iter()
            .any(|secret| upper.contains(secret))
        {
            return Err(RecipientError::SecretKey);
        }
        let mut found = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            found.append(&mut of_line(line)?);
        }
        Ok(found)
    }

    /// The public keys, sorted, without the comments of SSH keys.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn encryptor(&self) -> Result<age::Encryptor, age::EncryptError> {
        age::Encryptor::with_recipients(self.keys.iter().map(|k| k.as_ref() as &dyn Recipient))
    }

    pub(super) fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, String> {
        let encryptor = self.encryptor().map_err(|e| e.to_string())?;
        let mut ciphertext = Vec::with_capacity(plaintext.len() + 4096);
        let write = |out: &mut Vec<u8>| -> io::Result<()> {
            let mut writer = encryptor.wrap_output(out)?;
            writer.write_all(plaintext)?;
            // Without this the last chunk is missing, and the file cannot be told from a cut one.
            writer.finish()?;
            Ok(())
        };
        write(&mut ciphertext).map_err(|e| e.to_string())?;
        Ok(ciphertext)
    }
}

/// The recipients of one line. A line that lost its line breaks may hold several SSH keys, each with
/// its comment.
fn of_line(line: &str) -> Result<Vec<String>, RecipientError> {
    let unknown = || RecipientError::Unknown(line.to_owned());
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let is_age = |word: &&str| word.to_ascii_lowercase().starts_with("age1");
    if words.first().is_some_and(is_age) {
        let comment = words.iter().position(|word| word.starts_with('#'));
        let words = &words[..comment.unwrap_or(words.len())];
        return match words.iter().all(is_age) {
            true => Ok(words.iter().map(|word| (*word).to_owned()).collect()),
            false => Err(unknown()),
        };
    }
    let mut keys = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if SSH_TYPES.iter().any(|kind| word.starts_with(kind)) {
            let data = words.next().filter(|data| is_key_data(data));
            keys.push(format!("{word} {}", data.ok_or_else(unknown)?));
        } else if hides_a_key(word) {
            // Two keys grew together, say: the second one must not be taken for a comment.
            return Err(unknown());
        }
    }
    match keys.is_empty() {
        true => Err(unknown()),
        false => Ok(keys),
    }
}

/// Base64, which begins with the length of the type's name, and so with three zero bytes.
fn is_key_data(word: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    word.starts_with("AAAA") && word.bytes().all(base64)
}

/// Whether a word that is no key has one in it.
fn hides_a_key(word: &str) -> bool {
    let age = word.to_ascii_lowercase();
    let age = age.split("age1").skip(1);
    let mut lengths = age.map(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count());
    SSH_TYPES.iter().any(|kind| word.contains(kind)) || lengths.any(|length| length > 20)
}

fn key(name: &str) -> Result<Box<dyn Recipient + Send + Sync>, RecipientError> {
    if let Ok(key) = name.parse::<x25519::Recipient>() {
        return Ok(Box::new(key));
    }
    let unusable = |what, instead| {
        Err(RecipientError::Unusable {
            recipient: name.to_owned(),
            what,
            instead,
        })
    };
    const NATIVE: &str = "make a key with `age-keygen` and give its public key (age1…)";
    const ED25519: &str = "give an ed25519 key (`ssh-keygen -t ed25519`) or an age key (age1…)";
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("age1")
        && !lower
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Err(RecipientError::Unknown(name.to_owned()));
    }
    if lower.starts_with("age1pq1") || lower.starts_with("age1tagpq1") {
        return unusable("a post-quantum recipient", NATIVE);
    }
    // Two parts after `age1`: a plugin's recipient (C2SP age-plugin).
    if lower
        .strip_prefix("age1")
        .is_some_and(|rest| rest.contains('1'))
    {
        return unusable("a plugin's recipient", NATIVE);
    }
    if lower.starts_with("sk-") {
        return unusable("a key of a hardware token (FIDO)", ED25519);
    }
    if lower.starts_with("ecdsa-") {
        return unusable("an ECDSA key", ED25519);
    }
    match name.parse::<ssh::Recipient>() {
        Ok(key) => Ok(Box::new(key)),
        Err(ssh::ParseRecipientKeyError::RsaModulusTooSmall) => {
            unusable("an RSA key of less than 2048 bits", ED25519)
        }
        Err(ssh::ParseRecipientKeyError::RsaModulusTooLarge) => {
            unusable("an RSA key of more than 4096 bits", ED25519)
        }
        Err(ssh::ParseRecipientKeyError::Unsupported(_) | ssh::ParseRecipientKeyError::Ignore) => {
            unusable("an SSH key of a type that age does not support", ED25519)
        }
        Err(_) => Err(RecipientError::Unknown(name.to_owned())),
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipients").field(&self.names).finish()
    }
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: &str = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z";
    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIjYwLd9hTHD9oNFTqfW8mcAxQvBBWPhAnBEDkYeJ8pM";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK6tZfHGnXyZ9Y7Fe5o7yqB0L9gRzqcCMTc8kTIc0kUe";

    #[test]
    fn a_list_is_split_as_people_have_it() {
        let both = vec![A.to_owned(), B.to_owned()];
        for text in [
            format!("{A} a@x\n{B} b@x\n"),
            format!("{A}\r\n\r\n# mine\r\n{B}\r\n"),
            format!("\u{feff}{A} a comment of words\n  {B}"),
            format!("{A} a@x {B} b@x"),
            format!("restrict,command=\"echo hi\" {A} a@x\nno-pty {B}"),
        ] {
            assert_eq!(Recipients::split(&text).unwrap(), both, "{text}");
        }
        let mixed = Recipients::split(&format!("# age\n{AGE}\n{A} a@x\n")).unwrap();
        assert_eq!(mixed, [AGE, A]);
        assert_eq!(
            Recipients::split(&format!("{AGE} {AGE} # twice")).unwrap(),
            [AGE, AGE]
        );
        assert!(matches!(
            Recipients::parse(&["# nothing\n"]),
            Err(RecipientError::Empty)
        ));
    }

    #[test]
    fn recipients_are_checked_and_a_secret_key_is_not_repeated() {
        let parse =
            |r: &[&str]| Recipients::parse(&r.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        assert!(matches!(parse(&[]), Err(RecipientError::Empty)));
        assert!(matches!(
            parse(&["age1nonsense"]),
            Err(RecipientError::Unknown(_))
        ));
        let identity = x25519::Identity::generate();
        let public = identity.to_public().to_string();
        assert_eq!(parse(&[&public]).unwrap().to_string(), public);
        let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
        for text in [
            secret.clone(),
            secret.to_lowercase(),
            format!("# mine\n{secret}"),
        ] {
            let error = parse(&[&text]).unwrap_err();
            assert!(matches!(error, RecipientError::SecretKey));
            assert!(
                !format!("{error} {error:?}")
                    .to_uppercase()
                    .contains(&secret)
            );
        }
    }

    #[test]
    fn one_that_cannot_be_used_refuses_the_list_and_says_what_to_use() {
        let refused = |text: &str| {
            let list = format!("{AGE}\n{text}\n");
            Recipients::parse(&[list]).unwrap_err().to_string()
        };
        for (text, what) in [
            ("age1yubikey1qwerty", "plugin"),
            ("age1pq1qwerty", "post-quantum"),
            ("sk-ssh-ed25519@openssh.com AAAAGnNr c", "hardware token"),
            ("ecdsa-sha2-nistp256 AAAAE2Vj c", "ECDSA"),
            ("hello", "`hello`"),
            ("ssh-ed25519 AAAA", "`ssh-ed25519 AAAA`"),
            ("age1qqq and more", "and more"),
            ("age1qqq,age1qqq", "neither"),
            // Keys that grew together.
            (&format!("{A} a@x{B} b@x"), "neither"),
            (&format!("{A}{B}"), "neither"),
            (&format!("{A},{B}"), "neither"),
            (&format!("{A} a@x\\n{B}"), "neither"),
            (&format!("{A} a@x {AGE}"), "neither"),
        ] {
            assert!(refused(text).contains(what), "{}", refused(text));
        }
        let secret = Recipients::parse(&["AGE-SECRET-KEY-1QQQQ"]).unwrap_err();
        assert!(!secret.to_string().contains("QQQQ"));
    }
}
