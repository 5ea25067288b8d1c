//! Every command block of every document is run, and what it prints is what the document says. (Rust in the README is
//! compiled as a documentation test of `zero-bus`, and the SQL of `docs/QUERIES.md` is asked by `zero-mirror`.)
//!
//! In a ```` ```console ```` block a line behind `$ ` is a command, and what follows is its output: `...` stands for
//! any text, on a line of its own for any lines; `[1]` behind it is an exit code other than 0. The blocks of one
//! document run one after the other in one place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, ENGINE, root};

/// The one command that is not run in here, as this is it.
const THE_TESTS: &str = "cargo test --workspace";

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
                ["", "console", "rust,no_run", "sql", "text"].contains(&language),
                "a block of {language} is not run"
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

/// Whether a text fits a pattern in which `...` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
        }),
    }
}

fn lines_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|at| lines_fit(rest, &lines[at..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, others)| fits(first, line) && lines_fit(rest, others))
        }
    }
}

fn run_all(document: &Path) {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fs::create_dir_all(here.join("target/release")).unwrap();
    for (binary, name) in [(BUS, "zero-bus"), (*ENGINE, "zero-engine-run")] {
        symlink(binary, here.join("target/release").join(name)).unwrap();
    }
    symlink(root().canonicalize().unwrap().join("examples"), here.join("examples")).unwrap();
    let mut exported = String::new();
    for Step { command, mut expected } in steps(&fs::read_to_string(document).unwrap()) {
        let name = format!("{}: $ {command}", document.display());
        if command == THE_TESTS {
            assert!(expected.is_empty());
            continue;
        }
        // What cargo would build is built already.
        let built = command.replace("cargo run --release --bin ", "target/release/").replace(" -- ", " ");
        if built == "cargo build --release" {
            continue;
        }
        if built.starts_with("export ") {
            exported += &format!("{built}\n");
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
        let ended: crate::support::Ended = Command::new("sh")
            .args(["-c", &format!("{exported}{built}")])
            .current_dir(here)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into();
        assert_eq!((ended.code, ended.err.as_str()), (code, ""), "{name}\n{}", ended.out);
        let lines: Vec<&str> = ended.out.lines().collect();
        assert!(
            lines_fit(&expected, &lines),
            "{name}\nprinted\n{}\ninstead of\n{}",
            ended.out,
            expected.join("\n")
        );
    }
}

#[test]
fn the_documents_say_what_happens() {
    let mut documents =
        vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "examples/real-market", "conformance"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    assert!(documents.len() >= 6);
    documents.iter().for_each(|document| run_all(document));
}

#[test]
fn the_readme_shows_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&format!("$ {THE_TESTS}\n")));
    assert!(
        steps(&readme)
            .iter()
            .any(|step| step.command.starts_with("cargo run --release --bin zero-engine-run"))
    );
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == THE_TESTS));
}

#[test]
fn patterns_fit_what_they_should() {
    assert!(fits("a...c...", "abcd") && fits("...", "") && fits("x", "x"));
    assert!(!fits("a...c", "abd") && !fits("", "x"));
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(lines_fit(&owned(&["a", "...", "d"]), &["a", "b", "c", "d"]));
    assert!(!lines_fit(&owned(&["a", "d"]), &["a", "b", "d"]));
    assert!(!lines_fit(&owned(&[]), &["a"]));
}
