//! The state after every event of the recorded sessions.

use std::fs;
use std::path::Path;

use zero_bus::{Event, Json, Reader, Value};
use zero_paper::decision::Decision;
use zero_paper::engine::Engine;
use zero_paper::event_types;
use zero_paper::journal::Journal;
use zero_paper::scenario::Limits;
use zero_paper::state::State;

fn member(value: &Value, name: &str) -> Json {
    Json::try_from(value.get(name).unwrap()).unwrap()
}

/// The open positions after these decisions, as the engine computes them.
fn positions_after(decisions: &[Decision]) -> Json {
    let engine = Engine::recover(Limits::default(), Journal::Memory(decisions.to_vec())).unwrap();
    Json::of(&engine.book().records()).unwrap()
}

#[test]
fn the_state_after_each_event_matches_the_log_the_engine_and_the_snapshot() {
    let sessions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/sessions");
    let (mut states, mut snapshots) = (0, 0);
    for session in fs::read_dir(sessions).unwrap().map(|entry| entry.unwrap().path()) {
        for run in fs::read_dir(&session).unwrap().map(|entry| entry.unwrap().path()) {
            let bus = run.join("runtime-bus");
            if !bus.is_dir() {
                continue;
            }
            let reader = Reader::open(&bus).unwrap();
            let events: Vec<Event> = reader.events(1).unwrap().map(Result::unwrap).collect();
            let snapshot = reader.snapshot().unwrap().unwrap();
            let mut decisions = Vec::new();
            let null = Json::try_from(&Value::Null).unwrap();
            let (mut cycle, mut health, mut positions) = (null.clone(), null.clone(), null);
            for event in &events {
                match event.event_type.as_str() {
                    event_types::CYCLE => cycle = event.payload.clone(),
                    event_types::DECISION => decisions.push(Decision::parse(event.payload.as_str()).unwrap()),
                    event_types::POSITIONS => positions = positions_after(&decisions),
                    event_types::HEALTH => health = event.payload.clone(),
                    _ => {}
                }
                let state = State::at(&reader, Some(event.index)).unwrap();
                assert_eq!(state.event_index, event.index);
                assert_eq!((&state.cycle, &state.health, &state.positions), (&cycle, &health, &positions));
                states += 1;
                if event.index == snapshot.event_count {
                    let payload = snapshot.payload.value();
                    assert_eq!(state.cycle, member(&payload, "cycle"));
                    assert_eq!(state.health, member(&payload, "health"));
                    assert_eq!(state.positions, member(&payload, "positions"));
                    assert_eq!(State::at(&reader, None).unwrap(), state);
                    snapshots += 1;
                }
            }
        }
    }
    assert!(states > 100 && snapshots >= 8, "{states} states, {snapshots} snapshots");
}
