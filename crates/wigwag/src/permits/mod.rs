//! What lies in a semaphore's file, and who has it open. The form itself is [`crate::semaphore`]; code that cleans a
//! directory or looks at it from outside needs the file and no permit.

pub mod claims;
pub mod file;
pub mod table;
