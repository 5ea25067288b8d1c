//! A virtual environment with the package and what its tests need.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The folder of this crate.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The environment; `None` if the tests of Python packages are left out.
pub(crate) static ENVIRONMENT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    if std::env::var_os("ZERO_TEST_WITHOUT_PYTHON_PACKAGES").is_some() {
        return None;
    }
    let environment = dependencies();
    fs::create_dir_all(environment.join("temporary")).unwrap();
    install_package(&environment);
    Some(environment)
});

/// The interpreter of an environment.
pub(crate) fn python(environment: &Path) -> PathBuf {
    environment.join("bin/python")
}

/// Runs a command and fails with its output if it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{text}", output.status);
    text
}

/// Creates an environment with the packages of `requirements.txt`. A later run uses it again.
fn dependencies() -> PathBuf {
    let requirements = package().join("tests/requirements.txt");
    let mut hasher = DefaultHasher::new();
    fs::read_to_string(&requirements).unwrap().hash(&mut hasher);
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{:016x}", hasher.finish()));
    let complete = environment.join("complete");
    if !complete.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
        let pip = Command::new(python(&environment))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements)
            .output()
            .unwrap();
        assert!(
            pip.status.success(),
            "the packages for the tests cannot be installed. Without a package registry, set \
             ZERO_TEST_WITHOUT_PYTHON_PACKAGES=1\n{}",
            String::from_utf8_lossy(&pip.stderr)
        );
        fs::write(complete, "").unwrap();
    }
    environment
}

/// Packs the extension module that cargo has built with this test, and installs it.
fn install_package(environment: &Path) {
    let test_program = std::env::current_exe().unwrap();
    let extension = test_program.with_file_name("libzero_bus_native.so");
    let wheels = environment.join("wheels");
    let _ = fs::remove_dir_all(&wheels);
    run(Command::new(python(environment))
        .arg(package().join("tests/pack_wheel.py"))
        .args([package(), &extension])
        .arg(env!("CARGO_PKG_VERSION"))
        .arg(&wheels));
    let wheel = fs::read_dir(&wheels).unwrap().next().unwrap().unwrap().path();
    run(Command::new(python(environment))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-index", "--no-deps", "--force-reinstall"])
        .arg(wheel));
}
