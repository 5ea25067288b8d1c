//! One test per file of `tests/python`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::environment::{ENVIRONMENT, package, python, run};

macro_rules! python_tests {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run_pytest(stringify!($name));
        })*

        const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

python_tests!(
    documents, drop_in, native, notebook, payloads, programs, proofs, recording, runtime, tables, typing
);

/// Runs `tests/python/test_NAME.py`.
fn run_pytest(name: &str) {
    let Some(environment) = &*ENVIRONMENT else { return };
    let summary = run(Command::new(python(environment))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp"])
        .arg(environment.join("temporary").join(name))
        .arg(package().join(format!("tests/python/test_{name}.py")))
        // The virtual environment alone decides what is imported.
        .env_remove("PYTHONPATH")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Importing the plugins of the test packages would take longer than most tests do.
        .env("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        .env("ZERO_CONFORMANCE", package().join("../../conformance"))
        .current_dir(environment));
    assert!(summary.contains(" passed"), "{summary}");
    assert!(!summary.contains("skipped"), "{summary}");
}

#[test]
fn every_file_of_python_tests_is_run() {
    let entries = fs::read_dir(package().join("tests/python")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_prefix("test_")?.strip_suffix(".py")?.to_owned())).collect();
    assert_eq!(found, FILES.iter().map(|name| (*name).to_owned()).collect());
}
