//! `wigwag queue keep`: a keeper of messages from the command line.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::mpsc;

use serde_json::json;
use wigwag::runtime::escaped;
use wigwag::{Keeper, KeeperEvent, KeeperStats};

use crate::{exit, output, serve, service_manager, signals, words};

pub const EXAMPLES: &str = "\
Examples:
  wigwag queue keep jobs &                       # in a service manager's unit, better
  wigwag queue recv jobs --keep --kept-by jobs   # a worker whose senders' messages are kept
  seq 100 | wigwag queue send jobs               # may exit, and the worker be killed: nothing is lost
  wigwag queue keep jobs --max-bytes 1G --json   # a line of JSON for each thing it does

A message is lost when both its sender and its receiver are gone before it was acknowledged. A keeper has the \
    memory \
of each session of the receivers that name it. When both sides of a session are dead, what was not acknowledged goes \
    to \
whoever has the queue's name next, in order; what a receiver may have had is marked as redelivered. One keeper does \
    for \
any number of queues. While nothing is left over it sleeps, and it is on no message's way.

Not kept: what other users send, what may have descriptors, and what is beyond the limits. The receiver is told, and \
refuses the sender or lets it in unkept (--allow-unkept).

SIGTERM and Ctrl-C end it. What it has left of the dead is lost then: it says how much that is, and the code is 5. \
Everything else is as it is without a keeper; one that is started anew has the sessions again that live.";

/// Keep messages until their senders and receivers are both gone, and hand them on
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::CODES))]
pub struct Args {
    /// The keeper's name, or a path (starting with / ./ ../): mostly that of the queue
    name: OsString,
    /// Sessions that are kept at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_sessions: u32,
    /// Bytes of all their memory, address space as for a receiver; K, M and G are understood [default: 64G]
    #[arg(long, value_name = "BYTES", value_parser = serve::size)]
    max_bytes: Option<usize>,
    /// Print a line of JSON when it keeps, for each thing that it does, and at the end
    #[arg(long)]
    json: bool,
}

/// Keeps until it is told to end.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let signals = signals::receive(&signals::ENDING)?;
    // Told by one thread, this one: a reader that is slow, or gone, holds up no thread of the keeper's.
    let (tell, told) = mpsc::channel();
    let ending = tell.clone();
    let mut builder = Keeper::builder().max_sessions(args.max_sessions as usize);
    if let Some(bytes) = args.max_bytes {
        builder = builder.max_bytes(bytes as u64);
    }
    let builder = builder.on_event(move |event| drop(tell.send(Some(event.clone()))));
    let keeper = builder.start(&args.name).map_err(words::explain)?;
    signals::end_in_order(signals, move |_| {
        service_manager::stopping();
        let _ = ending.send(None);
    })?;
    output::announce(&announcement(args, &keeper))?;
    service_manager::ready();
    while let Ok(Some(event)) = told.recv() {
        if args.json {
            output::announce(&described(&event).to_string())?;
        } else if !matches!(event, KeeperEvent::Kept { .. } | KeeperEvent::Released { .. }) {
            output::announce(&event.to_string())?;
        }
    }
    let stats = keeper.stats();
    drop(keeper); // the name is free before anybody hears that we are done
    output::announce(&farewell(args, &stats))?;
    Ok(ExitCode::from(if stats.left == 0 { 0 } else { exit::LOST }))
}

fn announcement(args: &Args, keeper: &Keeper) -> String {
    let (name, path) = (escaped(&args.name), escaped(keeper.path()));
    if args.json {
        return json!({ "keeping": path, "name": name }).to_string();
    }
    let word = words::word(&args.name);
    let kept_by = format!("wigwag queue recv {word} --keep --kept-by {word}");
    format!("Keeping as {name} ({path}).\nKept by it:  {kept_by}\nStop it with Ctrl-C.")
}

fn described(event: &KeeperEvent) -> serde_json::Value {
    let path = |queue: &std::path::Path| escaped(queue);
    match event {
        KeeperEvent::Kept { queue, sender, bytes } => {
            json!({ "event": "kept", "queue": path(queue), "sender": sender, "bytes": bytes })
        }
        KeeperEvent::Refused { queue, sender, why } => {
            json!({ "event": "refused", "queue": path(queue), "sender": sender, "why": why })
        }
        KeeperEvent::Released { queue, sender } => {
            json!({ "event": "released", "queue": path(queue), "sender": sender })
        }
        KeeperEvent::Left { queue, sender, messages, unreadable } => json!({
            "event": "left", "queue": path(queue), "sender": sender, "messages": messages, "unreadable": unreadable,
        }),
        KeeperEvent::Delayed { queue, why } => json!({ "event": "delayed", "queue": path(queue), "why": why }),
        KeeperEvent::HandedOn { queue, messages, redelivered } => json!({
            "event": "handed_on", "queue": path(queue), "messages": messages, "redelivered": redelivered,
        }),
        KeeperEvent::NameLost { why } => json!({ "event": "name_lost", "why": why }),
        other => json!({ "event": "other", "text": other.to_string() }),
    }
}

fn farewell(args: &Args, stats: &KeeperStats) -> String {
    let KeeperStats { kept, handed_on, redelivered, left, .. } = stats;
    if args.json {
        return json!({ "kept": kept, "handed_on": handed_on, "redelivered": redelivered, "lost": left }).to_string();
    }
    let lost = match left {
        0 => String::new(),
        1 => " 1 message of the dead was not handed on, and is lost.".to_owned(),
        more => format!(" {} messages of the dead were not handed on, and are lost.", output::count(*more)),
    };
    format!(
        "Kept {} sessions, handed {} messages on, {} of them marked as redelivered.{lost}",
        output::count(*kept),
        output::count(*handed_on),
        output::count(*redelivered)
    )
}

/// What a receiver says of its keeper.
#[derive(Debug, clap::Args)]
pub struct KeptBy {
    /// Have senders' messages kept by the keeper of that name (wigwag queue keep), so that they outlive both sides
    #[arg(long, value_name = "NAME")]
    kept_by: Option<OsString>,
    /// Let senders in whose messages are not kept: while there is no keeper, beyond its limits, of other users
    #[arg(long, requires = "kept_by")]
    allow_unkept: bool,
}

impl KeptBy {
    /// A receiver that wants it so.
    pub fn apply(&self, builder: wigwag::ReceiverBuilder) -> wigwag::ReceiverBuilder {
        match &self.kept_by {
            Some(name) => builder.kept_by(name).allow_unkept(self.allow_unkept),
            None => builder,
        }
    }
}
