//! A message of a publisher, in the hands of a subscriber.

use std::ffi::{c_int, c_void};

use library::{Message, Receipt};

use crate::failure::{Result, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, Place, opaque};

/// A message of a publisher, as a subscriber has taken it. One of more than 48 bytes is read where the publisher wrote
/// it, and held there until it is released: the publisher writes elsewhere meanwhile, also if it ends or is killed. How
/// many one subscriber holds at a time is the publisher's to say; what cannot be held is a copy.
///
/// One thread at a time may use it, and any may. It outlives the handle of its subscriber. In a child after fork() its
/// bytes must not be touched.
#[allow(non_camel_case_types)]
pub struct wigwag_sample([u8; 0]);

opaque! { wigwag_sample = Taken, b"wwSample"; }

/// What is behind it.
pub enum Taken {
    /// As the library hands it out.
    Message(Message),
    /// One that could not be held, and did not fit where it was to be copied.
    Copied(Vec<u8>, Receipt),
}

impl Taken {
    /// Its bytes, which stay where they are for as long as this does.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Taken::Message(message) => message,
            Taken::Copied(bytes, _) => bytes,
        }
    }

    /// Its number.
    pub fn sequence(&self) -> u64 {
        match self {
            Taken::Message(message) => message.sequence(),
            Taken::Copied(_, receipt) => receipt.sequence,
        }
    }

    /// How many were lost before it.
    pub fn lost_before(&self) -> u64 {
        match self {
            Taken::Message(message) => message.lost_before(),
            Taken::Copied(_, receipt) => receipt.lost_before,
        }
    }

    /// Whether it is the first one of another publisher.
    pub fn is_of_new_publisher(&self) -> bool {
        match self {
            Taken::Message(message) => message.is_of_new_publisher(),
            Taken::Copied(_, receipt) => receipt.is_of_new_publisher,
        }
    }

    fn is_in_place(&self) -> bool {
        matches!(self, Taken::Message(message) if message.is_in_place())
    }
}

/// Where a sample and its bytes go.
pub struct Places {
    sample: Place<*mut wigwag_sample>,
    data: *mut *const c_void,
    len: *mut usize,
}

impl Places {
    /// Those that C has given.
    pub fn of(sample: *mut *mut wigwag_sample, data: *mut *const c_void, len: *mut usize) -> Result<Places> {
        Ok(Places { sample: given::place(sample, "sample")?, data, len })
    }

    /// A message is taken.
    pub fn put(self, taken: Taken) -> Result<()> {
        let handle = given::give::<wigwag_sample>(taken);
        // A short one lies in the object itself, so its address is taken where it stays.
        let inside = given::alone(handle)?;
        given::put_if_wanted(self.data, inside.bytes().as_ptr().cast());
        given::put_if_wanted(self.len, inside.bytes().len());
        self.sample.put(handle);
        Ok(())
    }

    /// None is there.
    pub fn put_none(self) {
        self.sample.put(std::ptr::null_mut());
    }
}

/// Where the bytes of a sample are, and how many, as wigwag_subscriber_recv() has given them.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_data(
    sample: *const wigwag_sample,
    data: *mut *const c_void,
    len: *mut usize,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let data = given::place(data, "data")?;
        let len = given::place(len, "len")?;
        let inside = given::alone(sample)?;
        data.put(inside.bytes().as_ptr().cast());
        len.put(inside.bytes().len());
        Ok(())
    })
}

/// What a function without an error object gives of a sample; 0 of what is none.
fn told<T: Default>(sample: *const wigwag_sample, what: impl FnOnce(&Taken) -> T) -> T {
    guarded_value(T::default(), || Ok(what(&*given::alone(sample)?)))
}

/// The number of a sample: a publisher's first message has 1, and each has one more than the one before; 0 of what is
/// no sample.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_sequence(sample: *const wigwag_sample) -> u64 {
    told(sample, Taken::sequence)
}

/// How many messages the subscriber has lost between the one that it took before and this one. Of the first one of
/// another publisher: how many that one had published and let go of before.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_lost_before(sample: *const wigwag_sample) -> u64 {
    told(sample, Taken::lost_before)
}

/// 1 if it is the first one of another publisher than the one before: of a subscriber with `reconnect_ns`. 0 if not.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_is_of_new_publisher(sample: *const wigwag_sample) -> c_int {
    told(sample, |taken| taken.is_of_new_publisher().into())
}

/// 1 if it is read where the publisher wrote it, 0 if it is a copy.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_is_in_place(sample: *const wigwag_sample) -> c_int {
    told(sample, |taken| taken.is_in_place().into())
}

/// Lets go of a sample: its memory is the publisher's again. Does nothing with NULL.
///
/// Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_sample_release(sample: *mut wigwag_sample) -> c_int {
    free_handle(sample)
}
