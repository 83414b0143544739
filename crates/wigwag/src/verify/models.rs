//! The state machines on which `tests/loom.rs` runs the model checker, and whose own functions the exhaustive models
//! call. The bench replays the waiting policy (P19).

pub mod wake_flag {
    pub use crate::service::wake_flag::*;
}
pub mod replay {
    pub use crate::wait::replay::*;
}
pub mod slot {
    pub use crate::memory::slot::*;
}
pub mod doorbell {
    pub use crate::memory::doorbell::*;
}
pub mod entry {
    pub use crate::memory::entry::*;
}
pub mod hint {
    pub use crate::memory::hint::*;
}
pub mod hold {
    pub use crate::memory::hold::*;
}
pub mod table {
    pub use crate::permits::table::*;
}
pub mod ring {
    pub use crate::memory::ring::*;
}
pub mod sync {
    pub use crate::sync::*;
}
