//! One way: messages of a bridged queue, each acknowledged by the far receiver, beside bare puts over the same link, of
//! which only the last one is answered.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use zenoh::Wait as _;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Sample;

use crate::bench::LEN;

/// Messages of one round.
const MESSAGES: usize = 2000;

/// How long a round may take.
const LIMIT: Duration = Duration::from_secs(60);

const FLOOD: &str = "wigwag-bench/flood";
const DONE: &str = "wigwag-bench/done";

/// The receiver's name on the machine b, below the directory of the measurement.
pub const FAR: &str = "queue-far.sock";

/// The name that the sender has on the machine a.
pub const NEAR: &str = "queue-near.sock";

/// Receives and acknowledges, until the process is ended.
///
/// # Errors
/// The library's.
pub fn receive(directory: &Path) -> anyhow::Result<()> {
    let receiver = wigwag::Receiver::bind(directory.join(FAR))?;
    loop {
        receiver.recv()?.ack();
    }
}

/// Takes puts, and answers the one that says that it is the last.
///
/// # Errors
/// zenoh's.
pub fn take_puts(session: &zenoh::Session) -> anyhow::Result<Subscriber<()>> {
    let done = publisher(session, DONE, true)?;
    let taken = move |sample: Sample| {
        if sample.payload().to_bytes().first() == Some(&1) {
            let _ = done.put([1_u8]).wait();
        }
    };
    session.declare_subscriber(FLOOD).callback(taken).wait().map_err(|error| anyhow!("{error}"))
}

fn publisher(session: &zenoh::Session, key: &'static str, is_express: bool) -> anyhow::Result<Publisher<'static>> {
    let publisher = session.declare_publisher(key).congestion_control(CongestionControl::Block);
    let publisher = publisher.priority(Priority::Data).express(is_express);
    publisher.wait().map_err(|error| anyhow!("{error}"))
}

/// The side that sends.
pub struct Rates {
    sender: wigwag::Sender,
    flood: Publisher<'static>,
    done: mpsc::Receiver<()>,
    _subscriber: Subscriber<()>,
    queue: Vec<f64>,
    puts: Vec<f64>,
}

impl Rates {
    /// Connects both ways.
    ///
    /// # Errors
    /// The library's and zenoh's.
    pub fn new(directory: &Path, session: &zenoh::Session) -> anyhow::Result<Rates> {
        let sender = wigwag::Sender::builder().server_timeout(LIMIT).connect(directory.join(NEAR))?;
        let (tell, done) = mpsc::channel();
        let heard = move |_: Sample| {
            let _ = tell.send(());
        };
        let subscriber = session.declare_subscriber(DONE).callback(heard).wait();
        let subscriber = subscriber.map_err(|error| anyhow!("{error}"))?;
        let flood = publisher(session, FLOOD, false)?;
        Ok(Rates { sender, flood, done, _subscriber: subscriber, queue: Vec::new(), puts: Vec::new() })
    }

    /// Both, once.
    ///
    /// # Errors
    /// The library's and zenoh's; a round that takes longer than a minute.
    pub fn round(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        for _ in 0..MESSAGES {
            self.sender.send(&[0; LEN])?;
        }
        self.sender.flush(LIMIT)?;
        self.queue.push(MESSAGES as f64 / began.elapsed().as_secs_f64());
        let began = Instant::now();
        for left in (0..MESSAGES).rev() {
            let message = [u8::from(left == 0); LEN];
            self.flood.put(&message[..]).wait().map_err(|error| anyhow!("{error}"))?;
        }
        self.done.recv_timeout(LIMIT)?;
        self.puts.push(MESSAGES as f64 / began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The medians. The first round warms up.
    pub fn print(&self) {
        let median = |rates: &[f64]| {
            let mut rates = rates[1..].to_vec();
            rates.sort_unstable_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        println!("{:<48} {:>9}", "48 bytes one way, messages a second", "p50");
        println!("{:<48} {:>9.0}", "bridged queue, each acknowledged end to end", median(&self.queue));
        println!("{:<48} {:>9.0}", "zenoh: puts, the last one answered", median(&self.puts));
    }
}
