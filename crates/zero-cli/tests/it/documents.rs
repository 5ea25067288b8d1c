//! Runs the command blocks of all documents, and compares the output with the document. (The Rust
//! block of the README is a documentation test of `zero-bus`; the SQL of `docs/QUERIES.md` is
//! tested by `zero-mirror`, the Python of `docs/PYTHON.md` and all of `docs/NOTEBOOK.md` by
//! `zero-python`.)
//!
//! In a ```` ```console ```` block, a line after `$ ` is a command and the lines after it are its
//! output. `...` stands for any text, and on a line of its own for any number of lines. `[1]` as
//! the last line is an exit code other than 0. The blocks of one document run in order, in one
//! directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, ENGINE, Finished, root, temp_dir};

/// The test command. It is not run, because it runs this test.
const TEST_COMMAND: &str = "cargo test --workspace";

struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = language == "console";
            assert!(
                ["", "console", "python", "rust,no_run", "sql", "text"].contains(&language),
                "unknown block language {language}"
            );
        } else if inside {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
                None => steps.last_mut().unwrap().expected.push(line.to_owned()),
            }
        }
    }
    steps
}

/// Whether a text matches a pattern in which `...` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

fn lines_match(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|at| lines_match(rest, &lines[at..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| matches(first, line) && lines_match(rest, others)),
    }
}

fn run_blocks(document: &Path) {
    run_text(document, &fs::read_to_string(document).unwrap());
}

fn run_text(document: &Path, text: &str) {
    let temp = temp_dir();
    let dir = temp.path();
    fs::create_dir_all(dir.join("target/release")).unwrap();
    for (binary, name) in [(BUS, "zero-bus"), (*ENGINE, "zero-engine-run")] {
        symlink(binary, dir.join("target/release").join(name)).unwrap();
    }
    symlink(root().canonicalize().unwrap().join("examples"), dir.join("examples")).unwrap();
    let mut exports = String::new();
    for Step { command, mut expected } in steps(text) {
        let name = format!("{}: $ {command}", document.display());
        if command == TEST_COMMAND {
            assert!(expected.is_empty());
            continue;
        }
        // The binaries are built already.
        let command = command.replace("cargo run --release -p ", "target/release/").replace(" -- ", " ");
        if command == "cargo build --release" {
            continue;
        }
        // The programs of the wheel are the binaries.
        if command.starts_with("pip install ") {
            exports += "export PATH=\"$PWD/target/release:$PATH\"\n";
            continue;
        }
        // Each command runs in a shell of its own.
        if command.starts_with("export ") {
            exports += &format!("{command}\n");
            continue;
        }
        let code =
            match expected.last().and_then(|last| last.strip_prefix('[')?.strip_suffix(']')?.parse().ok()) {
                Some(code) => {
                    expected.pop();
                    code
                }
                None => 0,
            };
        let output: Finished = Command::new("sh")
            .args(["-c", &format!("{exports}{command}")])
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into();
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{name}\n{}", output.stdout);
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(
            lines_match(&expected, &lines),
            "{name}\nprinted\n{}\ninstead of\n{}",
            output.stdout,
            expected.join("\n")
        );
    }
}

#[test]
fn the_documents_show_the_output_of_their_commands() {
    let mut documents =
        vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "examples/real-market", "conformance"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(documents.len() >= 6);
    if std::env::var_os("ZERO_TEST_WITHOUT_PYTHON").is_some() {
        documents.retain(|document| !document.ends_with("TRADING.md"));
    }
    documents.iter().for_each(|document| run_blocks(document));
}

/// The log's second signature, of type 0x06, disturbs no step, such as those with OpenSSL.
#[test]
fn the_proofs_document_holds_for_a_key_with_ml_dsa() {
    let path = root().join("docs/PROOF.md");
    let mut text = fs::read_to_string(&path).unwrap();
    for (with_ed25519, with_both) in [
        ("--name example.com/desk-1 -o", "--name example.com/desk-1 --ml-dsa -o"),
        (
            "witness  example.com/desk-1+...\n",
            "witness  example.com/desk-1+...\nml-dsa   example.com/desk-1+...\n",
        ),
        ("\n— example.com/desk-1 ...\n", "\n— example.com/desk-1 ...\n— example.com/desk-1 ...\n"),
    ] {
        assert_eq!(text.matches(with_ed25519).count(), 1, "{with_ed25519}");
        text = text.replace(with_ed25519, with_both);
    }
    run_text(&path, &text);
}

#[test]
fn the_readme_shows_how_to_run_and_test() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("$ {TEST_COMMAND}\n")));
    assert!(
        steps(&readme).iter().any(|step| step.command.starts_with("cargo run --release -p zero-engine-run"))
    );
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == TEST_COMMAND));
}

#[test]
fn patterns_match_any_text_at_an_ellipsis() {
    assert!(matches("a...c...", "abcd") && matches("...", "") && matches("x", "x"));
    assert!(!matches("a...c", "abd") && !matches("", "x"));
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(lines_match(&owned(&["a", "...", "d"]), &["a", "b", "c", "d"]));
    assert!(!lines_match(&owned(&["a", "d"]), &["a", "b", "d"]));
    assert!(!lines_match(&owned(&[]), &["a"]));
}
