//! File descriptors that travelled, given to C.

use std::ffi::c_int;
use std::os::fd::{IntoRawFd, OwnedFd};

use crate::code::wigwag_code;
use crate::failure::{Failure, Result};
use crate::given;

/// The most file descriptors that travel with one request, reply or message.
pub const WIGWAG_DESCRIPTORS_MAX: usize = 16;

/// Takes what has arrived, if C has room for all that could have.
pub fn hand_out(
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
    take: impl FnOnce() -> Result<Vec<OwnedFd>>,
) -> Result<()> {
    let count = given::place(count, "count")?;
    if capacity < WIGWAG_DESCRIPTORS_MAX {
        let text = format!("`capacity` is {capacity}: make room for WIGWAG_DESCRIPTORS_MAX, which is 16");
        return Err(Failure::interface(wigwag_code::WIGWAG_ERR_INVALID_ARGUMENT, text));
    }
    let room = given::array_mut(fds, capacity, "fds")?;
    let taken = take()?;
    count.put(taken.len());
    room.iter_mut().zip(taken).for_each(|(room, descriptor)| *room = descriptor.into_raw_fd());
    Ok(())
}
