//! How each cell must end: that it works, or that somebody says why not. A cell that ends in the other way is a
//! finding, so that what works goes on to work, and what cannot goes on to be told.

use super::cell::Job;
use super::surrounding::Surrounding;

/// How a cell must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// All bytes are right.
    Works,
    /// One clear sentence.
    Sentence,
    /// Either of the two: it is a matter of which comes first.
    Either,
    /// The two have nothing to do with each other.
    Nothing,
}

use Expected::*;

/// How the cell of a surrounding and a job must end.
pub fn expected(one: Surrounding, job: Job) -> Expected {
    use Surrounding::*;
    let is_program = job.is_of_the_program();
    match one {
        XdgForeign | XdgMissing | PlaceRelative | ReadOnly | FullOfFiles | NoLocks => Sentence,
        // The two sides of a semaphore have no server to find: each has one of its own, in a place of its own.
        XdgDiffers if job.is_of_a_semaphore() => Nothing,
        XdgDiffers => Sentence,
        // Its file has a page; those of a server can do without.
        FullOfBytes | NoFileSize if job.is_of_a_semaphore() => Sentence,
        NoFileSize => Sentence,
        SocketRemoved | LockRemoved if job.is_of_a_semaphore() => Nothing,
        // Whether somebody has it at that moment, is a matter of luck. Between two locks there is no file.
        FullLater if job == Job::ProgramLock => Either,
        AllRemoved | DirectoryRemoved | XdgRemoved if job.is_of_a_semaphore() => Either,
        Daemon | DaemonTooLate | PrivilegesDropped if is_program => Nothing,
        DaemonTooLate => Sentence,
        // At its end: the name stays, as only who took it may remove it. The functions that serve to the end are those
        // that return then.
        PrivilegesDropped if matches!(job, Job::Exchange | Job::ExchangeTokio) => Sentence,
        NoEnvironment if !is_program => Nothing,
        NoStreams | OutputFull | OutputClosed => streams(one, job),
        // A semaphore has no thread, and no memory but its file; the program has a thread for signals.
        NoThreads if job == Job::Semaphore => Works,
        NoMemfd if job.is_of_a_semaphore() => Works,
        NoMemfd | NoThreads => Sentence,
        NoEventfd if job.is_of_a_semaphore() => Works,
        NoEventfd => Sentence,
        NoDescriptors if job.is_of_a_semaphore() => Either,
        NoDescriptors => Sentence,
        _ => Works,
    }
}

/// Whether what a job does is promised in all of these at once (docs/promises.md): that a removed file doubles no
/// permit takes a `/proc` in which the removed file is found.
pub fn is_promised(odd: &[Surrounding], job: Job) -> bool {
    use Surrounding::*;
    let removes = |one: &Surrounding| matches!(one, AllRemoved | DirectoryRemoved | XdgRemoved);
    !(job.is_of_a_semaphore() && odd.contains(&NoProc) && odd.iter().any(removes))
}

/// Standard streams are the program's matter; a library must only live with what numbers its descriptors get.
fn streams(one: Surrounding, job: Job) -> Expected {
    match (one, job) {
        (Surrounding::NoStreams, job) if !job.is_of_the_program() => Works,
        (Surrounding::OutputFull, Job::ProgramServe) => Sentence,
        (_, Job::ProgramServe) => Works,
        (Surrounding::NoStreams, _) | (_, Job::ProgramLock) => Nothing,
        // Of a stream, the end that sends is told that nobody has read what it sent.
        (_, job) if job.is_of_the_program() => Sentence,
        _ => Nothing,
    }
}
