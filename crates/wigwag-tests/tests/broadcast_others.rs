//! Broadcasts between users: copies, validated, and nobody who can be harmed by a lie.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wigwag::{ErrorKind, Publisher, Start, Subscriber, Wait};
use wigwag_testing::others::become_user;
use wigwag_testing::{Ground, LIMIT, Process, Raw, RawBoard, RawServer, eventually, fill, limited, role, wire};

const OTHER_USER: u32 = 60_128;

/// A ground that all can reach, if there is anybody to play.
fn open_ground() -> Option<Ground> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, because only root can play another user");
        return None;
    }
    let ground = Ground::new();
    std::fs::set_permissions(ground.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    Some(ground)
}

fn message(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; [10, 48, 49, 3000][number as usize % 4]];
    fill(&mut bytes, number);
    bytes
}

/// Subscribes as another user. Arguments: the socket, the publisher's user, the way.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn foreign_reader() {
    role("foreign_reader", |parent, arguments| {
        become_user(OTHER_USER);
        let publisher = arguments[1].parse().unwrap();
        let builder = Subscriber::builder().server_user(publisher).start(Start::Oldest).wait(Wait::Park);
        let mut subscriber = builder.connect(Path::new(arguments[0])).unwrap();
        parent.tell("connected");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let boards: Vec<&str> = maps.lines().filter(|line| line.contains("wigwag-board")).collect();
        assert!(boards.iter().all(|line| line.contains("r--s")), "{boards:?}");
        assert!(!maps.contains("wigwag-hints"), "the hint line is not for other users");
        if arguments[2] == "idle" {
            parent.hear_at_last();
        }
        let mut next = None;
        let (mut came, mut lost) = (0, 0);
        loop {
            match subscriber.recv() {
                Ok(message_) => {
                    assert!(message_[..] == message(message_.sequence()), "message {} is torn", message_.sequence());
                    assert!(!message_.is_in_place());
                    let first = message_.sequence() - message_.lost_before();
                    assert_eq!(first, next.unwrap_or(first));
                    next = Some(message_.sequence() + 1);
                    (came, lost) = (came + 1, lost + message_.lost_before());
                }
                Err(error) if error.kind() == ErrorKind::Ended => break,
                Err(error) => panic!("{error}"),
            }
        }
        parent.tell(format!("{came} {lost}"));
    });
}

#[test]
fn another_user_s_subscriber_copies_and_is_woken_and_none_is_lost_in_silence() {
    let Some(ground) = open_ground() else { return };
    limited(move || {
        let builder = Publisher::builder().history(8).capacity(3000).allow_user(OTHER_USER);
        let mut publisher = builder.bind(ground.socket()).unwrap();
        let socket = ground.socket();
        let arguments = [socket.to_str().unwrap(), "0", "read"];
        let mut reader = Process::start("foreign_reader", arguments);
        reader.expect("connected");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        assert!(!publisher.subscribers()[0].is_same_user);
        assert_eq!(publisher.subscribers()[0].may_hold, 0);
        for number in 1..=3000_u64 {
            publisher.send(&message(number)).unwrap();
            if number % 100 == 0 {
                // Each time it sleeps, and has to be woken by the thread that does that.
                eventually("it sleeps", || {
                    let state = publisher.subscribers()[0];
                    state.is_asleep && state.lag == 0
                });
            }
        }
        publisher.close();
        let counts: Vec<u64> = reader.hear().split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(counts[0] + counts[1], 3000);
        reader.join();
    });
}

#[test]
fn who_is_not_let_in_is_told_and_a_stopped_stranger_keeps_nobody_waiting() {
    let Some(ground) = open_ground() else { return };
    limited(move || {
        let mut publisher = Publisher::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
        let socket = ground.socket();
        let arguments = [socket.to_str().unwrap(), "0", "idle"];
        let mut reader = Process::start("foreign_reader", arguments);
        reader.expect("connected");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        reader.halt();
        (1..=20_000_u64).for_each(|number| _ = publisher.send(&message(number)).unwrap());
        reader.kill();
        eventually("it is gone", || publisher.subscribers().is_empty());
    });
}

/// Publishes as another user. Arguments: the socket, its reader's user.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn foreign_writer() {
    role("foreign_writer", |parent, arguments| {
        become_user(OTHER_USER);
        let builder = Publisher::builder().history(8).capacity(3000).allow_user(arguments[1].parse().unwrap());
        let mut publisher = builder.bind(Path::new(arguments[0])).unwrap();
        parent.tell("bound");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        for number in 1..=2000_u64 {
            publisher.send(&message(number)).unwrap();
            if number % 50 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
}

/// A directory of the other user, who may listen in it, and the socket there.
fn their_socket(ground: &Ground) -> PathBuf {
    let directory = ground.path("theirs");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    directory.join("socket")
}

#[test]
fn a_publisher_of_another_user_is_read_by_copies() {
    let Some(ground) = open_ground() else { return };
    let socket = their_socket(&ground);
    limited(move || {
        let mut writer = Process::start("foreign_writer", [socket.to_str().unwrap(), "0"]);
        writer.expect("bound");
        let builder = Subscriber::builder().server_user(OTHER_USER).start(Start::Oldest);
        let mut subscriber = builder.connect(&socket).unwrap();
        let (mut came, mut lost, mut next) = (0, 0, None);
        for message_ in subscriber.messages() {
            let message_ = message_.unwrap();
            assert!(message_[..] == message(message_.sequence()) && !message_.is_in_place());
            let first = message_.sequence() - message_.lost_before();
            assert_eq!(first, next.unwrap_or(first));
            next = Some(message_.sequence() + 1);
            (came, lost) = (came + 1, lost + message_.lost_before());
        }
        assert!(came > 0 && came + lost <= 2000 && next == Some(2001));
        drop(ground);
    });
}

/// Publishes lies as another user. Arguments: the socket, the lie.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn liar() {
    role("liar", |parent, arguments| {
        become_user(OTHER_USER);
        let (server, board) = (RawServer::bind(Path::new(arguments[0])), RawBoard::new(7));
        std::fs::set_permissions(arguments[0], PermissionsExt::from_mode(0o666)).unwrap();
        if arguments[1] == "laps without an end" {
            (0..4).for_each(|entry| board.set_entry(entry, (4 << 40) + entry + 4 * (4 - entry), 8, 0));
        } else {
            board.set_published(1);
            board.set_entry(1, 1, 60, 1);
        }
        parent.tell("bound");
        let socket = server.accept();
        wire::receive(&socket).expect("a greeting");
        let _session = board.offer(7, arguments[1] == "trusts").send(socket).unwrap();
        parent.hear_at_last();
    });
}

fn at_liar(ground: &Ground, lie: &str) -> (Process, PathBuf) {
    let socket = their_socket(ground);
    let mut liar = Process::start("liar", [socket.to_str().unwrap(), lie]);
    liar.expect("bound");
    (liar, socket)
}

#[test]
fn a_publisher_of_another_user_cannot_have_itself_trusted() {
    let Some(ground) = open_ground() else { return };
    let builder = || Subscriber::builder().server_user(OTHER_USER).start(Start::Oldest);
    {
        let (_liar, socket) = at_liar(&ground, "tells the truth");
        let message = builder().connect(&socket).unwrap().recv().unwrap();
        assert!(!message.is_in_place() && message.len() == 60);
        std::fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    }
    let (_liar, socket) = at_liar(&ground, "trusts");
    let outcome = builder().connect(&socket);
    assert_eq!(outcome.map(|_| "trusted").unwrap_err().kind(), ErrorKind::Violation);
}

#[test]
fn whoever_reads_laps_without_an_end_of_another_user_s_publisher_comes_back_in_time() {
    let Some(ground) = open_ground() else { return };
    limited(move || {
        let (_liar, socket) = at_liar(&ground, "laps without an end");
        let mut subscriber = Subscriber::builder().server_user(OTHER_USER).connect(&socket).unwrap();
        while let Ok(message) = subscriber.recv_timeout(Duration::from_millis(20)) {
            assert_eq!(message.len(), 8);
        }
    });
}

/// Comes and goes as another user. Arguments: the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn visitor() {
    role("visitor", |parent, arguments| {
        become_user(OTHER_USER);
        let connect = || Subscriber::builder().server_user(0).connect(Path::new(arguments[0]));
        let first = [connect().unwrap(), connect().unwrap()];
        parent.tell("here");
        parent.hear().unwrap();
        drop(first);
        parent.tell("gone");
        parent.hear().unwrap();
        eventually("the places are free again", || connect().is_ok());
        parent.tell("here again");
        parent.hear_at_last();
    });
}

#[test]
fn a_stranger_that_has_left_takes_no_place_although_nothing_is_published() {
    let Some(ground) = open_ground() else { return };
    limited(move || {
        let builder = Publisher::builder().allow_user(OTHER_USER).max_sessions_per_user(2);
        let mut publisher = builder.bind(ground.socket()).unwrap();
        let mut visitor = Process::start("visitor", [ground.socket()]);
        visitor.expect("here");
        publisher.wait_for_subscribers(2, LIMIT).unwrap();
        publisher.send(b"to both").unwrap();
        std::thread::sleep(Duration::from_millis(50)); // so that the thread that wakes has them in its list
        visitor.tell("go");
        visitor.expect("gone");
        eventually("both have left", || publisher.subscribers().is_empty());
        publisher.send(b"to nobody").unwrap();
        visitor.tell("come again");
        visitor.expect("here again");
    });
}

/// Says again and again, as another user, that it sleeps and has read nothing; counts how often it is rung. Arguments:
/// the socket.
#[test]
#[ignore = "a role: other tests start it as a process"]
fn restless() {
    role("restless", |parent, arguments| {
        become_user(OTHER_USER);
        let raw = Raw::connect_saying(Path::new(arguments[0]), wire::hello(), u32::MAX, u32::MAX, 3);
        raw.word(1032).store(1, Ordering::Relaxed);
        rustix::io::ioctl_fionbio(&raw.socket, true).unwrap();
        parent.tell("connected");
        parent.hear().unwrap();
        let (begin, mut rung) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_millis(200) {
            raw.half(1024).store(1, Ordering::SeqCst);
            raw.ring();
            let mut bytes = [0; 64];
            while let Ok(1..) = rustix::io::read(&raw.socket, &mut bytes) {
                rung += 1;
            }
        }
        parent.tell(rung);
    });
}

#[test]
fn a_stranger_is_rung_once_for_each_message_at_most_whatever_it_says() {
    let Some(ground) = open_ground() else { return };
    limited(move || {
        let mut publisher = Publisher::builder().allow_user(OTHER_USER).bind(ground.socket()).unwrap();
        let mut restless = Process::start("restless", [ground.socket()]);
        restless.expect("connected");
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        publisher.send(b"first").unwrap();
        restless.tell("begin");
        for _ in 0..9 {
            publisher.send(b"more").unwrap();
        }
        let rung: u64 = restless.hear().parse().unwrap();
        assert!((1..=20).contains(&rung), "10 messages, and {rung} rings");
    });
}
