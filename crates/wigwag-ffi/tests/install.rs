//! What is installed is found by who looks for it: pkg-config, CMake, a loader, a reader of manual pages.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{ground, here, is_there, must_try, run, text};

/// The prefix, as a package would have it, in a directory of the test's.
const PREFIX: &str = "/opt/wigwag";

/// Installs it, and gives the directory in front of the prefix. `None`: it is not tried here, because it is a release
/// build of a minute.
fn install(destdir: &Path, libdir: &str) -> Option<PathBuf> {
    if !must_try() {
        println!("not tried: it builds the library for release; WIGWAG_C=required has it tried");
        return None;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--manifest-path"]).arg(here("../../xtask/Cargo.toml"));
    cargo.args(["--", "install", "--prefix", PREFIX, "--libdir", libdir, "--destdir"]).arg(destdir);
    cargo.env("CARGO_TARGET_DIR", support::target());
    run(&mut cargo);
    Some(destdir.join(PREFIX.trim_start_matches('/')))
}

#[test]
fn what_is_installed_is_found() {
    let ground = ground();
    let destdir = ground.path("package");
    let Some(installed) = install(&destdir, "lib/here") else { return };
    let libraries = installed.join("lib/here");
    for name in ["libwigwag.so.0.1.0", "libwigwag.so.0", "libwigwag.so", "libwigwag.a", "pkgconfig/wigwag.pc"] {
        assert!(libraries.join(name).is_file(), "there is no {name}");
    }
    assert!(libraries.join("libwigwag.so").is_symlink(), "a name is no copy");

    // A program, as a package's user compiles it.
    if is_there("pkg-config") && is_there("gcc") {
        let asked = |what: &[&str]| {
            let mut command = Command::new("pkg-config");
            command.env("PKG_CONFIG_PATH", libraries.join("pkgconfig")).env("PKG_CONFIG_SYSROOT_DIR", &destdir);
            text(&run(command.args(what)).stdout)
        };
        assert_eq!(asked(&["--modversion", "wigwag"]), "0.1.0\n");
        for (how, link) in [("shared", "--libs"), ("static", "--static")] {
            let program = ground.path(how);
            let mut gcc = Command::new("gcc");
            gcc.arg(here("examples/cmake/version.c")).arg("-o").arg(&program);
            gcc.args(asked(&["--cflags", "wigwag"]).split_whitespace());
            let libs = asked(&[link, "--libs", "wigwag"]);
            let libs = if how == "static" { libs.replace("-lwigwag", "-l:libwigwag.a") } else { libs };
            run(gcc.args(libs.split_whitespace()));
            let said = run(Command::new(&program).env("LD_LIBRARY_PATH", &libraries));
            assert_eq!(text(&said.stdout), "wigwag 0.1.0\n");
        }
    }

    if is_there("cmake") {
        let build = ground.path("build");
        let mut cmake = Command::new("cmake");
        cmake.arg("-S").arg(here("examples/cmake")).arg("-B").arg(&build);
        cmake.arg(format!("-Dwigwag_DIR={}", libraries.join("cmake/wigwag").display()));
        run(&mut cmake);
        run(Command::new("cmake").arg("--build").arg(&build));
        for program in ["version", "version_static", "version_cpp"] {
            let said = text(&run(&mut Command::new(build.join(program))).stdout);
            assert!(said.starts_with("wigwag 0.1.0"), "{program}: {said}");
        }
    }
}

#[test]
fn cmake_takes_no_other_version() {
    let ground = ground();
    if !must_try() || !is_there("cmake") {
        return;
    }
    let Some(installed) = install(&ground.path("package"), "lib") else { return };
    for (version, is_taken) in [("0.1", true), ("0.1.0", true), ("0.1.1", false), ("0.2", false), ("1.0", false)] {
        let project = ground.path(version);
        std::fs::create_dir(&project).unwrap();
        let text = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES C)\nfind_package(wigwag {version} REQUIRED)\n"
        );
        std::fs::write(project.join("CMakeLists.txt"), text).unwrap();
        let mut cmake = Command::new("cmake");
        cmake.arg("-S").arg(&project).arg("-B").arg(project.join("build"));
        cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", installed.display()));
        assert_eq!(support::ended(&mut cmake).status.success(), is_taken, "{version}");
    }
}

#[test]
fn the_manifest_has_what_cargo_c_looks_for() {
    let manifest = std::fs::read_to_string(here("Cargo.toml")).unwrap();
    // Without the feature it finds no library here, and installs nothing.
    assert!(manifest.lines().any(|line| line == "capi = []"), "there is no feature `capi`");
    let assets: Vec<&str> = manifest.split("from = \"").skip(1).filter_map(|behind| behind.split('"').next()).collect();
    assert_eq!(assets, ["include/wigwag.h", "include/wigwag.hpp", "man/wigwag.3"]);
    assert!(assets.iter().all(|asset| here(asset).is_file()), "one of {assets:?} is missing");
    let soname = std::fs::read_to_string(here("build.rs")).unwrap();
    assert!(soname.contains("libwigwag.so.0") && manifest.contains("version_suffix_components = 1"), "another soname");
}

#[test]
fn the_manual_page_names_every_function() {
    let page = std::fs::read_to_string(here("man/wigwag.3")).unwrap();
    let symbols = std::fs::read_to_string(here("symbols.txt")).unwrap();
    let missing: Vec<&str> = symbols.lines().filter(|name| !page.contains(&format!("{name}()"))).collect();
    assert!(missing.is_empty(), "man/wigwag.3 lacks {missing:?}");
    assert!(page.contains(&format!("\"wigwag {}\"", env!("CARGO_PKG_VERSION"))), "another version");
}
