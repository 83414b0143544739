//! A link that takes nothing any more, as behind a machine that hangs: it holds up what goes over it, and nothing else.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Ground, bridge, endpoint, linked, status, until};
use wigwag::{Client, Receiver, Sender};

const QUEUES: usize = 3;

/// As many as an import's credits.
const MESSAGES: u64 = 64;

/// Longer than zenoh waits for room in a queue before it closes a connection, which is five seconds.
const STALL: Duration = Duration::from_secs(7);

/// Passes bytes on between two endpoints, both ways, while it is not told to stall. The buffers before it are small.
fn relay(from: &str, to: &str, is_stalled: Arc<AtomicBool>) {
    let address = |endpoint: &str| endpoint.strip_prefix("tcp/").unwrap().to_owned();
    let listener = TcpListener::bind(address(from)).unwrap();
    let to = address(to);
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(&to) else { continue };
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far.try_clone().unwrap(), near)]
            {
                let is_stalled = Arc::clone(&is_stalled);
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        while is_stalled.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        if to.write_all(&bytes[..len]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
}

/// Receives until it has as many messages of one sender: their numbers, in order, none of them twice.
fn receive(name: String) -> std::thread::JoinHandle<()> {
    let receiver = Receiver::builder().capacity(4096).bind(name).unwrap();
    std::thread::spawn(move || {
        for number in 0..MESSAGES {
            let message = receiver.recv().unwrap();
            assert_eq!(message[..8], number.to_le_bytes());
            assert!(!message.is_redelivered(), "message {number}");
            message.ack();
        }
    })
}

#[test]
fn a_link_that_stalls_holds_up_no_other() {
    let ground = Ground::new();
    let (b, through, c) = (endpoint(), endpoint(), endpoint());
    let is_stalled = Arc::new(AtomicBool::new(false));
    relay(&through, &b, Arc::clone(&is_stalled));

    let receivers: Vec<_> = (0..QUEUES).map(|queue| receive(ground.name("b", &format!("queue{queue}")))).collect();
    for name in [ground.name("b", "far-echo"), ground.name("c", "echo")] {
        let mut server = wigwag::Server::builder().slots(MESSAGES as usize).bind(name).unwrap();
        std::thread::spawn(move || server.serve(|request| request.iter_mut().for_each(|byte| *byte = !*byte)));
    }
    // Silence is not what ends the link here.
    let patient = "link_timeout_ms = 60000\n".to_owned();
    let table = |table: &str, name: &str, other: &str| format!("[[{table}]]\nname = {name:?}\nas = {other:?}\n");
    let mut far = patient.clone() + &table("export", &ground.name("b", "far-echo"), "far-echo");
    let mut near = patient + &table("import", "echo", &ground.name("a", "echo"));
    near += &table("import", "far-echo", &ground.name("a", "far-echo"));
    for queue in 0..QUEUES {
        let name = format!("queue{queue}");
        far += &table("export", &ground.name("b", &name), &name);
        near += &table("import", &name, &ground.name("a", &name));
    }
    std::fs::write(ground.file("b.toml"), far).unwrap();
    std::fs::write(ground.file("a.toml"), near).unwrap();
    let config = |machine: &str| ground.file(&format!("{machine}.toml")).to_str().unwrap().to_owned();
    let _b = bridge(&ground, "b", None, &["--config", &config("b"), "--listen", &b]);
    let _c = bridge(&ground, "c", None, &["--export", &ground.name("c", "echo"), "--listen", &c]);
    let own = endpoint();
    let through = format!("{through}#so_sndbuf=16384");
    let words = ["--config", &config("a"), "--listen", &own, "--connect", &through, "--connect", &c];
    let _a = bridge(&ground, "a", None, &words);
    linked(&ground, "a");
    let client = Client::builder().server_timeout(Duration::from_secs(30)).connect(ground.name("a", "echo")).unwrap();
    let builder = Client::builder().server_timeout(Duration::from_secs(30)).slots(MESSAGES as usize).capacity(4096);
    let far_client = builder.connect(ground.name("a", "far-echo")).unwrap();
    let mut senders: Vec<_> = (0..QUEUES)
        .map(|queue| {
            let builder = Sender::builder().capacity(4096).slots(256).server_timeout(Duration::from_secs(60));
            builder.connect(ground.name("a", &format!("queue{queue}"))).unwrap()
        })
        .collect();

    is_stalled.store(true, Ordering::Relaxed);
    let began = Instant::now();
    for number in 0..MESSAGES {
        let mut message = [7; 4096];
        message[..8].copy_from_slice(&number.to_le_bytes());
        senders.iter_mut().for_each(|sender| sender.send(&message).unwrap());
    }
    let pending: Vec<_> = (0..MESSAGES)
        .map(|number| {
            let mut loan = far_client.loan(4096).unwrap();
            loan.fill(number as u8);
            loan.send().unwrap()
        })
        .collect();
    let mut calls = 0;
    while began.elapsed() < STALL {
        assert_eq!(client.call_timeout(&[1, 2], Duration::from_secs(30)).unwrap()[..], [254, 253]);
        calls += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{calls} calls beside the link that stalled");
    let links = || -> Vec<_> {
        status(&ground, "a").imports.into_iter().map(|import| (import.public, import.counts)).collect()
    };
    for (name, counts) in links() {
        assert_eq!((counts.links_made, counts.links_lost), (1, 0), "{name}: {counts:?}");
    }
    is_stalled.store(false, Ordering::Relaxed);
    for (number, pending) in (0..MESSAGES).zip(pending) {
        assert!(pending.wait().unwrap().iter().all(|byte| *byte == !(number as u8)), "call {number}");
    }
    senders.iter_mut().for_each(|sender| sender.flush(Duration::from_secs(60)).unwrap());
    receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
    until("all are acknowledged", Duration::from_secs(30), || {
        links().iter().all(|(name, counts)| name.ends_with("echo") || counts.answered == MESSAGES)
    });
}
