//! The proof: killed, stopped or lied to at every step, and nothing is lost.
//!
//! `cargo xtask prove` runs it; docs/reliability.md says what each goal means and what was reached. Each goal has a
//! number (G1 ... G31) and a function that tries it and says what came of it in one line. The same functions, at a
//! smaller scale, are what `cargo test` runs; and, on a library with injected faults, what must fail there.
//!
//! ```text
//! prove               the command: each goal in a process of its own, a table at the end
//! goals  role         what there is to try; the processes that are started for it
//! step/               G3 G4 G5 G15     at every step of an operation
//! storm/              G1 G2 G10 G22    random kills under load
//! crowd/              G11 .. G14 G17   many at once, and limits
//! hostile/            G6 G7 G8 G21     arbitrary bytes, live attackers, simulation
//! model/              G16 G18 .. G20   every order of steps
//! audit/              G9 G23 G24       double fetches, versions, mutants
//! streams/            G26              all of that for streams
//! queues/             G25              all of that for queues
//! restarts/           G30              servers that come and go, and clients that follow
//! broadcasts/         G31              publishers and subscribers killed and stopped; a thousand of them
//! held/               G29              what others can make a server hold
//! history/            G27              generated sequences of the public API
//! surroundings/       G28              log-ins, daemons, full disks, old kernels
//! outcome  scale      what came of it; how much is tried
//! processors          on which processors the processes of a goal run
//! ```

pub mod audit;
pub mod broadcasts;
pub mod crowd;
pub mod goals;
pub mod held;
pub mod history;
pub mod hostile;
pub mod model;
pub mod outcome;
pub mod processors;
pub mod prove;
pub mod queues;
pub mod restarts;
pub mod role;
pub mod scale;
pub mod step;
pub mod storm;
pub mod streams;
pub mod surroundings;
