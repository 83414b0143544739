//! What the two iceoryx2 contenders share: a node, and events to sleep on.
//!
//! The configuration keeps everything that iceoryx2 makes under the phase's own directory and prefix, so that what it
//! leaves behind can be told from what others leave.

use anyhow::anyhow;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::*;

use crate::contender::token;

/// The kind of service: between processes, one thread to a port.
pub type Kind = ipc::Service;

/// A node of this phase.
pub fn node(directory: &std::path::Path) -> anyhow::Result<Node<Kind>> {
    set_log_level(LogLevel::Fatal);
    let mut config = Config::default();
    let root = Path::new(directory.as_os_str().as_encoded_bytes()).map_err(said)?;
    config.global.set_root_path(&root);
    config.global.prefix = FileName::new(format!("{}_", token(directory)).as_bytes()).map_err(said)?;
    let node = NodeBuilder::new().config(&config).signal_handling_mode(SignalHandlingMode::Disabled);
    node.create::<Kind>().map_err(said)
}

/// A name within the phase.
pub fn name(name: &str) -> anyhow::Result<ServiceName> {
    ServiceName::new(name).map_err(said)
}

/// What wakes whoever has the listener of this name.
pub fn notifier(node: &Node<Kind>, event: &str, ports: usize) -> anyhow::Result<Notifier<Kind>> {
    let service = node.service_builder(&name(event)?).event().max_notifiers(ports).max_nodes(ports + 8);
    service.open_or_create().map_err(said)?.notifier_builder().create().map_err(said)
}

/// What is slept on.
pub fn listener(node: &Node<Kind>, event: &str, ports: usize) -> anyhow::Result<Listener<Kind>> {
    let service = node.service_builder(&name(event)?).event().max_notifiers(ports).max_nodes(ports + 8);
    service.open_or_create().map_err(said)?.listener_builder().create().map_err(said)
}

/// Sleeps until something was notified.
pub fn sleep(listener: &Listener<Kind>) -> anyhow::Result<()> {
    listener.blocking_wait(|_| ()).map_err(said)?;
    Ok(())
}

/// An error of iceoryx2 as ours.
pub fn said(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("iceoryx2 says {error:?}")
}
