//! What came of each job with each pair of versions: as a table for a terminal, as JSON, and in a document.

use std::fmt;

use serde_json::{Value, json};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// That of this tree.
    New,
    /// That of the previous version.
    Old,
}

impl Age {
    fn word(self) -> &'static str {
        match self {
            Age::New => "new",
            Age::Old => "old",
        }
    }
}

/// Who serves, and who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub server: Age,
    pub client: Age,
}

/// All pairs. Those of one version come first: what their programs say is what the others are compared with.
pub const PAIRS: [Pair; 4] = [
    Pair { server: Age::New, client: Age::New },
    Pair { server: Age::Old, client: Age::Old },
    Pair { server: Age::New, client: Age::Old },
    Pair { server: Age::Old, client: Age::New },
];

impl Pair {
    pub fn is_mixed(self) -> bool {
        self.server != self.client
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} server, {} client", self.server.word(), self.client.word())
    }
}

/// What came of a job with one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// What differed.
    Failed(String),
    /// Why it could not be.
    NotTried(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotTried(_) => "not tried",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Verdict::Passed => None,
            Verdict::Failed(why) | Verdict::NotTried(why) => Some(why),
        }
    }
}

/// One job.
pub struct Row {
    pub job: &'static str,
    pub about: &'static str,
    /// In the order of [`PAIRS`].
    pub verdicts: [Verdict; 4],
    pub seconds: f64,
}

/// The whole table.
pub struct Table {
    /// The protocol version of this tree.
    pub version: u32,
    /// The commit that has the previous one.
    pub commit: String,
    pub rows: Vec<Row>,
    pub seconds: f64,
}

impl Table {
    /// Whether no job failed.
    pub fn passed(&self) -> bool {
        !self.rows.iter().flat_map(|row| &row.verdicts).any(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let titles = PAIRS.map(|pair| pair.to_string());
        let name = self.rows.iter().map(|row| row.job.len()).max().unwrap_or_default();
        let mut text = format!("{:name$}", "");
        text.extend(titles.iter().map(|title| format!("  {title}")));
        text += "     time\n";
        for row in &self.rows {
            text += &format!("{:name$}", row.job);
            let cells = row.verdicts.iter().zip(&titles);
            text.extend(cells.map(|(verdict, title)| format!("  {:width$}", verdict.word(), width = title.len())));
            text += &format!("  {:5.1} s\n", row.seconds);
        }
        for row in &self.rows {
            for (verdict, title) in row.verdicts.iter().zip(&titles) {
                if let Some(why) = verdict.why() {
                    text += &format!("\n{}, {title}, {}:\n  {}\n", row.job, verdict.word(), why.replace('\n', "\n  "));
                }
            }
        }
        let count = |word| self.rows.iter().flat_map(|row| &row.verdicts).filter(|one| one.word() == word).count();
        text += &format!(
            "\nprotocol version {} (new) with version {} (old, {}): {} passed, {} failed, {} not tried; {:.0} s\n",
            self.version,
            self.version - 1,
            short(&self.commit),
            count("passed"),
            count("FAILED"),
            count("not tried"),
            self.seconds
        );
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let pairs = row.verdicts.iter().zip(PAIRS).map(|(verdict, pair)| {
                json!({
                    "server": pair.server.word(),
                    "client": pair.client.word(),
                    "verdict": verdict.word().to_lowercase(),
                    "why": verdict.why(),
                })
            });
            json!({ "job": row.job, "about": row.about, "seconds": row.seconds, "pairs": pairs.collect::<Vec<_>>() })
        };
        json!({
            "version": self.version,
            "previous": { "version": self.version - 1, "commit": self.commit },
            "passed": self.passed(),
            "seconds": self.seconds,
            "jobs": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// A document with this table between its marks; without marks it gets them at its end.
    pub fn within(&self, document: &str) -> String {
        let (before, rest) = document.split_once(BEGIN).unwrap_or((document, END));
        let (_, after) = rest.split_once(END).unwrap_or((rest, ""));
        format!("{before}{BEGIN}\n{}{END}{after}", self.markdown())
    }

    /// Without times, so that it changes only when something else does.
    fn markdown(&self) -> String {
        let titles = PAIRS.map(|pair| pair.to_string()).join(" | ");
        let mut text = format!(
            "New: protocol version {}. Old: version {}, commit `{}`.\n\n| job | what is tried | {titles} \
             |\n|---|---|---|---|---|---|\n",
            self.version,
            self.version - 1,
            short(&self.commit)
        );
        for row in &self.rows {
            let verdicts = row.verdicts.each_ref().map(Verdict::word).join(" | ");
            text += &format!("| {} | {} | {verdicts} |\n", row.job, row.about);
        }
        text
    }
}

/// Where the table begins and ends in a document.
const BEGIN: &str = "<!-- table: written by `cargo xtask previous --markdown` -->";
const END: &str = "<!-- end of table -->";

/// As much of a commit's name as a person reads.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(last: Verdict) -> Table {
        let verdicts = [Verdict::Passed, Verdict::Passed, Verdict::NotTried("needs root".into()), last];
        let row = Row { job: "calls", about: "replies", verdicts, seconds: 1.25 };
        Table { version: 2, commit: "0123456789abcdef".into(), rows: vec![row], seconds: 3.0 }
    }

    #[test]
    fn a_table_passes_unless_a_job_failed() {
        assert!(table(Verdict::Passed).passed() && table(Verdict::NotTried("no".into())).passed());
        assert!(!table(Verdict::Failed("no".into())).passed());
    }

    #[test]
    fn a_terminal_shows_each_verdict_under_its_pair_and_what_differed() {
        let text = table(Verdict::Failed("expected 1\ngot 2".into())).text();
        let expected = [
            concat!(
                "       new server, new client  old server, old client  new server, old client  old server, new client",
                "     time",
            ),
            concat!(
                "calls  passed                  passed                  not tried               FAILED",
                "                    1.2 s",
            ),
            "",
            "calls, new server, old client, not tried:",
            "  needs root",
            "",
            "calls, old server, new client, FAILED:",
            "  expected 1",
            "  got 2",
            "",
            "protocol version 2 (new) with version 1 (old, 0123456789ab): 2 passed, 1 failed, 1 not tried; 3 s",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn programs_read_the_same() {
        let json = table(Verdict::Failed("expected 1".into())).json();
        assert_eq!((&json["passed"], &json["previous"]["version"]), (&false.into(), &1.into()));
        let last = &json["jobs"][0]["pairs"][3];
        let expected = json!({ "server": "old", "client": "new", "verdict": "failed", "why": "expected 1" });
        assert_eq!(last, &expected);
        assert_eq!(json["jobs"][0]["pairs"][0]["why"], Value::Null);
    }

    #[test]
    fn a_document_gets_the_table_between_its_marks() {
        let rows = "| calls | replies | passed | passed | not tried | passed |\n";
        let first = table(Verdict::Passed).within("# Title\n\ntext\n");
        assert!(first.starts_with("# Title\n\ntext\n<!-- table: ") && first.ends_with("-->"), "{first}");
        assert!(first.contains(rows) && first.contains("commit `0123456789ab`"), "{first}");
        // Whatever stood there is replaced, and what stands around it is kept.
        let changed = first.replace(rows, "old\n") + "\n\nafter\n";
        assert_eq!(table(Verdict::Passed).within(&changed), first + "\n\nafter\n");
    }
}
