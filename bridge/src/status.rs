//! What a bridge has counted, and the way to read it: `wigwag-bridge status` calls the bridge by a name of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The name under which a bridge tells of itself, if nothing else is said.
pub const STATUS_NAME: &str = "wigwag-bridge";

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one export or import has counted since its bridge began.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The counters at a moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The counters now.
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Each with its name.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Links that were made.
    links_made,
    /// Links that were lost, or ended because of what the far bridge sent.
    links_lost,
    /// Calls, or messages of a queue, that were put to the far bridge (import) or handed to the server (export);
    /// messages of a broadcast that were put to importers (export).
    sent,
    /// Messages of a broadcast that were published here; of an import.
    published,
    /// Messages of a broadcast that did not get through: of an import what its subscribers are told of, of an export
    /// what it could not send or did not get.
    lost,
    /// Replies, or acknowledgements, that came back.
    answered,
    /// Errors of the far handler, or of the far server.
    failed,
    /// Calls that certainly were not executed, and were told so.
    not_executed,
    /// Calls that may have been executed, and were told so.
    maybe_executed,
    /// Calls that their callers gave up.
    given_up,
    /// Answers to calls that were over, which reach nobody.
    late,
    /// Requests that were there before, and were not executed again.
    duplicates,
    /// Messages that belong to no link of this process.
    strays,
    /// Messages that could not be read, or break the rules.
    violations,
    /// Bytes of payloads that were sent.
    bytes_out,
    /// Bytes of payloads that came.
    bytes_in,
}

/// Counts one more.
pub fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts so many more.
pub fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// What a bridge tells of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its machine, as it calls itself.
    pub host: String,
    /// The number that its process drew.
    pub bridge: String,
    /// Its process.
    pub pid: u32,
    /// Whether it is about to end.
    pub is_draining: bool,
    /// Services of this machine for others.
    pub exports: Vec<ExportStatus>,
    /// Services of others on this machine.
    pub imports: Vec<ImportStatus>,
}

/// An export.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExportStatus {
    /// The local service.
    pub name: String,
    /// The name for others.
    pub public: String,
    /// The links of importers.
    pub links: Vec<LinkStatus>,
    /// What was counted.
    pub counts: Counts,
}

/// An import.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportStatus {
    /// The name of the exporters.
    pub public: String,
    /// The local name.
    pub name: String,
    /// In one sentence.
    pub state: String,
    /// What is served, as a contract prints.
    pub contract: Option<String>,
    /// The link.
    pub link: Option<LinkStatus>,
    /// Exporters of the name that are not used, as `HOST (BRIDGE)`.
    pub standby: Vec<String>,
    /// What was counted.
    pub counts: Counts,
}

/// A link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The far machine.
    pub host: String,
    /// The far process.
    pub bridge: String,
    /// Calls under way.
    pub under_way: usize,
    /// Calls that may be under way.
    pub calls: usize,
    /// Bytes of a payload at most.
    pub capacity: usize,
    /// The last round trip of a sign of life in microseconds; an export does not measure it.
    pub round_trip_us: Option<u64>,
}

/// The short form of a bridge's number, for people.
pub fn short(bridge: u128) -> String {
    format!("{bridge:032x}")[..8].to_owned()
}

impl Status {
    /// What is answered to who calls the bridge by its own name.
    ///
    /// | request | answer |
    /// |---|---|
    /// | nothing | all of it, as JSON |
    /// | `lines` | lines for people |
    /// | `lines of NAME` | those of one local name; empty if the bridge does not have it |
    /// | `metrics` | as Prometheus reads it |
    ///
    /// # Errors
    /// A sentence, for any other request.
    pub fn answer(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        match request {
            b"" => serde_json::to_vec(self).map_err(|error| error.to_string()),
            b"lines" => Ok(self.to_lines().into_bytes()),
            b"metrics" => Ok(self.to_metrics().into_bytes()),
            _ => match request.strip_prefix(b"lines of ") {
                Some(name) => Ok(self.lines_of(&String::from_utf8_lossy(name)).into_bytes()),
                None => Err("a bridge is asked for nothing, lines, lines of NAME or metrics".into()),
            },
        }
    }

    /// As lines for people.
    pub fn to_lines(&self) -> String {
        let ending = if self.is_draining { ", about to end" } else { "" };
        format!("bridge {} on {}, process {}{ending}\n{}", self.bridge, self.host, self.pid, self.names(|_| true))
    }

    /// The lines of one local name.
    pub fn lines_of(&self, name: &str) -> String {
        self.names(|of| of == name)
    }

    fn names(&self, is_shown: impl Fn(&str) -> bool) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        for export in self.exports.iter().filter(|export| is_shown(&export.name)) {
            let _ = writeln!(out, "export {} as {}: {} links", export.name, export.public, export.links.len());
            export.links.iter().for_each(|link| put_link(&mut out, link));
            put_counts(&mut out, &export.counts);
        }
        for import in self.imports.iter().filter(|import| is_shown(&import.name)) {
            let contract = import.contract.as_deref().unwrap_or("no contract known yet");
            let _ = writeln!(out, "import {} as {}: {} ({contract})", import.public, import.name, import.state);
            import.link.iter().for_each(|link| put_link(&mut out, link));
            for standby in &import.standby {
                let _ = writeln!(out, "  stands by: {standby}");
            }
            put_counts(&mut out, &import.counts);
        }
        out
    }

    /// As Prometheus reads it.
    pub fn to_metrics(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let label = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let exports = self.exports.iter().map(|export| ("export", &export.name, &export.counts, export.links.len()));
        let imports = self
            .imports
            .iter()
            .map(|import| ("import", &import.name, &import.counts, usize::from(import.link.is_some())));
        let all: Vec<_> = exports.chain(imports).collect();
        let names: Vec<_> = Counts::default().each().into_iter().map(|(name, _)| name).collect();
        for (at, name) in names.iter().enumerate() {
            let _ = writeln!(out, "# TYPE wigwag_bridge_{name}_total counter");
            for (direction, of, counts, _) in &all {
                let (of, value) = (label(of), counts.each()[at].1);
                let _ = writeln!(out, "wigwag_bridge_{name}_total{{direction=\"{direction}\",name=\"{of}\"}} {value}");
            }
        }
        let _ = writeln!(out, "# TYPE wigwag_bridge_links gauge");
        for (direction, of, _, links) in &all {
            let of = label(of);
            let _ = writeln!(out, "wigwag_bridge_links{{direction=\"{direction}\",name=\"{of}\"}} {links}");
        }
        let _ = writeln!(out, "# TYPE wigwag_bridge_round_trip_seconds gauge");
        for import in &self.imports {
            if let Some(round_trip) = import.link.as_ref().and_then(|link| link.round_trip_us) {
                let (of, seconds) = (label(&import.name), round_trip as f64 / 1e6);
                let _ = writeln!(out, "wigwag_bridge_round_trip_seconds{{name=\"{of}\"}} {seconds}");
            }
        }
        out
    }
}

fn put_link(out: &mut String, link: &LinkStatus) {
    use std::fmt::Write as _;
    let round_trip = link.round_trip_us.map_or(String::new(), |us| format!(", round trip {us} us"));
    let _ = writeln!(
        out,
        "  linked to bridge {} on {}: {} of {} under way, payloads up to {} bytes{round_trip}",
        link.bridge, link.host, link.under_way, link.calls, link.capacity
    );
}

fn put_counts(out: &mut String, counts: &Counts) {
    let told: Vec<_> = counts.each().iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if !told.is_empty() {
        out.push_str(&format!("  {}\n", told.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_its_answer() {
        let of = |name: &str| ImportStatus { name: name.into(), state: "linked".into(), ..ImportStatus::default() };
        let status = Status { imports: vec![of("a"), of("b")], ..Status::default() };
        let answer = |request: &[u8]| String::from_utf8(status.answer(request).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&answer(b"")).unwrap().imports.len(), 2);
        assert!(answer(b"lines").starts_with("bridge") && answer(b"metrics").starts_with("# TYPE"));
        let lines = answer(b"lines of b");
        assert!(lines.contains("as b: linked") && !lines.contains("as a:"), "{lines}");
        assert_eq!(answer(b"lines of c"), "");
        assert!(status.answer(b"else").is_err());
    }

    #[test]
    fn every_name_is_fit_for_the_metrics() {
        let import = ImportStatus { name: "a\"b\\c\n".into(), ..ImportStatus::default() };
        let metrics = Status { imports: vec![import], ..Status::default() }.to_metrics();
        assert!(metrics.contains(r#"wigwag_bridge_sent_total{direction="import",name="a\"b\\c\n"} 0"#), "{metrics}");
    }
}
