//! The tests of the public interface of Wigwag are in `tests/`.
