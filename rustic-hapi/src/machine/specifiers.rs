//! Specifiers are the `%` letters in a unit's settings (systemd.unit(5)): what a manager writes in their place.

use std::fs;
use std::path::Path;

use crate::machine::process::host_name;

/// Who replaces them, and for which unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit<'a> {
    /// With its `.service`.
    pub(crate) name: &'a str,
    /// Where its main file is.
    pub(crate) file: &'a Path,
    /// The home and id of the user whose manager it is; the system's otherwise.
    pub(crate) user: Option<(&'a Path, u32)>,
    /// Whether the manager is of before systemd 254, when a user's state was among the settings.
    pub(crate) is_old: bool,
}

impl Unit<'_> {
    /// A setting with everything replaced; `None` where only systemd itself could.
    pub(crate) fn replace(&self, setting: &str) -> Option<String> {
        let mut text = String::new();
        let mut letters = setting.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => text += &self.of(letters.next()?)?,
                letter => text.push(letter),
            }
        }
        Some(text)
    }

    fn of(&self, letter: char) -> Option<String> {
        let stem = self.name.rsplit_once('.').map_or(self.name, |(s, _)| s);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let last = prefix.rsplit('-').next().unwrap_or(prefix);
        let place = |system: &str, users: &str| match self.user {
            Some((home, _)) => home.join(users).to_string_lossy().into_owned(),
            None => system.to_owned(),
        };
        let state = if self.is_old {
            ".config"
        } else {
            ".local/state"
        };
        let id = self.user.map_or(0, |(_, id)| id);
        let read = |file: &str| fs::read_to_string(file).map(|text| text.trim().to_owned());
        Some(match letter {
            '%' => "%".into(),
            'n' => self.name.into(),
            'N' => stem.into(),
            'p' => prefix.into(),
            'P' => unescaped(prefix),
            'i' => instance.into(),
            'I' => unescaped(instance),
            'j' => last.into(),
            'J' => unescaped(last),
            'f' if instance.is_empty() => format!("/{}", unescaped(prefix)),
            'f' => format!("/{}", unescaped(instance).trim_start_matches('/')),
            'h' => match self.user {
                Some((home, _)) => home.to_str()?.to_owned(),
                None => "/root".into(),
            },
            'u' => hapi_sources::user_name(id),
            'U' => id.to_string(),
            'E' => place("/etc", ".config"),
            'C' => place("/var/cache", ".cache"),
            'S' => place("/var/lib", state),
            'L' => place("/var/log", &format!("{state}/log")),
            'D' => place("/usr/share", ".local/share"),
            't' if self.user.is_some() => format!("/run/user/{id}"),
            't' => "/run".into(),
            'T' => "/tmp".into(),
            'V' => "/var/tmp".into(),
            'H' => host_name(),
            'l' => host_name().split('.').next()?.to_owned(),
            'm' => read("/etc/machine-id").ok()?,
            'v' => read("/proc/sys/kernel/osrelease").ok()?,
            'y' => fs::canonicalize(self.file).ok()?.to_str()?.to_owned(),
            'Y' => fs::canonicalize(self.file)
                .ok()?
                .parent()?
                .to_str()?
                .to_owned(),
            _ => return None,
        })
    }
}

/// In a unit's name a `-` is a `/`, and any other character of a path may be `\xNN`.
fn unescaped(name: &str) -> String {
    let mut text = Vec::new();
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        let code = rest.strip_prefix("\\x").and_then(|code| code.get(..2));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                text.push(byte);
                rest = &rest[4..];
            }
            None => {
                let letter = if letter == '-' { '/' } else { letter };
                text.extend(letter.to_string().bytes());
                rest = &rest[rest.chars().next().map_or(1, char::len_utf8)..];
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_managers_write_what_systemd_does() {
        let unit = Unit {
            name: "my-hub@srv-data\\x2d1.service",
            file: Path::new("/none"),
            user: Some((Path::new("/home/op"), 1000)),
            is_old: false,
        };
        let text = "%n %N %p %P %i %I %j %f %h %U %E %C %S %L %t %T %V 100%% x";
        assert_eq!(
            unit.replace(text).unwrap(),
            "my-hub@srv-data\\x2d1.service my-hub@srv-data\\x2d1 my-hub my/hub srv-data\\x2d1 srv/data-1 hub \
             /srv/data-1 /home/op 1000 /home/op/.config /home/op/.cache /home/op/.local/state \
             /home/op/.local/state/log /run/user/1000 /tmp /var/tmp 100% x"
        );
        let system = Unit {
            name: "hapi.service",
            user: None,
            ..unit
        };
        assert_eq!(
            system.replace("%h %E %S %t %u %i%f %p").unwrap(),
            "/root /etc /var/lib /run root /hapi hapi"
        );
        assert_eq!(system.replace("%b"), None);
        assert_eq!(system.replace("%"), None);
    }
}
