//! Plain text is text that does nothing where it is shown: no control characters, and none that turn the order of
//! letters around (<https://trojansource.codes>).

use std::borrow::Cow;

/// Whether a terminal or a browser would act on a character instead of showing it.
pub(super) fn acts(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || turns(c)
}

/// Embeddings, overrides and isolates of Unicode's bidirectional algorithm. The plain marks, which only say which way
/// a neighbour is read, belong to text in Arabic or Hebrew.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same text with what would act shown instead: `␛` for an escape, `⟨U+202E⟩` for an override.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A line of Windows's.
            '\r' if rest.peek() == Some(&'\n') => {}
            '\0'..='\x1f' if acts(c) => {
                shown.extend(char::from_u32(0x2400 + u32::from(c)));
            }
            '\x7f' => shown.push('\u{2421}'),
            c if acts(c) => shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Text for a line of a terminal: one line, nothing that acts or hides, at most so many characters.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let hides = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{061c}' | '\u{feff}');
    let spaced = text.replace(|c: char| c.is_whitespace() || c == '\u{85}', " ");
    let kept = spaced.chars().filter(|c| !acts(*c) && !hides(*c));
    let kept: String = kept.collect();
    let words = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(longest) {
        None => words,
        Some(_) => {
            let begin: String = words.chars().take(longest.saturating_sub(1)).collect();
            format!("{}…", begin.trim_end())
        }
    }
}

/// Text between tags, or within a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    let text = visible(text);
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_is_shown_and_what_is_read_stays() {
        assert_eq!(visible("a\x1b[31mb\r\nc\td"), "a␛[31mb\nc\td");
        assert_eq!(visible("x\u{202e}y\u{9b}z"), "x⟨U+202E⟩y⟨U+009B⟩z");
        assert_eq!(visible("\u{200f}שלום"), "\u{200f}שלום");
        assert_eq!(
            escaped("<a href='\"'>&"),
            "&lt;a href=&#39;&quot;&#39;&gt;&amp;"
        );
    }

    #[test]
    fn a_line_of_a_terminal_is_one_line() {
        assert_eq!(
            one_line("  a\n\nb\x1b]0;x\x07\u{202e}\u{200b}c  ", 80),
            "a b]0;xc"
        );
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("abcd", 4), "abcd");
    }
}
