//! Each setting has one name and one meaning: set on a builder, or in the value behind it, it gives the same.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use wigwag::observe::{Observer, Service};
use wigwag::{
    Access, Client, ClientBuilder, ConnectOptions, Contract, ErrorKind, Limits, ListenOptions, Receiver,
    ReceiverBuilder, Result, Sender, SenderBuilder, Server, ServerBuilder, Stream, StreamBuilder, StreamListener,
    StreamListenerBuilder, Wait,
};
use wigwag_testing::{Ground, LIMIT};

/// A setting of a builder, made in several ways that must come to the same.
struct Case<B> {
    /// The setter of the options.
    name: &'static str,
    /// By the builder's own setter, by its setter of options, and from the options.
    ways: [B; 3],
}

/// `setter(value)`, or `builder's setter = options' setter(value)` where a form has a word of its own.
macro_rules! connecting {
    ($builder:ty: $($own:ident = $setter:ident($($value:expr)?)),+ $(,)?) => {
        vec![$({
            let options = ConnectOptions::default().$setter($($value)?);
            let default = || <$builder>::from(ConnectOptions::default());
            let ways = [default().$own($($value)?), default().options(options.clone()), options.into()];
            Case { name: stringify!($setter), ways }
        }),+]
    };
}

/// The same for who takes a name: of `ListenOptions` itself, of its limits, and of its access.
macro_rules! listening {
    (
        $builder:ty:
        $($own:ident = $setter:ident($value:expr)),+;
        limits $($own_limit:ident = $limit:ident($number:expr)),+;
        access $($rule:ident($($id:expr)?)),+ $(,)?
    ) => {{
        let default = || <$builder>::from(ListenOptions::default());
        let mut cases = vec![$({
            let options = ListenOptions::default().$setter($value);
            let ways = [default().$own($value), default().options(options.clone()), options.into()];
            Case { name: stringify!($setter), ways }
        }),+];
        $({
            let limits = Limits::default().$limit($number);
            let options = ListenOptions::default().limits(limits.clone());
            let ways = [default().$own_limit($number), default().options(options), default().limits(limits)];
            cases.push(Case { name: stringify!($limit), ways });
        })+
        $({
            let access = Access::default().$rule($($id)?);
            let options = ListenOptions::default().access(access.clone());
            let ways = [default().$rule($($id)?), default().options(options), default().access(access)];
            cases.push(Case { name: stringify!($rule), ways });
        })+
        cases
    }};
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn clients() -> Vec<Case<ClientBuilder>> {
    connecting!(ClientBuilder:
        slots = slots(3), capacity = capacity(5000), wait = wait(Wait::Park), timeout = timeout(LIMIT),
        server_timeout = server_timeout(LIMIT), contract = contract(Contract::named("other", 7)),
        server_user = server_user(own_uid()), descriptors = descriptors(true), reconnect = reconnect(LIMIT),
        follow_restarts = follow_restarts(LIMIT))
}

fn senders() -> Vec<Case<SenderBuilder>> {
    connecting!(SenderBuilder: linger = linger(LIMIT),
        slots = slots(3), capacity = capacity(5000), wait = wait(Wait::Park), timeout = timeout(LIMIT),
        server_timeout = server_timeout(LIMIT), contract = contract(Contract::named("other", 7)),
        server_user = server_user(own_uid()))
}

fn streams() -> Vec<Case<StreamBuilder>> {
    connecting!(StreamBuilder:
        ring_bytes = capacity(8192), wait = wait(Wait::Park), timeout = timeout(LIMIT),
        server_timeout = server_timeout(LIMIT), contract = contract(Contract::named("other", 7)),
        server_user = server_user(own_uid()))
}

fn servers() -> Vec<Case<ServerBuilder>> {
    listening!(ServerBuilder:
        wait = wait(Wait::Park), contract = contract(Contract::named("other", 7)),
        descriptors = descriptors(true), replace = replace(LIMIT);
        limits slots = slots(3), capacity = capacity(5000), max_sessions = max_sessions(5),
        max_sessions_per_user = max_sessions_per_user(6), max_bytes_per_session = max_bytes_per_session(1 << 20),
        max_bytes_total = max_bytes_total(1 << 21), max_handshakes = max_handshakes(7),
        handshake_timeout = handshake_timeout(LIMIT);
        access allow_user(1001), allow_group(1002), allow_everyone())
}

fn receivers() -> Vec<Case<ReceiverBuilder>> {
    listening!(ReceiverBuilder:
        wait = wait(Wait::Park), contract = contract(Contract::named("other", 7)), replace = replace(LIMIT);
        limits slots = slots(3), capacity = capacity(5000), max_sessions = max_sessions(5),
        max_sessions_per_user = max_sessions_per_user(6), max_bytes_per_session = max_bytes_per_session(1 << 20),
        max_bytes_total = max_bytes_total(1 << 21), max_handshakes = max_handshakes(7),
        handshake_timeout = handshake_timeout(LIMIT);
        access allow_user(1001), allow_group(1002), allow_everyone())
}

fn listeners() -> Vec<Case<StreamListenerBuilder>> {
    listening!(StreamListenerBuilder:
        wait = wait(Wait::Park), contract = contract(Contract::named("other", 7)), backlog = backlog(9),
        replace = replace(LIMIT);
        limits ring_bytes = capacity(8192), max_sessions = max_sessions(5),
        max_sessions_per_user = max_sessions_per_user(6), max_bytes_per_session = max_bytes_per_session(1 << 20),
        max_bytes_total = max_bytes_total(1 << 21), max_handshakes = max_handshakes(7),
        handshake_timeout = handshake_timeout(LIMIT);
        access allow_user(1001), allow_group(1002), allow_everyone())
}

/// What others see of a service, but for when it was bound.
fn seen(path: &Path) -> String {
    let observer = Observer::open(path).unwrap();
    let Service { form, contract, wait, policy, limits, .. } = observer.service();
    format!("{form:?} {contract:?} {wait:?} {policy:?} {limits:?}")
}

/// Binds each way of each case; what is bound is the same, and not what is bound when nothing is set.
fn binds_the_same<B: Clone + Debug, S>(cases: Vec<Case<B>>, default: B, bind: impl Fn(B, &Path) -> Result<S>) {
    let ground = Ground::new();
    let look = |builder: &B| {
        let _service = bind(builder.clone(), &ground.socket()).unwrap();
        seen(&ground.socket())
    };
    let unset = look(&default);
    for Case { name, ways } in cases {
        let [shown, by_options, other] = ways.each_ref().map(|builder| format!("{builder:?}"));
        assert_eq!((&by_options, &other), (&shown, &shown), "{name}");
        assert_ne!(shown, format!("{default:?}"), "{name} sets nothing");
        let [first, by_options, other] = ways.each_ref().map(look);
        assert_eq!((&by_options, &other), (&first, &first), "{name}");
        // The listener's own, what is agreed on in each session, and what is over once it is bound.
        let is_told = !["backlog", "descriptors", "replace"].contains(&name);
        assert_eq!(first != unset, is_told, "{name} is told to nobody, or is when nothing is set");
    }
}

#[test]
fn what_takes_a_name_is_the_same_by_setter_and_by_options() {
    binds_the_same(servers(), Server::builder(), |builder, path| builder.bind(path));
    binds_the_same(receivers(), Receiver::builder(), |builder, path| builder.bind(path));
    binds_the_same(listeners(), StreamListener::builder(), |builder, path| builder.bind(path));
}

/// Connects each way of each case; the session has the same size. A server of the contract that the case has is there.
fn connects_the_same<B: Clone + Debug, S>(
    cases: Vec<Case<B>>,
    default: B,
    bind: impl Fn(Contract, &Path) -> S,
    size: impl Fn(B, &Path) -> (usize, usize),
) {
    let (plain, other) = (Ground::new(), Ground::new());
    let _plain = bind(Contract::bytes(), &plain.socket());
    let _other = bind(Contract::named("other", 7), &other.socket());
    let unset = size(default.clone(), &plain.socket());
    for Case { name, ways } in cases {
        let [shown, by_options, from] = ways.each_ref().map(|builder| format!("{builder:?}"));
        assert_eq!((&by_options, &from), (&shown, &shown), "{name}");
        assert_ne!(shown, format!("{default:?}"), "{name} sets nothing");
        let path = if name == "contract" { other.socket() } else { plain.socket() };
        let [first, by_options, from] = ways.map(|builder| size(builder, &path));
        assert_eq!((by_options, from), (first, first), "{name}");
        assert_eq!(first != unset, ["slots", "capacity"].contains(&name), "{name}: {first:?}");
    }
}

#[test]
fn what_connects_is_the_same_by_setter_and_by_options() {
    let server = |contract, path: &Path| Server::builder().contract(contract).bind(path).unwrap();
    connects_the_same(clients(), Client::builder(), server, |builder, path| {
        let client = builder.connect(path).unwrap();
        (client.slots(), client.capacity())
    });
    let receiver = |contract, path: &Path| Receiver::builder().contract(contract).bind(path).unwrap();
    connects_the_same(senders(), Sender::builder(), receiver, |builder, path| {
        let sender = builder.connect(path).unwrap();
        (sender.slots(), sender.capacity())
    });
    let listener = |contract, path: &Path| StreamListener::builder().contract(contract).bind(path).unwrap();
    connects_the_same(streams(), Stream::builder(), listener, |builder, path| {
        let stream = builder.connect(path).unwrap();
        (2, (&stream).write(&vec![0; 4 << 20]).unwrap()) // nobody reads: as much as the ring holds
    });
}

#[test]
fn the_tables_have_every_setter_of_the_options() {
    fn names<B>(cases: Vec<Case<B>>) -> Vec<&'static str> {
        cases.into_iter().map(|case| case.name).collect()
    }
    let source = include_str!("../../wigwag/src/options.rs");
    let setters = |of: &str| -> BTreeSet<&str> {
        let block = source.split(&format!("\nimpl {of} {{\n")).nth(1).unwrap().split("\n}\n").next().unwrap();
        let lines = block.lines().filter_map(|line| line.strip_prefix("    pub fn "));
        lines.map(|line| line.split('(').next().unwrap()).collect()
    };
    let connecting = setters("ConnectOptions");
    let mut listening: BTreeSet<&str> = ["ListenOptions", "Limits", "Access"].into_iter().flat_map(setters).collect();
    assert!(listening.remove("limits") && listening.remove("access")); // by these all cases go
    assert!(listening.remove("from_listener")); // no two sockets are the same: tests/inherited_listeners.rs has it
    for (side, names, expected, missing) in [
        ("client", names(clients()), &connecting, ["linger"].as_slice()),
        ("sender", names(senders()), &connecting, &["descriptors", "reconnect", "follow_restarts"]),
        ("stream", names(streams()), &connecting, &["slots", "descriptors", "reconnect", "follow_restarts", "linger"]),
        ("server", names(servers()), &listening, &["backlog"]),
        ("receiver", names(receivers()), &listening, &["backlog", "descriptors"]),
        ("listener", names(listeners()), &listening, &["slots", "descriptors"]),
    ] {
        let there: BTreeSet<&str> = names.iter().chain(missing).copied().collect();
        assert_eq!(&there, expected, "{side}");
    }
}

#[test]
fn what_is_set_later_wins() {
    let options = || ConnectOptions::default().slots(4).capacity(64);
    let shown = |builder: ClientBuilder| format!("{builder:?}");
    assert_eq!(shown(Client::builder().slots(9).wait(Wait::Park).options(options())), shown(options().into()));
    assert_eq!(shown(Client::builder().options(options()).slots(9)), shown(options().slots(9).into()));
    let shown = |builder: ServerBuilder| format!("{builder:?}");
    let limits = || Limits::default().max_sessions(3);
    let limited = || Server::builder().limits(limits());
    assert_eq!(shown(Server::builder().max_handshakes(9).limits(limits())), shown(limited()));
    assert_eq!(shown(limited().slots(9)), shown(Server::builder().limits(limits().slots(9))));
    let access = || Access::default().allow_user(7);
    let open = || Server::builder().access(access());
    assert_eq!(shown(Server::builder().allow_everyone().access(access())), shown(open()));
    assert_eq!(shown(open().allow_group(9)), shown(Server::builder().access(access().allow_group(9))));
}

/// One value for all forms: what a form does not have, it does not look at.
#[test]
fn a_stream_has_two_rings_whatever_the_slots() {
    let ground = Ground::new();
    let limits = Limits::default().slots(64);
    let listener = StreamListener::builder().limits(limits).bind(ground.socket()).unwrap();
    let options = ConnectOptions::default().slots(64);
    let _stream = Stream::builder().options(options).connect(ground.socket()).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(Observer::open(ground.socket()).unwrap().service().limits.slots, 2);
    drop(Server::builder().options(ListenOptions::default().backlog(0)).bind(Ground::new().socket()).unwrap());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let ground = Ground::new();
    let path = ground.socket();
    let limits = |limits: Limits| ListenOptions::default().limits(limits);
    let named = || Contract::named("", 0);
    for (options, of_stream_too) in [
        (ConnectOptions::default().slots(0), false),
        (ConnectOptions::default().slots(4097), false),
        (ConnectOptions::default().capacity((1 << 30) + 1), true),
        (ConnectOptions::default().contract(named()), true),
    ] {
        let results = [
            Client::builder().options(options.clone()).connect(&path).map(drop),
            Sender::builder().options(options.clone()).connect(&path).map(drop),
            Stream::builder().options(options).connect(&path).map(drop),
        ];
        let kinds = results.map(|result| result.unwrap_err().kind());
        let of_stream = if of_stream_too { ErrorKind::InvalidConfiguration } else { ErrorKind::NotRunning };
        assert_eq!(kinds, [ErrorKind::InvalidConfiguration, ErrorKind::InvalidConfiguration, of_stream]);
    }
    let invalid = Some(ErrorKind::InvalidConfiguration);
    for (options, kinds) in [
        (limits(Limits::default().slots(0)), [invalid, invalid, None]),
        (limits(Limits::default().slots(4097)), [invalid, invalid, None]),
        (limits(Limits::default().capacity((1 << 30) + 1)), [invalid; 3]),
        (limits(Limits::default().capacity(5000)), [None, None, invalid]),
        (ListenOptions::default().backlog(0), [None, None, invalid]),
        (ListenOptions::default().contract(named()), [invalid; 3]),
    ] {
        let results = [
            Server::builder().options(options.clone()).bind(&path).map(drop),
            Receiver::builder().options(options.clone()).bind(&path).map(drop),
            StreamListener::builder().options(options.clone()).bind(&path).map(drop),
        ];
        assert_eq!(results.map(|result| result.err().map(|error| error.kind())), kinds, "{options:?}");
    }
}

#[test]
fn a_missing_server_is_waited_for_by_clients_and_streams_as_well() {
    let options = ConnectOptions::default().server_timeout(LIMIT);
    let (calls, bytes) = (Ground::new(), Ground::new());
    let (server_path, listener_path) = (calls.socket(), bytes.socket());
    let client = std::thread::spawn({
        let options = options.clone();
        move || Client::builder().options(options).connect(server_path).map(drop)
    });
    let stream = std::thread::spawn(move || Stream::builder().options(options).connect(listener_path).map(drop));
    std::thread::sleep(Duration::from_millis(50)); // both have looked, on any machine that is not very busy
    let _server = Server::bind(calls.socket()).unwrap();
    let _listener = StreamListener::bind(bytes.socket()).unwrap();
    client.join().unwrap().unwrap();
    stream.join().unwrap().unwrap();
}
