//! The semaphore, and the permits that it gives.

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use library::{ErrorKind, OwnedPermit, OwnedPermits, Semaphore};

use crate::failure::{Failure, free_handle, guarded, guarded_value, wigwag_error};
use crate::given::{self, opaque};
use crate::time::Patience;

/// A semaphore by name: so many permits for all programs of this user that open it. With one permit it is a mutex. What
/// a process holds when it dies comes back, and whoever gets it next is told.
///
/// Any number of threads may use one.
#[allow(non_camel_case_types)]
pub struct wigwag_semaphore([u8; 0]);

/// One permit or several, acquired together and given back together. It outlives the handle of its semaphore.
#[allow(non_camel_case_types)]
pub struct wigwag_permit([u8; 0]);

opaque! {
    wigwag_semaphore = SemaphoreState, b"wwSemaph";
    wigwag_permit = Held, b"wwPermit";
}

/// What is behind a semaphore.
pub struct SemaphoreState {
    semaphore: Arc<Semaphore>,
    path: CString,
}

/// What is behind a permit.
pub enum Held {
    /// One.
    One(OwnedPermit),
    /// Several.
    Many(OwnedPermits),
}

/// Opens a semaphore, or makes it.
///
/// `permits`: how many there are, 1 to 4096; all who open it say the same. `shared_with_children`: 1 if permits of this
/// process stay taken, when it is killed, for as long as programs live that it has started; else 0.
/// `semaphore`: where the handle goes; wigwag_semaphore_free() frees it.
///
/// Fails with `WIGWAG_ERR_INVALID_CONFIGURATION`, `WIGWAG_ERR_CONTRACT_MISMATCH` if it has another number of permits,
/// `WIGWAG_ERR_NAME_LOST`, `WIGWAG_ERR_IO`, and what is wrong with a name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_open(
    name: *const c_char,
    permits: usize,
    shared_with_children: c_int,
    semaphore: *mut *mut wigwag_semaphore,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(semaphore, "semaphore")?;
        let builder = Semaphore::builder().permits(permits).shared_with_children(shared_with_children != 0);
        let opened = builder.open(given::name(name)?)?;
        let path = CString::new(opened.path().as_os_str().as_bytes()).unwrap_or_default();
        place.put(given::give(SemaphoreState { semaphore: Arc::new(opened), path }));
        Ok(())
    })
}

/// Frees a semaphore, or does nothing with NULL. Permits stay what they are.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_free(semaphore: *mut wigwag_semaphore) -> c_int {
    free_handle(semaphore)
}

/// Acquires `permits` permits together; waits for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 not to wait.
///
/// `permit`: where the handle goes; wigwag_permit_release() gives them back.
///
/// Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0), `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_INVALID_CONFIGURATION` for none or
/// more than there are, `WIGWAG_ERR_NAME_LOST`, `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_acquire(
    semaphore: *mut wigwag_semaphore,
    permits: usize,
    timeout_ns: i64,
    permit: *mut *mut wigwag_permit,
    error: *mut wigwag_error,
) -> c_int {
    guarded(error, || {
        let place = given::place(permit, "permit")?;
        let inside = given::shared(semaphore)?;
        let semaphore = &inside.semaphore;
        let held = match (permits, Patience::of(timeout_ns)) {
            (1, Patience::Forever) => semaphore.acquire_owned().map(Held::One),
            (1, Patience::Now) => semaphore.try_acquire_owned().map(Held::One),
            (1, Patience::For(time)) => semaphore.acquire_owned_timeout(time).map(Held::One),
            (many, Patience::Forever) => semaphore.acquire_many_owned(many).map(Held::Many),
            (many, Patience::Now) => semaphore.try_acquire_many_owned(many).map(Held::Many),
            (many, Patience::For(time)) => semaphore.acquire_many_owned_timeout(many, time).map(Held::Many),
        };
        match held {
            Ok(held) => place.put(given::give(held)),
            Err(error) if error.kind() == ErrorKind::Full => {
                return Err(Failure::WouldBlock(&"not so many permits are free"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    })
}

/// How many permits are free at this moment; 0 of what is no semaphore.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_available(semaphore: *const wigwag_semaphore) -> usize {
    guarded_value(0, || Ok(given::shared(semaphore)?.semaphore.available()))
}

/// Whether the name still leads to this semaphore: `WIGWAG_OK`, or `WIGWAG_ERR_NAME_LOST` if another program has
/// removed or replaced its file.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_check_name(semaphore: *const wigwag_semaphore, error: *mut wigwag_error) -> c_int {
    guarded(error, || Ok(given::shared(semaphore)?.semaphore.check_name()?))
}

/// Where the semaphore's file is, valid until the semaphore is freed; NULL of what is no semaphore.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_semaphore_path(semaphore: *const wigwag_semaphore) -> *const c_char {
    guarded_value(std::ptr::null(), || Ok(given::shared(semaphore)?.path.as_ptr()))
}

/// How many of these permits were held by a process that died: what they protect may be half changed.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_permit_recovered(permit: *const wigwag_permit) -> usize {
    guarded_value(0, || {
        Ok(match &*given::alone(permit)? {
            Held::One(permit) => permit.recovered().into(),
            Held::Many(permits) => permits.recovered(),
        })
    })
}

/// Gives permits back, or does nothing with NULL.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_permit_release(permit: *mut wigwag_permit) -> c_int {
    free_handle(permit)
}
