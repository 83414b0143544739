//! Clients of another user: they need to be let in, and get copies.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::bytes;
use crate::previous::scene::{Input, Running, Scene, Side};

/// Users that the servers let in, and do not.
const LET_IN: u32 = 54_321;
const KEPT_OUT: u32 = 54_320;

/// Starts `wigwag` of the client's version as another user. That user may not reach where programs are built.
fn start(scene: &Scene, program: &Path, user: u32, arguments: &[&str], input: &[u8]) -> anyhow::Result<Running> {
    let mut command = scene.command(program, arguments);
    command.uid(user).gid(user).env_remove("XDG_RUNTIME_DIR").current_dir("/");
    scene.spawn(command, Input::Bytes(input.to_vec()))
}

/// The client's program where everybody can reach it.
fn open_to_all(scene: &Scene) -> anyhow::Result<PathBuf> {
    let all = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755));
    let program = scene.path().join("program");
    std::fs::copy(&scene.client.wigwag, &program).context("a program cannot be copied")?;
    all(&program)?;
    all(scene.path())?;
    Ok(program)
}

pub fn other(scene: &Scene) -> anyhow::Result<()> {
    let program = open_to_all(scene)?;
    let path = |name: &str| scene.path().join(name).to_string_lossy().into_owned();
    let (call, queue, stream) = (path("call.sock"), path("queue.sock"), path("stream.sock"));
    let user = LET_IN.to_string();
    let as_root = ["--server-user", "0"];
    let client = |user, words: &[&str], input: &[u8]| start(scene, &program, user, &[words, &as_root].concat(), input);
    let listens = |path: &str| scene.until("somebody listens", || Ok(Path::new(path).exists()));

    let _server = scene.serve(scene.server, &call, &["--do", "invert", "--allow-user", &user])?;
    for request in [48, 49, 1 << 20].map(bytes) {
        let expected: Vec<u8> = request.iter().map(|byte| !byte).collect();
        client(LET_IN, &["call", &call, "--input", "-"], &request)?.wait()?.printed_exactly(&expected)?;
    }
    let said = client(KEPT_OUT, &["call", &call, "--input", "-"], b"x")?.wait()?.failed(4)?;
    scene.note(Side::Client, "a server that does not let this user in", &said);
    let said = start(scene, &program, LET_IN, &["call", &call, "x"], b"")?.wait()?.failed(2)?;
    scene.note(Side::Client, "another user's server that was not asked for", &said);

    let receive = ["queue", "recv", &queue, "--count", "1000", "--allow-user", &user];
    let receiver = scene.start(scene.server, &receive, Input::Nothing)?;
    listens(&queue)?;
    let lines: Vec<u8> = (0..1000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    client(LET_IN, &["queue", "send", &queue, "--timeout", "10"], &lines)?.wait()?.printed_exactly(b"")?;
    receiver.wait()?.printed_exactly(&lines)?;

    let (there, back) = (bytes(3 << 20), bytes(2 << 20));
    let listen = ["stream", "listen", &stream, "--allow-user", &user];
    let listener = scene.start(scene.server, &listen, Input::Bytes(back.clone()))?;
    listens(&stream)?;
    client(LET_IN, &["stream", "connect", &stream], &there)?.wait()?.printed_exactly(&back)?;
    listener.wait()?.printed_exactly(&there)
}
