//! What the doctor found: facts, how bad they are, and what helps.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but slower, smaller or less safely than it could.
    Note,
    /// Something does not work, or will not.
    Wrong,
}

/// The parts of the report, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    Directory,
    Names,
    Servers,
    Kernel,
    Limits,
    Processors,
    Memory,
}

impl Section {
    fn title(self) -> &'static str {
        match self {
            Section::Directory => "Runtime directory",
            Section::Names => "Names",
            Section::Servers => "Servers",
            Section::Kernel => "Kernel",
            Section::Limits => "Limits",
            Section::Processors => "Processors",
            Section::Memory => "Memory",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub section: Section,
    /// What was looked at, as a word that scripts can go by.
    pub check: &'static str,
    pub level: Level,
    /// What is so.
    pub fact: String,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub wrong: usize,
    pub notes: usize,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn ok(&mut self, section: Section, check: &'static str, fact: impl Into<String>) {
        self.findings.push(Finding { section, check, level: Level::Ok, fact: fact.into(), cure: None });
    }

    pub fn note(&mut self, section: Section, check: &'static str, fact: impl Into<String>, cure: impl Into<String>) {
        self.notes += 1;
        self.findings.push(Finding { section, check, level: Level::Note, fact: fact.into(), cure: Some(cure.into()) });
    }

    pub fn wrong(&mut self, section: Section, check: &'static str, fact: impl Into<String>, cure: impl Into<String>) {
        self.wrong += 1;
        self.findings.push(Finding { section, check, level: Level::Wrong, fact: fact.into(), cure: Some(cure.into()) });
    }

    /// For people: a paragraph a section, and a sentence in the end.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut last = None;
        for finding in &self.findings {
            if last != Some(finding.section) {
                let gap = if last.is_some() { "\n" } else { "" };
                let _ = writeln!(text, "{gap}{}", finding.section.title());
                last = Some(finding.section);
            }
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Wrong => "WRONG",
            };
            text.push_str(&paragraph(&format!("  {mark:<7}"), &finding.fact));
            if let Some(cure) = &finding.cure {
                text.push_str(&paragraph(&format!("  {:<7}-> ", ""), cure));
            }
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    fn summary(&self) -> String {
        let notes = match self.notes {
            0 => String::new(),
            1 => " 1 note says what could be better.".to_owned(),
            more => format!(" {more} notes say what could be better."),
        };
        match self.wrong {
            0 => format!("Nothing is wrong.{notes}"),
            1 => format!("1 thing is wrong.{notes}"),
            more => format!("{more} things are wrong.{notes}"),
        }
    }

    #[cfg(test)]
    pub fn levels(&self) -> Vec<(&'static str, Level)> {
        self.findings.iter().map(|finding| (finding.check, finding.level)).collect()
    }
}

/// Text behind a mark, on lines of 80 columns.
fn paragraph(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.chars().count());
    let options = textwrap::Options::new(80).initial_indent(mark).subsequent_indent(&indent).break_words(false);
    textwrap::fill(text, options) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_paragraph_a_section_and_a_sentence() {
        let mut report = Report::default();
        report.ok(Section::Names, "names", "2 names, all alive");
        report.note(Section::Kernel, "feature", "word ".repeat(20), "do this");
        report.wrong(Section::Kernel, "feature", "bad", "do that");
        let text = report.text();
        assert!(text.starts_with("Names\n  ok     2 names, all alive\n\nKernel\n  note   word word"), "{text}");
        assert!(text.contains("\n         word") && text.contains("\n         -> do this\n  WRONG  bad\n"), "{text}");
        assert!(text.ends_with("\n1 thing is wrong. 1 note says what could be better.\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
