//! Files of certificates, keys and credentials are read with a limit, whatever path is given.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::support::{BUS, append_events, temp_dir};

const MAX_FILE_BYTES: u64 = 4 << 20;

/// Runs `zero-bus` with a variable, and returns its messages.
fn refusal(dir: &Path, arguments: &[&str], variable: Option<(&str, &str)>) -> String {
    let output = Command::new(BUS).args(arguments).envs(variable).current_dir(dir).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_mirror_reads_certificates_and_logins_with_a_limit() {
    let temp = temp_dir();
    let dir = temp.path();
    append_events(dir, 1);
    let long = dir.join("long").to_str().unwrap().to_owned();
    File::create(&long).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    for (path, problem) in
        [("/dev/zero", "it is not a regular file"), (&*long, "it is longer than 4 MiB; name another file")]
    {
        let postgres = "postgres://x@127.0.0.1:1/x?sslmode=verify-full";
        for (url, variable) in [
            (format!("https://127.0.0.1:1?ca={path}"), None),
            ("https://127.0.0.1:1".to_owned(), Some("SSL_CERT_FILE")),
            (format!("{postgres}&sslrootcert={path}"), None),
            (format!("{postgres}&sslrootcert=system"), Some("SSL_CERT_FILE")),
            ("nats://127.0.0.1:1/S".to_owned(), Some("NATS_CREDS")),
            ("nats://127.0.0.1:1/S".to_owned(), Some("NATS_NKEY")),
            ("tls://127.0.0.1:1/S".to_owned(), Some("NATS_CA")),
            ("tls://127.0.0.1:1/S".to_owned(), Some("SSL_CERT_FILE")),
        ] {
            let variable = variable.map(|name| (name, path));
            let message = refusal(dir, &["mirror", "bus", "--to", &url], variable);
            let expected = format!("{path}: cannot read the file: {problem}");
            assert!(message.contains(&expected), "{url} {variable:?}: {message}");
        }
    }
}

#[test]
fn a_receiver_reads_its_certificate_and_key_with_a_limit() {
    let temp = temp_dir();
    let dir = temp.path();
    fs::write(dir.join("empty"), "").unwrap();
    let listen = ["ingest", "--listen", "127.0.0.1:0", "--to", "sqlite:m.db"];
    let message =
        refusal(dir, &[&listen[..], &["--tls-cert", "/dev/zero", "--tls-key", "empty"]].concat(), None);
    assert!(message.contains("/dev/zero: cannot read the file: it is not a regular file"), "{message}");
    File::create(dir.join("long")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let message = refusal(dir, &[&listen[..], &["--tls-cert", "long", "--tls-key", "empty"]].concat(), None);
    assert!(message.contains("long: cannot read the file: it is longer than 4 MiB"), "{message}");
}
