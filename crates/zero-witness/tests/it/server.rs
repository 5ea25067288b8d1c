//! The HTTP interface: every status code of C2SP tlog-witness, limits, and races.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use zero_bus::sim::SimDisk;
use zero_proof::{AddCheckpoint, Checkpoint, Hash, Note, SignedCheckpoint};
use zero_witness::witness::hash_origin;
use zero_witness::{Limits, WitnessServer, WitnessServerOptions};

use crate::support::{COSIGNED_AT, HttpResponse, TestServer, WITNESS, new_witness, open_witness};
use crate::test_log::{ORIGIN, TestLog};

fn assert_problem(response: &HttpResponse, status: u16, detail: &str) {
    assert_eq!(
        (response.status, &*response.content_type),
        (status, "application/problem+json"),
        "{response:?}"
    );
    assert!(response.body.contains(detail), "{response:?}");
}

#[test]
fn a_cosigned_checkpoint_is_answered_and_served() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    let path = format!("/{}/checkpoint", hash_origin(ORIGIN));
    assert_problem(&server.get(&path), 404, "no checkpoint");

    let response = server.post(log.request(0, 5).encode());
    assert_eq!(
        (response.status, &*response.content_type),
        (200, "text/plain; charset=utf-8"),
        "{response:?}"
    );
    let lines: Vec<_> = response.body.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().all(|line| line.starts_with(&format!("\u{2014} {WITNESS} ")))
            && response.body.ends_with('\n')
    );
    let served = server.get(&path);
    assert_eq!((served.status, &*served.content_type), (200, "text/plain; charset=utf-8"));
    assert_eq!(served.body, format!("{}{}", log.checkpoint(5).encode(), response.body));

    // The time is the one at which it was cosigned.
    server.time.store(COSIGNED_AT + 60, Relaxed);
    let response = server.post(log.request(5, 9).encode());
    let mut signed = log.checkpoint(9);
    signed.add_signatures(Note::parse_signatures(&response.body).unwrap()).unwrap();
    let keys = new_witness().verifier_keys();
    assert!(signed.verify(&keys).unwrap().iter().all(|signed| signed.timestamp == Some(COSIGNED_AT + 60)));
    assert_eq!(server.messages(), <[&str; 0]>::default());
}

#[test]
fn every_refusal_has_its_status_code() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    server.post(log.request(0, 5).encode());

    // 400: the old size is larger than the checkpoint, or the body is no request.
    let request = AddCheckpoint { old_size: 6, proof: Vec::new(), checkpoint: log.checkpoint(5) };
    assert_problem(&server.post(request.encode()), 400, "the old size, 6, is larger");
    assert_problem(&server.post("old 05\n"), 400, "add-checkpoint request, line 1");

    // 403: no signature by a key of the log, or an invalid one.
    let stranger = zero_proof::SigningKey::from_seeds(ORIGIN, &[9; 32], None).unwrap();
    let checkpoint = SignedCheckpoint::sign(log.checkpoint(9).checkpoint().clone(), &stranger, 1).unwrap();
    let request = AddCheckpoint { checkpoint, ..log.request(5, 9) };
    assert_problem(&server.post(request.encode()), 403, "none of the known keys has signed");
    let text = log.request(5, 9).encode().replace("\n9\n", "\n8\n");
    assert_problem(&server.post(text), 403, "signature 1 is not by the key that it names");

    // 404: an unknown log, also if its old size is wrong.
    let unknown = TestLog::with_origin("example.com/other", 9);
    assert_problem(&server.post(unknown.request(5, 9).encode()), 404, "example.com/other");

    // 409: the old size is not the last one.
    for old_size in [0, 4, 6] {
        let response = server.post(log.request(old_size, 9).encode());
        let expected = (409, "text/x.tlog.size", "5\n");
        assert_eq!((response.status, &*response.content_type, &*response.body), expected);
    }

    // 422: a wrong proof; the same size with another root; a proof where none is allowed.
    let request = AddCheckpoint { proof: vec![Hash::EMPTY_TREE], ..log.request(5, 9) };
    assert_problem(&server.post(request.encode()), 422, "not proven to extend the tree of 5 leaves");
    let other = log.rewritten_from(3);
    assert_problem(&server.post(other.request(5, 5).encode()), 422, "has another root");
    let request = AddCheckpoint { proof: vec![Hash::EMPTY_TREE], ..log.request(5, 5) };
    assert_problem(&server.post(request.encode()), 422, "not proven");
    let empty = TestServer::start(new_witness());
    let request = AddCheckpoint { proof: vec![Hash::EMPTY_TREE], ..log.request(0, 5) };
    assert_problem(&empty.post(request.encode()), 422, "must be empty");
    let checkpoint = log.sign(Checkpoint::new(ORIGIN, 0, log.root(1)));
    let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    assert_problem(&empty.post(request.encode()), 422, "the root of the empty tree");

    // The operator learns of what may be misbehaviour of a log, at most once a second.
    let messages = server.messages();
    assert!(
        messages[0].contains("a checkpoint of 9 events of `example.com/bus` was refused"),
        "{messages:?}"
    );
    assert_eq!(server.post(log.request(5, 9).encode()).status, 200);
}

#[test]
fn other_requests_are_refused() {
    let server = TestServer::start(new_witness());
    let head = "POST /add-checkpoint HTTP/1.1\r\nHost: a\r\n";
    assert_problem(&server.get("/add-checkpoint"), 405, "POST");
    assert_problem(&server.get("/"), 404, "tlog-witness");
    assert_problem(&server.get("/metrics?a=1"), 400, "no query parameters");
    assert_problem(&server.send(&format!("{head}Content-Length: 9999999\r\n"), b"old"), 413, "262144 bytes");
    assert_problem(&server.post(vec![b'a'; (256 << 10) + 1]), 413, "262144 bytes");
    let encoded = format!("{head}Content-Encoding: gzip\r\nContent-Length: 3\r\n");
    assert_problem(&server.send(&encoded, b"old"), 415, "compressed");
    // An endless body without a length is cut off.
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000)).repeat(8);
    let response = server.send(&format!("{head}Transfer-Encoding: chunked\r\n"), chunk.as_bytes());
    assert_problem(&response, 413, "262144 bytes");
}

#[test]
fn a_client_that_stops_sending_is_given_up() {
    let limits = Limits { idle_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = TestServer::start_with(new_witness(), limits);
    let head = "POST /add-checkpoint HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n";
    assert_problem(&server.send(head, b"old 0\n"), 408, "");
}

#[test]
fn the_rate_of_requests_is_limited() {
    let limits = Limits { requests_per_second: 1, ..Limits::default() };
    let server = TestServer::start_with(new_witness(), limits);
    let body = TestLog::new(5).request(0, 5).encode();
    let answers: Vec<_> = (0..6).map(|_| server.post(&body)).collect();
    assert_eq!(answers[0].status, 200);
    assert_problem(answers.iter().find(|answer| answer.status == 429).unwrap(), 429, "try again later");
}

#[test]
fn connections_are_kept_alive() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    let mut stream = TcpStream::connect(server.address).unwrap();
    for (old_size, size) in [(0, 5), (5, 9)] {
        let body = log.request(old_size, size).encode();
        let length = body.len();
        write!(stream, "POST /add-checkpoint HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut start = [0; 15];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        // The rest of the response: it ends with the second signature.
        let mut rest = Vec::new();
        while rest.iter().filter(|byte| **byte == b'\n').count() < head_lines(&rest) + 2 {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            rest.push(byte[0]);
        }
    }
}

/// Lines of the head with its empty line; more than there can be while it is incomplete.
fn head_lines(response: &[u8]) -> usize {
    let text = String::from_utf8_lossy(response);
    text.split_once("\r\n\r\n").map_or(usize::MAX / 2, |(head, _)| head.matches('\n').count() + 2)
}

/// Two logs of which neither extends the other are submitted at the same time, with the same old
/// size. One is cosigned; the other gets the new size.
#[test]
fn of_two_submissions_with_the_same_old_size_one_is_cosigned() {
    let log = TestLog::new(40);
    let other = log.rewritten_from(5);
    let mut cosigned_first = [0, 0];
    for _ in 0..60 {
        let disk = SimDisk::new();
        let server = TestServer::start(open_witness(disk.storage()).unwrap());
        assert_eq!(server.post(log.request(0, 5).encode()).status, 200);
        let requests = [log.request(5, 9).encode(), other.request(5, 23).encode()];
        let barrier = Barrier::new(2);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let post = |body| {
                let (barrier, server) = (&barrier, &server);
                scope.spawn(move || {
                    barrier.wait();
                    server.post(body)
                })
            };
            let threads: Vec<_> = requests.iter().map(post).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = answers.iter().position(|answer| answer.status == 200).unwrap();
        let loser = &answers[1 - winner];
        assert_eq!((loser.status, &*loser.body), (409, ["9\n", "23\n"][winner]));
        cosigned_first[winner] += 1;
        // State and memory have the winner.
        let served = server.get(&format!("/{}/checkpoint", hash_origin(ORIGIN))).body;
        let stored = disk.content(&format!("{}.checkpoint", hash_origin(ORIGIN))).unwrap();
        assert_eq!(served.as_bytes(), stored);
        assert!(served.contains(["\n9\n", "\n23\n"][winner]));
    }
    assert_eq!(cosigned_first.iter().sum::<i32>(), 60);
}

#[test]
fn metrics_tell_what_was_cosigned_for_each_log() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    server.post(log.request(0, 5).encode());
    server.post(log.rewritten_from(2).request(5, 5).encode());
    let response = server.get("/metrics");
    assert!(response.content_type.starts_with("application/openmetrics-text"), "{response:?}");
    for line in [
        "zero_witness_requests_total{operation=\"add-checkpoint\",code=\"200\"} 1\n",
        "zero_witness_requests_total{operation=\"add-checkpoint\",code=\"422\"} 1\n",
        "zero_witness_cosigned_total 1\n",
        "zero_witness_inconsistent_total 1\n",
        "zero_witness_log_size{origin=\"example.com/bus\"} 5\n",
        "zero_witness_log_cosigned_timestamp_seconds{origin=\"example.com/bus\"} 1777593705\n",
    ] {
        assert!(response.body.contains(line), "{line}{}", response.body);
    }
}

#[test]
fn other_addresses_than_loopback_need_tls_or_a_proxy() {
    let options = |behind_proxy| WitnessServerOptions {
        listen: "0.0.0.0:0".parse().unwrap(),
        tls: None,
        behind_proxy,
        limits: Limits::default(),
    };
    let bind = |behind_proxy| {
        WitnessServer::bind(
            options(behind_proxy),
            new_witness(),
            std::sync::Arc::new(|| COSIGNED_AT),
            std::sync::Arc::new(|_: &str| {}),
        )
    };
    let error = bind(false).err().unwrap().to_string();
    assert!(error.contains("without TLS the answers could be changed on the network"), "{error}");
    bind(true).unwrap();
}
