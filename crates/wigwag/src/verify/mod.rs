//! What the proof needs of the inside: fuzz targets, the models' state machines.

#[cfg(any(fuzzing, test))]
#[cfg_attr(not(fuzzing), allow(dead_code, reason = "the tests run a part of it"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(loom, feature = "models"))]
#[doc(hidden)]
pub mod models;
