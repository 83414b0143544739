//! `wigwag man`: the manual pages, made of the same texts as the help.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap_mangen::Man;
use roff::{Roff, roman};
use wigwag_bench::output;

/// Print the manual page, or write that of every command into a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wigwag man | man -l -\n  wigwag man ~/.local/share/man/man1")]
pub struct Args {
    /// Where the pages of all commands are written; the page of the program alone is printed
    directory: Option<PathBuf>,
}

/// The command, for a program with that command line.
pub fn run(args: &Args, program: clap::Command) -> anyhow::Result<ExitCode> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let version = program.render_version().trim_end().to_owned();
    match &args.directory {
        None => output::named("the manual page", &page(&program, &version)?)?,
        Some(directory) => {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            write_all(&program, &version, directory)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command and of all below it.
fn write_all(command: &clap::Command, version: &str, directory: &Path) -> anyhow::Result<()> {
    let file = directory.join(Man::new(command.clone()).get_filename());
    std::fs::write(&file, page(command, version)?).with_context(|| format!("cannot write {}", file.display()))?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write_all(below, version, directory))
}

fn page(command: &clap::Command, version: &str) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = title(man.get_filename().trim_end_matches(".1"), version).into_bytes();
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(rest) = command.get_after_help() {
        sections(&rest.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// The line that heads a page. It has no date, and says so: `roff` leaves out an empty word, and what comes after it
/// would stand in its place.
fn title(name: &str, version: &str) -> String {
    format!(".TH {name} 1 \"\" \"{version}\" Wigwag\n")
}

/// What stands below a help: parts between empty lines. One with a title has commands or columns, whose lines stay as
/// they are; one without is prose.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for part in text.split("\n\n").map(|part| part.trim_matches('\n')).filter(|part| !part.is_empty()) {
        let titled = part.split_once('\n').and_then(|(title, lines)| Some((title.strip_suffix(':')?, lines)));
        let Some((title, lines)) = titled else {
            roff.control("PP", []).text([roman(part)]);
            continue;
        };
        roff.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
        for line in lines.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_does_not_stand_where_the_date_does() {
        let page = page(&clap::Command::new("wigwag").about("Short"), "wigwag 1.2.3").unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with(".TH wigwag 1 \"\" \"wigwag 1.2.3\" Wigwag\n"), "{page}");
        assert_eq!(page.matches(".TH ").count(), 1);
    }

    #[test]
    fn examples_and_codes_are_sections_whose_lines_stay() {
        let text = sections("Examples:\n  wigwag a   # b\n  wigwag c\n\nProse.\n\nExit codes:\n  0   fine\n").to_roff();
        let lines = [
            ".SH EXAMPLES",
            ".nf",
            "wigwag a   # b",
            "wigwag c",
            ".fi",
            ".PP",
            "Prose.",
            ".SH \"EXIT CODES\"",
            ".nf",
            "0   fine",
            ".fi",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
