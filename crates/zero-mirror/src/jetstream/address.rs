//! Where a JetStream destination is, and who asks: `nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/STREAM[?...]`.

use std::path::PathBuf;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use super::{PATIENCE, away, refused};
use crate::error::{Error, Result};

/// Most characters of the part of a stream's name that comes from the address; the bus makes up the rest.
const MAX_PREFIX_CHARACTERS: usize = 64;

/// Most replicas that JetStream keeps.
const MAX_REPLICAS: usize = 5;

/// An address as typed, with what the environment adds to it. Not `Debug`, as it holds secrets.
pub(super) struct Address {
    servers: Vec<ServerAddr>,
    /// With what the names of its streams begin.
    pub(super) prefix: String,
    /// How many replicas are demanded; `None` leaves it to the number of servers.
    pub(super) replicas: Option<usize>,
    login: Login,
    tls: bool,
    /// Certificates of authorities to be trusted instead of the system's.
    authorities: Option<PathBuf>,
    /// The whole without secrets.
    pub(super) name: String,
}

enum Login {
    Nobody,
    Password { user: String, password: String },
    Token(String),
    Credentials(PathBuf),
    Nkey(PathBuf),
}

impl Address {
    /// Reads an address. What it does not say of the login comes from the variables that the `nats` command knows too:
    /// `NATS_USER` and `NATS_PASSWORD`, `NATS_CREDS`, `NATS_NKEY`; `NATS_CA` names a file of certificates to trust.
    pub(super) fn parse(address: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let wrong = |problem: &str| {
            let problem = format!("{problem}; an address looks like nats://HOST[:PORT][,HOST...]/STREAM");
            refused("nats address", problem)
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong("there is no `://` in it"))?;
        let mut tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(wrong("its scheme is neither nats nor tls")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = rest.rsplit_once('/').ok_or_else(|| wrong("it names no stream"))?;
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let sound = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if prefix.is_empty() || prefix.len() > MAX_PREFIX_CHARACTERS || !prefix.chars().all(sound) {
            let problem =
                format!("its stream must be 1 to {MAX_PREFIX_CHARACTERS} of A-Z, a-z, 0-9, - and _");
            return Err(wrong(&problem));
        }
        let server = |host: &str| format!("{scheme}://{host}").parse::<ServerAddr>();
        let servers = hosts.split(',').map(server).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|_| wrong("one of its hosts can't be read"))?;
        if servers.iter().any(|server| server.host().is_empty()) {
            return Err(wrong("one of its hosts is empty"));
        }
        let name = format!("{scheme}://{hosts}/{prefix}");
        let mut replicas = None;
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=').unwrap_or((setting, "")) {
                ("replicas", number) => {
                    let number = number.parse().ok().filter(|number| (1..=MAX_REPLICAS).contains(number));
                    let number = number.ok_or_else(|| wrong("`replicas` must be a number from 1 to 5"))?;
                    replicas = Some(number);
                }
                ("tls", "true") => tls = true,
                ("tls", "false") => tls = false,
                _ => return Err(wrong("behind `?` it knows replicas=1 to 5 and tls=true")),
            }
        }
        let path = |variable| environment(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let login = match login {
            Some(login) => Login::from_address(login).ok_or_else(|| wrong("its login is not UTF-8"))?,
            None => match (environment("NATS_USER"), path("NATS_CREDS"), path("NATS_NKEY")) {
                (Some(user), ..) => {
                    Login::Password { user, password: environment("NATS_PASSWORD").unwrap_or_default() }
                }
                (None, Some(credentials), _) => Login::Credentials(credentials),
                (None, None, Some(seed)) => Login::Nkey(seed),
                (None, None, None) => Login::Nobody,
            },
        };
        let prefix = prefix.to_owned();
        Ok(Self { servers, prefix, replicas, login, tls, authorities: path("NATS_CA"), name })
    }

    /// Connects to one of the servers. A connection that breaks is tried anew once at each server, and then given up.
    pub(super) async fn connect(&self) -> Result<async_nats::Client> {
        if self.tls {
            // Which of several compiled-in providers is used must be said. The first who says it has said it.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let options = ConnectOptions::new()
            .name("zero-mirror")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .max_reconnects(self.servers.len())
            // Subjects are made so that they are sound.
            .skip_subject_validation(true)
            .require_tls(self.tls);
        let options = match &self.authorities {
            Some(authorities) => options.add_root_certificates(authorities.clone()),
            None => options,
        };
        let connected = self.login.apply(options, &self.name).await?.connect(&self.servers[..]).await;
        connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => refused(
                &self.name,
                "it does not let this user in; give user and password in the address or in NATS_USER and \
                 NATS_PASSWORD, or name a file in NATS_CREDS or NATS_NKEY",
            ),
            _ => away(&self.name, "connect", error),
        })
    }
}

impl Login {
    /// What stands before `@`; `None` where it is not UTF-8.
    fn from_address(login: &str) -> Option<Self> {
        let decode = |part| percent_decode_str(part).decode_utf8().ok().map(String::from);
        Some(match login.split_once(':') {
            Some((user, password)) => Self::Password { user: decode(user)?, password: decode(password)? },
            None => Self::Token(decode(login)?),
        })
    }

    async fn apply(&self, options: ConnectOptions, destination: &str) -> Result<ConnectOptions> {
        let unreadable = |path: &PathBuf, error: std::io::Error| -> Error {
            refused(destination, format!("cannot read the login in {}: {error}", path.display()))
        };
        Ok(match self {
            Self::Nobody => options,
            Self::Password { user, password } => options.user_and_password(user.clone(), password.clone()),
            Self::Token(token) => options.token(token.clone()),
            Self::Credentials(path) => {
                options.credentials_file(path).await.map_err(|error| unreadable(path, error))?
            }
            Self::Nkey(path) => {
                let seed = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
                options.nkey(seed.trim().to_owned())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(address: &str) -> Result<Address> {
        Address::parse(address, |_| None)
    }

    #[test]
    fn an_address_is_taken_apart() {
        let address = read("nats://ann:p%40ss@one:4001,[::1]:4002,three/FLEET-1?replicas=3").unwrap();
        assert_eq!(address.prefix, "FLEET-1");
        assert_eq!(address.replicas, Some(3));
        let places: Vec<_> = address.servers.iter().map(|server| (server.host(), server.port())).collect();
        assert_eq!(places, [("one", 4001), ("::1", 4002), ("three", 4222)]);
        assert_eq!(address.name, "nats://one:4001,[::1]:4002,three/FLEET-1");
        assert!(
            matches!(address.login, Login::Password { user, password } if user == "ann" && password == "p@ss")
        );
        assert!(matches!(read("nats://t0k@h/S").unwrap().login, Login::Token(token) if token == "t0k"));
        assert!(!read("nats://h/S").unwrap().tls);
        assert!(read("tls://h/S").unwrap().tls);
        assert!(read("nats://h/S?tls=true").unwrap().tls);
    }

    #[test]
    fn the_environment_fills_in_a_login() {
        let of = |known: &'static [(&str, &str)]| {
            let look = |name: &str| known.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            Address::parse("nats://h/S", look).unwrap().login
        };
        let login = of(&[("NATS_USER", "ann"), ("NATS_PASSWORD", "secret")]);
        assert!(matches!(login, Login::Password { user, password } if user == "ann" && password == "secret"));
        assert!(matches!(of(&[("NATS_CREDS", "/c")]), Login::Credentials(path) if path.ends_with("c")));
        assert!(matches!(of(&[("NATS_NKEY", "/n")]), Login::Nkey(path) if path.ends_with("n")));
        assert!(matches!(of(&[]), Login::Nobody));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secret() {
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
            let Err(Error::Refused { destination, problem }) = read(address) else {
                panic!("{address} was taken")
            };
            assert!(!format!("{destination}{problem}").contains("secret"), "{destination}: {problem}");
            assert!(problem.contains("nats://HOST"), "{problem}");
        }
    }
}
