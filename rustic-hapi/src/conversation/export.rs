//! The formats of an export.

use super::html::Html;
use super::json::Json;
use super::markdown::Markdown;
use super::renderer::Renderer;

/// How a conversation is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One self-contained page, without scripts
    #[default]
    Html,
    /// Markdown, without HTML of others
    Markdown,
    /// The hub's own export format, schema version 2
    Json,
}

impl Format {
    pub(crate) fn renderer(self) -> Box<dyn Renderer> {
        match self {
            Self::Html => Box::<Html>::default(),
            Self::Markdown => Box::<Markdown>::default(),
            Self::Json => Box::<Json>::default(),
        }
    }
}
