//! What tests of the interface share: the library that they link, compilers, and directories of their own.

#![allow(dead_code, reason = "each test uses some of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use wigwag_testing::Ground;

/// A path in this crate.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here("target"), PathBuf::from)
}

/// Whether everything must be tried: then what is missing fails a test, and otherwise it says so and is over.
pub fn must_try() -> bool {
    std::env::var_os("WIGWAG_C").is_some_and(|value| value == "required")
}

/// Whether a program is there.
pub fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success());
    assert!(there || !must_try(), "there is no {program}");
    if !there {
        println!("not tried: there is no {program}");
    }
    there
}

/// The directory of the library, built as tests are; the shared one has the name by which programs look for it.
pub fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        run(cargo.args(["build", "--quiet", "--manifest-path"]).arg(here("Cargo.toml")));
        let directory = target().join("debug");
        let link = directory.join("libwigwag.so.0");
        if std::fs::symlink_metadata(&link).is_err() {
            // Two tests may do it at the same time.
            let _ = std::os::unix::fs::symlink("libwigwag.so", &link);
        }
        directory
    })
}

/// The static library, with AddressSanitizer in it.
pub fn checked_library() -> PathBuf {
    const TARGET: &str = concat!(env!("WIGWAG_ARCHITECTURE"), "-unknown-linux-gnu");
    let directory = target().join("address-sanitizer");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--target", TARGET, "--manifest-path"]).arg(here("Cargo.toml"));
    cargo.arg("--target-dir").arg(&directory);
    // The flag is not stable; its meaning has not changed for years.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    run(&mut cargo);
    directory.join(TARGET).join("debug/libwigwag.a")
}

/// What a static Rust library needs of the system.
pub const SYSTEM: &[&str] = &["-lpthread", "-ldl", "-lm", "-lgcc_s"];

/// All warnings that there are for everybody, and none is left.
pub const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wundef", "-Werror"];

/// Compiles a program, with all warnings on. What else the compiler needs comes last, as libraries do.
pub fn compile(compiler: &str, source: &Path, program: &Path, more: &[&OsStr]) {
    let is_cpp = source.extension().is_some_and(|extension| extension == "cc");
    let standard = if is_cpp { "-std=c++17" } else { "-std=c11" };
    let mut command = Command::new(compiler);
    command.args([standard, "-O1", "-g"]).args(WARNINGS).arg("-I").arg(here("include")).arg(source);
    command.arg("-o").arg(program).args(more);
    let said = run(&mut command);
    assert!(said.stderr.is_empty(), "{compiler} says of {}: {}", source.display(), text(&said.stderr));
}

/// Links the shared library, which is found where it is.
pub fn shared() -> Vec<std::ffi::OsString> {
    let mut search = std::ffi::OsString::from("-Wl,-rpath,");
    search.push(library());
    vec!["-L".into(), library().into(), "-lwigwag".into(), search, "-lpthread".into()]
}

/// Runs a program to its end, which must be a good one. It has two minutes.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = ended(command);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{said}", output.status);
    output
}

/// Runs a program to its end.
#[track_caller]
pub fn ended(command: &mut Command) -> Output {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", "600"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a program has said.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory of a test's own, where names can be bound.
pub fn ground() -> Ground {
    Ground::new()
}
