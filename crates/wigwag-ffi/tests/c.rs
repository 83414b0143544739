//! The interface, used from C: with every compiler, shared and static, under valgrind and AddressSanitizer; what is
//! noticed of mistakes, and what is not.

mod support;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use support::{SYSTEM, checked_library, compile, ended, ground, here, is_there, library, run, shared, text};

const COMPILERS: [&str; 2] = ["gcc", "clang"];

/// The programs that use each function, and what they say last.
const FORMS: [(&str, &str); 2] = [("forms.c", "all forms\n"), ("broadcast.c", "all of a broadcast\n")];

fn words<'w>(words: impl IntoIterator<Item = &'w (impl AsRef<OsStr> + 'w + ?Sized)>) -> Vec<&'w OsStr> {
    words.into_iter().map(AsRef::as_ref).collect()
}

/// The static library as a compiler takes it.
fn archive(path: &Path) -> Vec<OsString> {
    std::iter::once(path.into()).chain(SYSTEM.iter().map(OsString::from)).collect()
}

/// Compiles a test program, and calls what is to be done with it.
fn with(compiler: &str, source: &str, link: &[OsString], more: &[&str], then: impl FnOnce(&Path, &Path)) {
    let ground = ground();
    let program = ground.path("program");
    let all: Vec<&OsStr> = words(more).into_iter().chain(words(link)).collect();
    compile(compiler, &here(&format!("tests/c/{source}")), &program, &all);
    let directory = ground.path("names");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    then(&program, &directory);
}

#[test]
fn every_form_works_from_c_however_it_is_compiled_and_linked() {
    for compiler in COMPILERS.into_iter().filter(|compiler| is_there(compiler)) {
        for link in [shared(), archive(&library().join("libwigwag.a"))] {
            for (source, last) in FORMS {
                with(compiler, source, &link, &[], |program, directory| {
                    let said = text(&run(Command::new(program).arg(directory)).stdout);
                    assert!(said.ends_with(last), "{source}: {said}");
                });
            }
        }
    }
}

#[test]
fn owners_in_cpp_end_what_they_own() {
    for compiler in ["g++", "clang++"].into_iter().filter(|compiler| is_there(compiler)) {
        with(compiler, "owners.cc", &shared(), &["-fno-exceptions"], |program, directory| {
            assert_eq!(text(&run(Command::new(program).arg(directory)).stdout), "owners\n");
        });
    }
}

#[test]
fn deaths_are_noticed_from_c() {
    if !is_there("gcc") {
        return;
    }
    with("gcc", "deaths.c", &shared(), &[], |program, directory| {
        println!("{}", text(&run(Command::new(program).arg(directory).arg("50")).stdout));
    });
}

/// Memory that is lost counts where nothing points to it. What glibc keeps of threads that have ended is pointed to
/// from the middle, and is no error.
const MEMCHECK: &[&str] = &[
    "--quiet",
    "--error-exitcode=9",
    "--leak-check=full",
    "--show-leak-kinds=definite,indirect",
    "--errors-for-leak-kinds=definite,indirect",
    "--child-silent-after-fork=yes",
];

#[test]
fn valgrind_has_nothing_to_say() {
    if !is_there("gcc") || !is_there("g++") || !is_there("valgrind") {
        return;
    }
    for (source, _) in FORMS {
        with("gcc", source, &shared(), &[], |program, directory| {
            let said = run(Command::new("valgrind").args(MEMCHECK).arg(program).arg(directory));
            // What it has to say of the program begins so; an old one also says which system calls it does not know.
            let said = text(&said.stderr);
            assert!(!said.lines().any(|line| line.starts_with("==")), "{source}: {said}");
        });
    }
    with("g++", "owners.cc", &shared(), &[], |program, directory| {
        let said = text(&run(Command::new("valgrind").args(MEMCHECK).arg(program).arg(directory)).stderr);
        assert!(!said.lines().any(|line| line.starts_with("==")), "{said}");
    });
    // A program that loses memory, and one that uses what was freed: what it would say.
    with("gcc", "misuse.c", &shared(), &[], |program, directory| {
        let said = ended(Command::new("valgrind").args(MEMCHECK).arg(program).arg(directory).arg("client-freed-twice"));
        assert_eq!(said.status.code(), Some(9), "{}", text(&said.stderr));
        assert!(text(&said.stderr).contains("Invalid read"), "{}", text(&said.stderr));
    });
}

/// What each mistake comes to with AddressSanitizer.
const MISTAKES: &[(&str, &str)] = &[
    ("client-freed-twice", "heap-use-after-free"),
    ("loan-after-client", "heap-use-after-free"),
    ("request-answered-twice", "heap-use-after-free"),
    ("sample-released-twice", "heap-use-after-free"),
    ("sample-read-late", "heap-use-after-free"),
    ("publisher-after-free", "heap-use-after-free"),
    ("error-after-free", "heap-use-after-free"),
    ("no-handle", "heap-buffer-overflow"),
    ("options-too-short", "heap-buffer-overflow"),
];

#[test]
fn the_address_sanitizer_shows_what_cannot_be_noticed_and_nothing_else() {
    if !is_there("clang") {
        return;
    }
    let link = archive(&checked_library());
    for (source, _) in FORMS {
        with("clang", source, &link, &["-fsanitize=address"], |program, directory| {
            let said = run(Command::new(program).arg(directory));
            assert_eq!(text(&said.stderr), "", "{source}");
        });
    }
    for (mistake, report) in MISTAKES {
        with("clang", "misuse.c", &link, &["-fsanitize=address"], |program, directory| {
            let said = ended(Command::new(program).arg(directory).arg(mistake));
            let text = text(&said.stderr);
            assert!(
                !said.status.success() && text.contains(&format!("AddressSanitizer: {report}")),
                "{mistake}: {text}"
            );
        });
    }
    with("clang", "misuse.c", &link, &["-fsanitize=address"], |program, directory| {
        run(Command::new(program).arg(directory).arg("nothing"));
    });
}
