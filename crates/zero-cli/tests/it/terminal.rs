//! What is shown on a terminal only: progress, colour and summaries.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{BUS, append_events, bus, conformance, temp_dir};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Runs `zero-bus` with standard output and error on a terminal. Returns what the terminal
/// received.
fn on_terminal(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    on_terminal_of_width(120, dir, arguments, variables)
}

fn on_terminal_of_width(columns: u16, dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let size = rustix::termios::Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&controller, size).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = || OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = Command::new(BUS)
        .args(arguments)
        .current_dir(dir)
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
        let mut controller = File::from(controller);
        // Once the terminal is closed, reading fails.
        while let Ok(read) = controller.read(&mut buffer) {
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
    let temp = temp_dir();
    append_events(temp.path(), 20_000);
    let shown = on_terminal(temp.path(), &["verify", "bus"], &[]);
    assert!(shown.contains("verifying ["), "{shown:?}");
    assert!(shown.contains("\x1b[32mok\x1b[0m"), "colour is missing: {shown:?}");
    let shown = on_terminal(temp.path(), &["audit", "bus", "-o", "audit.json"], &[]);
    assert!(shown.contains("auditing ["), "{shown:?}");
    // On a narrow terminal the bar fits the line.
    let shown = on_terminal_of_width(60, temp.path(), &["verify", "bus"], &[]);
    let bars: Vec<&str> =
        shown.split(['\r', '\n', '\x1b']).filter(|part| part.contains("verifying [")).collect();
    assert!(
        !bars.is_empty() && bars.iter().all(|bar| bar.trim_start_matches("[2K").chars().count() <= 60),
        "{bars:?}"
    );
    assert!(!shown.contains("of 0 B"), "{bars:?}");
    // No bar is drawn into a document on the terminal.
    let document = on_terminal(temp.path(), &["audit", "bus"], &[]);
    let written = fs::read_to_string(temp.path().join("audit.json")).unwrap();
    assert_eq!(document.trim_end(), written);
    assert_eq!(on_terminal(temp.path(), &["audit", "bus", "-o", "/dev/stdout"], &[]), document);
    let plain = bus(temp.path(), &["verify", "bus"]).success();
    assert!(!plain.contains('\x1b') && !plain.contains("verifying"));
    assert!(fs::metadata(temp.path().join("audit.json")).unwrap().len() > 0);
}

#[test]
fn tail_summarizes_on_a_terminal_and_prints_lines_on_a_pipe() {
    let session = conformance().join("sessions/first-steps/one-run");
    let shown = on_terminal(&session, &["tail", "runtime-bus", "--from", "38", "-n", "8"], &[]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 9, "{shown}");
    assert!(lines[0].contains("2026-05-01"), "a heading for the day: {shown}");
    assert!(
        lines[1].contains("\x1b[33mrejection SOL buy 10 @ 140 order notional exceeds limit\x1b[0m")
            && lines[1].contains("#38    00:00:00Z"),
        "{shown}"
    );
    assert!(lines[6].contains("\x1b[32mfill      BTC buy 0.01 @ 40000 = 400.00 USD"), "{shown}");
    assert!(lines[7].contains("positions BTC 0.02 @ 40000.00"), "{shown}");
    let plain =
        on_terminal(&session, &["tail", "runtime-bus", "--type", "fill.record"], &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let lines = on_terminal(&session, &["tail", "runtime-bus", "-n", "1", "--json"], &[]);
    let piped = bus(&session, &["tail", "runtime-bus", "-n", "1"]).success();
    assert_eq!(lines.trim_end(), piped.trim_end());
    assert!(piped.starts_with('{'));

    // Control characters in an event do not reach the terminal.
    let temp = temp_dir();
    for (event_type, payload) in [
        ("note", r#"{"text":"\u001b[2J\u009b2J\nsecond line"}"#),
        ("operator.command", r#"{"action":"pause","actor":"\u001b]0;x\u0007","reason":"a\nb"}"#),
        ("runtime.cycle", "{}"),
        ("fill.record", r#"{"symbol":7}"#),
        ("position.snapshot", r#"{"positions":[null]}"#),
    ] {
        bus(temp.path(), &["append", "bus", "--type", event_type, "--as-of", "-1e300", payload]).success();
    }
    let shown = on_terminal(temp.path(), &["tail", "bus"], &[("NO_COLOR", "1")]);
    assert!(!shown.contains('\x1b') && !shown.contains('\u{9b}') && !shown.contains('\x07'), "{shown:?}");
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert!(shown.contains("command   pause by "), "{shown}");
}

#[test]
fn no_color_disables_colour() {
    let temp = temp_dir();
    append_events(temp.path(), 3);
    let shown = on_terminal(temp.path(), &["verify", "bus"], &[("NO_COLOR", "1")]);
    assert!(shown.contains("log       ok  "), "{shown:?}");
}
