//! A lock file says who uses a repository and how: restic's own JSON, encrypted with the repository's
//! master key, called by the hash of what is stored (restic, repository design, "Locks").

use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Nonce};
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use rustic_core::repofile::MasterKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::words::{age, by_restic};

/// How a repository is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Beside others that add or read.
    Shared,
    /// Alone: something is deleted.
    Exclusive,
}

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LockFile {
    pub(super) time: DateTime<FixedOffset>,
    pub(super) exclusive: bool,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) pid: i32,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
}

/// For how long a lock that is not refreshed counts (restic, `staleLockTimeout`).
const STALE: TimeDelta = TimeDelta::minutes(30);

/// How far two clocks may be apart before one of them is called wrong.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

impl LockFile {
    /// This process's.
    pub(super) fn of_this_process(mode: Mode, now: DateTime<FixedOffset>) -> Self {
        let user = ["USER", "LOGNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
        let uid = rustix::process::getuid().as_raw();
        Self {
            time: now,
            exclusive: mode == Mode::Exclusive,
            hostname: crate::machine::process::host_name(),
            username: user.unwrap_or_else(|| uid.to_string()),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            uid,
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// Whether whoever made it is gone: it was not refreshed, or its process is none of this machine's
    /// any more.
    pub(super) fn is_stale(
        &self,
        now: DateTime<Utc>,
        this_host: &str,
        lives: impl Fn(i32) -> bool,
    ) -> bool {
        now - self.time.to_utc() > STALE || (self.hostname == this_host && !lives(self.pid))
    }

    /// Whether both cannot be.
    pub(super) fn excludes(&self, wanted: Mode) -> bool {
        self.exclusive || wanted == Mode::Exclusive
    }

    /// What removes it. restic takes a lock for stale after 30 minutes, or where its process is none of the
    /// machine that `restic unlock` runs on; one with a date in the future would be waited for until then.
    pub(super) fn remedy(&self, now: DateTime<Utc>, this_host: &str) -> String {
        let is_here = self.hostname == this_host;
        if is_here && !lives(self.pid) {
            return concat!(
                by_restic!("unlock"),
                " on this machine removes it: its process is gone"
            )
            .into();
        }
        let process = match is_here {
            true => format!("`ps -p {}` shows its process", self.pid),
            false => format!("ask on {} (`ps -p {}`)", self.hostname, self.pid),
        };
        match self.time.to_utc() - now > AHEAD {
            true => format!(
                "its date is in the future (a wrong clock), so `restic unlock` does not remove it; make sure that no program uses the repository ({process}), then run {}",
                by_restic!("unlock --remove-all")
            ),
            false => format!(
                "wait for it (`snapshot` and `forget` do, with `--lock-wait 30m`); where it is a leftover ({process}), `restic unlock` removes it 30 minutes after it was last heard of, {} removes all locks now",
                by_restic!("unlock --remove-all")
            ),
        }
    }

    /// Whether its process lives, where that can be known.
    fn life(&self, this_host: &str) -> &'static str {
        match (self.hostname == this_host, lives(self.pid)) {
            (true, true) => "alive",
            (true, false) => "not on this machine any more",
            (false, _) => "on another machine",
        }
    }

    /// For a list: who, how, how old.
    pub(super) fn in_words(&self, now: DateTime<Utc>, this_host: &str) -> String {
        let old = now - self.time.to_utc();
        let age = match old < -AHEAD {
            true => format!("dated {} in the future", age(-old)),
            false => format!("{} old", age(old.max(TimeDelta::zero()))),
        };
        format!(
            "{} lock of {}@{}, process {} ({}), {age}",
            if self.exclusive {
                "an exclusive"
            } else {
                "a shared"
            },
            self.username,
            self.hostname,
            self.pid,
            self.life(this_host),
        )
    }

    /// For a message: who, where, since when.
    pub(super) fn holder(&self) -> String {
        let how = match self.exclusive {
            true => "alone",
            false => "with others",
        };
        format!(
            "process {} of {} on {} uses it {how}, last heard of {}",
            self.pid,
            self.username,
            self.hostname,
            self.time.format("%Y-%m-%d %H:%M:%S %:z")
        )
    }

    /// As it is stored.
    pub(super) fn sealed(&self, key: &LockKey) -> Option<Vec<u8>> {
        key.seal(&serde_json::to_vec(self).ok()?)
    }

    /// From what is stored; `None` for what is no lock, or none of this repository's.
    pub(super) fn open(stored: &[u8], key: &LockKey) -> Option<Self> {
        serde_json::from_slice(&key.open(stored)?).ok()
    }
}

/// Whether there is a process of this number here.
pub(super) fn lives(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else {
        return false;
    };
    // One of somebody else's is one, too.
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// What the small files of a repository are encrypted with.
pub(super) struct LockKey(Zeroizing<[u8; 64]>);

impl LockKey {
    /// The repository's master key.
    pub(super) fn new(master: &MasterKey) -> Option<Self> {
        let mut key = Zeroizing::new([0; 64]);
        let parts = [&master.encrypt, &master.mac.k, &master.mac.r];
        if parts.map(|part| part.len()) != [32, 16, 16] {
            return None;
        }
        key[..32].copy_from_slice(parts[0]);
        key[32..48].copy_from_slice(parts[1]);
        key[48..].copy_from_slice(parts[2]);
        Some(Self(key))
    }

    /// As it is stored; `None` without randomness.
    pub(super) fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        let sealed = self
            .cipher()
            .encrypt(Nonce::from_slice(&nonce), plain)
            .ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// From what is stored; `None` for what this key did not seal.
    pub(super) fn open(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = stored.split_at_checked(16)?;
        let plain = self
            .cipher()
            .decrypt(Nonce::from_slice(nonce), sealed)
            .ok()?;
        match plain.split_first() {
            // Version 2 of the format may compress it.
            Some((2, compressed)) => zstd::decode_all(compressed).ok(),
            _ => Some(plain),
        }
    }

    fn cipher(&self) -> Aes256CtrPoly1305Aes {
        Aes256CtrPoly1305Aes::new(aes256ctr_poly1305aes::Key::from_slice(&*self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<FixedOffset> {
        DateTime::UNIX_EPOCH.fixed_offset() + TimeDelta::minutes(minutes)
    }

    fn lock(host: &str, pid: i32) -> LockFile {
        LockFile {
            hostname: host.into(),
            pid,
            ..LockFile::of_this_process(Mode::Shared, at(0))
        }
    }

    #[test]
    fn stale_is_what_restic_calls_stale() {
        let there = |_| true;
        let gone = |_| false;
        let is_stale = |host: &str, minutes, lives: fn(i32) -> bool| {
            lock(host, 7).is_stale(at(minutes).to_utc(), "here", lives)
        };
        assert!(!is_stale("here", 29, there));
        assert!(is_stale("here", 29, gone));
        // Of another machine's processes nothing is known.
        assert!(!is_stale("there", 29, gone));
        assert!(is_stale("there", 31, there));
        // A clock that is behind makes nothing stale.
        assert!(!is_stale("there", -600, there));
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_alone() {
        let key = LockKey::new(&MasterKey::new()).unwrap();
        let other = LockKey::new(&MasterKey::new()).unwrap();
        let file = lock("here", 7);
        let sealed = file.sealed(&key).unwrap();
        assert_eq!(LockFile::open(&sealed, &key), Some(file.clone()));
        assert_eq!(LockFile::open(&sealed, &other), None);
        assert_eq!(LockFile::open(&sealed[..20], &key), None);
        assert_eq!(LockFile::open(&[], &key), None);
        assert_ne!(sealed, file.sealed(&key).unwrap());
    }

    #[test]
    fn only_two_shared_ones_go_together() {
        let mut file = lock("here", 7);
        assert!(!file.excludes(Mode::Shared));
        assert!(file.excludes(Mode::Exclusive));
        file.exclusive = true;
        assert!(file.excludes(Mode::Shared) && file.excludes(Mode::Exclusive));
    }
}
