//! The command line, and the files that the results go to.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Parser;
use wigwag_bench::page::Page;

use crate::contender::Entry;
use crate::contenders::{self, OURS};
use crate::markdown;

/// Measure the same work through Wigwag and through everything that a user might pick instead
///
/// Two processes; the client fills every byte of a request, the server changes every byte, the client reads the whole
/// reply. All contenders take turns, round after round, and what counts are ratios within a round. A contender that
/// fails or hangs is ended and reported. Progress goes to standard error.
#[derive(Debug, Parser)]
#[command(
    name = "wigwag-compare",
    version,
    after_help = "Examples:
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --json comparison.json --html comparison.html
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --quick --html quick.html
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --only unix,iceoryx2-request --markdown -
  cargo run --release --manifest-path bench/compare/Cargo.toml --features zenoh -- --html comparison.html
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --parts sizes --json sizes.json
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --combine sizes.json,rates.json --html both.html
  cargo run --release --manifest-path bench/compare/Cargo.toml -- --list"
)]
pub struct Options {
    /// Write all figures as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the page: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the tables of ratios as Markdown; `-` is standard output, and so it is when no file is asked for
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Measure only these, and Wigwag, which all are compared with
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,

    /// Fewer cases and less time for each: ends within 3 minutes
    #[arg(long)]
    pub quick: bool,

    /// The two processors to use for client and server, if not the first two that are allowed
    #[arg(long, value_name = "A,B", value_delimiter = ',', num_args = 1..=2)]
    pub processors: Vec<usize>,

    /// Only these parts, for a run that is to be over soon
    #[arg(long, value_name = "PART,..", value_delimiter = ',')]
    pub parts: Vec<Part>,

    /// Measure nothing: put together what earlier runs of other parts, or of other contenders, wrote as JSON
    #[arg(long, value_name = "FILE,..", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["only", "parts", "quick", "processors"])]
    pub combine: Vec<PathBuf>,

    /// Say who can be compared, in which configuration, and who is missing
    #[arg(long)]
    list: bool,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Closed loop by size, on two processors and on one
    Sizes,
    /// Steady rates, pinned and not
    Rates,
    /// Bursts with pauses
    Bursts,
    /// Several requests under way
    InFlight,
    /// Several clients of one server
    Clients,
    /// From connecting to the first reply
    Start,
    /// Silent clients: processor time, wake-ups, memory
    Silent,
    /// After SIGKILL
    Killed,
    /// One publisher and 1, 4 and 16 readers: messages a second
    Broadcast,
}

impl Options {
    /// Whether a part was asked for.
    pub fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// Whether only names are asked for.
    pub fn is_list(&self) -> bool {
        self.list
    }

    /// The contenders that were asked for, ours always among them.
    pub fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let mut all = contenders::here();
        let mut names: Vec<&str> = all.iter().map(|entry| entry.about.name).collect();
        let media = contenders::broadcast::all().into_iter().map(|entry| entry.about.name);
        names.extend(media.filter(|name| all.iter().all(|entry| entry.about.name != *name)));
        for name in &self.only {
            ensure!(names.contains(&name.as_str()), "there is no contender '{name}'; there are {}", names.join(", "));
        }
        let is_asked = |name: &str| self.only.is_empty() || name == OURS || self.only.iter().any(|only| only == name);
        all.retain(|entry| is_asked(entry.about.name));
        Ok(all)
    }

    /// Opens what the results go to.
    pub fn outputs(&self) -> anyhow::Result<Outputs> {
        let silent = self.json.is_none() && self.html.is_none() && self.markdown.is_none();
        let markdown = if silent { Some(PathBuf::from("-")) } else { self.markdown.clone() };
        let open = |path: &Option<PathBuf>| path.as_deref().map(Sink::open).transpose();
        Ok(Outputs { json: open(&self.json)?, html: open(&self.html)?, markdown: open(&markdown)? })
    }
}

/// Where the results go.
pub struct Outputs {
    json: Option<Sink>,
    html: Option<Sink>,
    markdown: Option<Sink>,
}

enum Sink {
    Standard,
    File(PathBuf, File),
}

impl Sink {
    fn open(path: &Path) -> anyhow::Result<Sink> {
        if path == Path::new("-") {
            return Ok(Sink::Standard);
        }
        let file = File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Sink::File(path.to_owned(), file))
    }

    fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            Sink::Standard => wigwag_bench::output::line(text.trim_end()),
            Sink::File(path, mut file) => {
                file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
                eprintln!("wrote {} ({} KiB)", path.display(), text.len().div_ceil(1024));
                Ok(())
            }
        }
    }
}

impl Outputs {
    /// Writes all that was asked for.
    pub fn write(self, page: &Page) -> anyhow::Result<()> {
        if let Some(sink) = self.json {
            sink.write(&(page.json()? + "\n"))?;
        }
        if let Some(sink) = self.html {
            sink.write(&page.html()?)?;
        }
        match self.markdown {
            Some(sink) => sink.write(&markdown::of(page)),
            None => Ok(()),
        }
    }
}

/// The contenders there are.
pub fn list(entries: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let missing = entry.missing.map_or(String::new(), |why| format!(" ({why})"));
        format!("{:<17} {}{missing}: {}", entry.about.name, entry.about.label, entry.about.how)
    };
    let mut lines: Vec<String> = entries.iter().map(line).collect();
    lines.push("\nOne publisher and its readers:\n".to_owned());
    lines.extend(contenders::broadcast::all().iter().map(|entry| {
        let missing = entry.missing.map_or(String::new(), |why| format!(" ({why})"));
        format!("{:<17} {}{missing}: {}", entry.about.name, entry.about.label, entry.about.how)
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn ours_is_always_among_them_and_a_wrong_name_is_named() {
        let names = |only: &str| {
            let options = Options::parse_from(["", "--only", only]);
            options.entries().map(|all| all.iter().map(|entry| entry.about.name).collect::<Vec<_>>())
        };
        assert_eq!(names("unix").unwrap(), ["wigwag", "unix"]);
        assert_eq!(names("datagrams").unwrap(), ["wigwag"], "it has a part in broadcasts only");
        assert!(names("unix,nobody").unwrap_err().to_string().contains("'nobody'"));
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<&str> = contenders::all().iter().map(|entry| entry.about.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
