//! `cargo xtask prove` on a library with planted faults: the tests of this package start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    if wigwag_proof_planted::role::play() {
        return ExitCode::SUCCESS;
    }
    wigwag_proof_planted::prove::main()
}
