//! `zero-bus completions`: the scripts complete in real shells.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, Finished, bus, temp_dir};

/// Runs a shell in a directory, with the directory of the binary in its path. Returns what it
/// prints.
#[track_caller]
fn run_shell(dir: &Path, shell: &[&str]) -> String {
    let path = format!("{}:{}", Path::new(BUS).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .current_dir(dir)
        .envs([("PATH", path.as_str()), ("HOME", dir.to_str().unwrap()), ("TERM", "xterm")])
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; .ci/run installs it", shell[0]));
    Finished::from(output).stdout
}

/// Command lines, and a candidate for the last word of each.
const CASES: [(&[&str], &str); 6] = [
    (&["ta"], "tail"),
    (&["tail", "--"], "--trace-id"),
    (&["tail", "--si"], "--since"),
    (&["mirror-verify", "--"], "--bus"),
    (&["ingest", "token", "--"], "--read-only"),
    (&["command", "bus", "--re"], "--reason"),
];

/// A value of an argument. The script for fish completes values of options only.
const VALUE_CASE: (&[&str], &str) = (&["completions", "z"], "zsh");

/// Whether this machine has no zsh and no fish.
fn shells_are_left_out() -> bool {
    std::env::var_os("ZERO_TEST_WITHOUT_SHELLS").is_some()
}

#[track_caller]
fn assert_candidate(words: &[&str], candidates: &[&str], expected: &str) {
    assert!(candidates.contains(&expected), "{words:?}: {candidates:?}");
    let current = words.last().unwrap();
    assert!(candidates.iter().all(|candidate| candidate.starts_with(current)), "{words:?}: {candidates:?}");
}

#[test]
fn bash_completes_commands_options_and_values() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("script"), bus(dir, &["completions", "bash"]).success()).unwrap();
    for (words, expected) in CASES.into_iter().chain([VALUE_CASE]) {
        let line = [&["zero-bus"], words].concat();
        let (current, previous) = (line[line.len() - 1], line[line.len() - 2]);
        // Calls the function that `complete` registers, as bash does on TAB.
        let call = format!(
            "source ./script; registered=$(complete -p zero-bus); registered=${{registered#*-F }}; \
             COMP_WORDS=({}); COMP_CWORD={}; ${{registered%% *}} zero-bus '{current}' '{previous}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.join(" "),
            line.len() - 1
        );
        let printed = run_shell(dir, &["bash", "--norc", "-c", &call]);
        assert_candidate(words, &printed.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn fish_completes_commands_and_options() {
    if shells_are_left_out() {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("script"), bus(dir, &["completions", "fish"]).success()).unwrap();
    for (words, expected) in CASES {
        let call = format!("source script; complete -C 'zero-bus {}'", words.join(" "));
        let printed = run_shell(dir, &["fish", "--no-config", "-c", &call]);
        // A tab and a description follow each candidate.
        let candidates: Vec<_> = printed.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_candidate(words, &candidates, expected);
    }
}

/// Completes a line in zsh. zsh completes only on a terminal, which its module `zpty` provides. In
/// it, `compadd` prints the candidates.
const CAPTURE: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell '
PS1=; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -d $PWD/dump
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    typeset -a found; local word
    builtin compadd -A found "$@"
    for word in $found; do print -r -- "candidate:$word"; done
}
finish() { print -r -- "candidates end"; exit }
comppostfuncs=(finish)
print ready to complete'
# The terminal echoes the commands first.
zpty -r -m shell text '*ready to complete*ready to complete*'
zpty -w -n shell "zero-bus $1"$'\t'
zpty -r -m shell text '*candidates end*'
print -r -- $text
"#;

#[test]
fn zsh_completes_commands_options_and_values() {
    if shells_are_left_out() {
        return;
    }
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("_zero-bus"), bus(dir, &["completions", "zsh"]).success()).unwrap();
    fs::write(dir.join("capture"), CAPTURE).unwrap();
    for (words, expected) in CASES.into_iter().chain([VALUE_CASE]) {
        let printed = run_shell(dir, &["zsh", "-f", "capture", &words.join(" ")]);
        let candidates: Vec<_> = printed
            .lines()
            .filter_map(|line| line.trim_end().split_once("candidate:"))
            .map(|(_, word)| word)
            .collect();
        assert_candidate(words, &candidates, expected);
    }
}
