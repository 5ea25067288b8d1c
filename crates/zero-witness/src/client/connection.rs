//! One request to a witness over HTTP.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use zero_bus::Value;
use zero_proof::AddCheckpoint;
use zero_proof::add_checkpoint::parse_size;
use zero_proof::note::{Note, Signature};

use super::url::WitnessUrl;
use crate::error::{Error, Result, SubmitError};

/// Maximum size of a response: 32 of the largest signatures.
const MAX_RESPONSE_BYTES: usize = 256 << 10;
/// Maximum length of a witness's text in a message.
const MAX_EXCERPT_BYTES: usize = 200;
/// Shorter than servers keep an idle connection open, so that they do not close one as a request is
/// sent.
const MAX_IDLE_AGE: Duration = Duration::from_secs(5);

/// The connections to all witnesses of a policy.
pub(super) struct Connection {
    http: Agent,
    /// `None` if no URL needs it.
    https: Option<Agent>,
}

/// The answer of a witness. Nothing of it was verified yet.
pub(super) enum Answer {
    /// 200
    Cosignatures(Vec<Signature>),
    /// 409: the size that it cosigned last.
    Size(u64),
}

impl Connection {
    pub(super) fn new(uses_https: bool, ca: Option<&Path>, timeout: Duration) -> Result<Self> {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .no_delay(true)
                .user_agent(concat!("zero-witness/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .max_idle_age(MAX_IDLE_AGE)
                .timeout_global(Some(timeout))
        };
        let http = config().proxy(None).build().new_agent();
        let https = match uses_https {
            true => {
                Some(config().proxy(Proxy::try_from_env()).tls_config(tls_config(ca)?).build().new_agent())
            }
            false => None,
        };
        Ok(Self { http, https })
    }

    /// Sends a request, which is over at the deadline.
    pub(super) fn add_checkpoint(
        &self,
        url: &WitnessUrl,
        request: &AddCheckpoint,
        deadline: Instant,
    ) -> Result<Answer, SubmitError> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(unavailable(url, "did not answer in time"));
        }
        let agent = self.https.as_ref().filter(|_| url.is_https).unwrap_or(&self.http);
        let response = agent
            .post(format!("{}/add-checkpoint", url.base))
            .config()
            .timeout_global(Some(remaining))
            .build()
            .header("content-type", "text/plain; charset=utf-8")
            .send(request.encode());
        let response = response.map_err(|error| transport_error(url, &error))?;
        read_answer(url, request.old_size, response)
    }
}

fn read_answer(url: &WitnessUrl, old_size: u64, response: Response<Body>) -> Result<Answer, SubmitError> {
    let refused = |problem: String| SubmitError::Refused { url: url.base.clone(), problem };
    let status = response.status();
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(MAX_RESPONSE_BYTES as u64 + 1);
    reader.read_to_end(&mut body).map_err(|error| unavailable(url, &error.to_string()))?;
    if body.len() > MAX_RESPONSE_BYTES {
        return Err(refused(format!("the answer is longer than {MAX_RESPONSE_BYTES} bytes")));
    }
    match status {
        StatusCode::OK => {
            let text =
                std::str::from_utf8(&body).map_err(|_| refused("the answer is not UTF-8".to_owned()))?;
            let signatures = Note::parse_signatures(text);
            let signatures = signatures
                .map_err(|error| refused(format!("the answer is no list of signatures: {error}")))?;
            Ok(Answer::Cosignatures(signatures))
        }
        StatusCode::CONFLICT => {
            let size = std::str::from_utf8(&body).ok().and_then(parse_size);
            let size = size.ok_or_else(|| refused(format!("409 without a size: {}", detail(&body))))?;
            Ok(Answer::Size(size))
        }
        StatusCode::UNPROCESSABLE_ENTITY => {
            let problem = format!(
                "the witness refuses the proof that the checkpoint extends the one of {old_size} events that it cosigned: \
                 {}; if the witness is right, the log was rewritten, or its key signs another log too",
                detail(&body)
            );
            Err(SubmitError::Inconsistent { url: url.base.clone(), problem })
        }
        StatusCode::NOT_FOUND => Err(refused(format!(
            "{status}: {}; the witness must know the log's vkey, and the URL must be its submission prefix",
            detail(&body)
        ))),
        StatusCode::FORBIDDEN => Err(refused(format!(
            "{status}: {}; does the witness have the log's current vkey?",
            detail(&body)
        ))),
        _ if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            || status.is_server_error() =>
        {
            Err(unavailable(url, &format!("{status}: {}", detail(&body))))
        }
        _ if status.is_redirection() => {
            Err(refused(format!("{status}: redirects are not followed; name the new URL in the policy")))
        }
        _ => Err(refused(format!("{status}: {}", detail(&body)))),
    }
}

/// The error of a request that got no response.
fn transport_error(url: &WitnessUrl, error: &ureq::Error) -> SubmitError {
    let tls_error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    match (tls_error, error) {
        (Some(rustls::Error::InvalidCertificate(problem)), _) => {
            let problem =
                format!("its certificate is not trusted ({problem}); name the authority's certificate");
            SubmitError::Refused { url: url.base.clone(), problem }
        }
        (_, ureq::Error::Timeout(_)) => unavailable(url, "did not answer in time"),
        _ => unavailable(url, &error.to_string()),
    }
}

fn unavailable(url: &WitnessUrl, problem: &str) -> SubmitError {
    SubmitError::Unavailable { url: url.base.clone(), problem: problem.to_owned() }
}

/// What a witness says about an error: the detail of a problem (RFC 9457), or the first line.
/// Escaped, so that it cannot command a terminal.
fn detail(body: &[u8]) -> String {
    let problem = std::str::from_utf8(body).ok().and_then(|text| Value::parse(text).ok());
    let detail = problem.as_ref().and_then(|value| value.get("detail")).and_then(Value::as_str);
    let line = match detail {
        Some(detail) => detail.as_bytes(),
        None if body.trim_ascii_start().starts_with(b"<") => b"an HTML page, probably from a proxy",
        None => body.split(|byte| *byte == b'\n').next().unwrap_or_default(),
    };
    let text = String::from_utf8_lossy(&line[..line.len().min(MAX_EXCERPT_BYTES)]);
    let escape = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(escape).collect()
}

/// TLS that trusts the certificate authorities of a file, or else the system's.
fn tls_config(ca: Option<&Path>) -> Result<TlsConfig> {
    let authorities = match ca {
        Some(path) => read_certificates(path).map_err(|problem| {
            Error::invalid(path.display().to_string(), format!("cannot read certificates: {problem}"))
        })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if authorities.is_empty() {
        let problem = "no certificate authority is known; install ca-certificates, or name a file with one";
        return Err(Error::invalid("https", problem));
    }
    let roots: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| error.to_string())
}
