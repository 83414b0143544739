//! An exporter that sends what it likes: messages out of place, cut off, mutated. Its own link ends, and no other; what
//! an honest exporter publishes goes on.

mod support;

use std::time::{Duration, Instant};

use support::{Ground, Pair, bridge, endpoint, random, status, until};
use wigwag::{Contract, Publisher, Subscriber};
use wigwag_bridge::bundle::Bundle;
use wigwag_bridge::wire::{Message, Offer};
use zenoh::Wait as _;
use zenoh::handlers::FifoChannelHandler;
use zenoh::sample::Sample;

const LIMIT: Duration = Duration::from_secs(30);

/// A session of zenoh's that offers the broadcast `evil`.
struct Evil {
    session: zenoh::Session,
    heard: zenoh::pubsub::Subscriber<FifoChannelHandler<Sample>>,
    _token: zenoh::liveliness::LivelinessToken,
    inbox: String,
    links: u128,
}

impl Evil {
    fn new(endpoint: &str) -> Evil {
        let mut config = zenoh::Config::default();
        config.insert_json5("scouting/multicast/enabled", "false").unwrap();
        config.insert_json5("listen/endpoints", "[]").unwrap();
        config.insert_json5("connect/endpoints", &format!("[{endpoint:?}]")).unwrap();
        let session = zenoh::open(config).wait().unwrap();
        let heard = session.declare_subscriber(format!("wigwag/1/in/evil/evil/{:032x}", 9)).wait().unwrap();
        let token = session.liveliness().declare_token(format!("wigwag/1/export/evil/evil/{:032x}", 9)).wait().unwrap();
        Evil { session, heard, _token: token, inbox: String::new(), links: 0 }
    }

    fn send(&self, bytes: Vec<u8>) {
        self.session.put(self.inbox.clone(), bytes).wait().unwrap();
    }

    /// Gives the next link, and waits until the importer uses it.
    fn link(&mut self) -> u128 {
        self.links += 1;
        let (link, end) = (self.links, Instant::now() + LIMIT);
        while Instant::now() < end {
            let Ok(Some(sample)) = self.heard.recv_timeout(Duration::from_secs(1)) else { continue };
            let bytes = sample.payload().to_bytes();
            match Message::decode(&bytes) {
                Ok(Message::Hello { epoch, inbox, .. }) => {
                    self.inbox = inbox.to_owned();
                    let contract = Contract::default();
                    let offer = Offer {
                        form: 3,
                        contract: contract.name().to_owned(),
                        version: contract.version(),
                        size: contract.size(),
                        align: contract.align(),
                        encoding: 0,
                        capacity: 4 << 20,
                        calls: 1,
                        epoch: 1,
                        first: 1,
                        history: 4,
                    };
                    self.send(Message::Welcome { epoch, link, offer }.encode());
                }
                Ok(Message::Ping { link: of, .. }) if of == link => return link,
                _ => {}
            }
        }
        panic!("no link within {LIMIT:?}");
    }
}

#[test]
fn what_a_hostile_exporter_sends_ends_its_own_link_only() {
    let ground = Ground::new();
    let (far, near) = (endpoint(), endpoint());
    let mut publisher = Publisher::bind(ground.name("b", "echo")).unwrap();
    let _far = Pair::far(&ground, &far, &[]);
    let (honest, evil) = (ground.name("a", "echo"), ground.name("a", "evil"));
    let text = format!(
        "listen = [{near:?}]\nconnect = [{far:?}]\n[[import]]\nname = \"echo\"\nas = {honest:?}\n\
         [[import]]\nname = \"evil\"\nas = {evil:?}\n"
    );
    let config = ground.file("a.toml");
    std::fs::write(&config, text).unwrap();
    let mut bridge = bridge(&ground, "a", None, &["--config", config.to_str().unwrap()]);
    let mut subscriber = Subscriber::builder().server_timeout(LIMIT).connect(&honest).unwrap();
    let mut goes_on = |what: &str| {
        publisher.send(what.as_bytes()).unwrap();
        assert_eq!(&subscriber.recv_timeout(LIMIT).unwrap()[..], what.as_bytes());
    };
    goes_on("before");
    let mut exporter = Evil::new(&near);
    let violations = || status(&ground, "a").imports[1].counts.violations;
    let bundle = |number: u64| {
        let mut bundle = Bundle::default();
        bundle.add(number, b"message");
        bundle
    };
    let far_away = bundle(u64::MAX);
    let wrong: [fn(u128) -> Message<'static>; 5] = [
        |link| Message::Several { link, messages: b"cut" },
        |link| Message::Start { link, number: 1, left_us: 0, len: 5, piece: b"" },
        |link| Message::Start { link, number: 1, left_us: 0, len: u32::MAX, piece: b"1" },
        |link| Message::Part { link, number: 1, offset: 0, piece: b"of none" },
        |link| Message::Cancel { link, number: 1 },
    ];
    for (at, wrong) in wrong.into_iter().enumerate() {
        let link = exporter.link();
        exporter.send(wrong(link).encode());
        until("the violation is counted", LIMIT, || violations() > at as u64);
        goes_on("after a wrong message");
    }
    let link = exporter.link();
    exporter.send(Message::Several { link, messages: far_away.bytes() }.encode());
    until("a number beyond all is no gap", LIMIT, || violations() > 5);

    // What is right is published, however it is mixed with what is not.
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for round in 0..8_u64 {
        let link = exporter.link();
        let whole = bundle(round * 100_000 + 1);
        let seeds = [
            Message::Several { link, messages: whole.bytes() }.encode(),
            Message::Start { link, number: 7, left_us: 0, len: 10_000, piece: &[1; 5000] }.encode(),
            Message::Part { link, number: 7, offset: 5000, piece: &[1; 5000] }.encode(),
            Message::Ended { link, number: 9, is_in_order: round % 2 == 0 }.encode(),
            Message::Grant { link, bytes: u32::MAX }.encode(),
            Message::Pong { link, nonce: 1 }.encode(),
            Message::Bye { link, is_draining: true, text: "over" }.encode(),
        ];
        for _ in 0..500 {
            let mut bytes = seeds[random(&mut state) as usize % seeds.len()].clone();
            for _ in 0..random(&mut state) % 3 {
                // Behind the link's number, so that it is read as of this link.
                let at = 17 + random(&mut state) as usize % (bytes.len() - 17).clamp(1, 24);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random(&mut state) as u8;
                }
            }
            bytes.truncate(17 + random(&mut state) as usize % (2 * bytes.len()));
            exporter.send(bytes);
        }
        exporter.send(vec![0; 17]);
        exporter.send(Message::Bye { link, is_draining: false, text: "over" }.encode());
        goes_on("after a mutated round");
    }
    assert!(bridge.child.try_wait().unwrap().is_none(), "it lives");
    bridge.kill();
}
