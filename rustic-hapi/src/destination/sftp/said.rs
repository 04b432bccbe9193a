//! What ssh says on its standard error: why it cannot get there, and a server's banner.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Its last lines.
#[derive(Default)]
pub(super) struct Said {
    lines: Mutex<VecDeque<String>>,
    over: AtomicBool,
}

impl Said {
    pub(super) fn add(&self, line: &[u8]) {
        const MOST: usize = 20;
        let line = String::from_utf8_lossy(line);
        let line: String = line.trim().chars().filter(|c| !c.is_control()).collect();
        if line.is_empty() {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > MOST {
            lines.pop_front();
        }
    }

    /// A banner is of no interest once the server lets us in.
    pub(super) fn forget(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clear();
    }

    /// It closed its standard error: it ended.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// All of it in one line.
    pub(super) fn words(&self) -> String {
        const LONGEST: usize = 900;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // The box that ssh draws around a changed key has its facts at the end.
        let fence = lines.iter().rposition(|line| line.starts_with("@@@"));
        let facts: Vec<&str> = lines
            .iter()
            .skip(fence.map_or(0, |at| at + 1))
            .map(|line| line.strip_prefix("ssh: ").unwrap_or(line))
            .collect();
        facts.join(" · ").chars().take(LONGEST).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_around_a_changed_key_gives_way_to_its_facts() {
        let said = Said::default();
        for line in [
            "@@@@@@@@@@@@@@@@@@@@@@@",
            "@ REMOTE HOST IDENTIFICATION HAS CHANGED! @",
            "@@@@@@@@@@@@@@@@@@@@@@@",
            "Offending key in /k:1",
            "  remove with:\r",
            "  ssh-keygen -R nas",
            "",
            "Host key verification failed.\r",
        ] {
            said.add(line.as_bytes());
        }
        assert_eq!(
            said.words(),
            "Offending key in /k:1 · remove with: · ssh-keygen -R nas · Host key verification failed."
        );
        said.forget();
        said.add(b"ssh: connect to host nas port 22: Connection refused");
        assert_eq!(
            said.words(),
            "connect to host nas port 22: Connection refused"
        );
    }
}
