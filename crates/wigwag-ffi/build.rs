//! Gives the shared library the name that programs look for when they start.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Until 1.0 a version that breaks programs has another minor number, and the name this one: see docs/c.md.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libwigwag.so.0");
    // For the tests, which build the library for this machine once more.
    println!("cargo::rustc-env=WIGWAG_ARCHITECTURE={}", std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default());
}
