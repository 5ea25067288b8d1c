//! The client: what it asks, what it believes, and how long it waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use zero_proof::key::SignatureType;
use zero_proof::note::Note;
use zero_proof::{Policy, SigningKey};
use zero_witness::{ClientOptions, Limits, Submission, SubmitError, WitnessClient, WitnessServerOptions};

use crate::support::{COSIGNED_AT, TestServer, WITNESS, new_witness};
use crate::test_log::{ORIGIN, TestLog, ed25519_signer, log_vkey, signer, vkey};

/// A witness that answers each request with the next of these responses. The last one is repeated.
struct FakeWitness {
    url: String,
    requests: std::sync::Arc<Mutex<Vec<String>>>,
}

impl FakeWitness {
    fn start(responses: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = std::sync::Arc::new(Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut next = 0;
            for stream in listener.incoming() {
                let request = read_request(stream.as_ref().unwrap());
                seen.lock().unwrap().push(request);
                // The client may have gone.
                let _ = stream.unwrap().write_all(&responses[next]);
                next = (next + 1).min(responses.len() - 1);
            }
        });
        Self { url, requests }
    }

    fn old_sizes(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|request| request.lines().next().unwrap().to_owned()).collect()
    }
}

/// The body of a request.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn policy(url: &str) -> Policy {
    let witness = vkey(&signer(WITNESS), SignatureType::CosignatureEd25519);
    let text = format!("log {}\nwitness w {witness} {url}\nquorum w\n", log_vkey(ORIGIN));
    Policy::parse(text.as_bytes()).unwrap()
}

fn submit_to(url: &str, previous_size: u64) -> Submission {
    submit_with(url, previous_size, ClientOptions::default())
}

fn submit_with(url: &str, previous_size: u64, options: ClientOptions) -> Submission {
    let log = TestLog::new(9);
    let client = WitnessClient::new(&policy(url), options).unwrap();
    client.submit(&log.checkpoint(9), previous_size, |old_size| Ok::<_, String>(log.prove(old_size, 9)))
}

/// The one failure of a submission.
fn failure_of(url: &str) -> SubmitError {
    let mut submission = submit_to(url, 0);
    assert!(submission.cosigned.is_empty());
    let failure = submission.failures.pop().unwrap();
    assert!(failure.witness == "w" && submission.failures.is_empty());
    assert!(failure.error.to_string().starts_with(url), "{}", failure.error);
    failure.error
}

fn failure_for(status: &str, body: &str) -> SubmitError {
    failure_of(&FakeWitness::start(vec![response(status, body)]).url)
}

/// Cosignatures of the checkpoint of 9 events.
fn cosignatures(key: &SigningKey, timestamp: u64) -> String {
    Note::encode_signatures(&TestLog::new(9).checkpoint(9).cosign(key, timestamp).unwrap())
}

#[test]
fn a_witness_is_asked_again_with_the_size_that_it_has() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    server.post(log.request(0, 5).encode());
    // Whatever the client believed: nothing, too little, too much, the truth.
    for previous_size in [0, 3, 7, 100, 9] {
        let submission = submit_to(&server.url, previous_size);
        assert!(submission.failures.is_empty(), "{submission:?}");
        let [cosigned] = &submission.cosigned[..] else { panic!("{submission:?}") };
        assert_eq!((&*cosigned.witness, cosigned.timestamp), ("w", COSIGNED_AT));
        let mut checkpoint = log.checkpoint(9);
        checkpoint.add_signatures(submission.signatures()).unwrap();
        policy("http://x").check(&checkpoint).unwrap();
    }
    let fake = FakeWitness::start(vec![
        response("409 Conflict", "4\n"),
        response("409 Conflict", "6\n"),
        response("200 OK", &cosignatures(&signer(WITNESS), 7)),
    ]);
    assert_eq!(submit_to(&fake.url, 0).cosigned.len(), 1);
    assert_eq!(fake.old_sizes(), ["old 0", "old 4", "old 6"]);
}

#[test]
fn a_witness_with_a_larger_or_another_tree_is_reported_as_such() {
    for (status, body, text) in [
        (
            "409 Conflict",
            "10\n",
            "the witness says that it has cosigned 10 events of this log, but the checkpoint has 9",
        ),
        (
            "422 Unprocessable Entity",
            r#"{"detail":"no \"proof\""}"#,
            "no \"proof\"; if the witness is right, the log was rewritten",
        ),
    ] {
        let error = failure_for(status, body);
        assert!(matches!(error, SubmitError::Inconsistent { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn what_a_witness_answers_is_not_believed() {
    let forged = cosignatures(&signer(WITNESS), 7).replacen("AAAAAAAAAH", "AAAAAAAAAI", 1);
    let other_tree =
        Note::encode_signatures(&TestLog::new(9).checkpoint(8).cosign(&signer(WITNESS), 7).unwrap());
    let other_key = cosignatures(&ed25519_signer("other.example"), 7);
    assert_ne!(forged, cosignatures(&signer(WITNESS), 7));
    for (body, text) in [
        (&*forged, "the answer is no cosignature: signature 1 is not by the key that it names"),
        (&other_tree, "the answer is no cosignature"),
        (&other_key, "no signature by the policy's key witness.example/w1+"),
        ("", "the answer is no list of signatures"),
        ("hello\n", "the answer is no list of signatures"),
        ("\u{2014} witness.example/w1 AAAA\n", "the answer is no list of signatures"),
    ] {
        let error = failure_for("200 OK", body);
        assert!(matches!(error, SubmitError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // Signatures by unknown keys beside the expected one are ignored.
    let both = format!("{other_key}{}", cosignatures(&signer(WITNESS), 7));
    let submission = submit_to(&FakeWitness::start(vec![response("200 OK", &both)]).url, 0);
    assert_eq!(submission.cosigned[0].timestamp, 7);
    assert_eq!(submission.signatures().count(), 1);
}

#[test]
fn each_refusal_has_a_text_of_its_own() {
    for (status, body, text) in [
        ("400 Bad Request", "old size\nmore", "400 Bad Request: old size"),
        ("403 Forbidden", "who?", "does the witness have the log's current vkey?"),
        (
            "404 Not Found",
            "<html>",
            "an HTML page, probably from a proxy; the witness must know the log's vkey",
        ),
        ("302 Found", "", "redirects are not followed"),
        ("409 Conflict", "05\n", "409 without a size: 05"),
        ("409 Conflict", "5", "409 without a size"),
        ("409 Conflict", "0\n", "refuses the old size 0, which it states itself"),
        ("418 I'm a teapot", "\u{1b}[31mred", "418 I'm a teapot: \\u{1b}[31mred"),
    ] {
        let error = failure_for(status, body);
        assert!(matches!(error, SubmitError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for status in [
        "500 Internal Server Error",
        "503 Service Unavailable",
        "429 Too Many Requests",
        "408 Request Timeout",
    ] {
        let error = failure_for(status, "later");
        assert!(matches!(error, SubmitError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{status}: later")), "{error}");
    }
    let fake =
        FakeWitness::start((1..9).map(|size| response("409 Conflict", &format!("{size}\n"))).collect());
    let error = failure_of(&fake.url);
    assert!(matches!(error, SubmitError::Unavailable { .. }), "{error}");
    assert_eq!(fake.old_sizes(), ["old 0", "old 1", "old 2", "old 3"]);
}

#[test]
fn answers_have_a_maximum_size() {
    let mut endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    endless.resize(4 << 20, b'a');
    let error = failure_of(&FakeWitness::start(vec![endless]).url);
    assert!(error.to_string().contains("the answer is longer than 262144 bytes"), "{error}");
}

#[test]
fn a_proof_that_cannot_be_made_concerns_that_witness_only() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    server.post(log.request(0, 5).encode());
    let client = WitnessClient::new(&policy(&server.url), ClientOptions::default()).unwrap();
    let submission = client.submit(&log.checkpoint(9), 0, |_| Err("the tiles are damaged"));
    let error = submission.failures[0].error.to_string();
    assert!(
        error.ends_with(
            "cannot prove that the checkpoint extends the tree of 5 events: the tiles are damaged"
        )
    );
}

/// One works, one answers nothing, one listens no more. The one that works counts, and the others
/// have a reason each.
#[test]
fn witnesses_are_asked_in_parallel_and_none_holds_up_the_others() {
    let (log, server) = (TestLog::new(9), TestServer::start(new_witness()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut text = format!("log {}\n", log_vkey(ORIGIN));
    let urls =
        [format!("http://{}", silent.local_addr().unwrap()), format!("http://{closed}"), server.url.clone()];
    for (number, url) in urls.iter().enumerate() {
        // The last one is the witness of the server.
        let key = if number == 2 { signer(WITNESS) } else { signer(&format!("w{number}.example")) };
        text += &format!("witness w{number} {} {url}\n", vkey(&key, SignatureType::CosignatureEd25519));
    }
    let no_url = vkey(&signer("offline.example"), SignatureType::CosignatureEd25519);
    text += &format!("witness offline {no_url}\ngroup g any w0 w1 w2 offline\nquorum g\n");
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let options = ClientOptions { timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let client = WitnessClient::new(&policy, options).unwrap();
    assert_eq!(client.witnesses().collect::<Vec<_>>(), ["w0", "w1", "w2"]);
    let proofs = AtomicUsize::new(0);
    let submission = client.submit(&log.checkpoint(9), 0, |old_size| {
        proofs.fetch_add(1, Relaxed);
        Ok::<_, String>(log.prove(old_size, 9))
    });
    assert_eq!(submission.cosigned.iter().map(|cosigned| &*cosigned.witness).collect::<Vec<_>>(), ["w2"]);
    let failures: Vec<_> =
        submission.failures.iter().map(|failure| (&*failure.witness, &failure.error)).collect();
    let [("w0", SubmitError::Unavailable { problem, .. }), ("w1", SubmitError::Unavailable { .. })] =
        &failures[..]
    else {
        panic!("{failures:?}")
    };
    assert_eq!(problem, "did not answer in time");
    assert_eq!(proofs.load(Relaxed), 0);
}

/// A policy has one line for each type of key. They share one request.
#[test]
fn a_witness_with_two_keys_is_asked_once() {
    let server = TestServer::start(new_witness());
    let key = signer(WITNESS);
    let (ed25519, ml_dsa) =
        (vkey(&key, SignatureType::CosignatureEd25519), vkey(&key, SignatureType::CosignatureMlDsa44));
    let url = &server.url;
    let text = format!(
        "log {}\nwitness a {ed25519} {url}\nwitness b {ml_dsa} {url}/\ngroup g all a b\nquorum g\n",
        log_vkey(ORIGIN)
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let log = TestLog::new(9);
    let client = WitnessClient::new(&policy, ClientOptions::default()).unwrap();
    let mut checkpoint = log.checkpoint(9);
    let submission = client.submit(&checkpoint, 0, |old_size| Ok::<_, String>(log.prove(old_size, 9)));
    checkpoint.add_signatures(submission.signatures()).unwrap();
    assert_eq!(policy.check(&checkpoint).unwrap().cosigners.len(), 2);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("{operation=\"add-checkpoint\",code=\"200\"} 1\n"), "{metrics}");
}

#[test]
fn a_policy_with_an_unusable_url_is_refused() {
    for url in ["witness.example", "https://me:secret@witness.example", "https://witness.example/?ca=x"] {
        let error = WitnessClient::new(&policy(url), ClientOptions::default()).err().unwrap().to_string();
        assert!(error.starts_with("the URL of witness `w`: ") && !error.contains("secret"), "{error}");
    }
    let options = ClientOptions { ca: Some("/nonexistent".into()), ..ClientOptions::default() };
    let error = WitnessClient::new(&policy("https://witness.example"), options).err().unwrap().to_string();
    assert!(error.starts_with("/nonexistent: cannot read certificates"), "{error}");
}

#[test]
fn over_tls_the_certificate_is_verified() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = WitnessServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: Some((cert.clone(), key)),
        behind_proxy: false,
        limits: Limits::default(),
    };
    let server = TestServer::start_options(new_witness(), options);
    let url = format!("https://localhost:{}", server.address.port());
    let trusting = ClientOptions { ca: Some(cert), ..ClientOptions::default() };
    assert_eq!(submit_with(&url, 0, trusting).cosigned.len(), 1);
    let error = submit_to(&url, 0).failures.pop().unwrap().error;
    assert!(error.to_string().contains("its certificate is not trusted"), "{error}");
}
