//! Where the results go: a table or JSON on standard output, JSON in a file beside it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::output;
use wigwag_bench::row::Row;

/// The way out for results.
pub struct Output {
    json: Json,
}

enum Json {
    Nowhere,
    Standard,
    File(BufWriter<File>),
}

impl Output {
    /// JSON to a file, to standard output when it is named `-`, or nowhere.
    pub fn open(json: Option<&Path>) -> anyhow::Result<Output> {
        let json = match json {
            None => Json::Nowhere,
            Some(path) if path == Path::new("-") => Json::Standard,
            Some(path) => {
                let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
                Json::File(BufWriter::new(file))
            }
        };
        Ok(Output { json })
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
