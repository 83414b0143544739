//! Messages to everybody, for tasks.
