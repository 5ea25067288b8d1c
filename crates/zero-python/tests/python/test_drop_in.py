"""The interface of the old class."""

import copy
import dataclasses
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SOAK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from old_bus import OldBus, checksum

import zero_bus
from zero_bus import (
    RUNTIME_AUDIT_SCHEMA_VERSION,
    RUNTIME_EVENT_SCHEMA_VERSION,
    RUNTIME_SNAPSHOT_SCHEMA_VERSION,
    DurableRuntimeBus,
    RuntimeBusEvent,
    RuntimeBusIntegrity,
    append_jsonl,
    checksum_event,
    event_core,
    summarize_events,
    write_json_atomic,
)

FIELDS = {
    "schema_version": "zero.runtime.event.v1",
    "event_id": "evt-000000000001",
    "event_index": 1,
    "event_type": "runtime.health",
    "as_of": 123.0,
    "payload": {"status": "ok"},
    "previous_checksum": None,
    "checksum": "sha256:" + "0" * 64,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def bus(tmp_path):
    return DurableRuntimeBus(tmp_path / "bus")


def test_appends_events_and_a_snapshot_and_exports_the_audit(bus):
    first = bus.append("runtime.health", {"status": "ok"}, as_of=123.0, trace_id="trace-1")
    second = bus.append("operator.command", {"command": "pause"}, as_of=124.0, trace_id="trace-2")
    snapshot = bus.write_snapshot({"health": "paused"}, as_of=124.0, source_event_id=second.event_id)
    assert isinstance(first, RuntimeBusEvent)
    assert first.previous_checksum is None and second.previous_checksum == first.checksum
    assert list(snapshot) == [
        "schema_version", "as_of", "source_event_id", "event_count", "last_checksum", "payload"
    ]  # fmt: skip
    assert (snapshot["event_count"], snapshot["last_checksum"]) == (2, second.checksum)
    assert bus.read_snapshot() == snapshot
    assert bus.read_events() == [first, second]
    assert bus.verify_integrity() == RuntimeBusIntegrity(ok=True, events=2, last_checksum=second.checksum)
    assert bus.verify_snapshot() == {"present": True, "consistent": True, "reason": "ok"}
    audit = bus.export_audit()
    assert list(audit) == [
        "schema_version", "source", "integrity", "snapshot_integrity", "summary", "snapshot", "events"
    ]  # fmt: skip
    assert audit["schema_version"] == RUNTIME_AUDIT_SCHEMA_VERSION
    assert audit["source"] == "durable-runtime-bus"
    assert audit["integrity"] == bus.verify_integrity().to_dict()
    assert audit["snapshot_integrity"] == bus.verify_snapshot()
    assert audit["summary"] == {"events": 2, "event_types": {"runtime.health": 1, "operator.command": 1}}
    assert audit["snapshot"] == snapshot
    assert audit["events"] == [first.to_dict(), second.to_dict()]
    assert audit["summary"] == summarize_events(audit["events"])


def test_a_bus_without_files_is_empty_and_reading_creates_nothing(bus):
    assert (bus.root.name, bus.events_path.name, bus.snapshot_path.name) == (
        "bus", "events.jsonl", "state-snapshot.json"
    )  # fmt: skip
    assert bus.read_events() == [] and bus.read_snapshot() is None
    assert bus.verify_integrity() == RuntimeBusIntegrity(ok=True, events=0, last_checksum=None, reason="ok")
    assert bus.verify_snapshot() == {"present": False, "consistent": True, "reason": "no snapshot"}
    audit = bus.export_audit()
    assert (audit["events"], audit["snapshot"]) == ([], None)
    assert audit["summary"] == {"events": 0, "event_types": {}}
    assert not bus.root.exists()
    snapshot = bus.write_snapshot({}, as_of=1.0)
    assert (snapshot["event_count"], snapshot["last_checksum"], snapshot["source_event_id"]) == (0, None, None)


def test_the_root_may_be_a_string_and_parents_are_created(tmp_path):
    bus = DurableRuntimeBus(str(tmp_path / "a" / "b"))
    assert isinstance(bus.root, Path)
    bus.append("a", {}, as_of=1.0)
    assert stat.S_IMODE(os.stat(bus.root).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(bus.events_path).st_mode) == 0o600


@settings(max_examples=60 if SOAK else 20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(), json_values, max_size=5), st.floats(0, 1e10), st.none() | st.text()),
        max_size=4,
    )
)
def test_it_writes_the_bytes_of_the_old_class(tmp_path, drafts):
    folder = tmp_path / "compared"
    shutil.rmtree(folder, ignore_errors=True)
    new, old = DurableRuntimeBus(folder / "new"), OldBus(folder / "old")
    for payload, as_of, trace_id in drafts:
        appended = new.append("x.y", payload, as_of=as_of, trace_id=trace_id)
        expected = old.append("x.y", payload, as_of=as_of, trace_id=trace_id)
        assert appended.to_dict() == expected
        assert appended.payload == payload
    state = {"n": len(drafts)}
    assert new.write_snapshot(state, as_of=1.0) == old.write_snapshot(state, as_of=1.0)
    assert new.snapshot_path.read_bytes() == old.snapshot_path.read_bytes()
    if drafts:
        assert new.events_path.read_bytes() == old.events_path.read_bytes()
    # Each reads what the other wrote.
    assert [event.to_dict() for event in DurableRuntimeBus(old.root).read_events()] == old.read_events()
    new.close()


def test_the_recorded_logs_have_their_recorded_verdicts(conformance):
    verdicts = json.loads((conformance / "logs/verdicts.json").read_text())
    assert len(verdicts) > 15
    for name, expected in verdicts.items():
        bus = DurableRuntimeBus(conformance / "logs" / name)
        assert bus.verify_integrity().to_dict() == expected["integrity"], name
        assert bus.verify_snapshot() == expected["snapshot_integrity"], name
        audit = bus.export_audit()
        assert audit["summary"] == expected["summary"], name
        assert len(bus.read_events()) == expected["summary"]["events"], name
    recorded = json.loads((conformance / "logs/valid-40/audit.json").read_text())
    assert DurableRuntimeBus(conformance / "logs/valid-40").export_audit() == recorded


def test_a_torn_tail_is_read_over_and_a_line_that_is_no_event_raises(conformance, tmp_path):
    torn = DurableRuntimeBus(conformance / "logs/torn-tail")
    events = torn.read_events()
    assert events and torn.verify_integrity().events == len(events)
    assert not torn.verify_integrity().ok
    garbage = DurableRuntimeBus(conformance / "logs/garbage-line")
    assert not garbage.verify_integrity().ok
    with pytest.raises(ValueError) as raised:
        garbage.read_events()
    assert isinstance(raised.value, zero_bus.errors.DamagedError)
    lines = garbage.events_path.read_bytes().split(b"\n")
    index = raised.value.index
    assert raised.value.byte_offset == sum(len(line) + 1 for line in lines[: index - 1])
    extra = DurableRuntimeBus(conformance / "logs/extra-key")
    assert len(extra.read_events()) == len(extra.events_path.read_text().splitlines())
    assert not extra.verify_integrity().ok


def test_tampering_and_a_lost_tail_are_detected(bus):
    bus.append("runtime.health", {"status": "ok"}, as_of=123.0)
    second = bus.append("runtime.health", {"status": "ok"}, as_of=124.0)
    bus.write_snapshot({"status": "ok"}, as_of=124.0, source_event_id=second.event_id)
    lines = bus.events_path.read_text().splitlines()
    bus.events_path.write_text(lines[0] + "\n")
    assert bus.verify_snapshot() == {
        "present": True, "consistent": False, "reason": "snapshot references missing tail events"
    }  # fmt: skip
    event = json.loads(lines[0])
    event["payload"]["status"] = "mutated"
    bus.events_path.write_text(json.dumps(event, sort_keys=True) + "\n" + lines[1] + "\n")
    assert bus.verify_integrity() == RuntimeBusIntegrity(
        ok=False, events=0, last_checksum=None, reason="checksum mismatch at event 1"
    )
    assert [read.payload["status"] for read in bus.read_events()] == ["mutated", "ok"]
    with pytest.raises(ValueError):
        bus.append("runtime.health", {}, as_of=125.0)


def test_it_uses_the_files_that_are_there(bus):
    bus.append("a", {"n": 1}, as_of=1.0)
    # Another handle appends, and then the whole bus is replaced.
    DurableRuntimeBus(bus.root).append("b", {"n": 2}, as_of=2.0)
    assert bus.write_snapshot({}, as_of=2.0)["event_count"] == 2
    assert bus.append("c", {"n": 3}, as_of=3.0).event_index == 3
    shutil.rmtree(bus.root)
    assert bus.append("d", {"n": 4}, as_of=4.0).event_index == 1
    bus.close()
    assert bus.append("e", {"n": 5}, as_of=5.0).event_index == 2
    assert [event.event_type for event in bus.read_events()] == ["d", "e"]


def test_a_relative_root_stays_the_same_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    bus = DurableRuntimeBus("bus")
    assert (bus.root, bus.events_path) == (Path("bus"), Path("bus/events.jsonl"))
    assert bus.snapshot_path == Path("bus/state-snapshot.json")
    bus.append("a", {}, as_of=1.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert bus.append("b", {}, as_of=2.0).event_index == 2
    bus.close()
    assert bus.append("c", {}, as_of=3.0).event_index == 3
    assert bus.read_snapshot() is None and bus.write_snapshot({}, as_of=3.0) == bus.read_snapshot()
    assert len(bus.read_events()) == 3 and bus.verify_snapshot()["consistent"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_it_creates_its_files_beside_others_as_before(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    bus = DurableRuntimeBus(tmp_path)
    assert bus.read_events() == [] and bus.verify_integrity().ok and bus.export_audit()["events"] == []
    bus.append("a", {}, as_of=1.0)
    assert len(bus.read_events()) == 1


def test_events_are_frozen_values():
    event = RuntimeBusEvent(**FIELDS)
    same = RuntimeBusEvent.from_dict(event.to_dict())
    assert event == same and hash(event) == hash(same) and event != RuntimeBusEvent(**{**FIELDS, "as_of": 1.0})
    assert event != FIELDS and event.trace_id is None
    assert list(event.to_dict()) == list(FIELDS)
    traced = RuntimeBusEvent(**FIELDS, trace_id="t")
    assert list(traced.to_dict()) == [*FIELDS, "trace_id"] and traced != event
    with pytest.raises(AttributeError):
        event.as_of = 2.0
    with pytest.raises(TypeError):
        RuntimeBusEvent(schema_version="only")
    assert RuntimeBusEvent(*FIELDS.values()) == event
    assert repr(event).startswith("RuntimeBusEvent(schema_version='zero.runtime.event.v1', event_id='evt-")
    assert dataclasses.is_dataclass(event)
    assert dataclasses.replace(event, event_index=2).event_index == 2
    assert dataclasses.asdict(traced)["payload"] == {"status": "ok"}
    assert copy.deepcopy(event) == event and pickle.loads(pickle.dumps(event)) == event


def test_from_dict_converts_and_ignores_as_before():
    event = RuntimeBusEvent.from_dict(
        {**FIELDS, "event_index": "7", "as_of": 3, "payload": [("a", 1)], "trace_id": "", "unknown": 1}
    )
    assert (event.event_index, event.as_of, event.payload, event.trace_id) == (7, 3.0, {"a": 1}, None)
    with pytest.raises(KeyError):
        RuntimeBusEvent.from_dict({})
    with pytest.raises(ValueError):
        RuntimeBusEvent.from_dict({**FIELDS, "as_of": "no"})

    class Sub(RuntimeBusEvent):
        pass

    assert type(Sub.from_dict(FIELDS)) is Sub


def test_verdicts_are_frozen_values():
    verdict = RuntimeBusIntegrity(ok=True, events=1, last_checksum="c")
    assert verdict.to_dict() == {"ok": True, "events": 1, "last_checksum": "c", "reason": "ok"}
    assert RuntimeBusIntegrity.from_dict(verdict.to_dict()) == verdict
    with pytest.raises(AttributeError):
        verdict.ok = False


def test_the_functions_do_what_the_old_ones_did(bus, tmp_path):
    event = bus.append("a.b", {"é": [1, 2.0]}, as_of=1.0, trace_id="t")
    core = event_core(event)
    assert "checksum" not in core and core["trace_id"] == "t"
    assert checksum_event(core) == event.checksum == checksum(core)
    assert (RUNTIME_EVENT_SCHEMA_VERSION, RUNTIME_SNAPSHOT_SCHEMA_VERSION) == (
        "zero.runtime.event.v1", "zero.runtime.snapshot.v1"
    )  # fmt: skip
    lines = tmp_path / "lines.jsonl"
    append_jsonl(lines, {"b": 1, "a": (2, None)})
    append_jsonl(lines, {2: "int key"})
    assert lines.read_bytes() == b'{"a":[2,null],"b":1}\n{"2":"int key"}\n'
    assert stat.S_IMODE(os.stat(lines).st_mode) == 0o600
    target = tmp_path / "state.json"
    write_json_atomic(target, {"v": 1})
    write_json_atomic(target, {"v": 2.5})
    assert target.read_bytes() == b'{"v":2.5}\n' and stat.S_IMODE(os.stat(target).st_mode) == 0o600
    with pytest.raises(TypeError):
        write_json_atomic(target, {"v": object()})
    assert target.read_bytes() == b'{"v":2.5}\n' and len(list(tmp_path.glob("state.json*"))) == 1
    assert summarize_events([{"event_type": "a"}, {"event_type": "a"}]) == {"events": 2, "event_types": {"a": 2}}


def test_errors_have_the_base_classes_of_the_old_ones(bus, tmp_path):
    with pytest.raises(TypeError):
        bus.append("a", {"x": object()}, as_of=1.0)
    with pytest.raises(ValueError):
        bus.append("a", {"x": float("nan")}, as_of=1.0)
    with pytest.raises(TypeError):
        bus.append("a", {})
    assert not bus.root.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        DurableRuntimeBus(tmp_path / "file").append("a", {}, as_of=1.0)
    with pytest.raises(OSError) as raised:
        DurableRuntimeBus(tmp_path / "file" / "below").append("a", {}, as_of=1.0)
    assert isinstance(raised.value, zero_bus.BusError) and raised.value.errno and raised.value.filename
    bus.append("a", {}, as_of=1.0)
    bus.snapshot_path.write_text("{")
    with pytest.raises(ValueError):
        bus.read_snapshot()


def test_it_can_be_pickled_copied_and_used_after_a_fork(bus):
    bus.append("a", {}, as_of=1.0)
    for other in (pickle.loads(pickle.dumps(bus)), copy.copy(bus)):
        other.append("b", {}, as_of=2.0)
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            bus.append("c", {}, as_of=3.0)
            ended = 0
        finally:
            os._exit(ended)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    bus.append("d", {}, as_of=4.0)
    assert [event.event_type for event in bus.read_events()] == ["a", "b", "b", "c", "d"]


def test_a_program_changes_its_import_and_nothing_else(tmp_path):
    program = """
import sys
from pathlib import Path
from zero_bus import DurableRuntimeBus
bus = DurableRuntimeBus(Path(sys.argv[1]))
event = bus.append("runtime.health", {"status": "ok"}, as_of=123.0)
print(event.event_id, bus.verify_integrity().ok)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "bus")]
    assert subprocess.check_output(command, text=True) == "evt-000000000001 True\n"
