//! Programs as strategies, and their faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zero_bus::{Checksum, Json, Value};
use zero_paper::scenario::Side;
use zero_paper::strategy::{self, Failure, FailureKind, Strategy};

use crate::market::{bar, decide, observe, start};
use crate::soak::rounds;

/// Time for an answer where the test expects one.
const PATIENT: Duration = Duration::from_secs(60);
/// Time for an answer where the test expects none.
const IMPATIENT: Duration = Duration::from_millis(300);

/// A shell script as a strategy, in a folder of its own.
struct Script {
    dir: TempDir,
    timeout: Duration,
}

impl Script {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("strategy.sh"), format!("cd {}\n{text}\n", dir.path().display())).unwrap();
        Self { dir, timeout: PATIENT }
    }

    fn impatient(text: &str) -> Self {
        Self { timeout: IMPATIENT, ..Self::new(text) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> Box<dyn Strategy> {
        strategy::open(&format!("exec:sh {}", self.path("strategy.sh").display()), self.timeout).unwrap()
    }

    fn start(&self) -> Box<dyn Strategy> {
        let mut strategy = self.open();
        start(&mut *strategy, None).unwrap();
        strategy
    }

    /// The process number that the script has written to a file.
    fn process_in(&self, name: &str) -> String {
        wait_until(|| fs::read_to_string(self.path(name)).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(self.path(name)).unwrap().trim().to_owned()
    }
}

/// Reads the start line, then runs a command for each bar, whose line is in `$line`.
fn for_each_bar(command: &str) -> String {
    format!(
        "read -r first\nwhile read -r line; do\ncase $line in *'\"type\":\"stop\"'*) break ;; esac\n{command}\ndone"
    )
}

const HOLD: &str = r#"echo '{"orders": []}'"#;

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENT, "the condition does not become true");
        thread::yield_now();
    }
}

/// Waits until a process has ended. Its parent may not have waited for it.
#[track_caller]
fn assert_ends(process: &str) {
    wait_until(|| match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')),
        Err(_) => true,
    });
}

fn ask(strategy: &mut dyn Strategy, cycle_id: u64) -> Result<strategy::Answer, Failure> {
    decide(strategy, cycle_id, &bar(cycle_id, 100.0, 101.0), 0.0)
}

/// The failure of the first bar.
fn failure(script: &Script) -> (FailureKind, String) {
    let failure = ask(&mut *script.start(), 1).unwrap_err();
    (failure.kind, failure.reason)
}

/// The failure of an answer.
fn failure_of(answer: &str) -> String {
    let script = Script::new(&for_each_bar("cat answer"));
    fs::write(script.path("answer"), format!("{answer}\n")).unwrap();
    let (kind, reason) = failure(&script);
    assert_eq!(kind, FailureKind::InvalidOutput, "{reason}");
    reason
}

#[test]
fn a_program_is_asked_and_answers() {
    let script = Script::new(&for_each_bar("echo \"$first\" > first; echo \"$line\" > last; cat answer"));
    let answer = r#"{"orders": [{"symbol": "btc", "side": "buy", "quantity": 2, "confidence": 0.9, "reason": "up"},
        {"symbol": "ETH", "side": "sell", "quantity": 0.5, "confidence": 1, "reason": "", "reduce_only": true,
         "limit_price": 99.5, "key": "k-1"}], "state": {"seen": 1}, "cycle_id": 7}"#;
    fs::write(script.path("answer"), answer.replace('\n', " ") + "\n").unwrap();
    let mut strategy = script.open();
    start(&mut *strategy, Some(&Json::parse("[1]").unwrap())).unwrap();
    let answer = decide(&mut *strategy, 7, &bar(7, 100.0, 101.0), 1.5).unwrap();

    assert_eq!(answer.intents.len(), 2);
    let [first, second] = &answer.intents[..] else { unreachable!() };
    assert_eq!((first.symbol.as_str(), first.side, first.quantity), ("BTC", Side::Buy, 2.0));
    assert_eq!((first.reduce_only, first.limit_price, &first.key), (false, None, &None));
    assert_eq!(
        (second.side, second.limit_price, second.key.as_deref()),
        (Side::Sell, Some(99.5), Some("k-1"))
    );
    assert!(second.reduce_only);
    assert_eq!((answer.state.unwrap().as_str(), answer.hold_reason), (r#"{"seen":1}"#, None));

    assert_eq!(
        fs::read_to_string(script.path("first")).unwrap(),
        "{\"costs\":{\"fee_bps\":0.0,\"half_spread_bps\":0.0,\"slippage_bps\":0.0},\"limits\":{\"max_leverage\":1.0,\
         \"max_notional_usd\":1000.0,\"max_position_notional_usd\":2500.0,\"min_confidence\":0.6},\
         \"schema_version\":\"zero.strategy.v1\",\"state\":[1],\"symbols\":[\"BTC\"],\"type\":\"start\"}\n"
    );
    assert_eq!(
        fs::read_to_string(script.path("last")).unwrap(),
        "{\"as_of\":1777594080.0,\"candles\":[{\"close\":101.0,\"high\":101.0,\"low\":100.0,\"open\":100.0,\
         \"symbol\":\"BTC\",\"ts\":1777594020.0,\"volume\":0.0}],\"cycle_id\":7,\"equity_usd\":10000.0,\"last\":[],\
         \"positions\":[{\"avg_price\":100.0,\"mark_price\":100.0,\"notional_usd\":150.0,\"quantity\":1.5,\
         \"symbol\":\"BTC\",\"unrealized_pnl_usd\":0.0}],\"type\":\"bar\"}\n"
    );
}

#[test]
fn an_empty_list_holds() {
    let answer = ask(&mut *Script::new(&for_each_bar(HOLD)).start(), 1).unwrap();
    assert_eq!(
        (answer.intents.len(), answer.state, answer.hold_reason.as_deref()),
        (0, None, Some("no orders"))
    );
}

#[test]
fn a_program_is_named_by_its_file() {
    let script = Script::new(&for_each_bar(HOLD));
    let strategy = script.open();
    let content = fs::read(script.path("strategy.sh")).unwrap();
    assert_eq!(strategy.identity().name, "strategy.sh");
    assert_eq!(strategy.identity().sha256, Checksum::of(&content).to_string());
    // Without a file, the command line is the program.
    let inline = strategy::open("exec:true", PATIENT).unwrap();
    assert_eq!(
        (inline.identity().name.as_str(), &inline.identity().sha256),
        ("true", &Checksum::of(b"true").to_string())
    );
    assert!(strategy::open("exec: ", PATIENT).err().unwrap().to_string().contains("names no command"));
}

#[test]
fn a_program_that_has_changed_is_not_started_again() {
    let script = Script::new(&for_each_bar(HOLD));
    let mut strategy = script.start();
    ask(&mut *strategy, 1).unwrap();
    fs::write(script.path("strategy.sh"), for_each_bar("echo other")).unwrap();
    // The running one is the one that was recorded.
    ask(&mut *strategy, 2).unwrap();
    let failure = start(&mut *strategy, None).unwrap_err();
    let expected = (FailureKind::NotStarted, "strategy.sh has changed during the run");
    assert_eq!((failure.kind, failure.reason.as_str()), expected);
}

#[test]
fn a_replayed_bar_says_so_and_its_answer_is_ignored() {
    let script = Script::new(&for_each_bar("echo \"$line\" >> bars; echo nonsense"));
    let mut strategy = script.start();
    observe(&mut *strategy, 1, &bar(1, 100.0, 101.0)).unwrap();
    observe(&mut *strategy, 2, &bar(2, 100.0, 101.0)).unwrap();
    assert_eq!(ask(&mut *strategy, 3).unwrap_err().kind, FailureKind::InvalidOutput);
    let bars = fs::read_to_string(script.path("bars")).unwrap();
    let replays: Vec<_> = bars.lines().map(|bar| Value::parse(bar).unwrap().get("replay").cloned()).collect();
    assert_eq!(replays, [Some(Value::Bool(true)), Some(Value::Bool(true)), None]);
}

#[test]
fn a_silent_program_times_out_and_is_killed_with_its_children() {
    let script = Script::impatient("sleep 1000 & echo $! > child; echo $$ > parent; wait");
    let mut strategy = script.start();
    let (child, parent) = (script.process_in("child"), script.process_in("parent"));
    let failure = ask(&mut *strategy, 1).unwrap_err();
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Timeout, "no answer within 0.3 s"));
    assert_ends(&child);
    assert_ends(&parent);
    let failure = ask(&mut *strategy, 2).unwrap_err();
    assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Exited, "the program does not run"));
}

#[test]
fn a_program_that_reads_nothing_times_out() {
    let script = Script::impatient("echo $$ > parent; sleep 1000");
    let mut strategy = script.start();
    script.process_in("parent");
    // Larger than a pipe.
    let mut large = bar(1, 100.0, 101.0);
    large.candles = (0..10_000).map(|_| large.candles[0].clone()).collect();
    assert_eq!(decide(&mut *strategy, 1, &large, 0.0).unwrap_err().kind, FailureKind::Timeout);
}

#[test]
fn a_crashed_program_is_a_failure_of_its_own() {
    for (end, expected) in [
        ("exit 3", "the program exited with code 3"),
        ("exit 0", "the program exited with code 0"),
        ("kill -9 $$", "the program was ended by signal 9"),
        ("printf '{\"orders\"'; exit 0", "the program exited with code 0"),
    ] {
        let script = Script::new(&format!("read -r first; read -r line\n{HOLD}\nread -r line\n{end}"));
        let mut strategy = script.start();
        ask(&mut *strategy, 1).unwrap();
        let failure = ask(&mut *strategy, 2).unwrap_err();
        assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Exited, expected));
    }
    let mut missing = strategy::open("exec:/nonexistent/strategy", PATIENT).unwrap();
    let failure = start(&mut *missing, None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotStarted);
    assert!(failure.reason.starts_with("cannot start `/nonexistent/strategy`: "), "{}", failure.reason);
    // A command of the shell.
    let mut missing = strategy::open("exec:cd . && /nonexistent/strategy 2>/dev/null", PATIENT).unwrap();
    start(&mut *missing, None).unwrap();
    let failure = ask(&mut *missing, 1).unwrap_err();
    let expected = (FailureKind::NotStarted, "the program exited with code 127 without reading its input");
    assert_eq!((failure.kind, failure.reason.as_str()), expected);
}

#[test]
fn a_closed_pipe_is_a_failure_of_its_own() {
    let script = Script::new(&format!("read -r first; read -r line; exec <&-\n{HOLD}\nsleep 1000"));
    let mut strategy = script.start();
    ask(&mut *strategy, 1).unwrap();
    let failure = ask(&mut *strategy, 2).unwrap_err();
    assert_eq!(
        (failure.kind, failure.reason.as_str()),
        (FailureKind::Exited, "the program closed its input")
    );

    let script = Script::new("echo $$ > parent; exec >&-; sleep 1000");
    let mut strategy = script.start();
    let parent = script.process_in("parent");
    let failure = ask(&mut *strategy, 1).unwrap_err();
    assert_eq!(
        (failure.kind, failure.reason.as_str()),
        (FailureKind::Exited, "the program closed its output")
    );
    assert_ends(&parent);
}

#[test]
fn garbage_is_refused_and_the_program_is_killed() {
    for (answer, expected) in [
        ("debug: starting", "not a line of JSON: expected a value (line 1, column 1)"),
        ("", "not a line of JSON: "),
        ("[]", "expected an object, found an array"),
        ("{}", "orders: is missing"),
        (r#"{"orders": {}}"#, "orders: expected an array, found an object"),
        (r#"{"orders": [], "cycle_id": 2}"#, "cycle_id: is not that of the bar, 1"),
        (r#"{"orders": []} {"orders": []}"#, "not a line of JSON: "),
    ] {
        assert!(failure_of(answer).starts_with(expected), "{answer}: {}", failure_of(answer));
    }
    let script = Script::new(&for_each_bar("echo $$ > parent; printf '\\377\\n'"));
    let (kind, reason) = failure(&script);
    assert_eq!(kind, FailureKind::InvalidOutput);
    assert_eq!(reason, "the program's answer is not UTF-8: invalid byte at offset 0");
    assert_ends(&script.process_in("parent"));
}

#[test]
fn an_invalid_order_makes_the_answer_invalid() {
    let valid = r#"{"symbol": "BTC", "side": "buy", "quantity": 1, "confidence": 1, "reason": "x"}"#;
    for (from, to, expected) in [
        (r#""buy""#, r#""hold""#, "orders[1].side: must be `buy` or `sell`, is `hold`"),
        (r#""quantity": 1"#, r#""quantity": 0"#, "orders[1].quantity: must be above 0, is 0"),
        (r#""quantity": 1"#, r#""quantity": "1""#, "orders[1].quantity: expected a number, found a string"),
        (r#""quantity": 1, "#, "", "orders[1].quantity: is missing"),
        (
            r#""confidence": 1"#,
            r#""confidence": 1.1"#,
            "orders[1].confidence: must be between 0 and 1, is 1.1",
        ),
        (r#""BTC""#, r#""""#, "orders[1].symbol: must not be empty"),
        (r#""x""#, "null", "orders[1].reason: expected a string, found null"),
        (r#""x""#, r#""x", "limit_price": -1"#, "orders[1].limit_price: must be above 0, is -1"),
        (
            r#""x""#,
            r#""x", "reduce_only": 1"#,
            "orders[1].reduce_only: expected true or false, found an integer",
        ),
        (r#""x""#, r#""x", "key": """#, "orders[1].key: must not be empty"),
    ] {
        let answer = format!(r#"{{"orders": [{valid}, {}]}}"#, valid.replacen(from, to, 1));
        assert_eq!(failure_of(&answer), expected);
    }
}

#[test]
fn unknown_fields_are_reported_once() {
    let order =
        r#"{"symbol": "BTC", "side": "buy", "quantity": 1, "confidence": 1, "reason": "x", "stop_loss": 1}"#;
    let script = Script::new(&for_each_bar("cat answer"));
    fs::write(script.path("answer"), format!("{{\"orders\": [{order}], \"comment\": \"\"}}\n")).unwrap();
    let mut strategy = script.start();
    assert_eq!(ask(&mut *strategy, 1).unwrap().intents.len(), 1);
    assert_eq!(ask(&mut *strategy, 2).unwrap().intents.len(), 1);
    assert_eq!(
        strategy.warnings(),
        [
            "the strategy's answer: comment: is not known and has no effect",
            "the strategy's answer: orders[0].stop_loss: is not known and has no effect",
        ]
    );
    assert_eq!(strategy.warnings(), [""; 0]);
}

#[test]
fn a_line_of_100_mb_is_refused_before_it_is_read() {
    let script = Script::new(&for_each_bar("head -c 100000000 /dev/zero | tr '\\0' a"));
    let before = peak_memory_kib();
    let expected = "the program's answer is longer than 1048576 bytes".to_owned();
    assert_eq!(failure(&script), (FailureKind::InvalidOutput, expected));
    // Other tests of this process run at the same time. They need less than that.
    assert!(peak_memory_kib() < before + (64 << 10));
}

#[test]
fn an_answer_before_it_was_asked_for_is_refused() {
    let script = Script::new("echo '{\"orders\": []}'; echo > printed; sleep 1000");
    let mut strategy = script.start();
    wait_until(|| script.path("printed").exists());
    let early = ask(&mut *strategy, 1).unwrap_err();
    let expected = (FailureKind::InvalidOutput, "the program printed a line before it was asked");
    assert_eq!((early.kind, early.reason.as_str()), expected);

    let script = Script::new(&for_each_bar("printf '{\"orders\": []}\\n{\"orders\": []}\\n'"));
    let expected = "the program printed more than one line for a bar".to_owned();
    assert_eq!(failure(&script), (FailureKind::InvalidOutput, expected));
}

#[test]
fn a_program_learns_of_its_end_and_must_be_silent_then() {
    let script = Script::new(&format!("{}\necho bye > ended", for_each_bar(HOLD)));
    let mut strategy = script.start();
    ask(&mut *strategy, 1).unwrap();
    strategy.stop().unwrap();
    // The program had the time to end by itself.
    assert_eq!(fs::read_to_string(script.path("ended")).unwrap(), "bye\n");
    strategy.stop().unwrap();
    assert_eq!(ask(&mut *strategy, 2).unwrap_err().kind, FailureKind::Exited);

    let script = Script::new(&format!("{}\n{HOLD}", for_each_bar(HOLD)));
    let mut strategy = script.start();
    ask(&mut *strategy, 1).unwrap();
    let failure = strategy.stop().unwrap_err();
    assert_eq!(failure.kind, FailureKind::OutputAfterStop);
    assert_eq!(failure.reason, r#"the program printed after it was told to stop: {"orders": []}"#);
}

#[test]
fn a_program_that_does_not_stop_is_killed() {
    let script = Script::impatient("echo $$ > parent; sleep 1000");
    let mut strategy = script.start();
    let parent = script.process_in("parent");
    strategy.stop().unwrap();
    assert_ends(&parent);
}

#[test]
fn a_dropped_strategy_leaves_no_process() {
    let script = Script::new("sleep 1000 & echo $! > child; echo $$ > parent; wait");
    let strategy = script.start();
    let (child, parent) = (script.process_in("child"), script.process_in("parent"));
    drop(strategy);
    assert_ends(&child);
    assert_ends(&parent);
}

#[test]
fn a_failed_program_can_be_started_again_with_its_state() {
    let script = Script::new(&format!(
        "read -r first; echo \"$first\" >> starts\nread -r line\n{HOLD}\nread -r line\nexit 1"
    ));
    let mut strategy = script.start();
    ask(&mut *strategy, 1).unwrap();
    assert_eq!(ask(&mut *strategy, 2).unwrap_err().kind, FailureKind::Exited);
    start(&mut *strategy, Some(&Json::parse("{\"n\":1}").unwrap())).unwrap();
    ask(&mut *strategy, 3).unwrap();
    let starts = fs::read_to_string(script.path("starts")).unwrap();
    let states: Vec<_> =
        starts.lines().map(|start| Value::parse(start).unwrap().get("state").is_some()).collect();
    assert_eq!(states, [false, true]);
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/strategies").join(name);
    path.canonicalize().unwrap().display().to_string()
}

#[test]
fn the_python_template_decides_as_sma_cross_and_continues_from_its_state() {
    if std::env::var_os("ZERO_TEST_WITHOUT_PYTHON").is_some() {
        return;
    }
    let spec = format!("exec:python3 {}", example("sma_cross.py"));
    let mut program = strategy::open(&spec, PATIENT).unwrap();
    let mut built_in = strategy::open("sma-cross:fast=5,slow=20,quantity=1", PATIENT).unwrap();
    start(&mut *program, None).unwrap();
    start(&mut *built_in, None).unwrap();
    let (mut held, mut orders) = (0.0, 0);
    for cycle_id in 1..=200 {
        let close = 100.0 + 10.0 * (cycle_id as f64 / 9.0).sin();
        let bar = bar(cycle_id, close, close);
        let [answer, expected] = [&mut program, &mut built_in]
            .map(|strategy| decide(&mut **strategy, cycle_id, &bar, held).unwrap());
        let parts = |answer: &strategy::Answer| {
            let parts = answer
                .intents
                .iter()
                .map(|intent| (intent.symbol.clone(), intent.side, intent.quantity, intent.reduce_only));
            parts.collect::<Vec<_>>()
        };
        assert_eq!(parts(&answer), parts(&expected), "cycle {cycle_id}");
        for intent in &answer.intents {
            held += if intent.side == Side::Buy { 1.0 } else { -1.0 };
            orders += 1;
        }
        if cycle_id == 100 {
            program.stop().unwrap();
            start(&mut *program, Some(&answer.state.unwrap())).unwrap();
        }
    }
    program.stop().unwrap();
    assert_eq!(program.warnings(), [""; 0]);
    assert!(orders > 4, "{orders}");
}

#[test]
fn the_shell_template_buys_above_the_open_and_sells_below() {
    if std::env::var_os("ZERO_TEST_WITHOUT_JQ").is_some() {
        return;
    }
    let mut program =
        strategy::open(&format!("exec:sh {}", example("close_above_open.sh")), PATIENT).unwrap();
    start(&mut *program, None).unwrap();
    for (cycle_id, open, close, held, expected) in [
        (1, 100.0, 101.0, 0.0, Some((Side::Buy, false))),
        (2, 100.0, 101.0, 1.0, None),
        (3, 100.0, 99.0, 1.0, Some((Side::Sell, true))),
        (4, 100.0, 99.0, 0.0, None),
    ] {
        let answer = decide(&mut *program, cycle_id, &bar(cycle_id, open, close), held).unwrap();
        let intent = answer.intents.first().map(|intent| (intent.side, intent.reduce_only));
        assert_eq!(intent, expected, "cycle {cycle_id}");
    }
    program.stop().unwrap();
    assert_eq!(program.warnings(), [""; 0]);
}

/// Prints the rate, for people. The requirement is 5,000 bars a second.
#[test]
fn a_program_answers_thousands_of_bars() {
    if std::env::var_os("ZERO_TEST_WITHOUT_PYTHON").is_some() {
        return;
    }
    let script = Script::new("");
    let text = "import sys\nsys.stdin.readline()\nfor line in sys.stdin:\n    if '\"bar\"' in line:\n        print('{\"orders\": []}', flush=True)\n";
    fs::write(script.path("hold.py"), text).unwrap();
    let spec = format!("exec:python3 {}", script.path("hold.py").display());
    let mut strategy = strategy::open(&spec, PATIENT).unwrap();
    start(&mut *strategy, None).unwrap();
    ask(&mut *strategy, 1).unwrap();
    let begin = Instant::now();
    let bars = rounds(2_000, 20_000);
    for cycle_id in 2..=bars {
        assert!(ask(&mut *strategy, cycle_id).unwrap().intents.is_empty());
    }
    eprintln!("{:.0} bars a second", bars as f64 / begin.elapsed().as_secs_f64());
    strategy.stop().unwrap();
}

/// The most memory that this process has used so far, in KiB.
fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
