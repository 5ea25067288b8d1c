"""The native interface: appending, reading, following, verifying."""

import concurrent.futures
import errno
import json
import pickle
import shutil
import subprocess
import sys
import threading

import pytest

import zero_bus
from zero_bus import Bus, Head, Reader, errors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bus"


@pytest.fixture
def bus(path):
    with Bus.open(path) as bus:
        yield bus


def fill(bus, count):
    return bus.append_many([("a.even" if n % 2 == 0 else "b.odd", {"n": n}) for n in range(1, count + 1)])


def test_append_returns_the_event_that_a_reader_finds(bus, path):
    event = bus.append("door.opened", {"by": "cat"}, as_of=1.5, trace_id="morning")
    assert (event.event_index, event.as_of, event.trace_id, event.payload) == (1, 1.5, "morning", {"by": "cat"})
    assert Reader.open(path)[0] == event and bus.reader().event(event.event_id) == event
    assert bus.append("door.closed", {}).as_of > 1_700_000_000
    assert bus.head() == bus.reader().head() == Head(2, bus.reader()[1].checksum)
    assert open(path / "events.jsonl").readline() == json.dumps(
        event.to_dict(), sort_keys=True, separators=(",", ":")
    ) + "\n"


def test_a_batch_is_written_as_a_whole_or_not_at_all(bus):
    events = bus.append_many(
        [("a", {"n": 1}), {"event_type": "b", "payload": {}, "as_of": 2.0, "trace_id": "own"}], as_of=1.0, trace_id="t"
    )
    assert [(event.event_type, event.as_of, event.trace_id) for event in events] == [("a", 1.0, "t"), ("b", 2.0, "own")]
    assert bus.append_many([]) == []
    with pytest.raises(errors.PayloadError) as raised:
        bus.append_many([("c", {}), ("d", {"x": [float("nan")]})])
    assert raised.value.field == "events[1].payload.x[0]"
    for wrong in (("a",), "a", {"event_type": "a"}, {"event_type": "a", "payload": {}, "typo": 1}):
        with pytest.raises(TypeError):
            bus.append_many([wrong])
    assert len(bus.reader()) == 2


def test_an_expected_head_decides(bus, path):
    first = bus.append("a", {}, expect_head=0)
    with pytest.raises(errors.HeadMismatchError) as raised:
        bus.append("a", {}, expect_head=Head(0))
    assert (raised.value.expected, raised.value.actual) == (Head(0), Head(1, first.checksum))
    Bus.open(path).append("b", {}, expect_head=first)
    with pytest.raises(errors.HeadMismatchError):
        bus.append("c", {}, expect_head=first)
    assert bus.append("c", {}, expect_head=2).event_index == 3


def test_tickets_are_futures_in_order(bus):
    tickets = [bus.submit("a", {"n": n}) for n in range(500)]
    after = bus.append("b", {})
    assert [ticket.result(30).payload["n"] for ticket in tickets] == list(range(500))
    assert after.event_index == 501
    assert all(ticket.done() and not ticket.running() and not ticket.cancelled() for ticket in tickets)
    assert tickets[0].exception() is None and not tickets[0].cancel()
    called = threading.Event()
    tickets[0].add_done_callback(lambda ticket: called.set())
    assert called.is_set()
    later = threading.Event()
    ticket = bus.submit("a", {})
    ticket.add_done_callback(lambda ticket: later.set())
    assert later.wait(30)
    bus.submit("a", {"x": "y" * (2 << 20)})
    bus.submit("a", {"x": "y" * (2 << 20)})
    bus.flush()
    assert len(bus.reader()) == 504


def test_tickets_become_futures_of_the_standard_library(bus, path):
    futures = [bus.submit("a", {"n": n}).future() for n in range(20)]
    done, pending = concurrent.futures.wait(futures, timeout=60)
    assert len(done) == 20 and not pending
    assert [future.result().payload["n"] for future in futures] == list(range(20))
    assert not bus.submit("a", {}).future().cancel()
    bus.flush()
    (path / "events.jsonl").rename(path / "moved.jsonl")
    failed = bus.submit("a", {}).future()
    assert list(concurrent.futures.as_completed([failed], timeout=60)) == [failed]
    with pytest.raises(errors.ChangedError):
        failed.result()


def test_a_failed_submission_fails_its_ticket(bus, path):
    bus.append("a", {})
    (path / "events.jsonl").rename(path / "moved.jsonl")
    ticket = bus.submit("a", {})
    with pytest.raises(errors.ChangedError):
        ticket.result(30)
    assert ticket.exception() is ticket.exception()
    with pytest.raises(errors.InvalidEventError):
        bus.submit("", {})


def test_a_reader_is_a_sequence(bus):
    appended = fill(bus, 30)
    reader = bus.reader()
    assert len(reader) == 30 and list(reader) == appended == reader.read()
    for index in (0, 7, 29, -1, -30):
        assert reader[index] == appended[index]
    for index in (30, -31, 10**6):
        with pytest.raises(IndexError):
            reader[index]
    for part in (slice(10, 20), slice(None), slice(-3, None), slice(20, 5, -4), slice(5, 5), slice(25, 99), slice(None, None, 7)):
        assert reader[part] == appended[part]
    assert [event.event_index for event in reader.events(since=28)] == [29, 30]
    assert [event.event_index for event in reader.events(since=appended[27])] == [29, 30]
    assert [event.event_index for event in reader.events(since="evt-000000000028")] == [29, 30]
    assert {event.event_type for event in reader.events(types="a.*")} == {"a.even"}
    assert len(reader.read(types=["*.odd", "nothing"])) == 15 and reader.read(types=[]) == []
    assert reader.contains(appended[3]) and not reader.contains(Head(4, appended[4].checksum))
    with pytest.raises(TypeError):
        reader["x"]
    with pytest.raises(ValueError):
        reader.read(since="evt-1")


def test_a_follower_returns_what_comes(bus, path):
    fill(bus, 4)
    follow = Reader.open(path).follow(since=2, types="a.*")
    assert follow.next(timeout=10).event_index == 4
    assert follow.next(timeout=0) is None

    def produce():
        bus.append("b.skipped", {})
        bus.append("a.even", {"n": 6})

    producer = threading.Thread(target=produce)
    producer.start()
    assert next(follow).event_index == 6
    producer.join()
    canceller = threading.Timer(0.05, follow.cancel)
    canceller.start()
    assert list(follow) == [] and follow.cancelled
    canceller.join()


def test_verify_reports_progress_and_findings(bus, path):
    fill(bus, 5)
    calls = []
    verdict = bus.reader().verify(progress=lambda done, total: calls.append((done, total)))
    assert verdict["ok"] and verdict["events"] == 5 and verdict["snapshot"]["reason"] == "no snapshot"
    size = (path / "events.jsonl").stat().st_size
    assert calls[-1] == (size, size)
    with pytest.raises(ZeroDivisionError):
        bus.reader().verify(progress=lambda done, total: 1 / 0)
    text = (path / "events.jsonl").read_text().replace('"n":3', '"n":4')
    (path / "events.jsonl").write_text(text)
    verdict = bus.reader().verify()
    offset = sum(len(line) + 1 for line in text.splitlines()[:2])
    assert (verdict["ok"], verdict["reason"], verdict["byte_offset"]) == (False, "checksum mismatch at event 3", offset)
    events = iter(bus.reader())
    assert [next(events).event_index, next(events).event_index] == [1, 2]
    with pytest.raises(errors.DamagedError) as raised:
        next(events)
    assert (raised.value.index, raised.value.byte_offset) == (3, offset)
    assert raised.value.path == str(path / "events.jsonl") and raised.value.reason == verdict["reason"]
    copied = pickle.loads(pickle.dumps(raised.value))
    assert type(copied) is type(raised.value) and copied.byte_offset == offset and str(copied) == str(raised.value)


def test_handles_are_closed_and_paths_are_checked(path, tmp_path):
    with Bus.open(str(path)) as bus:
        bus.append("a", {})
        assert bus.path == path and shutil.copytree(bus, tmp_path / "copy")
    bus.close()
    with pytest.raises(errors.ClosedError):
        bus.append("a", {})
    with pytest.raises(TypeError):
        Bus.open(1)
    with pytest.raises(errors.InvalidEventError) as raised:
        Bus.open(path).append("line\nbreak", {})
    assert raised.value.field == "event_type"
    with pytest.raises(errors.InvalidEventError):
        Bus.open(path).append("a", {}, as_of=float("inf"))


def test_a_relative_path_stays_the_same_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with Bus.open("bus") as bus:
        reader = Reader.open("bus")
        follow = reader.follow()
        monkeypatch.chdir(tmp_path / "elsewhere")
        bus.append("a", {})
        assert bus.submit("a", {}).result(30).event_index == len(reader) == len(bus.reader()) == 2
        assert follow.next(timeout=30).event_index == 1
        assert bus.path == reader.path == tmp_path / "bus"
        zero_bus.export_parquet(reader, tmp_path / "tables")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_what_is_no_bus_is_left_alone(tmp_path):
    missing, empty, foreign = tmp_path / "missing", tmp_path / "empty", tmp_path / "foreign"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    for open_it, path, filename in [
        (Reader.open, missing, missing),
        (Reader.open, empty, empty / "events.jsonl"),
        (Reader.open, foreign, foreign / "events.jsonl"),
        (lambda path: Bus.open(path, create=False), missing, missing),
        (lambda path: Bus.open(path, create=False), empty, empty / "events.jsonl"),
        (lambda path: zero_bus.export_parquet(path, tmp_path / "tables"), empty, empty / "events.jsonl"),
    ]:
        with pytest.raises(errors.BusNotFoundError) as raised:
            open_it(path)
        error = pickle.loads(pickle.dumps(raised.value))
        assert isinstance(error, FileNotFoundError) and isinstance(error, errors.NotABusError)
        assert (error.errno, error.filename, error.path) == (errno.ENOENT, str(filename), str(filename))
    for open_it in (Reader.open, Bus.open):
        with pytest.raises(errors.NotABusError) as raised:
            open_it(foreign / "notes.txt")
        assert raised.value.errno == errno.ENOTDIR
    with pytest.raises(errors.NotABusError, match="it holds other files, and no bus") as raised:
        Bus.open(foreign)
    assert raised.value.filename == str(foreign)
    assert [entry.name for entry in foreign.iterdir()] == ["notes.txt"] and not list(empty.iterdir())
    assert not missing.exists() and not (tmp_path / "tables").exists()


def test_a_bus_is_found_by_any_of_its_files(tmp_path, path):
    Bus.open(path).close()
    assert len(Reader.open(path)) == 0 and Reader.open(path).verify()["ok"]
    (path / "notes.txt").write_text("mine")
    Bus.open(path).append("a", {})
    # A lost log is reported as lost, not as no bus.
    (path / "events.jsonl").unlink()
    with pytest.raises(errors.MissingError):
        len(Reader.open(path))
    with pytest.raises(errors.MissingError):
        Bus.open(path)
    # The old class may have written nothing but a snapshot.
    old = tmp_path / "old"
    old.mkdir()
    (old / "state-snapshot.json").write_text("{}")
    Bus.open(old).append("a", {})


def test_the_paper_runtime_can_be_asked(conformance, bus):
    fill(bus, 3)
    with pytest.raises(ValueError, match="the log holds no run to report about"):
        bus.reader().report()
    reader = Reader.open(conformance / "sessions/defaults/one-run/runtime-bus")
    state = reader.state()
    assert state["event_index"] == len(reader) and state["cycle"]["schema_version"] == "zero.runtime.cycle.v1"
    assert reader.state(at=5)["event_index"] == 5
    assert reader.state(at=-1) == reader.state(at="last") == state
    cycle = reader.explain(1)
    assert cycle["cycle"] == reader.explain("runtime-cycle-1")["cycle"]
    assert reader.replay()["difference"] is None
    assert "what_if" in reader.replay(limits={"max_notional_usd": 5000.0})
    assert reader.report()["fills"] >= 0
    for question in (lambda: reader.explain(99_999), lambda: reader.state(at=99_999), lambda: reader.replay(limits={"typo": 1})):
        with pytest.raises(ValueError):
            question()


def test_every_public_name_exists():
    for name in zero_bus.__all__:
        assert hasattr(zero_bus, name), name
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), zero_bus.BusError)


@pytest.mark.parametrize("statement", ["import zero_bus", "from zero_bus import DurableRuntimeBus"])
def test_importing_the_package_imports_only_what_it_needs(statement):
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    imported = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {"zero_bus", "zero_bus.errors", "zero_bus._native"} <= set(imported)
    assert not {"asyncio", "dataclasses", "inspect", "json", "logging", "pathlib", "typing"} & set(imported)


def test_every_name_of_the_package_can_be_imported():
    names = {}
    exec("from zero_bus import *", names)
    assert set(zero_bus.__all__) <= set(names)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        zero_bus.no_such_name
