//! Numbers, sizes and lengths of time as people read them.

/// Bytes with a binary unit.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// A command of restic's as advice has it: on the same repository, with the same password and credentials.
macro_rules! by_restic {
    ($arguments:literal) => {
        concat!(
            "`eval \"$(rustic-hapi env --with-credentials)\"; restic ",
            $arguments,
            "`"
        )
    };
}
pub(crate) use by_restic;

/// Thousands apart.
pub(crate) fn grouped(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A length of time in its largest whole unit: `4 s`, `5 min`, `2 h`.
pub(crate) fn duration(length: std::time::Duration) -> String {
    match length.as_secs() {
        s if s >= 3600 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// A length of time in its largest unit.
pub(crate) fn age(delta: chrono::TimeDelta) -> String {
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

/// `90s`, `5m`, `2h`, `14d`, `2w` in seconds; less than a century.
pub(crate) fn parse_seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(u64::from(number) * unit).filter(|seconds| *seconds < 100 * 366 * 24 * 3600)
}

/// A length of time as [`parse_seconds`] reads it, in its largest whole unit: `90s`, `5m`, `36h`, `14d`.
pub(crate) fn written(seconds: u64) -> String {
    let units = [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')];
    let whole = units
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, letter) = whole.filter(|_| seconds > 0).unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

/// The same in hours, rounded up: what is to be kept so long is kept at least so long.
pub(crate) fn parse_hours(text: &str) -> Option<u32> {
    u32::try_from(parse_seconds(text)?.div_ceil(3600)).ok()
}

/// How a duration is written, everywhere.
pub(crate) const DURATIONS: &str = "write a duration as 90s, 5m, 36h, 14d or 2w";

/// Text for a cell of a table in Markdown: on one line, and with nothing that ends the cell.
pub(crate) fn cell(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
        .replace('|', "\\|")
}

/// The same as code; a backtick within needs longer ones around.
pub(crate) fn code(text: &str) -> String {
    match text.contains('`') {
        false => format!("`{}`", cell(text)),
        true => format!("`` {} ``", cell(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        assert_eq!(parse_hours("14d"), Some(336));
        assert_eq!(parse_hours("36h"), Some(36));
        assert_eq!(parse_hours("2w"), Some(336));
        assert_eq!(parse_hours("90m"), Some(2));
        assert_eq!(parse_hours("1s"), Some(1));
        for wrong in ["", "d", "14", "-1d", "1.5d", "99999999999d", "14ä"] {
            assert_eq!(parse_hours(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_the_same(seconds in 0u64..1_000_000_000) {
            proptest::prop_assert_eq!(parse_seconds(&written(seconds)), Some(seconds));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            _ = parse_hours(&text);
        }
    }
}
