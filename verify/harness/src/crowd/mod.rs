//! Crowds and limits: many who connect, who never finish, who hold every descriptor, memory that ends, numbers used
//! again.
//!
//! ```text
//! storm  floor        G11    who connects and leaves, again and again; the same system calls by hand
//! half_open           G12    who begins to connect and never ends
//! descriptors         G13    no descriptor left, on either side
//! memory  cgroup      G14    no memory left, on either side
//! numbers             G17    a dead process's number, used again
//! server  holder      the processes that they meet: a server, a child that holds a socket
//! baseline            whether a process is back to what it held
//! ```

pub(crate) mod baseline;
mod cgroup;
mod descriptors;
mod floor;
mod half_open;
mod holder;
mod memory;
mod numbers;
pub(crate) mod server;
pub(crate) mod storm;

use crate::goals::Goal;
use crate::role::Play;

/// The goals of this part.
pub const GOALS: &[Goal] = &[
    Goal {
        id: "G11",
        name: "connection-churn",
        title: "clients connect and leave, again and again",
        limit_s: [60, 120, 7200],
        run: storm::connect_storm,
    },
    Goal {
        id: "G12",
        name: "half-open",
        title: "hostile connectors that never finish, beside normal load",
        limit_s: [60, 60, 900],
        run: half_open::half_open,
    },
    Goal {
        id: "G13",
        name: "descriptors",
        title: "64 descriptors, on the server and on the client",
        limit_s: [60, 60, 120],
        run: descriptors::few_descriptors,
    },
    Goal {
        id: "G14",
        name: "little-memory",
        title: "16 MiB for a client, 64 MiB for a server, a full tmpfs",
        limit_s: [60, 60, 300],
        run: memory::little_memory,
    },
    Goal {
        id: "G17",
        name: "reused-numbers",
        title: "the number of a dead process, used again by another",
        limit_s: [60, 120, 3600],
        run: numbers::reused_numbers,
    },
];

/// The roles of this part.
pub const ROLES: &[(&str, Play)] = &[
    ("crowd-server", server::play),
    ("crowd-visitor", storm::play_visitor),
    ("crowd-floor", floor::play),
    ("crowd-attacker", half_open::play_attacker),
    ("crowd-opener", descriptors::play_opener),
    ("crowd-eater", memory::play_eater),
    ("crowd-tmpfs", memory::play_tmpfs),
    ("crowd-namespace", numbers::play_namespace),
    ("crowd-conductor", numbers::play_conductor),
    ("crowd-client", numbers::play_client),
    ("crowd-bystander", numbers::play_bystander),
];
