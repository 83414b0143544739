//! Broadcasts between users: copies, validated, and nobody who can be harmed by a lie.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use wigwag::{ErrorKind, Publisher, Start, Subscriber, Wait};
use wigwag_testing::others::become_user;
use wigwag_testing::{Ground, LIMIT, Process, eventually, fill, limited, role};

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

#[test]
fn a_publisher_of_another_user_is_read_by_copies() {
    let Some(ground) = open_ground() else { return };
    let directory = ground.path("theirs");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(OTHER_USER), Some(OTHER_USER)).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    let socket = directory.join("socket");
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
