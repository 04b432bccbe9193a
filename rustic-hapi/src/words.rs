//! Numbers, sizes and lengths of time as people read them.

/// Bytes with a binary unit.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// Thousands apart.
pub fn grouped(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A length of time in its largest whole unit: `4 s`, `5 min`, `2 h`.
pub fn duration(length: std::time::Duration) -> String {
    match length.as_secs() {
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A length of time in its largest unit.
pub fn age(delta: chrono::TimeDelta) -> String {
    match delta.num_seconds() {
        s if s < 0 => "in the future".to_owned(),
        s if s < 90 => format!("{s} s"),
        s if s < 90 * 60 => format!("{} min", s / 60),
        s if s < 36 * 3600 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// The word for one, or for any other number.
pub(crate) fn plural(n: u64, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}
