//! What one thread at a time may use. A thread takes it out while it waits, because whoever waits has let the others
//! run, and these must neither wait for it in their turn nor use it, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::of_kind;

/// Locks for some instructions; nothing of Python runs meanwhile.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum State<T> {
    Idle(Box<T>),
    Taken,
    Closed,
}

/// A part of a handle that one thread at a time uses.
pub struct Turn<T>(Mutex<State<T>>);

/// It, in one thread's hands; it comes back with the drop.
pub struct Borrowed<'a, T> {
    held: Option<Box<T>>,
    from: &'a Turn<T>,
}

impl<T> Turn<T> {
    pub fn new(held: T) -> Turn<T> {
        Turn(Mutex::new(State::Idle(Box::new(held))))
    }

    /// Takes it. `doing` is what another thread may be at, such as "receives from this server".
    ///
    /// # Errors
    /// RuntimeError while another thread has it, ServerClosedError when it is closed.
    pub fn borrow(&self, py: Python<'_>, doing: &str) -> PyResult<Borrowed<'_, T>> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Idle(held) => Ok(Borrowed { held: Some(held), from: self }),
            State::Taken => Err(PyRuntimeError::new_err(format!(
                "another thread {doing}: one does at a time, so give each thread its own"
            ))),
            State::Closed => {
                *state = State::Closed;
                drop(state);
                let this = doing.rsplit("this ").next().unwrap_or(doing);
                Err(of_kind(py, "ServerClosed", &format!("this {this} has been closed")))
            }
        }
    }

    /// Takes it, unless another thread has it or it is closed.
    pub fn borrow_if_idle(&self) -> Option<Borrowed<'_, T>> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Idle(held) => Some(Borrowed { held: Some(held), from: self }),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Closes it. What is in another thread's hands is dropped when that is done with it.
    pub fn close(&self) -> Option<Box<T>> {
        match std::mem::replace(&mut *lock(&self.0), State::Closed) {
            State::Idle(held) => Some(held),
            State::Taken | State::Closed => None,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(*lock(&self.0), State::Closed)
    }

    /// Looks at it, if no thread has it.
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        match &*lock(&self.0) {
            State::Idle(held) => Some(look(held)),
            State::Taken | State::Closed => None,
        }
    }
}

impl<T> Borrowed<'_, T> {
    pub fn get(&mut self) -> &mut T {
        self.held.as_mut().expect("only the drop takes it")
    }
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(&self.from.0);
        match (&*state, self.held.take()) {
            (State::Taken, Some(held)) => *state = State::Idle(held),
            // Closed meanwhile.
            (_, held) => {
                drop(state);
                drop(held);
            }
        }
    }
}
