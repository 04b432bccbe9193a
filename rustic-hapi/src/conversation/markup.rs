//! Markdown of others, made harmless: as HTML for a page, or as Markdown that has none. Nothing is loaded, and a link
//! leads to `http`, `https` or `mailto`.

use std::io::{self, Write};
use std::ops::Range;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::plain::{escaped, visible};

/// Bytes above which a text is shown as it is: nobody reads it as prose, and the parser's tree takes 50 bytes for each
/// of it.
const LONGEST: usize = 1 << 20;

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(
        text,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS,
    )
}

/// Whether a link may lead there.
fn may_lead(to: &str) -> bool {
    let begins = |scheme: &str| {
        let begin = to.get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    ["http://", "https://", "mailto:"].into_iter().any(begins) && !to.contains(char::is_control)
}

/// Writes Markdown as HTML.
pub(super) fn write_html(text: &str, out: &mut dyn Write) -> io::Result<()> {
    if text.len() > LONGEST {
        return write!(out, "<pre>{}</pre>", escaped(text));
    }
    let text = visible(text);
    html::write_html_io(out, harmless(parser(&text)))
}

/// The events of a text without those that would do something.
fn harmless<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    // What is written behind each link or picture that is open, and whether it is a link of the page.
    let mut open: Vec<(bool, String)> = Vec::new();
    events.map(move |event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::InlineMath(text) | Event::DisplayMath(text) => Event::Text(text),
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title: _,
            id,
        }) => {
            let within = open.iter().any(|(is_link, _)| *is_link);
            if within || !may_lead(&dest_url) {
                open.push((false, format!(" ({dest_url})")));
                return Event::Text(CowStr::Borrowed(""));
            }
            open.push((true, String::new()));
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title: CowStr::Borrowed(""),
                id,
            })
        }
        Event::Start(Tag::Image { dest_url, .. }) => {
            open.push((false, format!(", {dest_url}]")));
            Event::Text(CowStr::Borrowed("[picture: "))
        }
        Event::End(end @ (TagEnd::Link | TagEnd::Image)) => match open.pop() {
            Some((true, _)) => Event::End(end),
            Some((false, behind)) => Event::Text(behind.into()),
            None => Event::Text(CowStr::Borrowed("")),
        },
        other => other,
    })
}

/// Markdown that has no HTML, loads nothing, and ends where it ends: no link, fence or name of it reaches what comes
/// after it in the same file.
pub(super) fn contained(text: &str) -> String {
    if text.len() > LONGEST {
        return fenced(text, "");
    }
    let text = visible(text);
    let mut code: Vec<Range<usize>> = Vec::new();
    // Where a backslash keeps a bracket from being one.
    let mut escapes: Vec<usize> = Vec::new();
    let mut fence: Option<Range<usize>> = None;
    // Quotations and list items that are open: what is in one ends with it.
    let mut depth = 0u32;
    let parser = parser(&text);
    escapes.extend(
        parser
            .reference_definitions()
            .iter()
            .map(|(_, it)| it.span.start),
    );
    for (event, range) in parser.into_offset_iter() {
        match event {
            Event::Code(_) => code.push(range),
            Event::Start(Tag::CodeBlock(kind)) => {
                let is_fenced = matches!(kind, pulldown_cmark::CodeBlockKind::Fenced(_));
                fence = (is_fenced && depth == 0).then(|| range.clone());
                code.push(range);
            }
            Event::Start(Tag::Item | Tag::BlockQuote(_)) => depth += 1,
            Event::End(TagEnd::Item | TagEnd::BlockQuote(_)) => depth = depth.saturating_sub(1),
            Event::Start(Tag::Image { .. }) => escapes.push(range.start),
            Event::Start(Tag::Link { dest_url, .. }) if !may_lead(&dest_url) => {
                escapes.push(range.start);
            }
            _ => {}
        }
    }
    escapes.sort_unstable();
    let mut contained = String::with_capacity(text.len() + 64);
    for (at, c) in text.char_indices() {
        let is_code = {
            // Ranges come in order, and do not overlap.
            let next = code.partition_point(|range| range.end <= at);
            code.get(next).is_some_and(|range| range.contains(&at))
        };
        match c {
            '<' if !is_code => contained.push_str("&lt;"),
            '!' | '[' if escapes.binary_search(&at).is_ok() => {
                contained.push('\\');
                contained.push(c);
            }
            c => contained.push(c),
        }
    }
    if let Some(open) = fence.filter(|range| range.end >= text.trim_end().len()) {
        close(&text[open], &mut contained);
    }
    contained
}

/// Closes a fence at the end of a text, unless it is closed.
fn close(block: &str, text: &mut String) {
    let mut lines = block.lines();
    let opening = lines.next().unwrap_or_default().trim_start();
    let mark = opening.chars().next().unwrap_or('`');
    let length = opening.chars().take_while(|c| *c == mark).count();
    let closes = |line: &str| {
        let line = line.trim();
        line.len() >= length && line.chars().all(|c| c == mark)
    };
    if !lines.next_back().is_some_and(closes) {
        let fence: String = std::iter::repeat_n(mark, length).collect();
        text.push_str(&format!("\n{fence}"));
    }
}

/// Text as a block of code in Markdown.
pub(super) fn fenced(text: &str, language: &str) -> String {
    let text = visible(text);
    let mut longest = 2;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    format!(
        "{fence}{language}\n{}\n{fence}\n",
        text.trim_end_matches('\n')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html_of(text: &str) -> String {
        let mut out = Vec::new();
        write_html(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const HOSTILE: [&str; 14] = [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](java&#115;cript:alert(1))",
        "[click]( data:text/html,<script>1</script>)",
        "[click][1]\n\n[1]: javascript:alert(1)",
        "<javascript:alert(1)>",
        "![x](https://tracker.example/a.png)",
        "[![x](https://tracker.example/a.png)](vbscript:x)",
        "</style></main><svg onload=alert(1)>",
        "<!-- a comment that does not end",
        "```html\"><script>alert(1)</script>\nx\n```",
        "[x](https://a.example \"t\\\" onclick=alert(1)\")",
    ];

    #[test]
    fn nothing_hostile_is_left_in_html() {
        for text in HOSTILE {
            let page = html_of(text);
            for tag in page.split('<').skip(1) {
                let name: String = tag
                    .trim_start_matches('/')
                    .chars()
                    .take_while(|c| c.is_alphanumeric())
                    .collect();
                assert!(
                    ["p", "a", "pre", "code"].contains(&name.as_str()),
                    "{text}: {page}"
                );
                let inside = tag.split('>').next().unwrap();
                let href = inside.split_once("href=\"").map(|(_, href)| href);
                assert!(href.is_none_or(may_lead), "{text}: {page}");
                assert!(!inside.contains("onclick"), "{text}: {page}");
            }
        }
    }

    #[test]
    fn links_that_lead_somewhere_stay_and_others_are_words() {
        assert_eq!(
            html_of("[a](https://b.example/?x=1&y=2)"),
            "<p><a href=\"https://b.example/?x=1&amp;y=2\">a</a></p>\n"
        );
        assert_eq!(
            html_of("[a](mailto:x@b.example)"),
            "<p><a href=\"mailto:x@b.example\">a</a></p>\n"
        );
        assert_eq!(html_of("[a](src/main.rs)"), "<p>a (src/main.rs)</p>\n");
        assert_eq!(html_of("![a](b.png)"), "<p>[picture: a, b.png]</p>\n");
    }

    #[test]
    fn markdown_of_others_has_no_html_and_no_hostile_links() {
        for text in HOSTILE {
            let once = contained(text);
            for event in parser(&once) {
                match event {
                    Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::Image { .. }) => {
                        panic!("{text}: {once}")
                    }
                    Event::Start(Tag::Link { dest_url, .. }) => {
                        assert!(may_lead(&dest_url), "{text}: {once}");
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(
            contained("`<b>` and\n\n```\n<i>\n```\n"),
            "`<b>` and\n\n```\n<i>\n```\n"
        );
    }

    #[test]
    fn what_is_too_long_to_be_parsed_is_a_block_of_code() {
        let text = "x<b>`".repeat(LONGEST / 4);
        assert_eq!(contained(&text), format!("```\n{text}\n```\n"));
    }

    #[test]
    fn what_is_open_at_the_end_of_a_text_is_closed() {
        for (text, end) in [
            ("a\n```rust\nfn main() {}", "{}\n```"),
            ("~~~~\nx\n~~~", "~~~\n~~~~"),
            ("```\nx\n```", "x\n```"),
            ("```", "```\n```"),
            ("- a\n  ```\n  x", "  x"),
            ("> ```\n> x", "> x"),
        ] {
            assert!(contained(text).ends_with(end), "{:?}", contained(text));
        }
        assert_eq!(
            contained("[a]: https://b.example"),
            "\\[a]: https://b.example"
        );
        assert_eq!(fenced("a ``` b", ""), "````\na ``` b\n````\n");
    }
}
