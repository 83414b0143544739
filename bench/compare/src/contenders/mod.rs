//! All contenders, ours first, in the order of the tables.

use wigwag_bench::case::{Contender as Name, WaitMode};

use crate::contender::{About, Entry};

#[cfg(boost)]
mod boost;
pub mod broadcast;
mod cloudtoid;
mod grpc;
mod iceoryx2;
mod iceoryx2_pubsub;
mod iceoryx2_request;
mod ipc_channel;
mod python;
mod ringfire;
mod seqpacket;
mod shmipc;
mod textbook;
mod tokio_unix;
#[cfg(feature = "zenoh")]
mod zenoh;
mod zeromq;

/// Ours, with all three ways of waiting.
pub const OURS: &str = "wigwag";

const BOOST: About = About {
    one_at_a_time: None,
    ..About::new("boost", "Boost message_queue", "two queues that are never full, copied in and out")
};

const ZENOH: About = About {
    one_at_a_time: None,
    alone: None,
    ..About::new(
        "zenoh",
        "zenoh 1 queryable, Unix socket",
        "two peers, no scouting, no router; low-latency transport, express queries, no consolidation; shared memory \
         from \
         4 KiB on; built with --features zenoh",
    )
};

/// Everybody, each with the reason why this machine does not have it. It takes a moment: programs are asked.
pub fn here() -> Vec<Entry> {
    let mut all = all();
    for entry in all.iter_mut().filter(|entry| entry.about.name == python::NAME) {
        entry.missing = python::missing();
    }
    all
}

/// Everybody, those that could not be built here included.
pub fn all() -> Vec<Entry> {
    let mut all = own();
    all.extend([
        Entry::of::<textbook::Textbook>(),
        Entry::of::<ringfire::Ringfire>(),
        Entry::of::<cloudtoid::Cloudtoid>(),
        Entry::of::<iceoryx2_pubsub::Iceoryx2Pubsub>(),
        Entry::of::<iceoryx2_request::Iceoryx2Request>(),
        Entry::of::<shmipc::Shmipc>(),
        boost(),
        Entry::of::<python::Python>(),
        Entry::of::<ipc_channel::IpcChannel>(),
        Entry::of::<seqpacket::Seqpacket>(),
        Entry::of::<tokio_unix::TokioUnix>(),
        Entry::of::<zeromq::ZeroMq>(),
        Entry::of::<grpc::Grpc>(),
        zenoh(),
    ]);
    all
}

/// Those that `wigwag bench` has as well.
fn own() -> Vec<Entry> {
    const SPIN: &[WaitMode] = &[WaitMode::Spin];
    let wigwag = About {
        waits: &[WaitMode::Adaptive, WaitMode::Spin, WaitMode::Park],
        alone: None,
        one_at_a_time: None,
        ..About::new(OURS, "Wigwag", "the public interface: loan, fill, call, read; default limits")
    };
    let closed_only = Some("shows what the hardware allows; it has no way to sleep");
    let limit = About {
        waits: SPIN,
        size_max: 48,
        closed_only,
        ..About::new("limit", "one-line limit (raw)", "turn word and data in one cache line, no library")
    };
    let raw = About {
        waits: SPIN,
        closed_only,
        ..About::new("raw", "in place (raw)", "turn word on its own line, data changed in place, no library")
    };
    let streams = |name, label, how| About { one_at_a_time: None, ..About::new(name, label, how) };
    let unix = streams("unix", "Unix stream socket", "one write and one read each way; a blocking thread per client");
    let tcp =
        streams("tcp", "TCP, loopback", "no delay, one write and one read each way; a blocking thread per client");
    let pipe = streams("pipe", "pipes", "two pipes, of 1 MiB for large payloads");
    let mqueue = About::new("mqueue", "POSIX message queue", "two queues with the largest messages the system allows");
    let file =
        About { waits: SPIN, ..About::new("file", "files, polled", "two files in memory; a file cannot wake anybody") };
    vec![
        Entry::own(Name::Wigwag, wigwag),
        Entry::own(Name::Limit, limit),
        Entry::own(Name::Raw, raw),
        Entry::own(Name::Unix, About { alone: None, ..unix }),
        Entry::own(Name::Tcp, About { alone: None, ..tcp }),
        Entry::own(Name::Pipe, pipe),
        Entry::own(Name::Mqueue, mqueue),
        Entry::own(Name::File, file),
    ]
}

fn boost() -> Entry {
    #[cfg(boost)]
    return Entry::of::<boost::Boost>();
    #[cfg(not(boost))]
    Entry::missing(BOOST, "not built: no C++ compiler found the headers of Boost.Interprocess (libboost-dev)")
}

fn zenoh() -> Entry {
    #[cfg(feature = "zenoh")]
    return Entry::of::<zenoh::Zenoh>();
    #[cfg(not(feature = "zenoh"))]
    Entry::missing(ZENOH, "not built: it takes `--features zenoh`, a long build")
}
