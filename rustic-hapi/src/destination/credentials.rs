//! Credentials in an address: where they end, and the address without them.

/// Where the credentials end in what stands behind `://`, the `@` included. A password with a `/` in it
/// makes no valid address, and is one all the same.
pub(crate) fn credentials_end(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@').filter(|at| at + 1 < authority.len()) {
        return Some(at + 1);
    }
    if authority.ends_with('@') {
        return rest.rfind('@').map(|at| at + 1);
    }
    // A host has one colon at most, and digits behind it, unless it is an IPv6 address in brackets.
    let host = match authority.rsplit_once(']') {
        Some((address, rest)) if address.starts_with('[') => rest,
        _ => authority,
    };
    // A port, and a path with an `@`? Or a password that begins with digits? It is not shown.
    let is_port = !host.contains(':');
    rest.rfind('@').filter(|_| !is_port).map(|at| at + 1)
}

/// `scheme://user:password@host` without what stands before the `@`, wherever it is. Nothing of ours
/// says such a thing; a library's error might.
pub(crate) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out += before;
        let end = after
            .find(|c: char| c.is_whitespace() || "`'\"".contains(c))
            .unwrap_or(after.len());
        rest = after;
        if let Some(host) = credentials_end(&after[..end]) {
            // The user of an SFTP server is part of the address, and a password is refused there.
            if before.ends_with("sftp://") && !after[..host].contains(':') {
                continue;
            }
            out += "***@";
            rest = &after[host..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_do_not_show() {
        assert_eq!(
            redacted("at rest:http://u:can/ary@h:1/x and `s3://k:canary@h`, not a@b://c"),
            "at rest:http://***@h:1/x and `s3://***@h`, not a@b://c"
        );
    }
}
