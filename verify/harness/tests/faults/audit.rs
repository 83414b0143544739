//! The audits find what is injected for them.

use crate::PROGRAM;
use wigwag_testing::finds;

#[cfg(target_arch = "x86_64")]
#[test]
fn g9_finds_a_double_fetch_of_the_server() {
    finds(PROGRAM, "G9", "double-fetch", "Server, small request: `head` is read 2 times");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn g9_finds_a_double_fetch_of_the_client() {
    finds(PROGRAM, "G9", "reply-double-fetch", "Client, small reply: `head` is read 2 times");
}
