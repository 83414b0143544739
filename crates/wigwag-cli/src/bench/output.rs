//! Where the results go: a table or JSON on standard output, JSON and a page in files beside it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::output;
use wigwag_bench::page::Page;
use wigwag_bench::row::Row;

/// The way out for results.
pub struct Output {
    json: Json,
    /// The page, opened before anything is measured.
    html: Option<(PathBuf, File)>,
}

enum Json {
    Nowhere,
    Standard,
    File(BufWriter<File>),
}

impl Output {
    /// JSON to a file, to standard output when it is named `-`, or nowhere.
    pub fn open(json: Option<&Path>, html: Option<&Path>) -> anyhow::Result<Output> {
        let json = match json {
            None => Json::Nowhere,
            Some(path) if path == Path::new("-") => Json::Standard,
            Some(path) => {
                let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
                Json::File(BufWriter::new(file))
            }
        };
        let html = html.map(|path| {
            let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
            anyhow::Ok((path.to_owned(), file))
        });
        Ok(Output { json, html: html.transpose()? })
    }

    /// Writes the page, where one was asked for.
    pub fn page(&mut self, page: impl FnOnce() -> Page) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.html else { return Ok(()) };
        let html = page().html()?;
        file.write_all(html.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Whether standard output is for tables.
    pub fn is_human(&self) -> bool {
        !matches!(self.json, Json::Standard)
    }

    /// Writes rows, an object on a line each.
    pub fn rows(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        rows.iter().try_for_each(|row| self.object(row))
    }

    /// Writes one object on a line.
    pub fn object(&mut self, object: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(object)?;
        match &mut self.json {
            Json::Nowhere => Ok(()),
            Json::Standard => output::line(&line),
            Json::File(file) => {
                writeln!(file, "{line}").and_then(|()| file.flush()).context("the JSON cannot be written")
            }
        }
    }
}
