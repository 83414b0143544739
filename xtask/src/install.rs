//! Installs the interface for C: what packagers look for, where they look for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

/// Where it goes.
#[derive(Args)]
pub struct Arguments {
    /// Where it will be found when it is used: an absolute path
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Where the libraries go, from the prefix; Debian's is lib/ARCHITECTURE-linux-gnu
    #[arg(long, value_name = "DIR", default_value = "lib")]
    libdir: PathBuf,
    /// In front of the prefix, while a package is made
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
}

pub const EXAMPLES: &str = "\
Examples:
  cargo xtask install                                            into /usr/local
  cargo xtask install --prefix $HOME/.local
  cargo xtask install --prefix /usr --destdir package            for a package of a distribution

It installs wigwag.h, wigwag.hpp, libwigwag.so with its names, libwigwag.a, wigwag.pc, wigwagConfig.cmake and the page
wigwag(3).";

/// Where the interface is, from the root of the repository.
const INTERFACE: &str = "crates/wigwag-ffi";

/// What a program needs of the system that is linked with the static library.
const SYSTEM: [&str; 4] = ["pthread", "dl", "m", "gcc_s"];

/// A number in the name of the shared library, which programs are linked with.
const SONAME: &str = "libwigwag.so.0";

/// The command `cargo xtask install`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { prefix, libdir, .. } = arguments;
    ensure!(prefix.is_absolute(), "--prefix {} is not absolute: programs are to find it", prefix.display());
    ensure!(
        libdir.components().all(|part| matches!(part, Component::Normal(_))) && libdir.components().next().is_some(),
        "--libdir {} is not a path below the prefix",
        libdir.display()
    );
    let built = build()?;
    let place = Place::new(arguments)?;
    let interface = crate::root().join(INTERFACE);
    let version = version(&interface)?;

    for header in ["wigwag.h", "wigwag.hpp"] {
        place.copy(&interface.join("include").join(header), &Path::new("include").join(header), 0o644)?;
    }
    let shared = libdir.join(format!("libwigwag.so.{version}"));
    place.copy(&built.join("libwigwag.so"), &shared, 0o755)?;
    place.link(&shared, &libdir.join(SONAME))?;
    place.link(&shared, &libdir.join("libwigwag.so"))?;
    place.copy(&built.join("libwigwag.a"), &libdir.join("libwigwag.a"), 0o644)?;
    place.copy(&interface.join("man/wigwag.3"), Path::new("share/man/man3/wigwag.3"), 0o644)?;

    let numbers: Vec<&str> = version.split('.').collect();
    let [major, minor, _] = numbers[..] else { bail!("the version {version} has not three numbers") };
    let up = "../".repeat(libdir.components().count() + 2);
    let words = |system: &str| {
        vec![
            ("@PREFIX@", prefix.display().to_string()),
            ("@LIBDIR@", libdir.display().to_string()),
            ("@VERSION@", version.clone()),
            ("@MAJOR@", major.to_owned()),
            ("@MINOR@", minor.to_owned()),
            ("@UP@", up.trim_end_matches('/').to_owned()),
            ("@SYSTEM@", system.to_owned()),
        ]
    };
    let fill = |template: &str, to: &Path, system: &str| {
        let from = interface.join("install").join(format!("{template}.in"));
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let text = words(system).iter().fold(text, |text, (word, value)| text.replace(word, value));
        place.write(&to.join(template), &text)
    };
    let flags: Vec<String> = SYSTEM.iter().map(|library| format!("-l{library}")).collect();
    fill("wigwag.pc", &libdir.join("pkgconfig"), &flags.join(" "))?;
    let cmake = libdir.join("cmake/wigwag");
    fill("wigwagConfig.cmake", &cmake, &SYSTEM.join(";"))?;
    fill("wigwagConfigVersion.cmake", &cmake, "")?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the libraries. Where they are.
fn build() -> anyhow::Result<PathBuf> {
    let manifest = crate::root().join(INTERFACE).join("Cargo.toml");
    let target = crate::target();
    let mut cargo = crate::cargo();
    cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]).arg(manifest);
    let status = cargo.arg("--target-dir").arg(&target).status().context("cannot start cargo")?;
    ensure!(status.success(), "the libraries were not built");
    Ok(target.join("release"))
}

/// The version of the interface.
fn version(interface: &Path) -> anyhow::Result<String> {
    let manifest = fs::read_to_string(interface.join("Cargo.toml")).context("cannot read the interface's manifest")?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = "));
    Ok(line.context("the interface's manifest has no version")?.trim_matches('"').to_owned())
}

/// Where files are put.
struct Place(PathBuf);

impl Place {
    fn new(arguments: &Arguments) -> anyhow::Result<Place> {
        let Some(destdir) = &arguments.destdir else { return Ok(Place(arguments.prefix.clone())) };
        let destdir = std::path::absolute(destdir).context("--destdir")?;
        Ok(Place(destdir.join(arguments.prefix.strip_prefix("/").unwrap_or(&arguments.prefix))))
    }

    /// The path of a file, whose directory is there, and where nothing is.
    fn make_room(&self, to: &Path) -> anyhow::Result<PathBuf> {
        let path = self.0.join(to);
        let directory = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot replace {}", path.display()))
            }
            _ => {
                println!("{}", path.display());
                Ok(path)
            }
        }
    }

    fn copy(&self, from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
        let path = self.make_room(to)?;
        fs::copy(from, &path).with_context(|| format!("cannot copy {} to {}", from.display(), path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("the file cannot be made readable")
    }

    fn write(&self, to: &Path, text: &str) -> anyhow::Result<()> {
        let path = self.make_room(to)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A name for a file beside it.
    fn link(&self, file: &Path, name: &Path) -> anyhow::Result<()> {
        let path = self.make_room(name)?;
        let target = file.file_name().context("a file has a name")?;
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))
    }
}
