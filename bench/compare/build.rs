//! Builds the contenders that are not Rust, where the machine has what they need, and says so where it has not.

use std::path::Path;

const BOOST: &str = "src/contenders/boost_queue.cpp";

fn main() {
    println!("cargo::rerun-if-changed={BOOST}");
    println!("cargo::rustc-check-cfg=cfg(boost)");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).warnings(false).file(Path::new(BOOST));
    // The compiler's complaint is of no use to anybody who does not ask for Boost.
    build.cargo_warnings(false);
    match build.try_compile("wigwag_boost") {
        Ok(()) => {
            println!("cargo::rustc-cfg=boost");
            println!("cargo::rustc-link-lib=rt");
        }
        Err(_) => println!("cargo::warning=Boost.Interprocess is left out: no C++ compiler finds its headers"),
    }
}
