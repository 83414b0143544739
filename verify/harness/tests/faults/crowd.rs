//! Crowds and limits, on a library with faults: each harness finds what was injected for it.

use crate::PROGRAM;
use wigwag_testing::finds;

#[test]
fn g11_finds_a_descriptor_that_is_kept_of_each_session() {
    finds(PROGRAM, "G11", "leaked-descriptor", "leak: after 150 sessions");
}

#[test]
fn g12_finds_a_handshake_without_a_deadline() {
    finds(PROGRAM, "G12", "patient-handshake", "still held long after their deadline");
}

#[test]
fn g12_finds_that_connectors_shut_out_others() {
    finds(PROGRAM, "G12", "jealous-places", "an honest client could not connect");
}

#[test]
fn g13_finds_a_server_that_accepts_again_and_again_without_descriptors() {
    finds(PROGRAM, "G13", "busy-accept", "no clean refusal for want of descriptors");
}

#[test]
fn g13_finds_a_session_whose_client_is_not_watched() {
    finds(PROGRAM, "G13", "missing-pidfd", "of its clients' processes");
}

/// Where there are no cgroups to be made, the harness cannot run, and says so.
#[test]
fn g14_finds_a_quota_that_is_not_looked_at() {
    if std::fs::metadata("/sys/fs/cgroup/memory/tasks").is_err() || !rustix::process::geteuid().is_root() {
        println!("not tried: only root can make a memory cgroup, and only version 1 is spoken here");
        return;
    }
    finds(PROGRAM, "G14", "unchecked-quota", "beyond the quota was welcomed");
}

#[test]
fn g17_finds_a_server_that_watches_the_socket_alone() {
    finds(PROGRAM, "G17", "socket-alone", "was not noticed");
}

#[test]
fn g17_finds_a_server_that_trusts_a_number() {
    finds(PROGRAM, "G17", "trusted-number", "ClientInTheQueue");
}
