//! The Python package: built as users build it, installed elsewhere, and tested there.
//!
//! Nothing of it is looked for in the sources but the tests: what they import is the wheel that was installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::ci;

pub const PACKAGE: &str = "crates/wigwag-python";
/// The oldest that has the stable interface the package is built for.
const VERSION_MIN: (u32, u32) = (3, 11);

/// The commands of the step. A virtual environment builds, another one has the wheel.
pub fn commands() -> anyhow::Result<Vec<Command>> {
    let python = interpreter()?;
    let directory = crate::target().join("python");
    let of = |environment: &str, program: &str| directory.join(environment).join("bin").join(program);
    let manifest = format!("{PACKAGE}/Cargo.toml");
    let wheels = directory.join("wheels");
    // A command like the others: who only asks what the commands are loses nothing.
    let mut emptied = Command::new("rm");
    emptied.arg("-rf").arg("--").arg(&directory);
    let mut commands = vec![emptied];
    for environment in ["build", "test"] {
        let mut command = Command::new(&python);
        command.args(["-m", "venv"]).arg(directory.join(environment));
        commands.push(command);
    }
    let mut pip = Command::new(of("build", "pip"));
    pip.args(["install", "--quiet", "maturin>=1.9,<2"]);
    commands.push(pip);
    let mut build = crate::program("timeout");
    build.args(["--kill-after=10", "3000"]).arg(of("build", "maturin"));
    build.args(["build", "--release", "--locked", "--compatibility", "linux", "--manifest-path", &manifest, "--out"]);
    build.arg(&wheels);
    commands.push(ci::with_lints(build));
    // By its path: an index may have another package of that name.
    let mut install = Command::new("sh");
    install.args(["-c", r#""$0" install --quiet "$1"/wigwag-*.whl pytest numpy mypy typing_extensions"#]);
    install.arg(of("test", "pip")).arg(&wheels);
    commands.push(install);
    let tested = |arguments: &[&str]| {
        let mut command = crate::program("timeout");
        command.args(["--kill-after=10", "900"]).arg(of("test", "python")).args(arguments);
        command
    };
    let (tests, configuration) = (format!("{PACKAGE}/tests"), format!("{PACKAGE}/pyproject.toml"));
    let development = ["-X", "dev", "-X", "faulthandler", "-m", "pytest", "-q", "-c", &configuration, &tests];
    commands.push(tested(&development));
    let allowed = format!("{PACKAGE}/tests/stubtest_allowlist.txt");
    let stubs = ["-m", "mypy.stubtest", "wigwag", "--allowlist", &allowed, "--ignore-unused-allowlist"];
    commands.push(tested(&stubs));
    commands.push(tested(&["-m", "mypy", "--strict", "-p", "wigwag"]));
    Ok(commands)
}

/// The interpreter: `PYTHON`, or `python3`.
fn interpreter() -> anyhow::Result<PathBuf> {
    let python = std::env::var_os("PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let script = "import sys, venv; print(sys.version_info.major, sys.version_info.minor)";
    let found = Command::new(&python).args(["-c", script]).stderr(Stdio::inherit()).output();
    let shown = python.display();
    let found = found.with_context(|| format!("cannot start {shown}: install Python 3.11 or newer, or set PYTHON"))?;
    let text = String::from_utf8_lossy(&found.stdout);
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = VERSION_MIN;
    anyhow::ensure!(
        version >= VERSION_MIN,
        "{shown} is Python {}.{}, or has no venv: {major}.{minor} or newer is needed; set PYTHON to one",
        version.0,
        version.1
    );
    Ok(python)
}
