//! The rules of this repository, as tests: `cargo test -p wigwag-tidy`.
//!
//! There is nothing here to use. Each module holds one kind of rule; a test that fails prints `file:line`, what is
//! wrong and the cure. The sources are read as text, with comments and literals blanked out where a rule is about code:
//! that is enough for these rules, and needs no compiler.
//!
//! ```text
//! layers         imports run downward only, and lib.rs shows the same modules
//! cores          the core of a form never waits
//! forms          what depends on a session's form stands in form.rs
//! shape          every file says what it is; no long files, no long functions
//! unsafe_code    unsafe code has an address, and a reason beside it
//! banned         what must not be called, and what must not be left behind
//! ordering       docs/ordering.md names every atomic access
//! examples       every public item shows how it is used
//! documents      links between documents lead somewhere, and answers for newcomers name what there is
//! reliability    docs/reliability.md lists the goals, the injected faults, and what shows each promise
//! source         reads the files
//! ```

#[cfg(test)]
mod banned;
#[cfg(test)]
mod cores;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod ordering;
#[cfg(test)]
mod reliability;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod source;
#[cfg(test)]
mod unsafe_code;
