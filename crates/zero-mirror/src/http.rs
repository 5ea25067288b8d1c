//! The client of a receiver: sends events to it and reads them back. `docs/openapi.json` describes
//! the protocol.
//!
//! One request at a time, over a connection that is kept open. No request is ever repeated here:
//! when one fails, only the receiver's cursor tells what was stored, so the caller reads the cursor
//! again. A request that was refused as too large is sent in smaller parts. Redirects are not
//! followed, so that the token reaches no other server.

mod address;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::{HeaderValue, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use zero_bus::{Checksum, Head, MAX_LINE_BYTES, Value};
use zero_http::{Token, check_system_authorities, read_bounded_file};

use crate::error::{Error, Result, Source};
use crate::mirror::{Mirror, Record};
use crate::wire::{
    self, DecompressError, Encoding, FIRST_INDEX_HEADER, FORK, LINES_MEDIA_TYPE, POSITION, UNSOUND,
};
use address::Address;

/// The variable with the token.
const TOKEN_VARIABLE: &str = "ZERO_MIRROR_TOKEN";
/// The variable with the path of a file that contains the token.
const TOKEN_FILE_VARIABLE: &str = "ZERO_MIRROR_TOKEN_FILE";

/// Maximum size of the lines in one request before compression, unless something on the way accepts
/// less. A longer line is sent alone.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// Maximum number of lines in one request.
const MAX_REQUEST_LINES: usize = 10_000;
/// Maximum size of a page of lines, compressed and decompressed: two of the longest lines.
const MAX_PAGE_BYTES: usize = 2 * (MAX_LINE_BYTES + 1);
/// Maximum size of any other response.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// Maximum length of another server's text in a message.
const MAX_EXCERPT_BYTES: usize = 200;

/// Maximum time to resolve, to connect and to send a request, if the address does not set a shorter
/// timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the receiver keeps an idle connection open, so that it does not close one as a
/// request is sent.
const MAX_IDLE_AGE: Duration = Duration::from_secs(5);

/// A receiver as a destination.
pub struct Http {
    address: Address,
    /// The header `Authorization`.
    authorization: Option<HeaderValue>,
    agent: Agent,
    /// [`MAX_REQUEST_BYTES`], or less after a response with status 413.
    max_request_bytes: usize,
}

impl Http {
    /// A receiver at `http(s)://HOST[:PORT][/PREFIX][?OPTIONS]`. Nothing is connected before the
    /// first call.
    ///
    /// The token is read from the variable `ZERO_MIRROR_TOKEN`, or from the file that
    /// `ZERO_MIRROR_TOKEN_FILE` names, which only its owner may read.
    ///
    /// Options: `insecure=true` allows plain HTTP to another machine. `ca=PATH` trusts the
    /// certificate authorities in a PEM file instead of the system's; the variable `SSL_CERT_FILE`
    /// does the same. `timeout=SECONDS` limits one request as a whole; the default is 60.
    ///
    /// Over HTTPS the client uses the proxy that `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and
    /// `NO_PROXY` name. The proxy only sees the encrypted tunnel. Over HTTP no proxy is used, since
    /// it would see the token.
    ///
    /// # Errors
    /// [`Error::Refused`] if the address or the token is invalid.
    pub fn open(address: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        Self::new(address, Token::from_environment(TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)?)
    }

    /// Does the same with a token from the caller.
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
                    .map_err(|_| Error::refused(&address.base, "the token does not fit into a header"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let connect_timeout = CONNECT_TIMEOUT.min(address.timeout);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(if address.is_https { Proxy::try_from_env() } else { None })
            .no_delay(true)
            .user_agent(concat!("zero-mirror/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("zstd, identity")
            .max_idle_connections(1)
            .max_idle_age(MAX_IDLE_AGE)
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_timeout))
            .timeout_send_request(Some(connect_timeout))
            .timeout_global(Some(address.timeout));
        if address.is_https {
            config = config.tls_config(tls_config(&address)?);
        }
        let agent = config.build().new_agent();
        Ok(Self { agent, address, authorization, max_request_bytes: MAX_REQUEST_BYTES })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/buses{path}", self.address.base)
    }

    fn get(&self, path: &str, call: Call) -> Result<Answer> {
        let mut request = self.agent.get(self.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.read_answer(request.call(), call)
    }

    /// Sends lines that follow `after`. Returns `None` if the receiver, or a proxy on the way,
    /// accepts only smaller requests; nothing was stored then.
    fn send(&self, bus: Checksum, after: Head, records: &[Record]) -> Result<Option<Answer>> {
        let call = Call { action: "send events", bus: Some(bus), max_bytes: MAX_RESPONSE_BYTES };
        let checksum = after.checksum.map(|checksum| format!("&checksum={checksum}")).unwrap_or_default();
        let path = format!("/{bus}/events?index={}{checksum}", after.index);
        let mut body = Vec::new();
        for record in records {
            body.extend_from_slice(record.line.as_bytes());
            body.push(b'\n');
        }
        let compressed = wire::compress(&body).map_err(|error| self.unavailable(call.action, error))?;
        let mut request = self.agent.post(self.url(&path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.header("content-type", LINES_MEDIA_TYPE).header("content-encoding", "zstd");
        match request.send(&compressed[..]) {
            Ok(response) if response.status() == StatusCode::PAYLOAD_TOO_LARGE => Ok(None),
            response => self.read_answer(response, call).map(Some),
        }
    }

    /// Reads a whole response. Any status but 200 is an error.
    fn read_answer(&self, response: Result<Response<Body>, ureq::Error>, call: Call) -> Result<Answer> {
        let Call { action, max_bytes, .. } = call;
        let response = response.map_err(|error| self.transport_error(action, error))?;
        let (head, body) = response.into_parts();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let encoding = Encoding::from_header(header("content-encoding"));
        let encoding =
            encoding.ok_or_else(|| self.unexpected(action, "an encoding that was not requested"))?;
        let mut compressed = Vec::new();
        let mut reader = body.into_reader().take(max_bytes as u64 + 1);
        reader.read_to_end(&mut compressed).map_err(|error| self.unavailable(action, error))?;
        let body = wire::decompress(encoding, compressed, max_bytes).map_err(|error| match error {
            DecompressError::TooLong => self.unexpected(action, "more data than was requested"),
            DecompressError::WindowTooLarge => {
                self.unexpected(action, "compressed with a zstd window of more than 8 MiB")
            }
            DecompressError::Corrupt(error) => self.unavailable(action, error),
        })?;
        let first_index = header(FIRST_INDEX_HEADER).and_then(|index| index.parse().ok());
        if head.status == StatusCode::OK {
            return Ok(Answer { first_index, body });
        }
        let retry_after = match header("retry-after") {
            None => String::new(),
            Some(seconds) => format!(" (Retry-After {})", excerpt(seconds.as_bytes())),
        };
        Err(self.status_error(head.status, &ProblemDetails::read(&body), &retry_after, call))
    }

    /// The error of a response with another status than 200.
    fn status_error(
        &self,
        status: StatusCode,
        problem: &ProblemDetails,
        retry_after: &str,
        call: Call,
    ) -> Error {
        let Call { action, bus, .. } = call;
        let destination = self.name();
        match (status, &*problem.kind, problem.index, bus) {
            (StatusCode::CONFLICT, FORK, Some(index), Some(bus)) if problem.is_exact => {
                Error::Fork { destination, bus, index }
            }
            // The receiver does not know the first event that differs; the loop finds it by
            // bisection.
            (StatusCode::CONFLICT, FORK | POSITION, ..) => Error::CursorMoved { destination },
            (StatusCode::CONFLICT, ..) => self.unexpected(action, "a conflict of an unknown type"),
            (StatusCode::INTERNAL_SERVER_ERROR, UNSOUND, Some(index), Some(bus)) => {
                Error::Corrupt { destination, bus, index, problem: problem.detail.clone() }
            }
            (StatusCode::UNAUTHORIZED, ..) => self.refused(
                "does not know the token; set ZERO_MIRROR_TOKEN, or set ZERO_MIRROR_TOKEN_FILE to the path of a \
                 file with the token",
            ),
            _ if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
                || status.is_server_error() =>
            {
                self.unavailable(action, format!("{status}: {}{retry_after}", problem.detail))
            }
            _ if status.is_redirection() => self.refused(
                "answers with a redirect, which would send the token to another address; name that address instead",
            ),
            _ => self.refused(&format!("cannot {action}: {status}: {}", problem.detail)),
        }
    }

    /// The error of a request that got no response.
    fn transport_error(&self, action: &'static str, error: ureq::Error) -> Error {
        let tls_error = match &error {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        };
        match tls_error {
            Some(rustls::Error::InvalidCertificate(problem)) => self.refused(&format!(
                "its certificate is not trusted ({problem}); name the authority's certificate with ?ca=PATH"
            )),
            _ => self.unavailable(action, error),
        }
    }

    fn unavailable(&self, action: &'static str, source: impl Into<Source>) -> Error {
        Error::unavailable(self.name(), action, source)
    }

    /// The error of a response that no receiver would send. A proxy may have sent it, so the client
    /// may try again.
    fn unexpected(&self, action: &'static str, what: &str) -> Error {
        self.unavailable(action, format!("the answer is {what}; is this a receiver of zero-bus?"))
    }

    fn refused(&self, problem: &str) -> Error {
        Error::refused(&self.address.base, problem)
    }
}

/// One call of the protocol.
#[derive(Clone, Copy)]
struct Call {
    /// The action for messages, as in "connect".
    action: &'static str,
    /// The bus, if the call concerns one.
    bus: Option<Checksum>,
    /// Maximum size of the response, compressed and decompressed.
    max_bytes: usize,
}

/// A response with status 200.
struct Answer {
    first_index: Option<u64>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Option<Value> {
        parse_json(&self.body)
    }

    /// The position in the response, if it is a valid one of this bus.
    fn position(&self, bus: Checksum) -> Option<Head> {
        let value = self.json()?;
        let checksum_of = |name| value.get(name).and_then(Value::as_str).and_then(Checksum::parse);
        let index = value.get("index").and_then(Value::as_u64)?;
        let checksum = match value.get("checksum")? {
            Value::Null => None,
            _ => Some(checksum_of("checksum")?),
        };
        let is_valid = checksum_of("bus") == Some(bus) && checksum.is_some() == (index > 0);
        is_valid.then_some(Head { index, checksum })
    }
}

/// The members of a problem that the client uses. They are empty if the response is not a problem.
struct ProblemDetails {
    kind: String,
    index: Option<u64>,
    is_exact: bool,
    detail: String,
}

impl ProblemDetails {
    fn read(body: &[u8]) -> Self {
        let value = parse_json(body).unwrap_or(Value::Null);
        let text = |name| value.get(name).and_then(Value::as_str);
        Self {
            kind: text("type").unwrap_or_default().to_owned(),
            index: value.get("index").and_then(Value::as_u64),
            is_exact: value.get("exact").and_then(Value::as_bool).unwrap_or_default(),
            detail: match text("detail") {
                Some(detail) => excerpt(detail.as_bytes()),
                None if body.trim_ascii_start().starts_with(b"<") => {
                    "an HTML page, probably from a proxy".to_owned()
                }
                None => excerpt(body),
            },
        }
    }
}

fn parse_json(body: &[u8]) -> Option<Value> {
    Value::parse(std::str::from_utf8(body).ok()?).ok()
}

/// The start of another server's text, escaped for a message.
fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(&line[..line.len().min(MAX_EXCERPT_BYTES)]);
    // Quotation marks stay as they are; what could command a terminal does not.
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

/// TLS that trusts the certificate authorities of the address, or else the system's.
fn tls_config(address: &Address) -> Result<TlsConfig> {
    let authorities = match &address.ca {
        Some(path) => read_certificates(path).map_err(|problem| Error::refused(&address.base, problem))?,
        None => {
            check_system_authorities().map_err(|error| Error::refused(&address.base, error.to_string()))?;
            rustls_native_certs::load_native_certs().certs
        }
    };
    if authorities.is_empty() {
        let problem = "no certificate authority is known to check its certificate; install ca-certificates, or name \
                       one with ?ca=PATH";
        return Err(Error::refused(&address.base, problem));
    }
    let roots: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_bounded_file(path).map_err(|error| error.to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>();
    certificates
        .map_err(|error| format!("{}: cannot read certificates from the file: {error}", path.display()))
}

impl Mirror for Http {
    fn name(&self) -> String {
        self.address.base.clone()
    }

    fn buses(&mut self) -> Result<Vec<Checksum>> {
        let action = "list its buses";
        let answer = self.get("", Call { action, bus: None, max_bytes: MAX_RESPONSE_BYTES })?;
        let buses = answer.json().and_then(|value| match value.get("buses")? {
            Value::Array(buses) => {
                buses.iter().map(|bus| bus.as_str().and_then(Checksum::parse)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        });
        buses.ok_or_else(|| self.unexpected(action, "not a list of buses"))
    }

    fn head(&mut self, bus: Checksum) -> Result<Head> {
        let action = "read its position";
        let call = Call { action, bus: Some(bus), max_bytes: MAX_RESPONSE_BYTES };
        let position = self.get(&format!("/{bus}"), call)?.position(bus);
        position.ok_or_else(|| self.unexpected(action, "not a position"))
    }

    fn append(&mut self, bus: Checksum, after: Head, batch: &[Record]) -> Result<()> {
        let action = "send events";
        let (mut after, mut unsent) = (after, batch);
        loop {
            let (part, others) = unsent.split_at(request_len(unsent, self.max_request_bytes));
            let Some(answer) = self.send(bus, after, part)? else {
                let bytes: usize = part.iter().map(|record| record.line.len() + 1).sum();
                if part.len() > 1 {
                    // The limit may apply to the compressed bytes, so it is found by trying.
                    self.max_request_bytes = bytes / 2;
                    continue;
                }
                let index = after.index.saturating_add(1);
                return Err(self.refused(&format!(
                    "does not accept event {index}, whose line has {bytes} bytes: 413 Payload Too Large; raise the limit \
                     on request bodies, in nginx with client_max_body_size, in the receiver and in every proxy before it"
                )));
            };
            let expected = part.last().map_or(after, |last| last.event.head());
            if answer.position(bus) != Some(expected) {
                return Err(self.unexpected(action, "not the position of the last event"));
            }
            if others.is_empty() {
                return Ok(());
            }
            (after, unsent) = (expected, others);
        }
    }

    fn lines(&mut self, bus: Checksum, from: u64) -> Result<Vec<(u64, String)>> {
        let action = "read events";
        let from = from.max(1);
        let call = Call { action, bus: Some(bus), max_bytes: MAX_PAGE_BYTES };
        let answer = self.get(&format!("/{bus}/events?from={from}"), call)?;
        let mut lines = Vec::new();
        for (index, line) in (answer.first_index.unwrap_or(from)..).zip(wire::lines(&answer.body)) {
            let line =
                std::str::from_utf8(line).map_err(|_| self.unexpected(action, "lines that are not UTF-8"))?;
            lines.push((index, line.to_owned()));
        }
        if !lines.is_empty() && answer.first_index.is_none_or(|first| first < from) {
            return Err(self.unexpected(action, "lines of other events than were requested"));
        }
        Ok(lines)
    }
}

/// How many of the first records fit into one request: at least one, unless there are none.
fn request_len(records: &[Record], max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Record| {
        bytes += record.line.len() + 1;
        bytes <= max_bytes
    };
    records.iter().take(MAX_REQUEST_LINES).take_while(fits).count().max(records.len().min(1))
}
