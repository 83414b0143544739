//! What carries messages from one publisher to several readers, each of which reads every byte: ours first.
//!
//! All are lossless, where they can be: the publisher waits for the slowest reader. Where depth is a choice, each
//! reader may be as many messages behind as make a mebibyte, but at least 8 and at most 4,096.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wigwag_bench::case::WaitMode;

mod datagrams;
mod iceoryx2;
mod mqueue;
mod ringfire;
mod wigwag;
#[cfg(feature = "zenoh")]
mod zenoh;

/// What one process of a phase is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// By what the messages go.
    pub medium: String,
    /// How readers wait.
    pub wait: WaitMode,
    /// The reader's number; of the publisher, none.
    pub reader: Option<usize>,
    /// How many readers there are.
    pub readers: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Where to run.
    pub processor: Option<usize>,
    /// Where the two sides meet.
    pub directory: PathBuf,
    /// The memory with what was counted.
    pub words: PathBuf,
}

impl Part {
    /// By how many messages a reader may be behind.
    pub fn depth(&self) -> usize {
        ((1 << 20) / self.size.max(1)).clamp(8, 4096)
    }
}

/// What is to be said about a medium.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name on the command line and in the JSON.
    pub name: &'static str,
    /// What a person calls it.
    pub label: &'static str,
    /// In which configuration it is measured.
    pub how: &'static str,
    /// The ways of waiting of its readers that are measured.
    pub waits: &'static [WaitMode],
}

/// One way from a publisher to its readers.
pub trait Medium {
    /// The publisher's end.
    type Publisher;
    /// A reader's end.
    type Reader;
    /// What is to be said about it.
    const ABOUT: About;

    /// Makes what readers connect to.
    fn publisher(part: &Part) -> anyhow::Result<Self::Publisher>;

    /// Connects a reader to a publisher that is there.
    fn reader(part: &Part) -> anyhow::Result<Self::Reader>;

    /// Waits until all readers, which have connected, are known to the publisher.
    fn meet(_publisher: &mut Self::Publisher, _part: &Part) -> anyhow::Result<()> {
        Ok(())
    }

    /// Publishes a message of `len` bytes.
    fn publish(publisher: &mut Self::Publisher, len: usize, fill: impl FnOnce(&mut [u8])) -> anyhow::Result<()>;

    /// Waits for the next message and reads it. `look` may be called more than once; what it returned last counts.
    fn read<R>(reader: &mut Self::Reader, look: impl FnMut(&[u8]) -> R) -> anyhow::Result<R>;
}

/// A medium as a value.
pub struct Entry {
    /// What is to be said about it.
    pub about: About,
    /// Why this program does not have it; nothing where it does.
    pub missing: Option<&'static str>,
    /// Plays a part in a phase.
    pub play: fn(&Part) -> anyhow::Result<()>,
}

impl Entry {
    fn of<M: Medium>() -> Entry {
        Entry { about: M::ABOUT, missing: None, play: crate::broadcasts::play::<M> }
    }
}

#[cfg(not(feature = "zenoh"))]
const ZENOH: About = About { name: "zenoh", label: "zenoh 1.10 publish/subscribe", how: "", waits: &[WaitMode::Park] };

/// Everybody, in the order of the table.
pub fn all() -> Vec<Entry> {
    vec![
        Entry::of::<wigwag::Wigwag>(),
        Entry::of::<wigwag::Copied>(),
        Entry::of::<iceoryx2::Iceoryx2>(),
        Entry::of::<ringfire::Ringfire>(),
        Entry::of::<mqueue::Mqueue>(),
        Entry::of::<datagrams::Datagrams>(),
        zenoh(),
    ]
}

fn zenoh() -> Entry {
    #[cfg(feature = "zenoh")]
    return Entry::of::<zenoh::Zenoh>();
    #[cfg(not(feature = "zenoh"))]
    Entry {
        about: ZENOH,
        missing: Some("not built: it takes `--features zenoh`, a long build"),
        play: |_| anyhow::bail!("zenoh is not built in"),
    }
}
