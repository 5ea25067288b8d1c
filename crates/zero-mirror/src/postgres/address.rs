//! A PostgreSQL address, and its password from the places where libpq looks for one.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::{Mode, Tls};

const USAGE: &str = "write postgres://USER@HOST:PORT/DATABASE";

/// Maximum size of a pgpass file.
const MAX_PGPASS_BYTES: u64 = 1 << 20;

/// A valid address.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// The address for messages, without the password and the settings.
    pub(super) name: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Address {
    /// Reads an address in libpq's form, or returns the problem. The problem never contains the
    /// password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (address, settings) = url.split_once('?').unwrap_or((url, ""));
        let mut others = Vec::new();
        let (mut mode, mut authorities) = (None, None);
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("sslmode", name)) => {
                    let parsed = Mode::parse(name).ok_or_else(|| {
                        "sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned()
                    })?;
                    mode = Some(parsed);
                }
                Some(("sslrootcert", file)) => authorities = Some(PathBuf::from(decode_percent(file)?)),
                _ => others.push(setting),
            }
        }
        let plain =
            if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) };
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("the address is invalid{cause}; {USAGE}")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("the address names no host; {USAGE}"));
        }
        if config.get_user().is_none() {
            match std::env::var("PGUSER").or_else(|_| std::env::var("USER")) {
                Ok(user) => _ = config.user(user),
                Err(_) => return Err(format!("the address names no user; {USAGE}")),
            }
        }
        let is_local = config.get_hosts().iter().all(is_local_host)
            && config.get_hostaddrs().iter().all(|ip| ip.is_loopback());
        let mode = mode.unwrap_or(if is_local { Mode::Disable } else { Mode::VerifyFull });
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        config.application_name("zero-bus").connect_timeout(Duration::from_secs(10));
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
        let name = display_name(&config);
        Ok(Self { config, tls: Tls { mode, authorities }, name })
    }

    /// The configuration with the password of the address, of `PGPASSWORD`, or of the pgpass file,
    /// in this order.
    pub(super) fn with_password(&self) -> Result<Config, String> {
        let mut config = self.config.clone();
        if config.get_password().is_none() {
            if let Some(password) = std::env::var_os("PGPASSWORD") {
                config.password(std::os::unix::ffi::OsStringExt::into_vec(password));
            } else if let Some(password) = from_pgpass(&config)? {
                config.password(password);
            }
        }
        Ok(config)
    }
}

/// Whether a host is this machine, so that nothing goes over a network.
fn is_local_host(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// The address without secrets.
fn display_name(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let user = config.get_user().unwrap_or_default();
    format!("postgres://{user}@{hosts}/{}", config.get_dbname().unwrap_or(user))
}

/// The password in the pgpass file. Its lines are `host:port:database:user:password`, and the first
/// match counts. `*` matches everything, and `\` escapes the next character
/// (<https://www.postgresql.org/docs/15/libpq-pgpass.html>). A file that other users may read is
/// refused.
fn from_pgpass(config: &Config) -> Result<Option<String>, String> {
    let file = match std::env::var_os("PGPASSFILE").filter(|file| !file.is_empty()) {
        Some(file) => PathBuf::from(file),
        None => match std::env::home_dir() {
            Some(home) => home.join(".pgpass"),
            None => return Ok(None),
        },
    };
    let Ok(metadata) = fs::metadata(&file).as_ref().map(|metadata| (metadata.is_file(), metadata.mode()))
    else {
        return Ok(None);
    };
    match metadata {
        (false, _) => return Err(format!("{}: is not a file", file.display())),
        (true, mode) if mode & 0o077 != 0 => {
            return Err(format!(
                "{}: other users may read the passwords; run: chmod 600 on it",
                file.display()
            ));
        }
        _ => {}
    }
    let text =
        read_pgpass(&file).map_err(|error| format!("{}: cannot read the file: {error}", file.display()))?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        // libpq looks up a socket in its default directory as `localhost`.
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let connection = [&host, &port, config.get_dbname().unwrap_or(user), user];
    Ok(text.lines().find_map(|line| password_for(line, connection)))
}

fn read_pgpass(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(MAX_PGPASS_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// The password in a line, if the line matches a connection: host, port, database, user.
fn password_for(line: &str, connection: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut characters = line.chars();
    // Whether the field is an unescaped `*`.
    let mut is_wildcard = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => {
                fields.push((std::mem::take(&mut field), is_wildcard));
                is_wildcard = false;
            }
            _ => {
                is_wildcard = character == '*' && field.is_empty();
                field.push(character);
            }
        }
    }
    let matches =
        |(field, is_wildcard): &(String, bool), value: &str| (*is_wildcard && field == "*") || field == value;
    let is_match = fields.len() == 4
        && fields.iter().zip(connection).all(|(field, value)| matches(field, value))
        && !field.is_empty();
    is_match.then_some(field)
}

/// Decodes the percent-escapes of a value.
fn decode_percent(value: &str) -> Result<String, String> {
    let invalid = || "holds an invalid percent-escape".to_owned();
    let mut bytes = Vec::with_capacity(value.len());
    let mut unread = value.as_bytes();
    while let [first, others @ ..] = unread {
        unread = others;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits =
            unread.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(invalid)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| invalid())?);
        unread = &unread[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_contains_the_password() {
        let address =
            Address::parse("postgres://me:secret@db.example:6000/audit?application_name=x").unwrap();
        assert_eq!(address.name, "postgres://me@db.example:6000/audit");
        assert_eq!(format!("{address:?}"), address.name);
        for invalid in [
            "postgres://me:secret@db.example:port/audit",
            "postgres://me:secret@db.example/audit?secret=secret%",
            "postgres://me:secret@/audit",
            "postgres://me:secret@db.example/audit?sslmode=secret",
            "postgres://me:secret@db.example/audit?sslrootcert=%secret",
        ] {
            let problem = Address::parse(invalid).map(|address| address.name).unwrap_err();
            assert!(!problem.contains("secret") || problem.contains("`secret`"), "{problem}");
            assert!(!problem.contains("me:"), "{problem}");
        }
    }

    #[test]
    fn a_remote_host_needs_a_verified_certificate_by_default() {
        for (url, mode) in [
            ("postgres://me@db.example/a", Mode::VerifyFull),
            ("postgresql://me@10.0.0.1/a", Mode::VerifyFull),
            ("postgres://me@localhost/a", Mode::Disable),
            ("postgres://me@127.0.0.1/a", Mode::Disable),
            ("postgres://me@[::1]/a", Mode::Disable),
            ("postgres://me@%2Ftmp/a", Mode::Disable),
            ("postgres://me@localhost,db.example/a", Mode::VerifyFull),
            ("postgres://me@db.example/a?sslmode=require", Mode::Require),
            ("postgres://me@localhost/a?sslmode=verify-ca&sslrootcert=%2Fca.pem", Mode::VerifyCa),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.tls.mode, mode, "{url}");
        }
    }

    #[test]
    fn a_pgpass_line_matches_exactly_or_by_wildcard() {
        let connection = ["db.example", "5432", "a:b", "me"];
        for (line, password) in [
            ("db.example:5432:a\\:b:me:pass", Some("pass")),
            ("*:*:*:*:pa:ss\\\\", Some("pa:ss\\")),
            ("*:*:*:me:", None),
            ("#*:*:*:me:pass", None),
            ("*:*:*:you:pass", None),
            ("\\*:*:*:me:pass", None),
            ("db.example:5432:a:b:me:pass", None),
            ("", None),
            ("*:*:*", None),
        ] {
            assert_eq!(password_for(line, connection).as_deref(), password, "{line}");
        }
    }
}
