//! Markdown to read, to keep and to search. The words of others stay Markdown, without their HTML; what is folded on a
//! page is folded where `<details>` is known, and else stands there.

use std::io::{self, Write};

use super::fold::Fold;
use super::markup::{contained, fenced};
use super::meaning;
use super::plain::{escaped, one_line};
use super::renderer::{Conversation, Renderer, local, standing};
use super::said::{Part, Who, file};
use super::stored::Message;

/// Characters of a name or title in one line.
const LONGEST: usize = 300;

#[derive(Default)]
pub(crate) struct Markdown;

impl Renderer for Markdown {
    fn begin(&mut self, of: &Conversation<'_>, out: &mut dyn Write) -> io::Result<()> {
        let session = of.session;
        writeln!(out, "# {}\n", literal(session.title()))?;
        let messages = session.messages.to_string();
        let time = |time| local(time).map(|t| t.to_rfc3339()).unwrap_or_default();
        for (name, value) in [
            ("Session", session.id.as_str()),
            ("Project", session.project()),
            ("Agent", session.agent()),
            ("Machine", session.host()),
            ("Messages", &messages),
            ("First", &time(session.first)),
            ("Last", &time(session.last)),
            ("Read from", of.origin),
            ("Exported", &of.exported_at.to_rfc3339()),
        ] {
            if !value.is_empty() {
                writeln!(out, "- {name}: {}", literal(value))?;
            }
        }
        if !of.notes.is_empty() {
            out.write_all(b"\n## Scratchlist\n")?;
        }
        for note in of.notes {
            writeln!(
                out,
                "\n### {}\n\n{}",
                time(note.created_at),
                contained(&note.text)
            )?;
            for attachment in note.attachments.as_array().into_iter().flatten() {
                write_part(&file(attachment), out)?;
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message, out: &mut dyn Write) -> io::Result<()> {
        let said = meaning::of(message);
        let who = match &said.who {
            Who::Person => "User".to_owned(),
            Who::Agent => "Agent".to_owned(),
            Who::Event => "Event".to_owned(),
            Who::Other(role) => literal(role),
        };
        let aside = said.is_aside.then(|| "subagent".to_owned());
        let time = local(message.time()).map(|time| time.format("%Y-%m-%d %H:%M").to_string());
        let facts: Vec<String> = [aside, time, standing(message)]
            .into_iter()
            .flatten()
            .collect();
        writeln!(out, "\n## {who}\n")?;
        if !facts.is_empty() {
            writeln!(out, "_{}_", facts.join(", "))?;
        }
        for part in &said.parts {
            write_part(part, out)?;
        }
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn write_part(part: &Part, out: &mut dyn Write) -> io::Result<()> {
    match part {
        Part::Prose(text) | Part::Typed(text) | Part::Line(text) => {
            writeln!(out, "\n{}", contained(text))
        }
        Part::File(name, known) => {
            writeln!(out, "\nFile: {} ({})", literal(name), literal(known))
        }
        Part::Fold(fold) => write_fold(fold, out),
    }
}

fn write_fold(fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
    let summary = format!("<b>{}</b> {}", inert(&fold.title), inert(&fold.digest));
    writeln!(out, "\n<details><summary>{}</summary>", summary.trim_end())?;
    for block in &fold.blocks {
        if let Some(label) = &block.label {
            write!(out, "\n{}:\n", literal(label))?;
        }
        let language = if block.is_json { "json" } else { "" };
        write!(out, "\n{}", fenced(&block.text, language))?;
    }
    out.write_all(b"\n</details>\n")
}

/// Words of others in a line of HTML, which no reader of Markdown takes for Markdown either.
fn inert(text: &str) -> String {
    let mut out = String::new();
    for c in escaped(&one_line(text, LONGEST)).chars() {
        match c {
            '[' | ']' | '!' | '`' | '*' | '_' | '~' | '\\' => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Words of others in a line of ours, where they mean only themselves.
fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text, LONGEST).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '!' | '|' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
