//! An attacker that sends descriptors where none travel: with each message of a handshake, in sessions that have not
//! agreed on them, more than are said, and sockets in which others lie.
//!
//! Each is the writing end of a pipe that nobody else writes to. So the reading end, which stays here, tells whether
//! anybody has it still, in a process or under way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use wigwag_testing::wire::{self, READY, hello};

use super::attacker::{Attack, MOST, WELCOME, is_dropped, knock};

/// Descriptors with one message: more than travel with any call.
const MANY: usize = 60;
/// Where a greeting says that it can do with descriptors.
const OFFER: usize = 38;
/// How long what was sent may be under way once nothing more is sent. The server closes it in threads that run only
/// when nobody else wants the processor, and here the honest clients want it all the time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The attacker.
pub struct Carrier {
    sockets: Vec<OwnedFd>,
    /// The reading ends of pipes whose writing ends somebody may have.
    pipes: Vec<OwnedFd>,
    steps: usize,
    /// Messages with descriptors that the kernel has taken.
    taken: usize,
    /// The kernel refuses none.
    on_older_kernel: bool,
    is_over: bool,
}

impl Carrier {
    /// One that has sent nothing.
    pub fn new(on_older_kernel: bool) -> Carrier {
        let (sockets, pipes) = Default::default();
        Carrier { sockets, pipes, steps: 0, taken: 0, on_older_kernel, is_over: false }
    }

    /// Sends a message with so many descriptors.
    fn send(&mut self, socket: &OwnedFd, bytes: &[u8], count: usize) {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        self.send_these(socket, bytes, &vec![writing.as_fd(); count]);
        self.pipes.push(reading);
    }

    fn send_these(&mut self, socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.taken += usize::from(wire::send(socket, bytes, descriptors).is_ok());
    }

    /// A socket in which a socket lies in which descriptors lie.
    fn nested(&mut self) -> OwnedFd {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("two sockets");
        let ((inner, inner_end), (outer, outer_end)) = (pair(), pair());
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let _ = wire::send(&inner, b"within", &vec![writing.as_fd(); MANY]);
        let _ = wire::send(&outer, b"around", &[inner_end.as_fd()]);
        self.pipes.push(reading);
        outer_end
    }

    /// A session, as far as one is had.
    fn session(&mut self, socket: &OwnedFd) -> bool {
        let _ = wire::send(socket, &asking(), &[]);
        let is_welcome = wire::receive(socket).is_some_and(|message| message.bytes[0] == WELCOME);
        is_welcome && wire::send(socket, READY, &[]).is_ok()
    }
}

/// A greeting that asks for descriptors to travel.
fn asking() -> Vec<u8> {
    let mut greeting = hello();
    greeting[OFFER] = 1;
    greeting
}

/// The message that names the request with which so many travel.
fn named(count: u8, slot: u8) -> [u8; 12] {
    [7, count, slot, 0, 1, 0, 0, 0, 0, 0, 0, 0]
}

impl Attack for Carrier {
    fn step(&mut self, path: &Path) {
        if self.is_over {
            return;
        }
        self.sockets.retain(|socket| !is_dropped(socket));
        if self.sockets.len() >= MOST {
            self.sockets.remove(0);
        }
        let Some(socket) = knock(path) else { return };
        self.steps += 1;
        match self.steps % 8 {
            0 => self.send(&socket, &asking(), MANY),
            1 => self.send(&socket, &named(16, 0), 16),
            2 => {
                let _ = wire::send(&socket, &asking(), &[]);
                self.send(&socket, READY, MANY);
            }
            3 => {
                let _ = wire::send(&socket, b"no greeting", &[]);
                (0..8).for_each(|_| self.send(&socket, b"more", MANY));
            }
            4 => {
                if self.session(&socket) {
                    (0..2).for_each(|slot| self.send(&socket, &named(16, slot), 16));
                }
            }
            5 => {
                if self.session(&socket) {
                    self.send(&socket, &named(16, 0), MANY);
                    self.send(&socket, b"", 1);
                }
            }
            6 => {
                let outer = self.nested();
                self.send_these(&socket, &asking(), &[outer.as_fd()]);
            }
            _ => {
                if self.session(&socket) {
                    let outer = self.nested();
                    self.send_these(&socket, &named(1, 0), &[outer.as_fd()]);
                }
            }
        }
        self.sockets.push(socket);
    }

    fn held(&mut self) -> usize {
        self.pipes.retain(|pipe| !is_dropped(pipe));
        self.pipes.len()
    }

    /// What it has sent is given back while its sockets stay open; until then it waits.
    fn is_to_end(&mut self) -> bool {
        assert!(!self.on_older_kernel || self.taken > 0, "the kernel has taken no descriptors, so nothing was tried");
        self.is_over = true;
        self.held() > 0
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}
