//! A local server with the answers of the exchange, in the form of its documentation
//! (`candleSnapshot`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use zero_bus::Value;

/// A request for candles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) coin: String,
    pub(crate) interval: String,
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
}

/// The status line, further headers and the body of an answer.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self { status: "200 OK", headers: String::new(), body: body.into() }
    }

    pub(crate) fn error(status: &'static str, headers: &str, body: &str) -> Self {
        Self { status, headers: headers.to_owned(), body: body.to_owned() }
    }
}

/// A server that lives as long as the test process.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts a server. `answer` gets each request and the number of requests before it.
    pub(crate) fn start(mut answer: impl FnMut(&Asked, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                let count = log.lock().unwrap().len();
                let Answer { status, headers, body } = answer(&request, count);
                log.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
                );
                // The client may be gone.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { url, asked }
    }

    /// An address at which nobody listens.
    pub(crate) fn without_answers(url: String) -> Self {
        Self { url, asked: Arc::default() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    assert_eq!(first, "POST /info HTTP/1.1\r\n");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if let Some(value) = line.strip_prefix("content-type: ") {
            assert_eq!(value, "application/json");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = Value::parse(std::str::from_utf8(&body).unwrap()).unwrap();
    assert_eq!(body.get("type").unwrap().as_str(), Some("candleSnapshot"));
    let parameters = body.get("req").unwrap();
    let text = |key| parameters.get(key).and_then(Value::as_str).unwrap().to_owned();
    let number = |key| parameters.get(key).and_then(Value::as_u64).unwrap();
    Asked {
        coin: text("coin"),
        interval: text("interval"),
        start_ms: number("startTime"),
        end_ms: number("endTime"),
    }
}

/// A candle of one minute as the exchange writes it.
pub(crate) fn candle(coin: &str, start_ms: u64, close: &str) -> String {
    let end_ms = start_ms + 59_999;
    format!(
        "{{\"t\":{start_ms},\"T\":{end_ms},\"s\":\"{coin}\",\"i\":\"1m\",\"o\":\"100.0\",\"c\":\"{close}\",\
         \"h\":\"200.0\",\"l\":\"50.0\",\"v\":\"1.25\",\"n\":12}}"
    )
}

/// The exchange at work: every minute that has begun has a candle, the last of which is not closed.
/// The closes are the minutes since `begin_ms`.
pub(crate) fn market(asked: &Asked, begin_ms: u64) -> Answer {
    assert_eq!(asked.interval, "1m");
    let minutes = asked.start_ms.div_ceil(60_000)..=asked.end_ms / 60_000;
    let candles: Vec<_> = minutes
        .map(|minute| {
            let start_ms = 60_000 * minute;
            let is_open = start_ms + 60_000 > asked.end_ms;
            let close = 100 + (start_ms.saturating_sub(begin_ms)) / 60_000;
            candle(&asked.coin, start_ms, &format!("{close}.{}", if is_open { 9 } else { 0 }))
        })
        .collect();
    Answer::ok(format!("[{}]", candles.join(",")))
}
