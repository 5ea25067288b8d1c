//! A headless Chromium, driven by the DevTools protocol over a pipe.
//!
//! The tests need Debian's package chromium; `ZERO_TEST_WITHOUT_CHROMIUM=1` skips them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

/// Chromium answers each request within this time, or the test fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// The browser that tests which run at the same time share, one after the other.
static SHARED: Mutex<Weak<Mutex<Chromium>>> = Mutex::new(Weak::new());

/// Runs a test that needs the browser, or skips it if the tests without Chromium are asked for.
pub(crate) fn in_chromium(test: impl FnOnce(&mut Chromium)) {
    if std::env::var_os("ZERO_TEST_WITHOUT_CHROMIUM").is_some_and(|value| value == "1") {
        // Directly to stderr: the test harness would capture `eprintln!`.
        let problem = "SKIPPED: needs Chromium, and ZERO_TEST_WITHOUT_CHROMIUM=1 is set";
        let _ = writeln!(std::io::stderr().lock(), "{problem}");
        return;
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let chromium = shared.upgrade().unwrap_or_else(|| Arc::new(Mutex::new(Chromium::start())));
    *shared = Arc::downgrade(&chromium);
    drop(shared);
    // A test that failed leaves a browser that can be used.
    test(&mut chromium.lock().unwrap_or_else(PoisonError::into_inner));
}

/// One browser with one tab. It ends with the last test that uses it.
pub(crate) struct Chromium {
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    /// Events that nobody has asked for yet.
    events: Vec<Value>,
    last_id: u64,
    /// Empty before there is a tab.
    session: String,
    _profile: tempfile::TempDir,
}

impl Chromium {
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The browser reads requests from descriptor 3 and writes to descriptor 4.
        let command = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", command, "sh", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                if sender.send(serde_json::from_slice(text).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut chromium = Self {
            child,
            requests,
            messages,
            events: Vec::new(),
            last_id: 0,
            session: String::new(),
            _profile: profile,
        };
        let tab = chromium.call("Target.createTarget", json!({"url": "about:blank"}));
        let tab = json!({"targetId": tab["targetId"], "flatten": true});
        let session = chromium.call("Target.attachToTarget", tab);
        chromium.session = session["sessionId"].as_str().unwrap().to_owned();
        chromium.call("Page.enable", json!({}));
        chromium.call("Network.enable", json!({}));
        chromium
    }

    /// Opens a file and waits until it is loaded.
    pub(crate) fn open(&mut self, page: &Path) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": format!("file://{}", page.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// The addresses that were requested since the last page was opened, its own included.
    pub(crate) fn requested(&self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// The value of a JavaScript expression in the page, or of the promise that it is.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let request = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", request);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The value of a JavaScript function in the page for these arguments.
    pub(crate) fn apply(&mut self, function: &str, arguments: &Value) -> Value {
        self.evaluate(&format!("({function})(...{arguments})"))
    }

    /// Sends a request and returns its result.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let sent = write!(self.requests, "{request}\0").and_then(|()| self.requests.flush());
        assert!(sent.is_ok(), "install the package chromium, or set ZERO_TEST_WITHOUT_CHROMIUM=1 to skip");
        loop {
            let message = self.receive();
            if message["id"] == self.last_id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        let problem = "no answer: install the package chromium, or set ZERO_TEST_WITHOUT_CHROMIUM=1 to skip";
        self.messages.recv_timeout(ANSWER_TIMEOUT).expect(problem)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
