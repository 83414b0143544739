//! Wigwag for Python: the module `wigwag._wigwag`. What is said of each class stands at it, as Python shows it.
//!
//! | file | what is there |
//! |---|---|
//! | `client`, `server` | the exchange |
//! | `queue`, `stream`, `publisher`, `subscriber`, `semaphore`, `observe` | the other forms; what runs |
//! | `keeper` | who has the messages of the dead |
//! | `memory`, `buffer`, `array`, `dtypes` | a session's bytes in Python's hands, as buffers and arrays |
//! | `wait`, `patience`, `turn` | how a thread of Python waits, and hears Ctrl-C; what one thread at a time uses |
//! | `names`, `errors` | arguments of connects and binds; exceptions |
//!
//! asyncio, objects by pickle, and serving with several threads are written in Python, beside `python/wigwag`.

use pyo3::prelude::*;

mod array;
mod buffer;
mod client;
mod dtypes;
mod errors;
mod keeper;
mod memory;
mod names;
mod observe;
mod patience;
mod publisher;
mod queue;
mod semaphore;
mod server;
mod stream;
mod subscriber;
mod turn;
mod wait;

/// The forms of Wigwag; use them from ``wigwag``.
#[pymodule]
mod _wigwag {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::array::Array;
    #[pymodule_export]
    use crate::client::{Client, Loan, Pending, Ready, Reply, Wait};
    #[pymodule_export]
    use crate::keeper::Keeper;
    #[pymodule_export]
    use crate::memory::Memory;
    #[pymodule_export]
    use crate::observe::{list_services, snapshot};
    #[pymodule_export]
    use crate::publisher::{Draft, Publisher};
    #[pymodule_export]
    use crate::queue::{Message, Receiver, Sender};
    #[pymodule_export]
    use crate::semaphore::{Permit, Semaphore};
    #[pymodule_export]
    use crate::server::{Request, Server, answer};
    #[pymodule_export]
    use crate::stream::{Stream, StreamListener};
    #[pymodule_export]
    use crate::subscriber::{BroadcastMessage, Subscriber};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Views may outlive a fork: a child must not end by SIGSEGV when it touches one.
        wigwag::runtime::keep_memory_in_children().map_err(crate::errors::Failure::from)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
