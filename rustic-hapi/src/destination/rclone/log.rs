//! rclone's log is where it says what is wrong: the last complaints in it, and what helps against them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Its last complaints.
#[derive(Default)]
pub(super) struct Log(Mutex<VecDeque<(Instant, String)>>);

impl Log {
    pub(super) fn add(&self, line: &str) {
        let Some(complaint) = complaint(line) else {
            return;
        };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back((Instant::now(), complaint));
        while lines.len() > 20 {
            lines.pop_front();
        }
    }

    pub(super) fn last_error(&self) -> Option<String> {
        const LATELY: Duration = Duration::from_secs(30);
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, line) = lines.back()?;
        (at.elapsed() < LATELY).then(|| line.clone())
    }
}

/// The error in a line of its log, `2026/01/02 03:04:05 ERROR : object: what`.
fn complaint(line: &str) -> Option<String> {
    const LONGEST: usize = 300;
    let line = line.trim();
    let words = line.get(20..).unwrap_or(line);
    let text = ["ERROR :", "CRITICAL:", "Failed to", "Fatal error:"]
        .iter()
        .find_map(|mark| {
            let at = words.find(mark)?;
            Some(
                match mark.starts_with(char::is_uppercase) && mark.ends_with(':') {
                    true => &words[at + mark.len()..],
                    false => &words[at..],
                },
            )
        })?;
    let text = text.trim();
    let text = text
        .rsplit_once("last error was: ")
        .map_or(text, |(_, last)| last);
    let text = text.strip_prefix("error in ListJSON: ").unwrap_or(text);
    // The connection string behind `create file system for "…"` is long, and the operator knows it.
    let text = match (
        text.starts_with("Failed to create file system"),
        text.find("\": "),
    ) {
        (true, Some(at)) => &text[at + 3..],
        _ => text,
    };
    (!text.is_empty()).then(|| text.chars().take(LONGEST).collect())
}

pub(super) fn read_lines(pipe: impl std::io::Read, mut each: impl FnMut(&str)) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        each(&String::from_utf8_lossy(&line));
    }
}

/// What helps against what rclone says.
pub(crate) fn remedy(said: &str) -> Option<&'static str> {
    [
        ("connection refused", "is the server running, and is the port right?"),
        ("no such host", "is the name right, and the network (VPN, tailnet) up?"),
        ("send request failed", "is the address right, the server running, and the network (VPN, tailnet) up?"),
        ("i/o timeout", "is the machine on, and the network (VPN, tailnet) up?"),
        ("no route to host", "is the machine on, and the network (VPN, tailnet) up?"),
        ("didn't find section in config file", "the remote is not in rclone's configuration of this user: `rclone listremotes`"),
        ("SignatureDoesNotMatch", "is `AWS_SECRET_ACCESS_KEY` right?"),
        ("InvalidAccessKeyId", "is `AWS_ACCESS_KEY_ID` right?"),
        ("AccessDenied", "may this key list, read and write in the bucket? `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` stand in `environment-file` of `[repository]`"),
        ("NoCredentialProviders", "give `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, in `environment-file` of `[repository]` for scheduled runs"),
        ("permission denied", "give this user the permission to read and write there"),
        ("account not found", "give `B2_ACCOUNT_ID` and `B2_ACCOUNT_KEY`, in `environment-file` of `[repository]` for scheduled runs"),
        ("no such bucket, or", "are endpoint and bucket right? `init` makes no bucket: make it where the store is administered"),
        ("x509: ", "is it the right server, its certificate still valid? Name the certificate authority of a private one with `RESTIC_CACERT=FILE` (in `environment-file`)"),
        ("Forbidden", "may this key list, read and write in the bucket?"),
        ("Unauthorized", "are the keys right?"),
        ("InternalError", "check the status of the store; the next run tries again"),
        ("SlowDown", "the store limits how often it may be called; the next run tries again"),
        ("ServiceUnavailable", "check the status of the store; the next run tries again"),
        ("no space left", "make room at the destination; `rustic-hapi forget --prune --instant` immediately deletes what no snapshot needs"),
    ]
    .into_iter()
    .find_map(|(fact, remedy)| said.to_lowercase().contains(&fact.to_lowercase()).then_some(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_what_is_wrong_without_the_connection_string() {
        let line = "2026/11/23 02:40:00 Failed to create file system for \":s3,provider=\\\"o\\\":p\": NewFs: no credentials";
        assert_eq!(complaint(line).unwrap(), "NewFs: no credentials");
        let line = "2026/11/23 02:40:00 ERROR : data/00: Post request rcat error: AccessDenied";
        assert_eq!(
            complaint(line).unwrap(),
            "data/00: Post request rcat error: AccessDenied"
        );
        assert_eq!(
            complaint("2026/11/23 02:40:00 NOTICE: Config file not found"),
            None
        );
    }
}
