//! One page that needs nothing else: no script, no picture, no font, nothing loaded. It is dark where the reader's
//! machine is, and what is far from the screen costs the browser nothing (`content-visibility`).

use std::io::{self, Write};

use chrono::{DateTime, Local};

use super::fold::{Fold, Kind};
use super::markup;
use super::meaning;
use super::plain::escaped;
use super::renderer::{Conversation, Renderer, local, standing};
use super::said::{Part, Who, file};
use super::session::Note;
use super::stored::Message;

/// The page may do nothing but look like something.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

#[derive(Default)]
pub(crate) struct Html {
    number: u64,
    /// Who spoke last, and the day.
    before: Option<Who>,
    day: Option<String>,
}

impl Renderer for Html {
    fn begin(&mut self, of: &Conversation<'_>, out: &mut dyn Write) -> io::Result<()> {
        let session = of.session;
        let title = escaped(session.title());
        let style = include_str!("html/style.css");
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
             <header class=\"page\">\n<h1 dir=\"auto\">{title}</h1>\n<dl>\n"
        )?;
        let time = |time| local(time).map(|time| minute(&time)).unwrap_or_default();
        let messages = session.messages.to_string();
        let exported = minute(&of.exported_at);
        for (name, value) in [
            ("Project", session.project()),
            ("Agent", session.agent()),
            ("Machine", session.host()),
            ("Messages", &messages),
            ("First", &time(session.first)),
            ("Last", &time(session.last)),
            ("Read from", of.origin),
            ("Exported", &exported),
            ("Session", &session.id),
        ] {
            if !value.is_empty() {
                let value = escaped(value);
                writeln!(
                    out,
                    "<div><dt>{name}</dt><dd dir=\"auto\">{value}</dd></div>"
                )?;
            }
        }
        out.write_all(b"</dl>\n</header>\n<main>\n")?;
        notes(of.notes, out)
    }

    fn message(&mut self, message: &Message, out: &mut dyn Write) -> io::Result<()> {
        self.number += 1;
        let number = self.number;
        let said = meaning::of(message);
        let time = local(message.time());
        if let Some(time) = &time {
            let day = time.format("%A, %-d %B %Y").to_string();
            if self.day.as_ref() != Some(&day) {
                writeln!(out, "<h2 class=\"day\">{day}</h2>")?;
                (self.day, self.before) = (Some(day), None);
            }
        }
        let (class, name) = match &said.who {
            Who::Person => ("user", "User".to_owned()),
            Who::Agent => ("agent", "Agent".to_owned()),
            Who::Event => ("event", String::new()),
            Who::Other(role) => ("agent", escaped(role)),
        };
        let aside = if said.is_aside { " aside" } else { "" };
        let standing = standing(message);
        let waits = if standing.is_some() { " waits" } else { "" };
        let again = match self.before.as_ref() == Some(&said.who) {
            true => " again",
            false => "",
        };
        write!(
            out,
            "<article class=\"{class}{aside}{waits}{again}\" id=\"m{number}\"><header>"
        )?;
        if !name.is_empty() {
            let beside = if said.is_aside { ", subagent" } else { "" };
            write!(out, "<b>{name}{beside}</b>")?;
        }
        if let Some(standing) = standing {
            write!(out, "<em>{}</em>", escaped(&standing))?;
        }
        let (stamp, shown) = match &time {
            Some(time) => (time.to_rfc3339(), time.format("%H:%M").to_string()),
            None => (String::new(), format!("#{number}")),
        };
        writeln!(
            out,
            "<a href=\"#m{number}\"><time datetime=\"{stamp}\">{shown}</time></a></header>"
        )?;
        for part in &said.parts {
            write_part(part, out)?;
        }
        out.write_all(b"</article>\n")?;
        self.before = Some(said.who);
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.number == 0 {
            out.write_all(b"<p class=\"line\">This session has no messages.</p>\n")?;
        }
        out.write_all(b"</main>\n</body>\n</html>\n")
    }
}

fn write_part(part: &Part, out: &mut dyn Write) -> io::Result<()> {
    match part {
        Part::Prose(text) => {
            out.write_all(b"<div class=\"prose\" dir=\"auto\">")?;
            markup::write_html(text, out)?;
            out.write_all(b"</div>\n")
        }
        Part::Typed(text) => {
            writeln!(
                out,
                "<div class=\"typed\" dir=\"auto\">{}</div>",
                escaped(text)
            )
        }
        Part::Line(text) => writeln!(out, "<p class=\"line\" dir=\"auto\">{}</p>", escaped(text)),
        Part::File(name, known) => {
            let (name, known) = (escaped(name), escaped(known));
            writeln!(
                out,
                "<p class=\"file\"><bdi>{name}</bdi> <small>{known}</small></p>"
            )
        }
        Part::Fold(fold) => write_fold(fold, out),
    }
}

fn write_fold(fold: &Fold, out: &mut dyn Write) -> io::Result<()> {
    let class = match fold.kind {
        Kind::Thought => "thought",
        Kind::Call => "call",
        Kind::Result => "result",
        Kind::Failure => "failure",
        Kind::Other => "other",
    };
    let (title, digest) = (escaped(&fold.title), escaped(&fold.digest));
    writeln!(
        out,
        "<details class=\"{class}\"><summary><b>{title}</b> <span dir=\"auto\">{digest}</span></summary>"
    )?;
    for block in &fold.blocks {
        if let Some(label) = &block.label {
            write!(out, "<h6>{}</h6>", escaped(label))?;
        }
        writeln!(out, "<pre>{}</pre>", escaped(&block.text))?;
    }
    out.write_all(b"</details>\n")
}

fn notes(notes: &[Note], out: &mut dyn Write) -> io::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let count = notes.len();
    writeln!(
        out,
        "<details class=\"notes\"><summary><b>Scratchlist</b> <span>{count}</span></summary>"
    )?;
    for note in notes {
        let time = local(note.created_at)
            .map(|time| minute(&time))
            .unwrap_or_default();
        writeln!(
            out,
            "<div class=\"note\"><small>{time}</small><div class=\"typed\" dir=\"auto\">{}</div>",
            escaped(&note.text)
        )?;
        for attachment in note.attachments.as_array().into_iter().flatten() {
            write_part(&file(attachment), out)?;
        }
        out.write_all(b"</div>\n")?;
    }
    out.write_all(b"</details>\n")
}

fn minute(time: &DateTime<Local>) -> String {
    time.format("%Y-%m-%d %H:%M %:z").to_string()
}
