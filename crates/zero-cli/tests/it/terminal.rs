//! What a terminal shows and a pipe doesn't: progress and colour.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, fill};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Runs it with standard output and error on a terminal; gives what the terminal was sent.
fn on_a_terminal(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    on_a_terminal_of(120, directory, arguments, variables)
}

/// The same on a terminal of so many columns.
fn on_a_terminal_of(
    columns: u16,
    directory: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let size = rustix::termios::Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, size).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap();
    let terminal = || OpenOptions::new().read(true).write(true).open(theirs.to_str().unwrap()).unwrap();
    let mut child = Command::new(BUS)
        .args(arguments)
        .current_dir(directory)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    let reader = std::thread::spawn(move || {
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        let mut ours = File::from(ours);
        // When the last other end is closed, reading ends with an error.
        while let Ok(read) = ours.read(&mut buffer) {
            if read == 0 {
                break;
            }
            shown.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn verify_and_audit_show_progress_on_a_terminal_only() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), 20_000);
    let shown = on_a_terminal(place.path(), &["verify", "bus"], &[]);
    assert!(shown.contains("verifying ["), "{shown:?}");
    assert!(shown.contains("\x1b[32mok\x1b[0m"), "in colour: {shown:?}");
    let shown = on_a_terminal(place.path(), &["audit", "bus", "-o", "audit.json"], &[]);
    assert!(shown.contains("auditing ["), "{shown:?}");
    // One that is narrow is not filled beyond its line.
    let shown = on_a_terminal_of(60, place.path(), &["verify", "bus"], &[]);
    let bars: Vec<&str> =
        shown.split(['\r', '\n', '\x1b']).filter(|part| part.contains("verifying [")).collect();
    assert!(
        !bars.is_empty() && bars.iter().all(|bar| bar.trim_start_matches("[2K").chars().count() <= 60),
        "{bars:?}"
    );
    assert!(!shown.contains("of 0 B"), "{bars:?}");
    // A document on the terminal is not drawn over.
    let document = on_a_terminal(place.path(), &["audit", "bus"], &[]);
    let written = fs::read_to_string(place.path().join("audit.json")).unwrap();
    assert_eq!(document.trim_end(), written);
    assert_eq!(on_a_terminal(place.path(), &["audit", "bus", "-o", "/dev/stdout"], &[]), document);
    let plain = crate::support::bus(place.path(), &["verify", "bus"]).fine();
    assert!(!plain.contains('\x1b') && !plain.contains("verifying"));
    assert!(fs::metadata(place.path().join("audit.json")).unwrap().len() > 0);
}

/// What happened, a line an event; the same command on a pipe gives the log's lines.
#[test]
fn tail_tells_on_a_terminal() {
    let session = crate::support::conformance().join("sessions/first-steps/one-run");
    let shown = on_a_terminal(&session, &["tail", "runtime-bus", "--from", "38", "-n", "8"], &[]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 9, "{shown}");
    assert!(lines[0].contains("2026-05-01"), "the day once: {shown}");
    assert!(
        lines[1].contains("\x1b[33mrejection SOL buy 10 @ 140 order notional exceeds limit\x1b[0m")
            && lines[1].contains("#38    00:00:00"),
        "{shown}"
    );
    assert!(lines[6].contains("\x1b[32mfill      BTC buy 0.01 @ 40000 = 400.00 USD"), "{shown}");
    assert!(lines[7].contains("positions BTC 0.02 @ 40000.00"), "{shown}");
    let plain =
        on_a_terminal(&session, &["tail", "runtime-bus", "--type", "fill.record"], &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let lines = on_a_terminal(&session, &["tail", "runtime-bus", "-n", "1", "--json"], &[]);
    let piped = crate::support::bus(&session, &["tail", "runtime-bus", "-n", "1"]).fine();
    assert_eq!(lines.trim_end(), piped.trim_end());
    assert!(piped.starts_with('{'));

    // Nothing in an event commands the terminal.
    let place = tempfile::tempdir().unwrap();
    for (event_type, payload) in [
        ("note", r#"{"text":"\u001b[2J\u009b2J\nsecond line"}"#),
        ("operator.command", r#"{"action":"pause","actor":"\u001b]0;x\u0007","reason":"a\nb"}"#),
        ("runtime.cycle", "{}"),
        ("fill.record", r#"{"symbol":7}"#),
        ("position.snapshot", r#"{"positions":[null]}"#),
    ] {
        crate::support::bus(
            place.path(),
            &["append", "bus", "--type", event_type, "--as-of", "-1e300", payload],
        )
        .fine();
    }
    let shown = on_a_terminal(place.path(), &["tail", "bus"], &[("NO_COLOR", "1")]);
    assert!(!shown.contains('\x1b') && !shown.contains('\u{9b}') && !shown.contains('\x07'), "{shown:?}");
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert!(shown.contains("command   pause by "), "{shown}");
}

#[test]
fn colour_can_be_declined() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), 3);
    let shown = on_a_terminal(place.path(), &["verify", "bus"], &[("NO_COLOR", "1")]);
    assert!(shown.contains("log       ok  "), "{shown:?}");
}
