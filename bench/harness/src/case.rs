//! One case: who carries the payload, how it waits, where it runs, what it has to do.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::placement::Pin;
use crate::raw::LINE_CAPACITY;

/// What carries the request there and the reply back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    /// Raw: turn and data in one cache line, changed in place (up to 48 bytes)
    Limit,
    /// Raw: turn on its own line, data changed in place
    Raw,
    /// Raw: a request buffer and a reply buffer, both used in place
    TwoBuffers,
    /// Raw: copied into and out of a request buffer and a reply buffer
    Copy,
    /// Raw: as many one-line slots as requests may be under way, in ring order (up to 48 bytes)
    Raw64,
    /// Raw: futex ping-pong with a timeout
    Futex,
    /// This project: the exchange
    Wigwag,
    /// This project: the stream, used as a socket is
    Stream,
    /// This project: the stream, written and read in the shared memory itself (only with --one-way)
    StreamInPlace,
    /// Unix stream socket
    Unix,
    /// TCP over loopback, no delay
    Tcp,
    /// Two pipes
    Pipe,
    /// Two POSIX message queues
    Mqueue,
    /// Two files, polled
    File,
    /// This project, with a server that does not count calls; only `--goal S1` uses it
    #[value(skip)]
    Uncounted,
    /// This project, between tasks on tokio; only `--goal P13` uses it
    #[value(skip)]
    Tokio,
    /// Unix stream sockets between tasks on tokio; only `--goal P13` uses it
    #[value(skip)]
    TokioUnix,
    /// The bare kernel calls of a connect; only `--goal P10` uses it
    #[value(skip)]
    Handshake,
    /// One that another program brings, by its name
    #[value(skip)]
    Rival(&'static str),
}

impl Contender {
    /// Those that a user may name, in the order of the table.
    pub const ALL: [Contender; 14] = [
        Contender::Limit,
        Contender::Raw,
        Contender::TwoBuffers,
        Contender::Copy,
        Contender::Raw64,
        Contender::Futex,
        Contender::Wigwag,
        Contender::Stream,
        Contender::StreamInPlace,
        Contender::Unix,
        Contender::Tcp,
        Contender::Pipe,
        Contender::Mqueue,
        Contender::File,
    ];

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Limit => "limit",
            Contender::Raw => "raw",
            Contender::TwoBuffers => "two-buffers",
            Contender::Copy => "copy",
            Contender::Raw64 => "raw64",
            Contender::Futex => "futex",
            Contender::Wigwag => "wigwag",
            Contender::Stream => "stream",
            Contender::StreamInPlace => "stream-in-place",
            Contender::Unix => "unix",
            Contender::Tcp => "tcp",
            Contender::Pipe => "pipe",
            Contender::Mqueue => "mqueue",
            Contender::File => "file",
            Contender::Uncounted => "wigwag-uncounted",
            Contender::Tokio => "tokio-wigwag",
            Contender::TokioUnix => "tokio-unix",
            Contender::Handshake => "handshake",
            Contender::Rival(name) => name,
        }
    }

    /// The ways of waiting that it has, given those that were asked for.
    pub fn waits(self, asked: &[WaitMode]) -> Vec<WaitMode> {
        match self {
            Contender::Limit | Contender::Raw | Contender::TwoBuffers | Contender::Copy | Contender::Raw64 => {
                vec![WaitMode::Spin]
            }
            // A file cannot wake anybody, so its ends look again and again, whatever was asked for.
            Contender::File => vec![WaitMode::Spin],
            Contender::Futex | Contender::Handshake => vec![WaitMode::Park],
            Contender::Wigwag
            | Contender::Uncounted
            | Contender::Stream
            | Contender::StreamInPlace
            | Contender::Tokio => asked.to_vec(),
            Contender::TokioUnix => vec![WaitMode::Park],
            Contender::Unix | Contender::Tcp | Contender::Pipe | Contender::Mqueue | Contender::Rival(_) => {
                let polled = asked.contains(&WaitMode::Spin);
                let blocking = asked.iter().any(|wait| *wait != WaitMode::Spin);
                let both = [(blocking, WaitMode::Park), (polled, WaitMode::Spin)];
                both.into_iter().filter_map(|(wanted, wait)| wanted.then_some(wait)).collect()
            }
        }
    }
}

impl Serialize for Contender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Contender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Contender, D::Error> {
        let name = String::deserialize(deserializer)?;
        let skipped = [Contender::Uncounted, Contender::Tokio, Contender::TokioUnix, Contender::Handshake];
        let own = Contender::ALL.into_iter().chain(skipped).find(|own| own.name() == name);
        // A process of a phase reads one case, so what is leaked is one name.
        Ok(own.unwrap_or_else(|| Contender::Rival(name.leak())))
    }
}

/// How both sides wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WaitMode {
    /// Wigwag's default: spin only on someone who is awake and near
    Adaptive,
    /// Never sleep: poll
    Spin,
    /// Always sleep: block
    Park,
}

impl From<WaitMode> for wigwag::Wait {
    fn from(wait: WaitMode) -> wigwag::Wait {
        match wait {
            WaitMode::Adaptive => wigwag::Wait::Adaptive,
            WaitMode::Spin => wigwag::Wait::Spin,
            WaitMode::Park => wigwag::Wait::Park,
        }
    }
}

/// The rhythm of the client's calls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "load")]
pub enum Load {
    /// One call after the other.
    Closed,
    /// A fixed number of calls each second; the client sleeps until the next is due.
    Paced {
        /// Calls per second.
        rate: f64,
    },
    /// Some calls back to back, then a pause.
    Bursts {
        /// Calls in a burst.
        burst: u32,
        /// Nanoseconds between bursts.
        pause_ns: u64,
    },
    /// No replies: pieces as fast as they are read, one after the other.
    OneWay,
    /// Connecting, until the first call could be made.
    Connect,
    /// One connect and its first call, in a client process that has done nothing before.
    Start,
    /// One call after the other until the server is gone; what counts is when the client notices.
    UntilDeath,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// What carries the payload.
    pub contender: Contender,
    /// How both sides wait.
    pub wait: WaitMode,
    /// Where they run.
    pub pin: Pin,
    /// Bytes of payload.
    pub size: usize,
    /// The rhythm.
    #[serde(flatten)]
    pub load: Load,
    /// Requests under way at a time, per busy session.
    pub in_flight: usize,
    /// Connected sessions.
    pub sessions: usize,
    /// Those of them that make calls.
    pub busy: usize,
    /// Nanoseconds that the handler works for on top of changing the bytes, awake. Only our own exchange has it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub handler_ns: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Case {
    /// A closed loop of one session with one request under way, on two processors.
    pub fn new(contender: Contender, wait: WaitMode, size: usize) -> Case {
        let (pin, load) = (Pin::Two, Load::Closed);
        Case { contender, wait, pin, size, load, in_flight: 1, sessions: 1, busy: 1, handler_ns: 0 }
    }

    /// The same elsewhere.
    pub fn pinned(self, pin: Pin) -> Case {
        Case { pin, ..self }
    }

    /// The same in another rhythm.
    pub fn loaded(self, load: Load) -> Case {
        Case { load, ..self }
    }

    /// The same with several requests under way.
    pub fn in_flight(self, in_flight: usize) -> Case {
        Case { in_flight, ..self }
    }

    /// The same with more sessions.
    pub fn sessions(self, sessions: usize, busy: usize) -> Case {
        Case { sessions, busy, ..self }
    }

    /// The same with a handler that works for so long.
    pub fn handled_for(self, handler_ns: u64) -> Case {
        Case { handler_ns, ..self }
    }

    /// Why this case does not exist, in a few words.
    pub fn obstacle(&self) -> Option<&'static str> {
        let pipelines = matches!(
            self.contender,
            Contender::Raw64
                | Contender::Wigwag
                | Contender::Uncounted
                | Contender::Stream
                | Contender::Unix
                | Contender::Tcp
                | Contender::Pipe
        );
        let flows =
            matches!(self.contender, Contender::Stream | Contender::StreamInPlace | Contender::Unix | Contender::Pipe);
        match self.contender {
            _ if self.load == Load::OneWay && !flows => Some("does not carry bytes one way"),
            _ if self.load == Load::OneWay => None,
            Contender::StreamInPlace => Some("carries bytes one way"),
            Contender::Limit | Contender::Raw64 if self.size > LINE_CAPACITY => Some("one line holds 48 bytes"),
            Contender::Raw64 if self.in_flight == 1 => Some("needs more than one request in flight"),
            Contender::Raw64 if self.load != Load::Closed => Some("runs in a closed loop only"),
            Contender::Rival(_) | Contender::Tokio | Contender::TokioUnix => None,
            _ if self.in_flight > 1 && !pipelines => Some("has one request in flight"),
            _ if self.in_flight > 1 && self.load != Load::Closed => Some("several in flight need a closed loop"),
            Contender::Wigwag | Contender::Uncounted | Contender::Stream | Contender::Unix | Contender::Tcp => None,
            _ if self.sessions > 1 => Some("has one session"),
            _ => None,
        }
    }

    /// Whether one side would stand on the only processor that the other needs.
    pub fn spins_on_one_processor(&self) -> bool {
        self.pin == Pin::One && self.wait == WaitMode::Spin
    }
}

impl fmt::Display for WaitMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            WaitMode::Adaptive => "adaptive",
            WaitMode::Spin => "spin",
            WaitMode::Park => "park",
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Pin::Two => "two",
            Pin::One => "one",
            Pin::None => "none",
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed => out.write_str("closed"),
            Load::Paced { rate } => write!(out, "{rate}/s"),
            Load::Bursts { burst, pause_ns } => write!(out, "{burst} then {} us", *pause_ns as f64 / 1e3),
            Load::OneWay => out.write_str("one way"),
            Load::Connect => out.write_str("connect"),
            Load::Start => out.write_str("connect to first reply"),
            Load::UntilDeath => out.write_str("until the server dies"),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}, {} B, pin {}, {}", self.contender.name(), self.wait, self.size, self.pin, self.load)?;
        if self.in_flight > 1 {
            write!(out, ", {} in flight", self.in_flight)?;
        }
        if self.sessions > 1 {
            write!(out, ", {} of {} sessions busy", self.busy, self.sessions)?;
        }
        if self.handler_ns > 0 {
            write!(out, ", a handler of {} us", self.handler_ns as f64 / 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_the_name_that_the_command_line_gives_it() {
        let named: Vec<String> = Contender::value_variants()
            .iter()
            .filter_map(|it| Some(it.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(named, Contender::ALL.map(Contender::name));
        assert_eq!(serde_json::to_string(&Contender::TwoBuffers).unwrap(), "\"two-buffers\"");
    }

    #[test]
    fn a_case_survives_json() {
        let bursts = Load::Bursts { burst: 64, pause_ns: 7 };
        let paced = Load::Paced { rate: 100.0 };
        for load in [Load::Closed, paced, bursts, Load::OneWay, Load::Connect, Load::Start, Load::UntilDeath] {
            for contender in [
                Contender::Wigwag,
                Contender::Uncounted,
                Contender::TokioUnix,
                Contender::Handshake,
                Contender::Rival("somebody-else"),
            ] {
                let case = Case::new(contender, WaitMode::Park, 48).loaded(load);
                let text = serde_json::to_string(&case).unwrap();
                assert_eq!(serde_json::from_str::<Case>(&text).unwrap(), case, "{text}");
            }
        }
    }
}
