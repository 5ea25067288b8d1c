//! A JetStream address with its login:
//! `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/STREAM[?...]`.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use zero_http::{check_system_authorities, read_bounded_file};

use crate::error::{Error, Result};

/// Maximum length of the prefix of a stream's name, which comes from the address. The rest is the
/// bus.
const MAX_PREFIX_LENGTH: usize = 64;

/// Maximum number of replicas that JetStream supports.
const MAX_REPLICAS: usize = 5;

/// Time limit to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of a request to the servers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A valid address, completed from the environment. It does not implement `Debug`, since it
/// contains secrets.
pub(super) struct Address {
    servers: Vec<ServerAddr>,
    /// What the names of its streams start with.
    pub(super) prefix: String,
    /// Required number of replicas; `None` if the address does not set it.
    pub(super) replicas: Option<usize>,
    login: Login,
    tls: bool,
    /// A file of certificate authorities to trust instead of the system's.
    authorities: Option<PathBuf>,
    /// The address for messages, without secrets.
    pub(super) name: String,
}

enum Login {
    Anonymous,
    Password { user: String, password: String },
    Token(String),
    Credentials(PathBuf),
    Nkey(PathBuf),
}

impl Address {
    /// Reads an address. A login that it does not contain comes from the variables that the `nats`
    /// command uses too: `NATS_USER` and `NATS_PASSWORD`, `NATS_CREDS`, `NATS_NKEY`. `NATS_CA`
    /// names a file of certificate authorities.
    pub(super) fn parse(address: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let invalid = |problem: &str| {
            let problem = format!("{problem}; write nats://HOST[:PORT][,HOST...]/STREAM");
            Error::refused("nats address", problem)
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(|| invalid("it contains no `://`"))?;
        let mut tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(invalid("its scheme must be nats or tls")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = rest.rsplit_once('/').ok_or_else(|| invalid("it names no stream"))?;
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let is_valid = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if prefix.is_empty() || prefix.len() > MAX_PREFIX_LENGTH || !prefix.chars().all(is_valid) {
            let problem = format!("its stream must be 1 to {MAX_PREFIX_LENGTH} of A-Z, a-z, 0-9, - and _");
            return Err(invalid(&problem));
        }
        let server = |host: &str| format!("{scheme}://{host}").parse::<ServerAddr>();
        let servers = hosts.split(',').map(server).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|_| invalid("one of its hosts is invalid"))?;
        if servers.iter().any(|server| server.host().is_empty()) {
            return Err(invalid("one of its hosts is empty"));
        }
        let name = format!("{scheme}://{hosts}/{prefix}");
        let mut replicas = None;
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=').unwrap_or((setting, "")) {
                ("replicas", number) => {
                    let number = number.parse().ok().filter(|number| (1..=MAX_REPLICAS).contains(number));
                    let number = number.ok_or_else(|| invalid("`replicas` must be a number from 1 to 5"))?;
                    replicas = Some(number);
                }
                ("tls", "true") => tls = true,
                ("tls", "false") => tls = false,
                _ => return Err(invalid("the options after `?` are replicas=1 to 5 and tls=true")),
            }
        }
        let path = |variable| environment(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let login = match login {
            Some(login) => Login::from_address(login).ok_or_else(|| invalid("its login is not UTF-8"))?,
            None => match (environment("NATS_USER"), path("NATS_CREDS"), path("NATS_NKEY")) {
                (Some(user), ..) => {
                    Login::Password { user, password: environment("NATS_PASSWORD").unwrap_or_default() }
                }
                (None, Some(credentials), _) => Login::Credentials(credentials),
                (None, None, Some(seed)) => Login::Nkey(seed),
                (None, None, None) => Login::Anonymous,
            },
        };
        let prefix = prefix.to_owned();
        Ok(Self { servers, prefix, replicas, login, tls, authorities: path("NATS_CA"), name })
    }

    /// Connects to one of the servers. A broken connection is tried again once at each server, and
    /// then given up.
    pub(super) async fn connect(&self) -> Result<async_nats::Client> {
        let refused = |error: zero_http::Error| Error::refused(&self.name, error.to_string());
        if self.tls {
            check_system_authorities().map_err(refused)?;
            // rustls needs one default provider for the process. If one is installed already, it is
            // used.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let options = ConnectOptions::new()
            .name("zero-mirror")
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .max_reconnects(self.servers.len())
            // `settings` creates valid subjects only.
            .skip_subject_validation(true)
            .require_tls(self.tls);
        let options = match &self.authorities {
            Some(authorities) => {
                // The client reads the file by itself, without a limit.
                read_bounded_file(authorities).map_err(refused)?;
                options.add_root_certificates(authorities.clone())
            }
            None => options,
        };
        let connected = self.login.apply(options, &self.name)?.connect(&self.servers[..]).await;
        connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                let problem = "refuses the login; write user and password into the address or set NATS_USER and \
                               NATS_PASSWORD, or set NATS_CREDS or NATS_NKEY to the path of a file";
                Error::refused(&self.name, problem)
            }
            _ => Error::unavailable(&self.name, "connect", error),
        })
    }
}

impl Login {
    /// Reads the part before `@`; `None` if it is not UTF-8.
    fn from_address(login: &str) -> Option<Self> {
        let decode = |part| percent_decode_str(part).decode_utf8().ok().map(String::from);
        Some(match login.split_once(':') {
            Some((user, password)) => Self::Password { user: decode(user)?, password: decode(password)? },
            None => Self::Token(decode(login)?),
        })
    }

    fn apply(&self, options: ConnectOptions, destination: &str) -> Result<ConnectOptions> {
        let read = |path: &PathBuf| -> Result<String> {
            let bytes = read_bounded_file(path)
                .map_err(|error| Error::refused(destination, format!("cannot read the login: {error}")))?;
            String::from_utf8(bytes).map_err(|_| {
                Error::refused(destination, format!("the login in {} is not UTF-8", path.display()))
            })
        };
        Ok(match self {
            Self::Anonymous => options,
            Self::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Self::Token(token) => options.token(token.clone()),
            Self::Credentials(path) => options.credentials(&read(path)?).map_err(|error| {
                Error::refused(destination, format!("cannot use the login in {}: {error}", path.display()))
            })?,
            Self::Nkey(path) => options.nkey(read(path)?.trim().to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Address> {
        Address::parse(address, |_| None)
    }

    #[test]
    fn an_address_has_login_hosts_stream_and_options() {
        let address = parse("nats://ann:p%40ss@one:4001,[::1]:4002,three/FLEET-1?replicas=3").unwrap();
        assert_eq!(address.prefix, "FLEET-1");
        assert_eq!(address.replicas, Some(3));
        let servers: Vec<_> = address.servers.iter().map(|server| (server.host(), server.port())).collect();
        assert_eq!(servers, [("one", 4001), ("::1", 4002), ("three", 4222)]);
        assert_eq!(address.name, "nats://one:4001,[::1]:4002,three/FLEET-1");
        assert!(
            matches!(address.login, Login::Password { user, password } if user == "ann" && password == "p@ss")
        );
        assert!(matches!(parse("nats://t0k@h/S").unwrap().login, Login::Token(token) if token == "t0k"));
        assert!(!parse("nats://h/S").unwrap().tls);
        assert!(parse("tls://h/S").unwrap().tls);
        assert!(parse("nats://h/S?tls=true").unwrap().tls);
    }

    #[test]
    fn the_environment_provides_the_login() {
        let login_with = |variables: &'static [(&str, &str)]| {
            let get =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            Address::parse("nats://h/S", get).unwrap().login
        };
        let login = login_with(&[("NATS_USER", "ann"), ("NATS_PASSWORD", "secret")]);
        assert!(matches!(login, Login::Password { user, password } if user == "ann" && password == "secret"));
        assert!(
            matches!(login_with(&[("NATS_CREDS", "/c")]), Login::Credentials(path) if path.ends_with("c"))
        );
        assert!(matches!(login_with(&[("NATS_NKEY", "/n")]), Login::Nkey(path) if path.ends_with("n")));
        assert!(matches!(login_with(&[]), Login::Anonymous));
    }

    #[test]
    fn a_refusal_does_not_repeat_the_secret() {
        for address in [
            "nats:/h/S",
            "http://ann:secret@h/S",
            "nats://ann:secret@h",
            "nats://ann:secret@h/",
            "nats://ann:secret@h/a.b",
            "nats://ann:secret@h/S?replicas=0",
            "nats://ann:secret@h/S?replicas=6",
            "nats://ann:secret@h/S?colour=red",
            "nats://ann:secret@h:x/S",
            "nats://ann:secret@/S",
            "nats://ann:secret@h,/S",
            "nats://%ff:secret@h/S",
        ] {
            let Err(Error::Refused { destination, problem }) = parse(address) else {
                panic!("{address} was accepted")
            };
            assert!(!format!("{destination}{problem}").contains("secret"), "{destination}: {problem}");
            assert!(problem.contains("nats://HOST"), "{problem}");
        }
    }
}
