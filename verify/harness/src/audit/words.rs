//! The control words of a segment by name, and the list of those that may be read more than once in a request, each
//! with the reason why that harms nothing.

use std::collections::BTreeMap;
use std::fmt;

use super::tracer::Access;

/// The side that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A serving thread.
    Server,
    /// A client's thread.
    Client,
}

/// A word that the other side may change at any time. The offsets are those of docs/layout.md, written out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// The header's bytes.
    Header,
    /// How many slots the server looks at.
    Depth,
    /// How long the client thought.
    ThinkTime,
    /// Which processors the client may use.
    ClientAffinity,
    /// Where the client rang from.
    ClientProcessor,
    /// Whether the server waits for its bell.
    Waiting,
    /// Which processors the server may use.
    ServerAffinity,
    /// Where the server is.
    ServerProcessor,
    /// Since when the client has slept for a slot: for observers, read by neither side.
    Sleeps,
    /// Whose turn it is.
    Turn,
    /// What lies in a slot.
    Head,
    /// When nobody waits any more.
    Deadline,
    /// Bytes without a meaning.
    Unused,
    /// A request, a reply or a text, in its line or its body.
    Payload,
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Word::Header => "header",
            Word::Depth => "depth",
            Word::ThinkTime => "think_ns",
            Word::ClientAffinity => "client's only_processor",
            Word::ClientProcessor => "client's processor",
            Word::Waiting => "waiting",
            Word::ServerAffinity => "server's only_processor",
            Word::ServerProcessor => "server's processor",
            Word::Sleeps => "sleeps",
            Word::Turn => "turn",
            Word::Head => "head",
            Word::Deadline => "deadline",
            Word::Unused => "unused",
            Word::Payload => "payload",
        })
    }
}

/// What a byte of a segment with so many slots belongs to.
pub fn word_at(offset: usize, slots: usize) -> Word {
    let lines_end = 4096 + 64 * slots;
    let deadlines_end = lines_end + 8 * slots;
    match offset {
        0..64 => Word::Header,
        1024..1028 => Word::Depth,
        1028..1032 => Word::ThinkTime,
        1032..1036 => Word::ClientAffinity,
        1036..1040 => Word::ClientProcessor,
        1152..1156 => Word::Waiting,
        1156..1160 => Word::ServerAffinity,
        1160..1164 => Word::ServerProcessor,
        1280..4096 => Word::Sleeps,
        _ if offset < 4096 => Word::Unused,
        _ if offset < lines_end => match offset % 64 {
            0..8 => Word::Turn,
            8..16 => Word::Head,
            _ => Word::Payload,
        },
        _ if offset < deadlines_end => Word::Deadline,
        _ if offset < deadlines_end.next_multiple_of(4096) => Word::Unused,
        _ => Word::Payload,
    }
}

/// How often a word may be read in one request.
pub struct Allowance {
    /// By whom.
    pub side: Side,
    /// Which word.
    pub word: Word,
    /// How often at most; [`POLLED`]: as often as one likes.
    pub most: usize,
    /// On which paths; none: on all.
    pub paths: &'static [&'static str],
    /// Why that harms nothing.
    pub why: &'static str,
}

/// A word that is read until it says something.
pub const POLLED: usize = usize::MAX;

/// The reviewed list. Whatever is not here is read once in a request, or not at all.
pub const REVIEWED: &[Allowance] = &[
    Allowance {
        side: Side::Server,
        word: Word::Turn,
        most: POLLED,
        paths: &[],
        why: "Looked at until it is the one request expected; that number is the server's own. The exchange that \
            passes it \
              back reads it once more and compares it with the same number. `Request::is_abandoned` looks at one bit.",
    },
    Allowance {
        side: Side::Server,
        word: Word::Depth,
        most: POLLED,
        paths: &[],
        why: "Read once for each look at the slots, bounded by the session's own number, and forgotten after that \
            look.",
    },
    Allowance {
        side: Side::Server,
        word: Word::Waiting,
        most: POLLED,
        paths: &[],
        why: "The server's own word, written by an exchange (for its order) each time it goes to sleep; what it finds \
            there \
              is dropped.",
    },
    Allowance {
        side: Side::Server,
        word: Word::Head,
        most: 2,
        paths: &["unknown head", "too long", "snapshot, unknown head"],
        why: "Read again for the text that says what was wrong; the session is over by then, and nothing else uses it.",
    },
    Allowance {
        side: Side::Client,
        word: Word::Turn,
        most: POLLED,
        paths: &[],
        why: "Looked at until it is not the server's any more, which takes one bit; only then is it read for the \
            sequence \
              number, which takes nothing else. Passing it is an exchange whose old word is dropped; WAKE and \
              ABANDONED are \
              set by a read and a compare-and-exchange of what was read.",
    },
    Allowance {
        side: Side::Client,
        word: Word::Waiting,
        most: 3,
        paths: &[],
        why: "A look that costs no line of the cache comes first, before the pass and after it; whether to ring is \
            decided by the \
              exchange alone, and before the pass only whether to look for the server's end.",
    },
];

/// Places that a finding lists.
const PLACES_SHOWN: usize = 6;

/// How often each byte was read, and from where.
pub struct Loads {
    slots: usize,
    by_byte: BTreeMap<usize, Vec<String>>,
}

impl Loads {
    /// Counts the reads among some accesses to a segment of so many slots.
    pub fn of(accesses: &[Access], slots: usize) -> Loads {
        let mut by_byte: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for access in accesses.iter().filter(|access| access.is_load) {
            for offset in access.offset..access.offset + access.len {
                by_byte.entry(offset).or_default().push(access.place.clone());
            }
        }
        Loads { slots, by_byte }
    }

    /// The reads of the byte of each word that was read most often; payloads count where `payloads` says so.
    pub fn by_word(&self, payloads: bool) -> BTreeMap<Word, &[String]> {
        let mut most: BTreeMap<Word, &[String]> = BTreeMap::new();
        for (offset, places) in &self.by_byte {
            let word = word_at(*offset, self.slots);
            if word == Word::Payload && !payloads {
                continue;
            }
            let entry = most.entry(word).or_default();
            if places.len() > entry.len() {
                *entry = places;
            }
        }
        most
    }

    /// What was read more often than the reviewed list allows.
    pub fn not_allowed(&self, side: Side, path: &str, payloads: bool) -> Vec<String> {
        let mut findings = Vec::new();
        for (word, places) in self.by_word(payloads) {
            let applies = |row: &&Allowance| {
                row.side == side && row.word == word && (row.paths.is_empty() || row.paths.contains(&path))
            };
            let rows: Vec<&Allowance> = REVIEWED.iter().filter(applies).collect();
            let most = rows.iter().map(|row| row.most).max().unwrap_or(1);
            if places.len() > most {
                findings.push(format!(
                    "{side:?}, {path}: `{word}` is read {} times in one request, where {most} is allowed ({}), at {}",
                    places.len(),
                    rows.last().map_or("it is not on the list", |row| row.why),
                    places[..places.len().min(PLACES_SHOWN)].join(", ")
                ));
            }
        }
        findings
    }
}
