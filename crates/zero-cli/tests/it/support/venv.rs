//! Packages of Python's registry, for programs that judge ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs a package of a version once. Returns the folder of its programs, `python3` among them.
/// Fails the test with advice that names `skip`, the variable that skips it.
pub(crate) fn with_package(name: &str, version: &str, skip: &str) -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{version}"));
    let lock = File::create(venv.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !venv.join("installed").exists() {
        let advice = format!(
            "install Python 3.10 or newer (Debian: python3-venv) and let pip reach its index, or set {skip}=1 to skip this \
             test"
        );
        let run = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let output = output.unwrap_or_else(|error| panic!("{}: {error}; {advice}", program.display()));
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} cannot be installed; {advice}: {stderr}");
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", venv.to_str().unwrap()]);
        let package = format!("{name}=={version}");
        run(&venv.join("bin/pip"), &["install", "--quiet", "--disable-pip-version-check", &package]);
        File::create(venv.join("installed")).unwrap();
    }
    venv.join("bin")
}
