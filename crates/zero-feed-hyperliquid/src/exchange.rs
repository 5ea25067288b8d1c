//! One request to the exchange: the candles of a coin.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};
use zero_bus::{Json, Value};
use zero_paper::candle::Candle;
use zero_paper::text::{escape, shorten};

use crate::address::Address;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer. The exchange returns at most 5,000 candles of about 150 bytes.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
/// Most characters of an answer in a message.
const MAX_EXCERPT_CHARACTERS: usize = 200;
/// The longest wait that the exchange can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The exchange.
pub struct Exchange {
    agent: Agent,
    url: String,
}

/// A candle of the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeCandle {
    /// Start of the bar, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// The candle.
    pub candle: Candle,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The same request may succeed later.
    #[error("{problem}")]
    Retry {
        /// What happened.
        problem: String,
        /// How long the exchange asks to wait.
        retry_after: Option<Duration>,
    },
    /// The same request cannot succeed.
    #[error("{0}")]
    Refused(String),
}

impl RequestError {
    fn retry(problem: impl Into<String>) -> Self {
        Self::Retry { problem: problem.into(), retry_after: None }
    }
}

impl Exchange {
    /// Prepares requests to the API at an address. Nothing is connected before the first request.
    ///
    /// # Errors
    /// No certificate authority is known.
    pub fn new(address: &Address) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(if address.is_https { Proxy::try_from_env() } else { None })
            .user_agent(concat!("zero-feed-hyperliquid/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT));
        if address.is_https {
            config = config.tls_config(tls_config()?);
        }
        Ok(Self { agent: config.build().new_agent(), url: format!("{}/info", address.base) })
    }

    /// Returns the candles of a coin whose bars begin from `start_ms` to `end_ms`, in the order of
    /// time. The last one may still change.
    ///
    /// # Errors
    /// There is no answer, or it contains no candles. See [`RequestError`].
    pub fn candles(
        &self,
        coin: &str,
        interval: &str,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<ExchangeCandle>, RequestError> {
        let request = Json::of(&Request {
            r#type: "candleSnapshot",
            req: Parameters { coin, interval, start_time: start_ms, end_time: end_ms },
        })
        .map_err(|error| RequestError::Refused(error.to_string()))?;
        let request =
            self.agent.post(&self.url).header("content-type", "application/json").send(request.as_str());
        let (head, body) = request.map_err(|error| RequestError::retry(error.to_string()))?.into_parts();
        let mut text = Vec::new();
        let read = body.into_reader().take(MAX_ANSWER_BYTES + 1).read_to_end(&mut text);
        read.map_err(|error| RequestError::retry(error.to_string()))?;
        if head.status != StatusCode::OK {
            return Err(status_error(head.status, &head.headers, &text));
        }
        if text.len() as u64 > MAX_ANSWER_BYTES {
            return Err(RequestError::retry("the answer is too long"));
        }
        read_candles(&text, coin).map_err(|problem| {
            RequestError::retry(format!("the answer is not valid: {problem}: {}", excerpt(&text)))
        })
    }
}

#[derive(serde::Serialize)]
struct Request<'a> {
    req: Parameters<'a>,
    r#type: &'static str,
}

#[derive(serde::Serialize)]
struct Parameters<'a> {
    coin: &'a str,
    #[serde(rename = "endTime")]
    end_time: i64,
    interval: &'a str,
    #[serde(rename = "startTime")]
    start_time: i64,
}

fn status_error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RequestError {
    let problem = format!("{status}: {}", excerpt(body));
    let may_succeed = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if !may_succeed && !status.is_server_error() {
        return RequestError::Refused(problem.trim_end_matches(": ").to_owned());
    }
    // The header may also hold a date, which this exchange does not send.
    let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    RequestError::Retry { problem: problem.trim_end_matches(": ").to_owned(), retry_after }
}

/// Reads an answer: an array of `{"t": start, "T": end, "s": coin, "o", "h", "l", "c", "v": text}`.
fn read_candles(text: &[u8], coin: &str) -> Result<Vec<ExchangeCandle>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
    let Value::Array(items) = Value::parse(text).map_err(|error| error.to_string())? else {
        return Err("expected an array of candles".to_owned());
    };
    let mut candles = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let candle: ExchangeCandle =
            read_candle(item, coin).map_err(|problem| format!("[{index}].{problem}"))?;
        if let Some(last) = candles.last().map(|last: &ExchangeCandle| last.start_ms)
            && candle.start_ms <= last
        {
            return Err(format!("[{index}].t: {} is not after {last}", candle.start_ms));
        }
        candles.push(candle);
    }
    Ok(candles)
}

fn read_candle(item: &Value, coin: &str) -> Result<ExchangeCandle, String> {
    if let Some(other) = item.get("s").and_then(Value::as_str)
        && other != coin
    {
        return Err(format!("s: is `{}`, not `{coin}`", shorten(other, MAX_EXCERPT_CHARACTERS)));
    }
    let start = item.get("t").and_then(Value::as_u64).and_then(|start_ms| i64::try_from(start_ms).ok());
    let start_ms = start.ok_or("t: expected milliseconds")?;
    // Numbers are texts; a number is accepted, too.
    let number = |key: &'static str| match item.get(key) {
        Some(Value::String(text)) => text.parse::<f64>().map_err(|_| format!("{key}: expected a number")),
        Some(value) => value.as_f64().ok_or_else(|| format!("{key}: expected a number")),
        None => Err(format!("{key}: is missing")),
    };
    let candle = Candle {
        symbol: coin.to_uppercase(),
        ts: start_ms as f64 / 1000.0,
        open: number("o")?,
        high: number("h")?,
        low: number("l")?,
        close: number("c")?,
        volume: number("v")?,
    };
    candle.check().map_err(|(field, problem)| format!("{field}: {problem}"))?;
    Ok(ExchangeCandle { start_ms, candle })
}

/// The start of an answer, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_EXCERPT_CHARACTERS)]);
    escape(shorten(text.trim(), MAX_EXCERPT_CHARACTERS).as_str())
}

/// TLS that trusts the certificate authorities of the system.
fn tls_config() -> Result<TlsConfig, String> {
    zero_http::check_system_authorities().map_err(|error| error.to_string())?;
    let authorities = rustls_native_certs::load_native_certs().certs;
    if authorities.is_empty() {
        return Err("no certificate authority is known; install ca-certificates".to_owned());
    }
    let roots: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
