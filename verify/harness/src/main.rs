//! `cargo xtask prove`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if wigwag_proof::role::play() {
        return ExitCode::SUCCESS;
    }
    wigwag_proof::prove::main()
}
