//! Two machines and a router between them, as network namespaces. Where these cannot be made, each test says why, and
//! is over.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::{
    Ground, Process, Told, bridge, call, callers, compare, executed, ledger_server, linked, random, status, until,
};
use wigwag::{Client, Overrun, Publisher, Receiver, Sender, Subscriber};

#[test]
fn serve_ledger_if_told() {
    support::serve_ledger();
}

/// The machines a and b, each with a cable to a router, which forwards between them.
struct Network {
    prefix: String,
}

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

fn run(program: &str, words: &str) -> Result<(), String> {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Network {
    fn new() -> Option<Network> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Network { prefix: format!("wb{}x{number}", std::process::id() % 100_000) };
        match network.make() {
            Ok(()) => Some(network),
            Err(why) => {
                println!("skipped: this system makes no network namespaces: {why}");
                None
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let router = self.of("r");
        ip(&format!("netns add {router}"))?;
        for (machine, net) in [("a", 1), ("b", 2)] {
            let namespace = self.of(machine);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {router} link add to-{machine} type veth peer name eth netns {namespace}"))?;
            ip(&format!("-n {router} addr add 10.77.{net}.1/24 dev to-{machine}"))?;
            ip(&format!("-n {namespace} addr add 10.77.{net}.2/24 dev eth"))?;
            let cable = format!("to-{machine}");
            for (of, device) in [(&router, cable.as_str()), (&namespace, "eth"), (&namespace, "lo")] {
                ip(&format!("-n {of} link set {device} up"))?;
            }
            ip(&format!("-n {namespace} route add default via 10.77.{net}.1"))?;
        }
        let forward = ["netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
        match Command::new("ip").args(forward).status() {
            Ok(status) if status.success() => Ok(()),
            outcome => Err(format!("forwarding: {outcome:?}")),
        }
    }

    fn of(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix)
    }

    /// Pulls the cable of a machine, or puts it in.
    fn cable(&self, machine: &str, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        ip(&format!("-n {} link set to-{machine} {state}", self.of("r"))).unwrap();
    }

    /// What the router does to packets for a machine, in the words of `tc netem`.
    fn disturb(&self, machine: &str, how: &str) -> Result<(), String> {
        run("tc", &format!("-n {} qdisc replace dev to-{machine} root netem {how}", self.of("r")))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in ["a", "b", "r"] {
            let _ = ip(&format!("netns del {}", self.of(machine)));
        }
    }
}

const EXPORTER: &str = "tcp/10.77.2.2:7447";

/// Two machines with a bridge each: `echo` of b is called at a.
struct Machines {
    network: Network,
    ground: Ground,
    near: Process,
    far: Process,
}

impl Machines {
    fn new() -> Option<Machines> {
        let network = Network::new()?;
        let ground = Ground::new();
        let far = Machines::far(&network, &ground);
        let near = Machines::near(&network, &ground);
        Some(Machines { network, ground, near, far })
    }

    fn config(ground: &Ground) -> PathBuf {
        let path = ground.file("bridge.toml");
        std::fs::write(&path, "link_timeout_ms = 1000\n").unwrap();
        path
    }

    fn far(network: &Network, ground: &Ground) -> Process {
        let (name, config) = (ground.name("b", "echo"), Machines::config(ground));
        let words = ["--config", config.to_str().unwrap(), "--export", &name, "--listen", EXPORTER];
        bridge(ground, "b", Some(&network.of("b")), &words)
    }

    fn near(network: &Network, ground: &Ground) -> Process {
        let (name, config) = (ground.name("a", "echo"), Machines::config(ground));
        let words = ["--config", config.to_str().unwrap(), "--import", "echo", "--as", &name];
        let ends = ["--listen", "tcp/10.77.1.2:7447", "--connect", EXPORTER];
        bridge(ground, "a", Some(&network.of("a")), &[&words[..], &ends].concat())
    }

    fn server(&self, work: Duration) -> Process {
        ledger_server(&self.ground.name("b", "echo"), &self.ground.file("ledger"), work)
    }

    fn client(&self) -> Client {
        let options = Client::builder().server_timeout(Duration::from_secs(30));
        options.connect(self.ground.name("a", "echo")).unwrap()
    }
}

/// 10,000 calls while cables are pulled at random, and now and then a process is killed, too.
#[test]
fn cables_pulled_at_random_against_the_ledger() {
    let Some(mut machines) = Machines::new() else { return };
    let work = Duration::from_millis(2);
    let mut server = machines.server(work);
    linked(&machines.ground, "a");
    let mut state = 0x1234_5678_9abc_def1;
    let (mut pulls, mut kills) = (0, 0);
    let near = machines.ground.name("a", "echo");
    let len = |number: u64| match number % 50 {
        0 => 700_000,
        1..10 => 20_000,
        _ => 48,
    };
    let began = Instant::now();
    let told = callers(&near, 8, 1250, len, |are_done| {
        while !are_done() {
            std::thread::sleep(Duration::from_millis(50 + random(&mut state) % 600));
            let machine = if random(&mut state).is_multiple_of(2) { "a" } else { "b" };
            machines.network.cable(machine, false);
            pulls += 1;
            std::thread::sleep(Duration::from_millis(random(&mut state) % 2000));
            machines.network.cable(machine, true);
            match random(&mut state) % 8 {
                0 => {
                    machines.far.kill();
                    machines.far = Machines::far(&machines.network, &machines.ground);
                    kills += 1;
                }
                1 => {
                    machines.near.kill();
                    machines.near = Machines::near(&machines.network, &machines.ground);
                    kills += 1;
                }
                2 => {
                    server.kill();
                    server = machines.server(work);
                    kills += 1;
                }
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(500 + random(&mut state) % 1000));
        }
    });
    println!("{pulls} pulls and {kills} kills in {:.1} s", began.elapsed().as_secs_f64());
    let sums = compare(&told, &executed(&machines.ground.file("ledger")));
    sums.check();
    assert_eq!(sums.calls, 10_000);
    assert!(sums.replied > 1000 && sums.maybe > 0, "the pulls hit calls: {sums:?}");
}

#[test]
fn a_lossy_and_slow_network_loses_no_call() {
    let Some(machines) = Machines::new() else { return };
    let _server = machines.server(Duration::ZERO);
    linked(&machines.ground, "a");
    for machine in ["a", "b"] {
        if let Err(why) = machines.network.disturb(machine, "delay 5ms 3ms loss 3%") {
            return println!("skipped: this system disturbs no network: {why}");
        }
    }
    let near = machines.ground.name("a", "echo");
    let len = |number: u64| if number.is_multiple_of(25) { 200_000 } else { 48 };
    let told = callers(&near, 8, 50, len, |_| ());
    let sums = compare(&told, &executed(&machines.ground.file("ledger")));
    sums.check();
    // A packet that is lost four times in a row may cost a second; what a caller gave up is "maybe".
    assert!(sums.replied > sums.calls * 9 / 10, "{sums:?}");
}

#[test]
fn a_large_request_on_a_slow_network_holds_up_no_small_one() {
    let Some(machines) = Machines::new() else { return };
    let _server = machines.server(Duration::ZERO);
    linked(&machines.ground, "a");
    for machine in ["a", "b"] {
        if let Err(why) = machines.network.disturb(machine, "delay 2ms rate 4mbit limit 1000") {
            return println!("skipped: this system disturbs no network: {why}");
        }
    }
    let (large, small) = (machines.client(), machines.client());
    std::thread::scope(|scope| {
        let large = scope.spawn(move || call(&large, 1, 1 << 20, Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(300));
        for number in 2..7 {
            assert_eq!(call(&small, number, 48, Duration::from_secs(30)), Told::Replied);
        }
        assert!(!large.is_finished(), "a megabyte there and back takes four seconds at least");
        assert_eq!(large.join().unwrap(), Told::Replied);
    });
}

/// The publisher would wait five minutes for a subscriber: it never waits for the link.
#[test]
fn a_broadcast_on_a_lossy_and_slow_network_holds_nobody_up_and_counts_what_is_lost() {
    let Some(machines) = Machines::new() else { return };
    let overrun = Overrun::Wait(Duration::from_secs(300));
    let builder = Publisher::builder().capacity(20_000).overrun(overrun);
    let mut publisher = builder.bind(machines.ground.name("b", "echo")).unwrap();
    linked(&machines.ground, "a");
    let mut subscriber = Subscriber::builder().connect(machines.ground.name("a", "echo")).unwrap();
    for machine in ["a", "b"] {
        if let Err(why) = machines.network.disturb(machine, "delay 10ms 3ms loss 1% rate 8mbit limit 1000") {
            return println!("skipped: this system disturbs no network: {why}");
        }
    }
    let message = |number: u64| vec![number as u8; if number.is_multiple_of(3) { 48 } else { 9_000 }];
    let last = 3000; // 18 MB, of which 4 wait for the link at most
    let mut publish = |number| assert_eq!(publisher.send(&message(number)).unwrap(), number);
    (1..=last).for_each(&mut publish);
    until("the exporter has let go of some", Duration::from_secs(20), || {
        status(&machines.ground, "b").exports[0].counts.lost > 0
    });
    for machine in ["a", "b"] {
        machines.network.disturb(machine, "delay 1ms").unwrap();
    }
    publish(last + 1);
    let (mut came, mut lost) = (0, 0);
    while came + lost < last + 1 {
        let found = subscriber.recv_timeout(Duration::from_secs(60)).unwrap();
        (came, lost) = (came + 1, lost + found.lost_before());
        assert_eq!(found.sequence(), came + lost, "each number came or was told as lost");
        assert!(found[..] == message(found.sequence()), "message {} is whole", found.sequence());
    }
    println!("{came} came, {lost} were lost and told");
    assert!(came > 100 && lost > 0);
    assert_eq!(publisher.stats().cut_off, 0);
}

#[test]
fn a_queue_on_a_lossy_and_slow_network_keeps_its_order_and_loses_nothing() {
    let Some(machines) = Machines::new() else { return };
    let receiver = Receiver::bind(machines.ground.name("b", "echo")).unwrap();
    linked(&machines.ground, "a");
    for machine in ["a", "b"] {
        if let Err(why) = machines.network.disturb(machine, "delay 5ms 3ms loss 2%") {
            return println!("skipped: this system disturbs no network: {why}");
        }
    }
    let near = machines.ground.name("a", "echo");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sender = Sender::connect(near).unwrap();
            for number in 1..=1500_u64 {
                let len = if number.is_multiple_of(50) { 60_000 } else { 48 };
                let mut message = vec![number as u8; len];
                message[..8].copy_from_slice(&number.to_le_bytes());
                sender.send(&message).unwrap();
            }
            sender.close().unwrap(); // all is acknowledged by the far receiver
        });
        for number in 1..=1500_u64 {
            // A link that is lost for all that puts messages again, and says so.
            loop {
                let limit = Duration::from_secs(60);
                let message = receiver.recv_timeout(limit).unwrap().expect("a message within a minute");
                let found = u64::from_le_bytes(message[..8].try_into().unwrap());
                let is_again = message.is_redelivered() && found < number;
                message.ack();
                if !is_again {
                    assert_eq!(found, number);
                    break;
                }
            }
        }
    });
}

/// The bridges are clients of a router of zenoh's, which is killed.
#[test]
fn a_router_that_is_killed_costs_calls_under_way_and_no_more() {
    let Some(network) = Network::new() else { return };
    let ground = Ground::new();
    let write = |name: &str, text: &str| {
        let path = ground.file(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let lease = r#"transport: { link: { tx: { lease: 1000 } } }, scouting: { multicast: { enabled: false } }"#;
    let listen = r#"listen: { endpoints: ["tcp/0.0.0.0:7447"] }"#;
    let router = write("router.json5", &format!("{{ mode: \"router\", {listen}, {lease} }}"));
    let client = |net: u8| {
        let retry = "timeout_ms: -1, exit_on_failure: false, retry: { period_init_ms: 100, period_max_ms: 500 }";
        let connect = format!("connect: {{ endpoints: [\"tcp/10.77.{net}.1:7447\"], {retry} }}");
        write(&format!("{net}.json5"), &format!("{{ mode: \"client\", {connect}, {lease} }}"))
    };
    let (of_a, of_b) = (client(1), client(2));
    // Any bridge routes, if zenoh's configuration says so; this one exports a service that nobody calls.
    let start_router = || {
        let words = ["--export", "nobody", "--zenoh-config", &router];
        bridge(&ground, "r", Some(&network.of("r")), &words)
    };
    let mut routing = start_router();
    let (near, far) = (ground.name("a", "echo"), ground.name("b", "echo"));
    let _far = bridge(&ground, "b", Some(&network.of("b")), &["--export", &far, "--zenoh-config", &of_b]);
    let words = ["--import", "echo", "--as", &near, "--zenoh-config", &of_a];
    let _near = bridge(&ground, "a", Some(&network.of("a")), &words);
    let ledger = ground.file("ledger");
    let _server = ledger_server(&far, &ledger, Duration::from_micros(500));
    linked(&ground, "a");
    let told = callers(
        &near,
        4,
        500,
        |_| 48,
        |_| {
            std::thread::sleep(Duration::from_millis(300));
            routing.kill();
            until("the importer knows", Duration::from_secs(20), || status(&ground, "a").imports[0].link.is_none());
            routing = start_router();
            linked(&ground, "a");
        },
    );
    let sums = compare(&told, &executed(&ledger));
    sums.check();
    assert!(sums.replied > 100, "{sums:?}");
    let after = callers(&near, 1, 50, |_| 48, |_| ());
    assert!(after.values().all(|told| *told == Told::Replied), "all is well again");
}
