//! Steps that never wait, taken by threads that sleep in `poll` as any event loop would: nobody misses a ring, whoever
//! else waits on the same session.

#![allow(unsafe_code, reason = "forks")]

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wigwag::polled::{self, Client, Readiness};
use wigwag::{ErrorKind, Receiver, Sender, Server};
use wigwag_testing::{Ground, LIMIT};

/// Sleeps until a descriptor is readable.
fn sleep(fd: impl AsFd) {
    let limit = Timespec::try_from(LIMIT).unwrap();
    assert_ne!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap(), 0, "nothing rang");
}

fn reply(client: &Client, readiness: &mut Readiness, pending: &mut polled::Pending) -> wigwag::Result<polled::Loan> {
    loop {
        if let Some(reply) = pending.try_reply()? {
            return Ok(reply);
        }
        if pending.arm()? {
            sleep(&*readiness);
            client.listen(readiness)?;
        }
    }
}

fn loan(client: &Client, readiness: &mut Readiness, bytes: &[u8]) -> wigwag::Result<polled::Loan> {
    loop {
        if let Some(mut loan) = client.try_loan(bytes.len())? {
            loan.copy_from_slice(bytes);
            return Ok(loan);
        }
        sleep(&*readiness);
        client.listen(readiness)?;
    }
}

#[test]
fn threads_that_share_a_client_miss_no_ring_and_no_slot() {
    let ground = Ground::new();
    let mut server = Server::bind(ground.socket()).unwrap();
    let stop = server.shutdown_handle();
    let serving = std::thread::spawn(move || server.serve(|request| request.reverse()));
    let blocking = wigwag::Client::builder().slots(2).connect(ground.socket()).unwrap();
    let client = Client::from_blocking(blocking).unwrap();
    let threads: Vec<_> = (0..5u8)
        .map(|number| {
            let client = client.clone();
            std::thread::spawn(move || {
                let mut readiness = client.readiness().unwrap();
                for turn in 0..500u32 {
                    let bytes = [&[number], turn.to_le_bytes().as_slice()].concat();
                    let mut pending = loan(&client, &mut readiness, &bytes).unwrap().send(None).unwrap();
                    let back = reply(&client, &mut readiness, &mut pending).unwrap();
                    assert!(back.iter().rev().eq(&bytes));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((client.stats().calls, client.stats().in_flight), (2500, 0));
    stop.shutdown();
    serving.join().unwrap().unwrap();
}

#[test]
fn the_end_of_the_server_wakes_all_who_wait_and_once_only() {
    let ground = Ground::new();
    let server = Server::bind(ground.socket()).unwrap();
    let client = Client::from_blocking(wigwag::Client::connect(ground.socket()).unwrap()).unwrap();
    let (ready, are_ready) = std::sync::mpsc::channel();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (client, ready) = (client.clone(), ready.clone());
            std::thread::spawn(move || {
                let mut readiness = client.readiness().unwrap();
                let mut pending = client.try_loan(8).unwrap().unwrap().send(None).unwrap();
                assert!(pending.arm().unwrap());
                ready.send(()).unwrap();
                let error = reply(&client, &mut readiness, &mut pending).unwrap_err();
                client.listen(&mut readiness).unwrap();
                // What is over stays readable for ever, and does not keep anybody awake.
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                let is_readable = poll(&mut [PollFd::new(&readiness, PollFlags::IN)], Some(&now)).unwrap();
                (error.kind(), is_readable)
            })
        })
        .collect();
    for _ in 0..3 {
        are_ready.recv_timeout(LIMIT).unwrap();
    }
    drop(server);
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), (ErrorKind::ServerClosed { maybe_executed: false }, 0));
    }
}

#[test]
fn loans_outlive_their_client_and_keep_its_memory() {
    let ground = Ground::new();
    let server = Server::bind(ground.socket()).unwrap();
    let client = Client::from_blocking(wigwag::Client::connect(ground.socket()).unwrap()).unwrap();
    let mut loan = client.try_loan(5000).unwrap().unwrap();
    let pending = client.try_loan(8).unwrap().unwrap().send(None).unwrap();
    client.close();
    drop((client, server));
    loan.fill(7);
    assert_eq!(loan[4999], 7);
    assert!(matches!(loan.send(None).unwrap_err().kind(), ErrorKind::ServerClosed { maybe_executed: false }));
    drop(pending);
}

#[test]
fn a_senders_steps_find_the_next_receiver() {
    let ground = Ground::new();
    let first = Receiver::bind(ground.socket()).unwrap();
    let mut sender = Sender::builder().slots(2).server_timeout(LIMIT).connect(ground.socket()).unwrap();
    let descriptor = sender.try_clone_descriptor().unwrap();
    let send = |sender: &mut Sender, number: u8| {
        while !sender.send_or_arm(&[number]).unwrap() {
            sleep(&descriptor);
        }
    };
    send(&mut sender, 0);
    send(&mut sender, 1);
    assert_eq!(first.recv().unwrap()[0], 0);
    drop(first);
    let receiving = std::thread::spawn({
        let socket = ground.socket();
        move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let receiver = polled::Receiver::from_blocking(Receiver::bind(socket).unwrap());
            let mut receiver = receiver.unwrap();
            let mut seen = Vec::new();
            while seen.len() < 4 {
                match receiver.try_recv(true).unwrap() {
                    Some(message) => seen.push((message[0], message.is_redelivered())),
                    None => {
                        sleep(&receiver);
                        receiver.listen().unwrap();
                    }
                }
            }
            seen
        }
    });
    for number in 2..5 {
        send(&mut sender, number);
    }
    while !sender.flush_or_arm().unwrap() {
        sleep(&descriptor);
    }
    assert_eq!(receiving.join().unwrap(), [(1, false), (2, false), (3, false), (4, false)]);
}

#[test]
fn a_forked_child_keeps_a_private_copy_of_what_was_lent() {
    let ground = Ground::new();
    let _server = Server::bind(ground.socket()).unwrap();
    wigwag::runtime::keep_memory_in_children().unwrap();
    let client = Client::from_blocking(wigwag::Client::connect(ground.socket()).unwrap()).unwrap();
    let mut loans = [8, 5000].map(|len| client.try_loan(len).unwrap().unwrap());
    loans.iter_mut().for_each(|loan| loan.fill(7));
    // SAFETY: the child touches memory and makes system calls alone, as other threads may hold any lock.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut is_right = loans.iter().all(|loan| loan.iter().all(|byte| *byte == 7) && loan.is_inherited());
        loans.iter_mut().for_each(|loan| loan.fill(9));
        // SAFETY: as above: a grandchild, of one thread.
        let grandchild = unsafe { libc::fork() };
        is_right &= loans.iter().all(|loan| loan[1] == 9);
        if grandchild > 0 {
            let mut status = 0;
            // SAFETY: the status is this process's own.
            unsafe { libc::waitpid(grandchild, &mut status, 0) };
            is_right &= status == 0;
        }
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(i32::from(!is_right)) }
    }
    let mut status = 0;
    // SAFETY: as above.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "a signal, or the wrong bytes");
    assert!(loans.iter().all(|loan| loan.iter().all(|byte| *byte == 7)), "the child wrote to its own memory");
    assert!(Instant::now().elapsed() < LIMIT);
}
