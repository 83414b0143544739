//! A client in C that was written from docs/layout.md alone: compiled here, and it must be served as any other.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context as _;
use wigwag_testing::Ground;

use super::{Findings, Inverting};

const PEER: &str = include_str!("../../../../../examples/c/peer.c");
const LAYOUT: &str = include_str!("../../../../../examples/c/layout.h");

/// What came of it, in a few words.
pub fn run(calls: u32, found: &mut Findings) -> anyhow::Result<String> {
    let ground = Ground::new();
    let source = ground.path("peer.c");
    std::fs::write(&source, PEER)?;
    std::fs::write(ground.path("layout.h"), LAYOUT)?;
    let wide = match compile(&source, &ground.path("peer64"), &["-m64"])? {
        Compiled::Program(program) => serve(&program, calls, found)?,
        Compiled::NoCompiler => return Ok("no C compiler: a peer in C was not tried".into()),
        Compiled::Failed(why) => {
            found.check(false, || format!("the peer in C does not compile:\n{why}"));
            "none".into()
        }
    };
    // The 32-bit ABI aligns 64-bit words to four bytes: there the offsets are most likely to be wrong.
    let narrow = match compile(&source, &ground.path("peer32"), &["-m32", "-march=i686"])? {
        Compiled::Program(program) => serve(&program, calls, found)?,
        _ => {
            let checked = gcc(&["-m32", "-ffreestanding", "-fsyntax-only", "-x", "c"], &ground.path("layout.h"))?;
            match checked.filter(|checked| checked.status.success()) {
                Some(_) => "not run, as there is no 32-bit C library (gcc-multilib); its layout compiles".into(),
                None => "not tried: this compiler has no 32-bit target".into(),
            }
        }
    };
    Ok(format!("a peer in C, 64-bit: {wide}; 32-bit: {narrow}"))
}

enum Compiled {
    Program(PathBuf),
    NoCompiler,
    Failed(String),
}

fn gcc(arguments: &[&str], source: &Path) -> anyhow::Result<Option<Output>> {
    let common = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"];
    match Command::new("gcc").args(common).args(arguments).arg(source).output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot start gcc"),
    }
}

fn compile(source: &Path, program: &Path, flags: &[&str]) -> anyhow::Result<Compiled> {
    let mut arguments = flags.to_vec();
    arguments.extend(["-o", program.to_str().context("a path")?]);
    Ok(match gcc(&arguments, source)? {
        None => Compiled::NoCompiler,
        Some(output) if output.status.success() => Compiled::Program(program.to_owned()),
        Some(output) => Compiled::Failed(String::from_utf8_lossy(&output.stderr).into_owned()),
    })
}

fn serve(program: &Path, calls: u32, found: &mut Findings) -> anyhow::Result<String> {
    let ground = Ground::new();
    let _server = Inverting::start(&ground.socket(), 4, 6000);
    let output = Command::new(program).arg(ground.socket()).arg(calls.to_string()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complained = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    found.check(output.status.success() && said == format!("{calls} calls"), || {
        format!("the peer in C, {}: {} {said} {complained}", program.display(), output.status)
    });
    Ok(said)
}
