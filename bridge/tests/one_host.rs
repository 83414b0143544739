//! Two bridges on one host, with a directory of names each.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{
    Ground, Pair, Told, bridge, callers, compare, endpoint, executed, ledger_server, linked, random, status, told,
    until,
};
use wigwag::{Client, Contract, ErrorKind, Server};
use wigwag_bridge::wire::Message;
use zenoh::Wait as _;

#[test]
fn serve_ledger_if_told() {
    support::serve_ledger();
}

/// A server in a thread, until the guard is dropped.
struct Serving(wigwag::ShutdownHandle, Option<std::thread::JoinHandle<()>>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.shutdown();
        let _ = self.1.take().unwrap().join();
    }
}

fn serving<R: wigwag::IntoOutcome>(
    mut server: Server,
    threads: usize,
    handler: impl Fn(&mut wigwag::Request) -> R + Sync + Send + 'static,
) -> Serving {
    let stop = server.shutdown_handle();
    Serving(stop, Some(std::thread::spawn(move || server.serve_on(threads, &handler).unwrap())))
}

fn inverted(request: &mut wigwag::Request) {
    request.iter_mut().for_each(|byte| *byte = !*byte);
}

#[test]
fn payloads_of_every_size_come_back_changed() {
    let pair = Pair::new();
    let server = Server::builder().capacity(64 << 20).bind(pair.far_name()).unwrap();
    let _serving = serving(server, 1, inverted);
    let client = pair.client_of(64 << 20);
    let sizes = [0, 1, 8, 48, 49, 4096, 4097, 48 << 10, (48 << 10) + 1, 1 << 20, 64 << 20];
    for (at, len) in sizes.into_iter().enumerate() {
        let mut loan = client.loan(len).unwrap();
        let byte = |place: usize| (place / 7 + place / 65_537 + at) as u8;
        loan.iter_mut().enumerate().for_each(|(place, value)| *value = byte(place));
        let reply = loan.call_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(reply.len(), len);
        assert!(reply.iter().enumerate().all(|(place, value)| *value == !byte(place)), "{len}");
    }
    let counts = &status(&pair.ground, "a").imports[0].counts;
    assert_eq!((counts.sent, counts.answered), (sizes.len() as u64, sizes.len() as u64));
}

#[test]
fn a_reply_may_be_longer_or_shorter_and_errors_come_with_their_texts() {
    let pair = Pair::new();
    let server = Server::builder().bind(pair.far_name()).unwrap();
    let _serving = serving(server, 2, |request| match &request[..] {
        b"long" => request.set_reply(&[7; 300_000]).map_err(|error| error.to_string()),
        b"short" => request.set_reply(b"").map_err(|error| error.to_string()),
        b"panic" => panic!("a handler's panic"),
        _ => Err("a handler's error: ä".to_owned()),
    });
    let client = pair.client();
    assert!(client.call(b"long").unwrap()[..] == [7; 300_000]);
    assert!(client.call(b"short").unwrap().is_empty());
    let error = client.call(b"other").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::HandlerFailed, "a handler's error: ä"));
    let error = client.call(b"panic").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
    assert_eq!(error.to_string(), "the server's handler panicked: a handler's panic");
    // A caller whose memory is too small for the reply.
    let small = pair.client_of(64);
    let error = small.call(b"long").unwrap_err();
    assert!(error.to_string().contains("executed, but its reply of 300000 bytes"), "{error}");
}

#[derive(
    Debug,
    PartialEq,
    wigwag::zerocopy::FromBytes,
    wigwag::zerocopy::IntoBytes,
    wigwag::zerocopy::KnownLayout,
    wigwag::zerocopy::Immutable,
)]
#[zerocopy(crate = "wigwag::zerocopy")]
#[repr(C)]
struct Order {
    id: u64,
    price: i64,
}

impl wigwag::Payload for Order {
    const NAME: &'static str = "Order";
    const VERSION: u32 = 3;
}

#[test]
fn the_far_server_s_contract_is_the_near_one_s() {
    let pair = Pair::new();
    let mut server = wigwag::TypedServer::<Order>::bind(pair.far_name()).unwrap();
    let stop = server.shutdown_handle();
    let thread = std::thread::spawn(move || server.serve(|order| order.price = -order.price));
    linked(&pair.ground, "a");
    let error = Client::connect(pair.near_name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContractMismatch);
    assert!(error.to_string().contains("Order version 3 (16 bytes, align 8)"), "{error}");
    let client = wigwag::TypedClient::<Order>::connect(pair.near_name()).unwrap();
    assert_eq!(*client.call(&Order { id: 1, price: 2 }).unwrap(), Order { id: 1, price: -2 });
    stop.shutdown();
    thread.join().unwrap().unwrap();

    // Another service takes the far name: the near one follows, with the new contract.
    let contract = Contract::named("frames", 9).in_encoding(wigwag::Encoding::Postcard);
    let server = Server::builder().contract(contract.clone()).bind(pair.far_name()).unwrap();
    let _serving = serving(server, 1, inverted);
    let mut last = None;
    until("the near name has the new contract", Duration::from_secs(20), || {
        let _ = client.call(&Order { id: 1, price: 2 }); // it is found out by a call
        match Client::builder().contract(contract.clone()).connect(pair.near_name()) {
            Ok(client) => client.call(b"\0").is_ok_and(|reply| reply[..] == [255]),
            Err(error) => {
                last = Some(error);
                false
            }
        }
    });
}

#[test]
fn a_slow_call_holds_up_no_other_and_a_deadline_travels_shortened() {
    let pair = Pair::new();
    let server = Server::builder().slots(16).bind(pair.far_name()).unwrap();
    let is_released = Arc::new(AtomicBool::new(false));
    let _serving = serving(server, 4, {
        let is_released = Arc::clone(&is_released);
        move |request| {
            while request.first() == Some(&1) && !is_released.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let left = request.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            let left_ms = left.map_or(u64::MAX, |left| left.as_millis() as u64);
            request.set_reply(&left_ms.to_le_bytes())
        }
    });
    let client = pair.client();
    let left = |reply: &[u8]| u64::from_le_bytes(reply.try_into().unwrap());
    assert_eq!(left(&client.call(&[0]).unwrap()), u64::MAX, "no deadline was set");
    let reply = client.loan(1).unwrap().call_timeout(Duration::from_secs(10)).unwrap();
    assert!((9_000..10_000).contains(&left(&reply)), "{}", left(&reply));
    drop(reply);

    let mut slow = client.loan(1).unwrap();
    slow[0] = 1;
    let slow = slow.send().unwrap();
    for _ in 0..50 {
        client.call_timeout(&[0], Duration::from_secs(20)).unwrap();
    }
    is_released.store(true, Ordering::Relaxed);
    slow.wait().unwrap();
    is_released.store(false, Ordering::Relaxed);

    // A caller that gives up frees what it had on both sides.
    let mut late = client.loan(1).unwrap();
    late[0] = 1;
    let error = late.call_timeout(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut { maybe_executed: true });
    let mut late = client.loan(1).unwrap();
    late[0] = 1;
    let pending = late.send().unwrap();
    until("the far side has both", Duration::from_secs(10), || {
        let export = &status(&pair.ground, "b").exports[0];
        export.counts.sent == 2 + 1 + 50 + 2
    });
    drop(pending);
    until("the far side knows", Duration::from_secs(10), || {
        let export = &status(&pair.ground, "b").exports[0];
        export.counts.given_up >= 1 && export.links[0].under_way == 0
    });
    until("the credit is back", Duration::from_secs(10), || {
        status(&pair.ground, "a").imports[0].link.as_ref().is_some_and(|link| link.under_way == 0)
    });
    is_released.store(true, Ordering::Relaxed);
}

#[test]
fn without_a_far_server_nothing_is_sent_and_callers_know() {
    let mut pair = Pair::new();
    until("the import has asked", Duration::from_secs(20), || {
        status(&pair.ground, "a").imports[0].state.contains("gives no link")
    });
    assert_eq!(Client::connect(pair.near_name()).unwrap_err().kind(), ErrorKind::NotRunning, "nothing is bound yet");
    let serving = serving(Server::bind(pair.far_name()).unwrap(), 1, inverted);
    let client = pair.client();
    assert_eq!(client.call(&[0]).unwrap()[..], [255]);
    drop(serving);
    let error = client.call(&[0]).unwrap_err();
    assert_eq!(told(&error), Told::NotExecuted, "{error:?}");
    // The far bridge is killed: the near name stays, and says so.
    pair.far.kill();
    until("the link is lost", Duration::from_secs(20), || status(&pair.ground, "a").imports[0].link.is_none());
    let error = client.call(&[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotRunning, "{error}");
    assert!(error.to_string().starts_with("nothing was sent"), "{error}");
    // And all is well again when both are back.
    pair.far = Pair::far(&pair.ground, &pair.endpoint, &[]);
    let _serving = self::serving(Server::bind(pair.far_name()).unwrap(), 1, inverted);
    linked(&pair.ground, "a");
    assert_eq!(client.call(&[0]).unwrap()[..], [255]);
}

#[test]
fn sigterm_answers_what_is_under_way_on_either_side() {
    for which in ["a", "b"] {
        let mut pair = Pair::new();
        let server = Server::builder().slots(16).bind(pair.far_name()).unwrap();
        let _serving = serving(server, 2, |request| {
            std::thread::sleep(Duration::from_millis(700));
            inverted(request);
        });
        let client = pair.client();
        let pending = client.loan(1).unwrap().send().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        let process = if which == "a" { &mut pair.near } else { &mut pair.far };
        process.signal(Signal::TERM);
        assert_eq!(pending.wait().unwrap()[..], [255], "{which}");
        let ended = process.wait_for_end(Duration::from_secs(10));
        assert!(ended.is_some_and(|status| status.success()), "{which}: {ended:?}");
        let error = client.call(&[0]).unwrap_err();
        assert_eq!(told(&error), Told::NotExecuted, "{which}: {error:?}");
    }
}

/// Whatever is killed, at any moment: the ledger of what was executed and what callers were told agree.
#[test]
fn kills_of_every_process_against_the_ledger() {
    let mut pair = Pair::new();
    let ledger = pair.ground.file("ledger");
    let mut server = ledger_server(&pair.far_name(), &ledger, Duration::from_micros(200));
    linked(&pair.ground, "a");
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut kills = [0; 3];
    let near = pair.near_name();
    let len = |number: u64| if number.is_multiple_of(7) { 150_000 } else { 48 };
    let told = callers(&near, 4, 1500, len, |are_done| {
        while !are_done() {
            std::thread::sleep(Duration::from_millis(200 + random(&mut state) % 600));
            let which = (random(&mut state) % 3) as usize;
            kills[which] += 1;
            match which {
                0 => {
                    server.kill();
                    server = ledger_server(&pair.ground.name("b", "echo"), &ledger, Duration::from_micros(200));
                }
                1 => {
                    pair.far.kill();
                    pair.far = Pair::far(&pair.ground, &pair.endpoint, &[]);
                }
                _ => {
                    pair.near.kill();
                    pair.near = Pair::near(&pair.ground, &pair.endpoint, &[]);
                }
            }
        }
    });
    println!("killed: server {}, exporter {}, importer {}", kills[0], kills[1], kills[2]);
    let sums = compare(&told, &executed(&ledger));
    sums.check();
    assert!(sums.replied > sums.calls / 4 && sums.maybe > 0, "the kills hit calls: {sums:?}");
}

#[test]
fn of_two_exporters_the_first_is_used_and_the_other_stands_by() {
    let ground = Ground::new();
    let (first, second) = (endpoint(), endpoint());
    let answering =
        |name: String, with: u8| serving(Server::bind(name).unwrap(), 1, move |request| request.set_reply(&[with]));
    let _b = answering(ground.name("b", "echo"), b'b');
    let _c = answering(ground.name("c", "echo"), b'c');
    let export = |machine: &str, endpoint: &str| {
        bridge(&ground, machine, None, &["--export", &ground.name(machine, "echo"), "--listen", endpoint])
    };
    let (mut b, _second) = (export("b", &first), export("c", &second));
    let near = ground.name("a", "echo");
    let fixed = ground.name("a", "of-c");
    let config = ground.file("a.toml");
    let text = format!(
        "listen = [{:?}]\nconnect = [{first:?}, {second:?}]\n[[import]]\nname = \"echo\"\nas = {near:?}\n\
         [[import]]\nname = \"echo\"\nhost = \"c\"\nas = {fixed:?}\n",
        endpoint()
    );
    std::fs::write(&config, text).unwrap();
    let _near = bridge(&ground, "a", None, &["--config", config.to_str().unwrap()]);
    let import = |at: usize| status(&ground, "a").imports[at].clone();
    until("both are known", Duration::from_secs(20), || {
        import(0).standby.len() == 1 && import(0).link.is_some() && import(1).link.is_some()
    });
    let call = |name: &str| Client::connect(name).unwrap().call(b"").map(|reply| reply[0]);
    let used = import(0).link.unwrap().host; // whoever came first, and it stays
    assert_eq!(call(&near).unwrap(), used.as_bytes()[0]);
    assert_eq!(call(&fixed).unwrap(), b'c');
    b.kill();
    until("c has taken over", Duration::from_secs(20), || call(&near).is_ok_and(|byte| byte == b'c'));
    assert!(import(0).standby.is_empty());
    let _back = export("b", &first);
    until("b stands by", Duration::from_secs(20), || import(0).standby.len() == 1);
    assert_eq!(call(&near).unwrap(), b'c', "a link that lives stays");
}

/// A hostile importer and a hostile exporter: random messages, and messages out of place. The other link goes on.
#[test]
fn hostile_messages_end_their_own_link_only() {
    let mut pair = Pair::new();
    let server = Server::builder().bind(pair.far_name()).unwrap();
    let _serving = serving(server, 1, inverted);
    let client = pair.client();
    assert_eq!(client.call(&[0]).unwrap()[..], [255]);

    let mut config = zenoh::Config::default();
    config.insert_json5("scouting/multicast/enabled", "false").unwrap();
    config.insert_json5("listen/endpoints", "[]").unwrap();
    config.insert_json5("connect/endpoints", &format!("[{:?}]", pair.endpoint)).unwrap();
    let session = zenoh::open(config).wait().unwrap();
    let bridge_of = |machine: &str| {
        let tokens = session.liveliness().get("wigwag/1/export/*/*/*").wait().unwrap();
        let token = tokens.into_iter().find_map(|reply| reply.into_result().ok()).expect("the export's token");
        token.key_expr().as_str().replace("/export/", "/in/").replace("/*/", &format!("/{machine}/"))
    };
    let inlet = bridge_of("b");
    let mine = 0x77_u128;
    let inbox = format!("wigwag/1/back/evil/{mine:032x}");
    let heard = session.declare_subscriber(inbox.clone()).wait().unwrap();
    let send = |message: &Message| session.put(inlet.clone(), message.encode()).wait().unwrap();
    let link = |epoch: u128| {
        send(&Message::Hello { epoch, bridge: mine, stream: mine, inbox: &inbox, host: "evil" });
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let Ok(Some(sample)) = heard.recv_timeout(Duration::from_secs(1)) else { continue };
            let bytes = sample.payload().to_bytes();
            if let Ok(Message::Welcome { epoch: of, link, .. }) = Message::decode(&bytes)
                && of == epoch
            {
                return link;
            }
        }
        panic!("no link within 10 s");
    };
    let whole = |link: u128, number: u64| Message::Whole { link, number, left_us: 0, payload: b"\0" };
    let wrong: [fn(u128) -> Message<'static>; 6] = [
        |link| Message::Pong { link, nonce: 1 },
        |link| Message::Start { link, number: 1, left_us: 0, len: u32::MAX, piece: b"1" },
        |link| Message::Start { link, number: 1, left_us: 0, len: 5, piece: b"" },
        |link| Message::Start { link, number: 1, left_us: 0, len: 2, piece: b"123" },
        |link| Message::Bye { link, is_draining: true, text: "" },
        |link| Message::Whole { link, number: 1, left_us: 0, payload: &[0; 5000] },
    ];
    let links = || status(&pair.ground, "b").exports[0].links.len();
    for (at, wrong) in wrong.into_iter().enumerate() {
        let link = link(at as u128 + 1);
        assert_eq!(links(), 2, "{at}");
        send(&wrong(link));
        until("the hostile link is over", Duration::from_secs(10), || links() == 1);
        assert_eq!(client.call(&[0]).unwrap()[..], [255], "{at}");
    }

    // The same number twice, and one that is too old, are not executed: three numbers make three executions.
    let before = status(&pair.ground, "b").exports[0].counts.clone();
    let own = link(100);
    for number in [1, 2, 2, 1, 9000, 9000, 3] {
        send(&whole(own, number));
    }
    until("they were looked at", Duration::from_secs(10), || {
        let now = status(&pair.ground, "b").exports[0].counts.clone();
        (now.sent - before.sent, now.duplicates - before.duplicates) == (3, 4)
    });

    // Requests beyond the credits are refused, links beyond the limit are not given, noise is counted.
    let mut state = 88_172_645_463_325_252;
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..random(&mut state) % 70).map(|_| random(&mut state) as u8).collect();
        session.put(inlet.clone(), noise).wait().unwrap();
    }
    for epoch in 200..220 {
        send(&Message::Hello { epoch, bridge: mine, stream: mine, inbox: &inbox, host: "evil" });
        send(&Message::Hello { epoch, bridge: mine, stream: mine, inbox: "wigwag/1/back/a/else", host: "evil" });
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(links() <= 1 + 4, "{} links", links());
    assert_eq!(client.call(&[0]).unwrap()[..], [255]);
    let now = status(&pair.ground, "b").exports[0].clone();
    assert!(now.counts.violations > 20, "{:?}", now.counts);
    assert!(pair.far.child.try_wait().unwrap().is_none(), "it lives");
}

#[test]
fn check_says_what_it_would_do_and_wrong_words_are_told() {
    let run = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_wigwag-bridge")).args(words).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(&["--export", "orders", "--import", "prices@b", "--check"]);
    assert_eq!(code, Some(0));
    for part in ["exports the local service orders as orders", "imports prices from the machine b", "cannot reach"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (words, part) in [
        (&["--check"][..], "--export"),
        (&["--export", "a", "--import", "b", "--as", "c"], "--config"),
        (&["--export", "a", "--calls", "0"], "calls = 0"),
        (&["status", "--status-name", "/nowhere/at/all"], "no bridge"),
    ] {
        let (code, text) = run(words);
        assert!(code == Some(1) && text.contains(part), "{words:?}: {code:?} {text}");
    }
}
