//! What a bridge is told to do: command line and TOML file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::engine::WINDOW_MAX;
use crate::keys::NAME_MAX;
use crate::wire::PIECE_MAX;

/// Largest payload, if nothing else is said.
const CAPACITY: usize = 64 << 20;

/// All of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// This machine's name for others.
    pub host: String,
    /// Where zenoh listens; none: the loopback address.
    pub listen: Vec<String>,
    /// Whom zenoh connects to.
    pub connect: Vec<String>,
    /// zenoh's own configuration file, instead of the two above.
    pub zenoh_config: Option<PathBuf>,
    /// Services of this machine for others.
    #[serde(rename = "export")]
    pub exports: Vec<ExportSettings>,
    /// Services of others for this machine.
    #[serde(rename = "import")]
    pub imports: Vec<ImportSettings>,
    /// The name under which the bridge tells of itself.
    pub status_name: String,
    /// What large payloads and messages of queues may cost that are under way to one far bridge.
    pub window: usize,
    /// Links of one far bridge to one export.
    pub links_per_bridge: usize,
    /// Links to one export.
    pub links: usize,
    /// A link without a sign of life for so long is lost.
    #[serde(rename = "link_timeout_ms", deserialize_with = "milliseconds")]
    pub link_timeout: Duration,
    /// How long an export waits for the successor of its server.
    #[serde(rename = "server_timeout_ms", deserialize_with = "milliseconds")]
    pub server_timeout: Duration,
    /// How long calls under way are waited for at the end.
    #[serde(rename = "drain_timeout_ms", deserialize_with = "milliseconds")]
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            listen: Vec::new(),
            connect: Vec::new(),
            zenoh_config: None,
            exports: Vec::new(),
            imports: Vec::new(),
            status_name: crate::status::STATUS_NAME.into(),
            window: WINDOW_MAX,
            links_per_bridge: 4,
            links: 64,
            link_timeout: Duration::from_secs(5),
            server_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A service of this machine for others.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ExportSettings {
    /// The local service.
    pub name: String,
    /// The name for others; none: the same.
    #[serde(rename = "as", default)]
    pub public: Option<String>,
    /// Calls of one link that may be under way.
    #[serde(default = "calls")]
    pub calls: usize,
    /// Largest payload in bytes.
    #[serde(default = "capacity")]
    pub capacity: usize,
}

/// A service of others for this machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ImportSettings {
    /// The name of the exporters.
    pub name: String,
    /// The machine; none: any.
    #[serde(default)]
    pub host: Option<String>,
    /// The local name; none: the same.
    #[serde(rename = "as", default)]
    pub local: Option<String>,
    /// Calls that may be under way.
    #[serde(default = "calls")]
    pub calls: usize,
    /// Largest payload in bytes.
    #[serde(default = "capacity")]
    pub capacity: usize,
}

fn calls() -> usize {
    64
}

fn capacity() -> usize {
    CAPACITY
}

fn milliseconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_millis(u64::deserialize(from)?))
}

impl ExportSettings {
    /// Of a service, with what is usual.
    pub fn new(name: impl Into<String>) -> ExportSettings {
        ExportSettings { name: name.into(), public: None, calls: calls(), capacity: capacity() }
    }

    /// The name for others: without `as`, the last part of a path without its `.sock`.
    pub fn public(&self) -> &str {
        self.public.as_deref().unwrap_or_else(|| plain(&self.name))
    }
}

impl ImportSettings {
    /// Of `NAME` or `NAME@HOST`, with what is usual.
    pub fn new(name: &str) -> ImportSettings {
        let (name, host) = match name.rsplit_once('@') {
            Some((name, host)) => (name, Some(host.to_owned())),
            None => (name, None),
        };
        ImportSettings { name: name.to_owned(), host, local: None, calls: calls(), capacity: capacity() }
    }

    /// The local name.
    pub fn local(&self) -> &str {
        self.local.as_deref().unwrap_or(&self.name)
    }
}

/// The name of a service that may be given as a path.
fn plain(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.strip_suffix(".sock").unwrap_or(last)
}

impl Settings {
    /// Those of a TOML file.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of these settings; the sentence has the place.
    pub fn read(path: &Path) -> anyhow::Result<Settings> {
        let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} has no settings of a bridge", path.display()))
    }

    /// Refuses what cannot be done.
    ///
    /// # Errors
    /// A sentence that names the value, the limit and the cure.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !(self.exports.is_empty() && self.imports.is_empty()),
            "nothing is bridged unless it is listed: name a service with --export or --import"
        );
        ensure!(
            self.zenoh_config.is_none() || self.listen.is_empty() && self.connect.is_empty(),
            "--listen and --connect are part of zenoh's configuration: with --zenoh-config, write them there"
        );
        ensure!(
            (PIECE_MAX..=WINDOW_MAX).contains(&self.window),
            "a window of {} bytes is outside of {PIECE_MAX} to {WINDOW_MAX}",
            self.window
        );
        ensure!(self.link_timeout >= Duration::from_millis(500), "link_timeout_ms is at least 500");
        ensure!(self.links_per_bridge > 0 && self.links > 0, "with no links, nobody is served: 1 is the least");
        let exports = self.exports.iter().map(|export| (export.public(), export.calls, export.capacity));
        let imports = self.imports.iter().map(|import| (import.name.as_str(), import.calls, import.capacity));
        for (name, calls, capacity) in exports.chain(imports) {
            check_name("the name of a service", name)?;
            ensure!((1..=1024).contains(&calls), "{name}: calls = {calls} is outside of 1 to 1024");
            ensure!(
                (64..=1 << 30).contains(&capacity),
                "{name}: a capacity of {capacity} bytes is outside of 64 to {}",
                1 << 30
            );
        }
        for host in self.imports.iter().filter_map(|import| import.host.as_deref()).chain([self.host.as_str()]) {
            check_name("the name of a machine", host)?;
        }
        let mut public: Vec<_> = self.exports.iter().map(ExportSettings::public).collect();
        public.sort_unstable();
        if let Some(twice) = public.windows(2).find(|two| two[0] == two[1]) {
            bail!("{} is exported twice: name one of them differently with --as", twice[0]);
        }
        let mut local: Vec<_> = self.imports.iter().map(ImportSettings::local).collect();
        local.sort_unstable();
        if let Some(twice) = local.windows(2).find(|two| two[0] == two[1]) {
            bail!("two imports are to have the local name {}: name one of them differently with --as", twice[0]);
        }
        for import in &self.imports {
            let is_own = |export: &ExportSettings| export.name == import.local();
            ensure!(
                !self.exports.iter().any(is_own),
                "{} is exported and imported under the same local name: the bridge would call itself; use --as",
                import.local()
            );
        }
        Ok(())
    }

    /// What the bridge would do, one sentence a line.
    pub fn plan(&self) -> String {
        let mut lines = vec![format!("this machine is called {}", self.host)];
        match &self.zenoh_config {
            Some(path) => lines.push(format!("zenoh is configured by {}", path.display())),
            None if self.listen.is_empty() => {
                lines.push("it listens on tcp/127.0.0.1:7447, which other machines cannot reach".into())
            }
            None => lines.push(format!("it listens on {}", self.listen.join(", "))),
        }
        for connect in &self.connect {
            lines.push(format!("it connects to {connect}, and tries again while nobody is there"));
        }
        for export in &self.exports {
            lines.push(format!(
                "it exports the local service {} as {}: up to {} calls of each link at a time, payloads up to {} bytes",
                export.name,
                export.public(),
                export.calls,
                export.capacity
            ));
        }
        for import in &self.imports {
            let from = import.host.as_deref().map_or("any machine".to_owned(), |host| format!("the machine {host}"));
            lines.push(format!(
                "it imports {} from {from}, and serves it here as {}: up to {} calls at a time",
                import.name,
                import.local(),
                import.calls
            ));
        }
        lines.push(format!("it tells of itself under the name {}", self.status_name));
        lines.join("\n") + "\n"
    }
}

fn check_name(what: &str, name: &str) -> anyhow::Result<()> {
    ensure!((1..=NAME_MAX).contains(&name.len()), "{what} has 1 to {NAME_MAX} bytes: {name:?} does not");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings { exports: vec![ExportSettings::new("orders")], ..Settings::default() };
        change(&mut settings);
        settings
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let text = r#"
            host = "a"
            connect = ["tcp/10.0.0.2:7447"]
            link_timeout_ms = 3000
            [[export]]
            name = "orders"
            as = "public"
            [[import]]
            name = "prices"
            host = "b"
            capacity = 4096
        "#;
        let settings: Settings = toml::from_str(text).unwrap();
        settings.check().unwrap();
        assert_eq!(settings.exports[0].public(), "public");
        assert_eq!(settings.link_timeout, Duration::from_secs(3));
        let import = ImportSettings { capacity: 4096, ..ImportSettings::new("prices@b") };
        assert_eq!(settings.imports, [import]);
        assert!(toml::from_str::<Settings>("hots = \"a\"").is_err(), "a wrong word is told");
    }

    #[test]
    fn what_cannot_be_done_is_told_before_it_is_tried() {
        with(|_| ()).check().unwrap();
        type Change = fn(&mut Settings);
        let wrong: [(Change, &str); 8] = [
            (|settings| settings.exports.clear(), "--export"),
            (|settings| settings.exports.push(ExportSettings::new("/run/x/orders.sock")), "--as"),
            (|settings| settings.imports.push(ImportSettings::new("orders")), "call itself"),
            (|settings| settings.window = 1, "window"),
            (|settings| settings.exports[0].calls = 0, "calls = 0"),
            (|settings| settings.exports[0].capacity = 2 << 30, "capacity"),
            (|settings| settings.host.clear(), "machine"),
            (
                |settings| {
                    settings.zenoh_config = Some("z.json5".into());
                    settings.listen = vec!["tcp/0.0.0.0:1".into()];
                },
                "--zenoh-config",
            ),
        ];
        for (change, word) in wrong {
            let error = with(change).check().unwrap_err().to_string();
            assert!(error.contains(word), "{error} has no {word}");
        }
    }
}
