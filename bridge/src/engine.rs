//! zenoh's session, and what all exports and imports of a bridge share.

use anyhow::{Context as _, anyhow};
use zenoh::Config;

use crate::keys;
use crate::settings::Settings;
use crate::window::Windows;
use crate::wire::PIECE_MAX;

/// Batches of 64 KiB that each of zenoh's queues may hold: the most that it allows.
pub const QUEUE_BATCHES: usize = 16;

/// What all exports and imports of a bridge share.
pub struct Engine {
    /// zenoh's session.
    pub session: zenoh::Session,
    /// The number of this process.
    pub bridge: u128,
    /// This machine, as it calls itself.
    pub host: String,
    /// The room for large payloads to each far bridge.
    pub windows: Windows,
    /// Where tasks run: zenoh calls back from threads of its own.
    pub runtime: tokio::runtime::Handle,
    /// What was set.
    pub settings: Settings,
}

impl Engine {
    /// Opens zenoh's session.
    ///
    /// # Errors
    /// A configuration that zenoh refuses; an address that cannot be listened on.
    pub async fn open(settings: Settings) -> anyhow::Result<Engine> {
        let config = configuration(&settings)?;
        let session = zenoh::open(config).await.map_err(|error| {
            anyhow!("zenoh did not start: {error}; where an address is in use, name another one with --listen")
        })?;
        Ok(Engine {
            session,
            bridge: keys::draw()?,
            host: settings.host.clone(),
            windows: Windows::new(settings.window),
            runtime: tokio::runtime::Handle::current(),
            settings,
        })
    }
}

/// zenoh's configuration: the file of the user, or peers on the loopback address without discovery; and what a bridge
/// needs in either case.
///
/// # Errors
/// A file that zenoh cannot read.
pub fn configuration(settings: &Settings) -> anyhow::Result<Config> {
    let mut config = match &settings.zenoh_config {
        Some(path) => Config::from_file(path)
            .map_err(|error| anyhow!("zenoh cannot read its configuration {}: {error}", path.display()))?,
        None => {
            let mut config = Config::default();
            let listen = match settings.listen.as_slice() {
                [] => vec!["tcp/127.0.0.1:7447".to_owned()],
                listen => listen.to_vec(),
            };
            set(&mut config, "mode", "\"peer\"")?;
            set(&mut config, "listen/endpoints", &serde_json::to_string(&listen)?)?;
            set(&mut config, "connect/endpoints", &serde_json::to_string(&settings.connect)?)?;
            // One that is not there yet is asked again.
            set(&mut config, "connect/timeout_ms", "-1")?;
            set(&mut config, "connect/exit_on_failure", "false")?;
            let retry = r#"{ period_init_ms: 100, period_max_ms: 2000, period_increase_factor: 2 }"#;
            set(&mut config, "connect/retry", retry)?;
            set(&mut config, "scouting/multicast/enabled", "false")?;
            set(&mut config, "transport/link/tx/lease", &settings.link_timeout.as_millis().to_string())?;
            config
        }
    };
    for queue in ["control", "interactive_high", "data", "data_low"] {
        set(&mut config, &format!("transport/link/tx/queue/size/{queue}"), &QUEUE_BATCHES.to_string())?;
    }
    // No message of a bridge is larger, so nobody makes this process keep one that is.
    set(&mut config, "transport/link/rx/max_message_size", "262144")?;
    Ok(config)
}

fn set(config: &mut Config, key: &str, value: &str) -> anyhow::Result<()> {
    config.insert_json5(key, value).map_err(|error| anyhow!("{error}")).with_context(|| format!("zenoh's {key}"))
}

/// The largest window, in what messages cost there ([`crate::window::cost`]): one of zenoh's batches is being written,
/// one is being filled, and the first one that a large message closes may be anything but full.
pub const WINDOW_MAX: usize = (QUEUE_BATCHES - 3) * PIECE_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zenoh_takes_the_configuration_and_it_is_loopback_only() {
        let config = configuration(&Settings::default()).unwrap();
        let listen = config.get_json("listen/endpoints").unwrap();
        assert!(listen.contains("tcp/127.0.0.1:7447"), "{listen}");
        assert_eq!(config.get_json("scouting/multicast/enabled").unwrap(), "false");
    }
}
