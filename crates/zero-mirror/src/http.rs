//! A receiver across the network, see [`crate::ingest`] for its other end and `docs/openapi.json` for what they say.
//!
//! One request at a time over a connection that is kept. Nothing is sent twice by itself: what became of a request that
//! failed on the way is for the caller to ask. Redirects are not followed, so that the token goes nowhere else.

mod address;

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use address::Address;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::{HeaderValue, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use zero_bus::{Checksum, Head, MAX_LINE_BYTES, Value};

use crate::error::{Error, Result, Source};
use crate::mirror::{Mirror, Record};
use crate::token::{Token, refused};
use crate::wire::{self, Encoding, FIRST_INDEX, FORK, LINES, POSITION, Position, Spoilt, UNSOUND};

/// Most bytes of lines in one request, before packing; one longer line goes alone.
const REQUEST_BYTES: usize = 4 << 20;
/// Most lines in one request.
const REQUEST_LINES: usize = 10_000;
/// Most bytes of an answer of lines, packed or unpacked: two of the longest lines.
const PAGE_BYTES: usize = 2 * (MAX_LINE_BYTES + 1);
/// Most bytes of any other answer.
const ANSWER_BYTES: usize = 8 << 20;

/// A receiver of events, as its client sees it.
pub struct Http {
    address: Address,
    /// The header with the token.
    authorization: Option<HeaderValue>,
    agent: Agent,
}

impl Http {
    /// A receiver at `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`, with the token that the environment holds, see
    /// [`Token::from_environment`]. Nothing is connected before the first call.
    ///
    /// Options: `insecure=true` allows plain http to another machine, `ca=PATH` trusts the authorities in a PEM file instead
    /// of the system's (as the variable `SSL_CERT_FILE` does), `timeout=SECONDS` is for one request as a whole, 60 without it.
    ///
    /// Over https the variables `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are followed; the proxy passes on a
    /// tunnel that it can't look into. Over http they are not, since a proxy would see the token.
    ///
    /// # Errors
    /// [`Error::Refused`] naming what is wrong with the address or the token, and the way out.
    pub fn open(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        Self::new(address, Token::from_environment()?)
    }

    /// The same with a token from elsewhere.
    ///
    /// # Errors
    /// As [`Http::open`].
    pub fn with_token(address: &str, token: Option<Token>) -> Result<Self> {
        Self::new(Address::parse(address)?, token)
    }

    fn new(address: Address, token: Option<Token>) -> Result<Self> {
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                    .map_err(|_| refused(&address.base, "the token does not fit a header"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let (short, whole) = (Duration::from_secs(10).min(address.timeout), address.timeout);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(if address.secure { Proxy::try_from_env() } else { None })
            .no_delay(true)
            .user_agent(concat!("zero-mirror/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("zstd, identity")
            .max_idle_connections(1)
            // LogShorter than a receiver keeps a silent connection, so that it is not closed under a request.
            .max_idle_age(Duration::from_secs(5))
            .timeout_resolve(Some(short))
            .timeout_connect(Some(short))
            .timeout_send_request(Some(short))
            .timeout_global(Some(whole));
        if address.secure {
            config = config.tls_config(trust(&address)?);
        }
        Ok(Self { agent: config.build().new_agent(), address, authorization })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/buses{path}", self.address.base)
    }

    fn get(&self, path: &str, asking: Asking) -> Result<Answer> {
        let mut request = self.agent.get(self.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.answer(request.call(), asking)
    }

    fn post(&self, path: &str, body: &[u8], asking: Asking) -> Result<Answer> {
        let packed = wire::pack(body).map_err(|error| self.away(asking.action, error))?;
        let mut request = self.agent.post(self.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.header("content-type", LINES).header("content-encoding", "zstd");
        self.answer(request.send(&packed[..]), asking)
    }

    /// What came back, read as a whole; an error for every status but 200.
    fn answer(&self, response: Result<Response<Body>, ureq::Error>, asking: Asking) -> Result<Answer> {
        let Asking { action, at_most, .. } = asking;
        let response = response.map_err(|error| self.not_answered(action, error))?;
        let (head, body) = response.into_parts();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let encoding = Encoding::named(header("content-encoding"));
        let encoding = encoding.ok_or_else(|| self.nonsense(action, "an encoding that was not asked for"))?;
        let mut packed = Vec::new();
        let mut reader = body.into_reader().take(at_most as u64 + 1);
        reader.read_to_end(&mut packed).map_err(|error| self.away(action, error))?;
        let body = wire::unpack(encoding, packed, at_most).map_err(|spoilt| match spoilt {
            Spoilt::TooLong => self.nonsense(action, "more than was asked for"),
            Spoilt::Broken(error) => self.away(action, error),
        })?;
        let first_index = header(FIRST_INDEX).and_then(|index| index.parse().ok());
        if head.status == StatusCode::OK {
            return Ok(Answer { first_index, body });
        }
        let wait = match header("retry-after") {
            None => String::new(),
            Some(seconds) => format!(" (Retry-After {})", wire::excerpt(seconds.as_bytes())),
        };
        Err(self.not_done(head.status, &Said::read(&body), &wait, asking))
    }

    /// What is to be done about an answer that is not what was asked for.
    fn not_done(&self, status: StatusCode, said: &Said, wait: &str, asking: Asking) -> Error {
        let Asking { action, bus, .. } = asking;
        let destination = self.name();
        match (status, &*said.kind, said.index, bus) {
            (StatusCode::CONFLICT, FORK, Some(index), Some(bus)) if said.exact => {
                Error::Fork { destination, bus, index }
            }
            // Of the others the caller finds out more by asking where the receiver stands.
            (StatusCode::CONFLICT, FORK | POSITION, ..) => Error::CursorMoved { destination },
            (StatusCode::CONFLICT, ..) => self.nonsense(action, "a conflict without its type"),
            (StatusCode::INTERNAL_SERVER_ERROR, UNSOUND, Some(index), Some(bus)) => {
                Error::Corrupt { destination, bus, index, problem: said.detail.clone() }
            }
            (StatusCode::UNAUTHORIZED, ..) => self.refused(
                "does not know the token; put it into ZERO_MIRROR_TOKEN, or into a file that \
                 ZERO_MIRROR_TOKEN_FILE names",
            ),
            _ if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
                || status.is_server_error() =>
            {
                self.away(action, format!("{status}: {}{wait}", said.detail))
            }
            _ if status.is_redirection() => self.refused(
                "answers with a redirect, which is not followed since it would take the token along; name the \
                 address that it leads to",
            ),
            _ => self.refused(&format!("cannot {action}: {status}: {}", said.detail)),
        }
    }

    /// What is to be done about a request without an answer.
    fn not_answered(&self, action: &'static str, error: ureq::Error) -> Error {
        let tls = match &error {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        };
        match tls {
            Some(rustls::Error::InvalidCertificate(problem)) => self.refused(&format!(
                "its certificate is not trusted ({problem}); name the authority's certificate with ?ca=PATH"
            )),
            _ => self.away(action, error),
        }
    }

    fn away(&self, action: &'static str, source: impl Into<Source>) -> Error {
        Error::Unavailable { destination: self.name(), action, source: source.into() }
    }

    fn nonsense(&self, action: &'static str, what: &str) -> Error {
        self.away(action, format!("it answers with {what}; is it a receiver of zero-bus?"))
    }

    fn refused(&self, problem: &str) -> Error {
        refused(&self.address.base, problem)
    }
}

/// What is asked of a receiver.
#[derive(Clone, Copy)]
struct Asking {
    /// What for, as in "connect".
    action: &'static str,
    /// The bus that it is about, where it is about one.
    bus: Option<Checksum>,
    /// Most bytes of the answer, packed or unpacked.
    at_most: usize,
}

/// An answer that was read.
struct Answer {
    first_index: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    fn value(&self) -> Option<Value> {
        read_json(&self.body)
    }
}

/// What a problem says; empty and absent where an answer is none.
struct Said {
    kind: String,
    index: Option<u64>,
    exact: bool,
    detail: String,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let value = read_json(body).unwrap_or(Value::Null);
        let text = |name| value.get(name).and_then(Value::as_str);
        Self {
            kind: text("type").unwrap_or_default().to_owned(),
            index: value.get("index").and_then(Value::as_u64),
            exact: value.get("exact").and_then(Value::as_bool).unwrap_or_default(),
            detail: wire::excerpt(text("detail").map_or(body, str::as_bytes)),
        }
    }
}

fn read_json(body: &[u8]) -> Option<Value> {
    Value::parse(std::str::from_utf8(body).ok()?).ok()
}

/// Whose certificates are believed.
fn trust(address: &Address) -> Result<TlsConfig> {
    let no = |problem: String| refused(&address.base, &problem);
    let found: Vec<CertificateDer<'static>> = match &address.ca {
        Some(path) => {
            let cannot = |error: &dyn std::fmt::Display| {
                no(format!("{}: cannot read certificates from it: {error}", path.display()))
            };
            let pem = fs::read(path).map_err(|error| cannot(&error))?;
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| cannot(&error))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() {
        return Err(no(
            "there is no certificate of an authority to check it by; install ca-certificates, or name one with ?ca=PATH".to_owned(),
        ));
    }
    let roots: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

impl Mirror for Http {
    fn name(&self) -> String {
        self.address.base.clone()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let action = "ask which buses it holds";
        let answer = self.get("", Asking { action, bus: None, at_most: ANSWER_BYTES })?;
        let buses = answer.value().and_then(|value| match value.get("buses")? {
            Value::Array(buses) => {
                buses.iter().map(|bus| bus.as_str().and_then(Checksum::parse)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        });
        buses.ok_or_else(|| self.nonsense(action, "no list of buses"))
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let action = "ask where it stands";
        let answer =
            self.get(&format!("/{bus}"), Asking { action, bus: Some(bus), at_most: ANSWER_BYTES })?;
        let head = answer.value().and_then(|value| Position::read(&value, bus));
        head.ok_or_else(|| self.nonsense(action, "no position"))
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        let action = "hand over events";
        let (mut after, mut rest) = (after, batch);
        loop {
            let (part, others) = rest.split_at(fitting(rest));
            let checksum = after.checksum.map(|checksum| format!("&checksum={checksum}")).unwrap_or_default();
            let path = format!("/{bus}/events?index={}{checksum}", after.index);
            let mut body = Vec::new();
            for record in part {
                body.extend_from_slice(record.line.as_bytes());
                body.push(b'\n');
            }
            let answer = self.post(&path, &body, Asking { action, bus: Some(bus), at_most: ANSWER_BYTES })?;
            let end = part.last().map_or(after, |last| last.event.head());
            let said = answer.value().and_then(|value| Position::read(&value, bus));
            if said != Some(end) {
                return Err(self.nonsense(action, "another position than that of the last event"));
            }
            if others.is_empty() {
                return Ok(());
            }
            (after, rest) = (end, others);
        }
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let action = "read events";
        let from = from.max(1);
        let asking = Asking { action, bus: Some(bus), at_most: PAGE_BYTES };
        let answer = self.get(&format!("/{bus}/events?from={from}"), asking)?;
        let mut lines = Vec::new();
        for (index, line) in (answer.first_index.unwrap_or(from)..).zip(wire::lines(&answer.body)) {
            let line =
                std::str::from_utf8(line).map_err(|_| self.nonsense(action, "lines that are no text"))?;
            lines.push((index, line.to_owned()));
        }
        if !lines.is_empty() && answer.first_index.is_none_or(|first| first < from) {
            return Err(self.nonsense(action, "lines of other events than were asked for"));
        }
        Ok(lines)
    }
}

/// How many of the first records go into one request: at least one, where there is one.
fn fitting(records: &[Record]) -> usize {
    let mut bytes = 0;
    let more = |record: &&Record| {
        bytes += record.line.len() + 1;
        bytes <= REQUEST_BYTES
    };
    records.iter().take(REQUEST_LINES).take_while(more).count().max(records.len().min(1))
}
