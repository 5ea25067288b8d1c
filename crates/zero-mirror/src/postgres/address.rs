//! A PostgreSQL address, and the password for it from where libpq looks for one.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::{Mode, Tls};

/// Where to connect to, and how.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// For messages: without the password and the settings.
    pub(super) name: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Address {
    /// Reads an address as libpq takes it; or says what is wrong with it, and never the password.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (address, settings) = url.split_once('?').unwrap_or((url, ""));
        let mut others = Vec::new();
        let (mut mode, mut authorities) = (None, None);
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("sslmode", name)) => {
                    let known = Mode::named(name).ok_or_else(|| {
                        "sslmode is none of disable, prefer, require, verify-ca and verify-full".to_owned()
                    })?;
                    mode = Some(known);
                }
                Some(("sslrootcert", file)) => authorities = Some(PathBuf::from(decoded(file)?)),
                _ => others.push(setting),
            }
        }
        let plain =
            if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) };
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("is no address of a database{cause}; write postgres://USER@HOST:PORT/DATABASE")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host; write postgres://USER@HOST:PORT/DATABASE".to_owned());
        }
        if config.get_user().is_none() {
            match std::env::var("PGUSER").or_else(|_| std::env::var("USER")) {
                Ok(user) => _ = config.user(user),
                Err(_) => return Err("names no user; write postgres://USER@HOST:PORT/DATABASE".to_owned()),
            }
        }
        let near = config.get_hosts().iter().all(is_near)
            && config.get_hostaddrs().iter().all(|ip| ip.is_loopback());
        let mode = mode.unwrap_or(if near { Mode::Disable } else { Mode::VerifyFull });
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        config.application_name("zero-bus").connect_timeout(Duration::from_secs(10));
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
        let name = named(&config);
        Ok(Self { config, tls: Tls { mode, authorities }, name })
    }

    /// The settings with a password, if there is one: that of the address, of `PGPASSWORD`, or of the pgpass file.
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

/// Whether a host is this machine, so that nobody listens on the way.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// An address that can be shown.
fn named(config: &Config) -> String {
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

/// The password of a pgpass file: lines of `host:port:database:user:password`, of which the first that fits counts; `*` fits
/// all, `\` makes the next character an ordinary one (<https://www.postgresql.org/docs/15/libpq-pgpass.html>). A file that
/// others may read is refused.
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
        (false, _) => return Err(format!("{}: is no file of passwords", file.display())),
        (true, mode) if mode & 0o077 != 0 => {
            return Err(format!("{}: others may read the passwords in it; make it 0600", file.display()));
        }
        _ => {}
    }
    let text = read(&file).map_err(|error| format!("{}: cannot read it: {error}", file.display()))?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        // As libpq has it for the socket in its usual place.
        Some(Host::Unix(_)) => "localhost".to_owned(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().unwrap_or_default();
    let wanted = [&host, &port, config.get_dbname().unwrap_or(user), user];
    Ok(text.lines().find_map(|line| password_of(line, wanted)))
}

/// A file of passwords is small; what is not is none.
fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(fs::File::open(file)?, 1 << 20), &mut text)?;
    Ok(text)
}

/// The password of a line, if it is for the wanted connection.
fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut characters = line.chars();
    let mut star = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => field.extend(characters.next()),
            ':' if fields.len() < 4 => {
                fields.push((std::mem::take(&mut field), star));
                star = false;
            }
            _ => {
                star = character == '*' && field.is_empty();
                field.push(character);
            }
        }
    }
    let fits = |(field, star): &(String, bool), wanted: &str| (*star && field == "*") || field == wanted;
    let all = fields.len() == 4 && fields.iter().zip(wanted).all(|(field, wanted)| fits(field, wanted));
    (all && !field.is_empty()).then_some(field)
}

/// A value of an address, its `%XX` resolved.
fn decoded(value: &str) -> Result<String, String> {
    let problem = || "holds a %XX that is none".to_owned();
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(problem)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| problem())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_in_what_is_shown() {
        let address =
            Address::parse("postgres://me:secret@db.example:6000/audit?application_name=x").unwrap();
        assert_eq!(address.name, "postgres://me@db.example:6000/audit");
        assert_eq!(format!("{address:?}"), address.name);
        for wrong in [
            "postgres://me:secret@db.example:port/audit",
            "postgres://me:secret@db.example/audit?secret=secret%",
            "postgres://me:secret@/audit",
            "postgres://me:secret@db.example/audit?sslmode=secret",
            "postgres://me:secret@db.example/audit?sslrootcert=%secret",
        ] {
            let problem = Address::parse(wrong).map(|address| address.name).unwrap_err();
            assert!(!problem.contains("secret") || problem.contains("`secret`"), "{problem}");
            assert!(!problem.contains("me:"), "{problem}");
        }
    }

    #[test]
    fn who_is_far_away_has_to_show_who_it_is() {
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
    fn a_line_of_a_pgpass_file_fits_or_not() {
        let wanted = ["db.example", "5432", "a:b", "me"];
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
            assert_eq!(password_of(line, wanted).as_deref(), password, "{line}");
        }
    }
}
