//! The handle that ends a service from another thread.

use std::ffi::c_int;

use library::ShutdownHandle;

use crate::failure::{free_handle, guarded};
use crate::given::{self, opaque};

/// Ends a server, a receiver, a listener or a publisher from another thread. Any number of threads may use one. It
/// outlives what it ends, and must be freed by itself. It is not for signal handlers.
#[allow(non_camel_case_types)]
pub struct wigwag_stop([u8; 0]);

opaque! { wigwag_stop = ShutdownHandle, b"wwStop__"; }

/// Ends the service in good order: nobody connects any more, what clients had passed until now is still served, and
/// whoever serves returns, or gets `WIGWAG_ERR_SERVER_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stop_shutdown(stop: *const wigwag_stop) -> c_int {
    guarded(std::ptr::null_mut(), || {
        given::shared(stop)?.shutdown();
        Ok(())
    })
}

/// As wigwag_stop_shutdown(), for a planned restart: clients that follow restarts go to the next server of the name.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stop_hand_over(stop: *const wigwag_stop) -> c_int {
    guarded(std::ptr::null_mut(), || {
        given::shared(stop)?.hand_over();
        Ok(())
    })
}

/// Frees the handle, or does nothing with NULL. Nothing ends by it.
#[unsafe(no_mangle)]
pub extern "C" fn wigwag_stop_free(stop: *mut wigwag_stop) -> c_int {
    free_handle(stop)
}
