//! The production-parity report: evidence that the live path stays disabled.
//!
//! The scenario runs on paper, and every intent is also submitted to a disabled live executor,
//! which must refuse it. The report adds the results of the dry-run drills. It claims nothing about
//! live trading.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zero_bus::storage::{Directory, replace};
use zero_bus::{AmbiguousTail, Checksum, Integrity, Json, Reader, SnapshotIntegrity, Value, Verdict};

use crate::clock::{Clock, rfc3339};
use crate::cycle::{CycleRecord, Phase};
use crate::drills::{self, Certification};
use crate::error::{Error, Result};
use crate::event_types;
use crate::feedback::Feedback;
use crate::live::{
    ExchangeAdapter, LiveExecutor, LiveRecord, LiveStatus, OperatorContext, RecordingAdapter, Refusal,
};
use crate::order_source::Run;
use crate::record_paths::RecordPaths;
use crate::risk::ReduceOnlyRule;
use crate::runtime::Runtime;
use crate::scenario::Scenario;
use crate::start_checkpoint::CheckpointOptions;

/// The `schema_version` of the report.
pub const PARITY_SCHEMA: &str = "zero.runtime.production_parity.v1";

/// The report's file name in the output directory.
pub const REPORT: &str = "production-parity.json";

/// Number of events that a cycle publishes.
const EVENTS_PER_CYCLE: u64 = 5;

/// Number of cycles in the report; the latest are kept.
const RECENT_CYCLES: usize = 3;

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    certification: Certification,
    /// The checks by name, and whether each passed.
    pub checks: BTreeMap<&'static str, bool>,
    claim_boundary: ClaimBoundary,
    cycles_requested: u64,
    cycles_run: u64,
    feedback: Feedback,
    generated_at: String,
    live_shadow: LiveShadow,
    mode: &'static str,
    /// Whether every check passed.
    pub ok: bool,
    paper: Paper,
    paper_only: bool,
    /// SHA-256 of the canonical form of `checks`, `cycles_run`, `feedback` (without
    /// `generated_at`), `scenario` and `schema_version`. Equal runs have equal hashes.
    pub parity_hash: Checksum,
    phase_order: Vec<Option<String>>,
    places_live_orders: bool,
    runtime_bus: BusRecord,
    scenario: String,
    schema_version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ClaimBoundary {
    live_trading_claimed: bool,
    operator_owned_canary_required_for_live_claim: bool,
    production_ooda_parity: bool,
    protected_live_code_evolution_allowed: bool,
    remote_push_allowed: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LiveShadow {
    accepted: usize,
    adapter_orders_placed: usize,
    mode: &'static str,
    records: Vec<LiveRecord>,
    refused: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Paper {
    decisions: u64,
    fills: u64,
    open_positions: u64,
    recent_cycles: Vec<CycleRecord>,
    rejections: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct BusRecord {
    integrity: Integrity,
    snapshot: SnapshotIntegrity,
}

/// The input of the checks: the bus as read back after the run, and the records of the live
/// executor. Each check can fail, and a test makes each one fail.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Combined result of the drills.
    pub certification: Certification,
    /// Number of requested cycles.
    pub cycles_requested: u64,
    /// The cycles on the bus.
    pub recorded: Vec<PublishedCycle>,
    /// The live executor's record of each intent, in cycle order.
    pub shadow: Vec<LiveRecord>,
    /// Number of orders that reached the exchange adapter.
    pub adapter_orders_placed: usize,
    /// Whether the adapter's orders move money.
    pub adapter_is_live: bool,
    /// Verdicts on the log and the snapshot.
    pub verdict: Verdict,
    /// Number of events that the snapshot covers.
    pub snapshot_events: Option<u64>,
}

/// A cycle as published on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedCycle {
    /// Mode of the cycle record.
    pub mode: Option<String>,
    /// The `phase` field of each phase, in cycle order.
    pub phases: Vec<Option<String>>,
    /// Idempotency key of the decision.
    pub idempotency_key: Option<String>,
}

impl Evidence {
    /// Evaluates the checks, by name.
    pub fn checks(&self) -> BTreeMap<&'static str, bool> {
        let refused = |record: &LiveRecord| {
            !record.accepted
                && record.status == LiveStatus::Refused
                && record.reason == Refusal::Disabled.reason()
        };
        let cycles = self.recorded.len() as u64;
        let is_paper = |cycle: &PublishedCycle| cycle.mode.as_deref() == Some("paper");
        let in_order = |cycle: &PublishedCycle| {
            cycle.phases.iter().map(Option::as_deref).eq(Phase::ORDER.iter().map(|phase| Some(phase.name())))
        };
        let Verdict { integrity, snapshot_integrity, .. } = &self.verdict;
        let events = integrity.head.index;
        let shadow_keys = self.shadow.iter().map(|record| Some(&record.idempotency_key));
        BTreeMap::from([
            ("dry_run_live_certification", self.certification.passed),
            ("live_adapter_no_orders", self.adapter_orders_placed == 0),
            ("live_shadow_count", self.shadow.len() as u64 == cycles),
            ("live_shadow_fail_closed", self.shadow.iter().all(refused)),
            ("paper_boundary", !self.adapter_is_live && self.recorded.iter().all(is_paper)),
            ("paper_cycle_count", cycles == self.cycles_requested),
            ("phase_order", self.recorded.iter().all(in_order)),
            ("runtime_bus_integrity", integrity.ok() && events == cycles * EVENTS_PER_CYCLE),
            (
                "runtime_snapshot_consistent",
                snapshot_integrity.present
                    && snapshot_integrity.consistent
                    && self.snapshot_events == Some(events),
            ),
            (
                "shared_idempotency_keys",
                shadow_keys.eq(self.recorded.iter().map(|cycle| cycle.idempotency_key.as_ref())),
            ),
        ])
    }
}

/// Reads the cycles back from the bus. Stops at the first damaged event, which the verdict reports.
///
/// # Errors
/// The bus cannot be opened.
pub fn read_back(reader: &Reader) -> Result<Vec<PublishedCycle>> {
    let mut recorded: Vec<PublishedCycle> = Vec::new();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    for event in reader.events(1)?.map_while(std::result::Result::ok) {
        let payload = event.payload.value();
        match event.event_type.as_str() {
            event_types::CYCLE => recorded.push(PublishedCycle {
                mode: text(payload.get("mode")),
                phases: Phase::ORDER
                    .map(|phase| text(payload.get(phase.name()).and_then(|fields| fields.get("phase"))))
                    .into(),
                idempotency_key: None,
            }),
            event_types::DECISION => {
                if let Some(cycle) = recorded.last_mut() {
                    cycle.idempotency_key = text(payload.get("idempotency_key"));
                }
            }
            _ => {}
        }
    }
    Ok(recorded)
}

/// Runs the scenario on paper, submits every intent to a disabled live executor as well, and writes
/// the journals, the bus and the report to the directory `output`. Without `max_cycles`, each order
/// is used once.
///
/// The files of an earlier report in `output` are replaced. A directory with other files is
/// refused.
///
/// # Errors
/// The run failed, or `output` cannot be used. A report that is not `ok` is not an error.
pub fn run(
    scenario: &Scenario,
    reduce_only_rule: ReduceOnlyRule,
    output: &Path,
    max_cycles: Option<u64>,
    clock: Arc<dyn Clock>,
) -> Result<Report> {
    let generated_at = rfc3339(clock.now()).ok_or_else(|| Error::Refused {
        path: output.to_owned(),
        problem: "the clock is outside of the years -9999 to 9999; set another time".to_owned(),
    })?;
    let output = Output::prepare(output)?;
    let records = output.records();
    let cycles_requested = max_cycles.unwrap_or(scenario.orders.len() as u64);
    let run = Run { reduce_only_rule, ..Run::from(scenario.clone()) };
    let mut runtime = Runtime::start(run, &records, clock)?;
    let context = OperatorContext::production_parity();
    let mut executor =
        LiveExecutor::disabled(RecordingAdapter::default(), context, scenario.limits.max_notional_usd);
    let mut cycles = Vec::new();
    let mut shadow = Vec::new();
    for _ in 0..cycles_requested {
        let cycle = runtime.run_cycle()?;
        let trace_id = format!("production-parity-cycle-{}", cycle.cycle_id);
        let order = cycle.act.decision.order();
        shadow.push(executor.submit(&order, &cycle.decide.idempotency_key, &trace_id, cycle.as_of));
        cycles.push(cycle);
    }
    runtime.sync()?;
    let adapter = executor.adapter();
    let reader = output.reader()?;
    let evidence = Evidence {
        certification: Certification::of(&drills::run()),
        cycles_requested,
        recorded: read_back(&reader)?,
        shadow,
        adapter_orders_placed: adapter.placed.len(),
        adapter_is_live: adapter.is_live(),
        verdict: reader.verify()?,
        snapshot_events: reader.snapshot()?.map(|snapshot| snapshot.event_count),
    };
    let counts = runtime.engine().counts();
    let paper = Paper {
        decisions: counts.decisions,
        fills: counts.fills,
        open_positions: runtime.engine().book().open_positions(),
        recent_cycles: cycles[cycles.len().saturating_sub(RECENT_CYCLES)..].to_vec(),
        rejections: counts.rejections,
    };
    let feedback = Feedback::of(cycles.iter().map(|cycle| &cycle.act.decision));
    let report = report(evidence, paper, feedback, scenario.name.clone(), generated_at)?;
    output.finish(&report)?;
    Ok(report)
}

fn report(
    evidence: Evidence,
    paper: Paper,
    mut feedback: Feedback,
    scenario: String,
    generated_at: String,
) -> Result<Report> {
    let checks = evidence.checks();
    let ok = checks.values().all(|passed| *passed);
    let cycles_run = evidence.recorded.len() as u64;
    let parity_hash = {
        #[derive(Serialize)]
        struct Hashed<'a> {
            checks: &'a BTreeMap<&'static str, bool>,
            cycles_run: u64,
            feedback: &'a Feedback,
            scenario: &'a str,
            schema_version: &'static str,
        }
        let hashed = Hashed {
            checks: &checks,
            cycles_run,
            feedback: &feedback,
            scenario: &scenario,
            schema_version: PARITY_SCHEMA,
        };
        Checksum::of(Json::of(&hashed)?.as_str().as_bytes())
    };
    feedback.generated_at = Some(generated_at.clone());
    let accepted = evidence.shadow.iter().filter(|record| record.accepted).count();
    let refused = evidence.shadow.iter().filter(|record| record.status == LiveStatus::Refused).count();
    Ok(Report {
        certification: evidence.certification,
        claim_boundary: ClaimBoundary {
            live_trading_claimed: false,
            operator_owned_canary_required_for_live_claim: true,
            production_ooda_parity: ok,
            protected_live_code_evolution_allowed: false,
            remote_push_allowed: false,
        },
        cycles_requested: evidence.cycles_requested,
        cycles_run,
        feedback,
        generated_at,
        live_shadow: LiveShadow {
            accepted,
            adapter_orders_placed: evidence.adapter_orders_placed,
            mode: "disabled-fail-closed",
            records: evidence.shadow,
            refused,
        },
        mode: "production-parity",
        ok,
        paper,
        paper_only: checks["paper_boundary"],
        parity_hash,
        phase_order: evidence.recorded.first().map(|cycle| cycle.phases.clone()).unwrap_or_default(),
        places_live_orders: evidence.adapter_is_live && evidence.adapter_orders_placed > 0,
        runtime_bus: BusRecord {
            integrity: evidence.verdict.integrity,
            snapshot: evidence.verdict.snapshot_integrity,
        },
        scenario,
        schema_version: PARITY_SCHEMA,
        checks,
    })
}

const JOURNAL: &str = "decisions.jsonl";
const CYCLE_JOURNAL: &str = "cycles.jsonl";
const BUS: &str = "runtime-bus";

/// The output directory of a report.
struct Output(PathBuf);

impl Output {
    /// Removes the files of an earlier report. Refuses a directory that holds anything else, so
    /// that no other records are lost.
    ///
    /// Until [`Output::finish`], the report file says that the report is unfinished. A run that is
    /// interrupted therefore leaves no valid report.
    fn prepare(path: &Path) -> Result<Self> {
        let output = Self(path.to_owned());
        let bus = path.join(BUS);
        let (names, bus_names) = (list(path)?, list(&bus)?);
        let refused = |problem: String| Err(Error::Refused { path: path.to_owned(), problem });
        let temporary = |name: &str| format!("{name}.tmp");
        let report_files = [JOURNAL, CYCLE_JOURNAL, BUS, REPORT, &temporary(REPORT)].map(str::to_owned);
        let bus_files = [zero_bus::LOG, zero_bus::LOCK, zero_bus::SNAPSHOT, &temporary(zero_bus::SNAPSHOT)]
            .map(str::to_owned);
        let foreign = names.iter().find(|name| !report_files.contains(name));
        if let Some(name) = foreign.or_else(|| bus_names.iter().find(|name| !bus_files.contains(name))) {
            return refused(format!(
                "contains `{name}`, which is not part of a parity report; name an empty directory"
            ));
        }
        if !names.is_empty() && !names.iter().any(|name| name == REPORT) {
            let problem = format!(
                "contains records but no {REPORT}, so they may belong to a paper run; name an empty directory"
            );
            return refused(problem);
        }
        if !names.is_empty() && !output.matches_report() {
            let problem = format!(
                "contains a bus that does not match {REPORT}, so a paper run may have continued it; \
                 name an empty directory"
            );
            return refused(problem);
        }
        output.write(r#"{"ok":false,"unfinished":true}"#)?;
        let bus_paths = bus_names.iter().map(|name| bus.join(name));
        let journals = names
            .iter()
            .filter(|name| *name == JOURNAL || *name == CYCLE_JOURNAL)
            .map(|name| path.join(name));
        for file in bus_paths.chain(journals) {
            fs::remove_file(&file).map_err(Error::io("remove the file", &file))?;
        }
        Ok(output)
    }

    /// Returns whether the report is unfinished, or the head of the bus is the one that the report
    /// names.
    fn matches_report(&self) -> bool {
        let report = fs::read_to_string(self.0.join(REPORT)).ok().and_then(|text| Value::parse(&text).ok());
        let Some(report) = report else { return false };
        if report.get("unfinished") == Some(&Value::Bool(true)) {
            return true;
        }
        let reported =
            report.get("runtime_bus").and_then(|bus| bus.get("integrity")?.get("last_checksum").cloned());
        let head = self.reader().and_then(|reader| Ok(reader.head()?));
        head.is_ok_and(|head| {
            let actual = head.checksum.map_or(Value::Null, |checksum| Value::String(checksum.to_string()));
            reported == Some(actual)
        })
    }

    fn records(&self) -> RecordPaths {
        RecordPaths {
            journal: Some(self.0.join(JOURNAL)),
            cycle_journal: Some(self.0.join(CYCLE_JOURNAL)),
            runtime_bus: Some(self.0.join(BUS)),
            rebuild_journal: false,
            on_ambiguous_tail: AmbiguousTail::Refuse,
            checkpoint: CheckpointOptions::default(),
        }
    }

    fn reader(&self) -> Result<Reader> {
        Ok(Reader::open(self.0.join(BUS))?)
    }

    fn finish(&self, report: &Report) -> Result<()> {
        self.write(&Json::of(report)?.pretty())
    }

    fn write(&self, report: &str) -> Result<()> {
        let text = format!("{report}\n");
        let directory = Directory::create(&self.0).map_err(Error::io("open the directory", &self.0))?;
        replace(&directory, REPORT, text.as_bytes())
            .map_err(Error::io("write the report", &self.0.join(REPORT)))
    }
}

/// Lists the names in a directory. A missing directory has none.
fn list(path: &Path) -> Result<Vec<String>> {
    match fs::read_dir(path) {
        Ok(entries) => entries
            .map(|entry| {
                Ok(entry
                    .map_err(Error::io("list the directory", path))?
                    .file_name()
                    .to_string_lossy()
                    .into_owned())
            })
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list the directory", path)(error)),
    }
}
