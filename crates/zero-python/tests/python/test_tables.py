"""Tables in the libraries that read them, and as Parquet files."""

import datetime
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest

import zero_bus
from zero_bus import Bus, Reader, errors

TABLES = [
    "events",
    "decisions",
    "rejections",
    "fills",
    "positions",
    "cycles",
    "equity",
    "candles",
    "orders",
    "expiries",
    "strategy_failures",
]
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def bus(tmp_path_factory, conformance):
    """A log with records of both versions: the one of a recorded session, and events of a run on market data."""
    path = tmp_path_factory.mktemp("tables") / "bus"
    with Bus.open(path) as bus:
        for event in Reader.open(conformance / "sessions/first-steps/one-run/runtime-bus"):
            bus.append(event.event_type, event.payload, as_of=event.as_of, trace_id=event.trace_id)
        candles = [{"symbol": symbol, "ts": 1777593600, "open": 1, "close": 2.5, "volume": None} for symbol in "AB"]
        bus.append("market.observation", {"candles": [*candles, "no candle"]}, as_of=1777593660.25)
        limit = {"name": "max_notional_usd", "bound": 900, "value": 1224.67}
        decision = {"symbol": "é", "allowed": False, "limit": limit, "quantity": "many", "reason": 'a "b"'}
        bus.append("decision.record", decision, as_of=1e15)
        bus.append("order.open", {"order_id": "o-1", "opened_as_of": 1777593660.25}, as_of=1.0)
    return path


def test_every_library_reads_the_same_rows(bus):
    reader = Reader.open(bus)
    duckdb.sql("SET TimeZone = 'UTC'")
    for name in TABLES:
        table = arrow_table = reader.to_arrow(name)
        expected = pyarrow.table(table)
        expected.validate(full=True)
        assert expected.column_names == table.columns and table.name == name
        assert pyarrow.schema(table) == expected.schema
        assert pyarrow.RecordBatchReader.from_stream(table).read_all() == expected
        assert polars.DataFrame(table).to_arrow().to_pylist() == expected.to_pylist()
        in_duckdb = duckdb.sql("SELECT * FROM arrow_table ORDER BY event_index").fetchall()
        rows = [tuple(row.values()) for row in expected.to_pylist()]
        assert [tuple(map(naive, row)) for row in in_duckdb] == [tuple(map(naive, row)) for row in rows]
        frame = pandas.DataFrame.from_arrow(table)
        assert list(frame.columns) == table.columns and len(frame) == expected.num_rows
    assert pyarrow.table(reader).num_rows == len(reader)


def naive(value):
    return value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value


def test_events_are_those_of_the_log(bus):
    reader = Reader.open(bus)
    rows = pyarrow.table(reader.to_arrow("events", since=3)).to_pylist()
    for row, event in zip(rows, reader.events(since=3)):
        assert row["payload"] == event.payload_json and row["as_of_s"] == event.as_of
        for column in ("event_index", "event_id", "event_type", "trace_id", "previous_checksum", "checksum"):
            assert row[column] == getattr(event, column)
    assert len(rows) == len(reader) - 3


def test_values_have_proper_types(bus):
    reader = Reader.open(bus)
    schema = pyarrow.schema(reader.to_arrow("decisions"))
    time = pyarrow.timestamp("us", tz="UTC")
    assert schema.field("as_of").type == time and schema.field("price").type == pyarrow.float64()
    assert schema.field("allowed").type == pyarrow.bool_() and schema.field("reason").type == pyarrow.string()
    assert schema.field("event_index") == pyarrow.field("event_index", pyarrow.int64(), nullable=False)
    last = pyarrow.table(reader.to_arrow("decisions")).to_pylist()[-1]
    assert (last["symbol"], last["allowed"], last["reason"], last["limit_value"]) == ("é", False, 'a "b"', 1224.67)
    # A field of another type, a missing one, and a time that Python does not have.
    assert last["quantity"] is None and last["price"] is None and last["as_of"] is None
    moment = datetime.datetime(2026, 5, 1, tzinfo=datetime.timezone.utc)
    candles = pyarrow.table(reader.to_arrow("candles")).to_pylist()
    assert [(row["symbol"], row["ts"], row["close"], row["volume"]) for row in candles] == [
        ("A", moment, 2.5, None),
        ("B", moment, 2.5, None),
    ]
    [order] = pyarrow.table(reader.to_arrow("orders")).to_pylist()
    assert order["opened_as_of"] == moment + datetime.timedelta(seconds=60.25)


def test_a_table_ends_where_the_log_ended(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        bus.append("fill.record", {"price": 1})
        table = bus.reader().to_arrow("fills")
        bus.append("fill.record", {"price": 2})
        assert [pyarrow.table(table).num_rows for _ in range(2)] == [1, 1]
        assert pyarrow.table(bus.reader().to_arrow("fills")).num_rows == 2
    reader = Reader.open(tmp_path / "bus")
    assert pyarrow.table(reader.to_arrow("fills", since=2)).num_rows == 0
    with pytest.raises(ValueError, match="there is no table fill; there are events, decisions"):
        reader.to_arrow("fill")


def test_damage_is_an_error_of_the_reading(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        bus.append_many([("fill.record", {"price": n}) for n in range(9)])
    log = tmp_path / "bus/events.jsonl"
    text = log.read_text()
    table = Reader.open(tmp_path / "bus").to_arrow("fills")
    log.write_text(text.replace('"price":5', '"price":6'))
    with pytest.raises(Exception, match="event 6"):
        pyarrow.table(table)
    with pytest.raises(errors.DamagedError):
        zero_bus.export_parquet(tmp_path / "bus", tmp_path / "tables")
    log.write_text(text)
    assert pyarrow.table(table).num_rows == 9


def test_parquet_is_the_same_in_every_library(bus, tmp_path):
    exported = zero_bus.export_parquet(bus, tmp_path / "tables")
    reader = Reader.open(bus)
    assert exported["events"] == len(reader) and list(exported["tables"]) == sorted(TABLES)
    for name in TABLES:
        expected = pyarrow.table(reader.to_arrow(name))
        assert exported["tables"][name] == {"files": 1, "rows": expected.num_rows}
        folder = tmp_path / "tables" / name
        in_pyarrow = pyarrow.parquet.read_table(folder)
        assert in_pyarrow.schema == expected.schema and in_pyarrow == expected
        assert polars.read_parquet(folder / "*.parquet").to_arrow().to_pylist() == expected.to_pylist()
        in_duckdb = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet'")
        types = {str(kind) for kind in in_duckdb.types}
        assert types <= {"BIGINT", "VARCHAR", "TIMESTAMP WITH TIME ZONE", "DOUBLE", "BOOLEAN"}
        rows = [tuple(row.values()) for row in expected.to_pylist()]
        duckdb.sql("SET TimeZone = 'UTC'")
        assert [tuple(map(naive, row)) for row in in_duckdb.fetchall()] == [tuple(map(naive, row)) for row in rows]


def test_an_export_adds_only_what_is_new_and_refuses_another_log(tmp_path):
    target = tmp_path / "tables"
    with Bus.open(tmp_path / "bus") as bus:
        bus.append("fill.record", {"price": 1})
        assert zero_bus.export_parquet(bus, target, tables="fills")["tables"] == {"fills": {"files": 1, "rows": 1}}
        bus.append("fill.record", {"price": 2})
        again = zero_bus.export_parquet(bus.reader(), target, tables=["fills", "events"])
        assert again["tables"] == {"fills": {"files": 1, "rows": 1}, "events": {"files": 1, "rows": 2}}
    assert pyarrow.parquet.read_table(target / "fills")["price"].to_pylist() == [1, 2]
    with Bus.open(tmp_path / "other") as other:
        other.append("fill.record", {"price": 3})
    with pytest.raises(errors.ExportError, match="it is another log") as refused:
        zero_bus.export_parquet(tmp_path / "other", target)
    assert Path(refused.value.path) == target
    with pytest.raises(errors.ExportError, match="inside the bus"):
        zero_bus.export_parquet(tmp_path / "bus", tmp_path / "bus/tables")
    with pytest.raises(errors.NotABusError):
        zero_bus.export_parquet(tmp_path / "missing", target)


def test_an_export_that_is_killed_is_completed(tmp_path):
    rows = 10_000
    with Bus.open(tmp_path / "bus") as bus:
        bus.append_many([("fill.record", {"price": n, "text": str(n) * 20}) for n in range(rows)])
    command = [SCRIPTS / "zero-bus", "export", tmp_path / "bus", "--to", f"parquet:{tmp_path}/tables"]
    killed = 0
    for size in (1, 50_000, 150_000):
        process = subprocess.Popen([*command, "--table", "events", "--table", "fills"], stdout=subprocess.DEVNULL)
        temporary = tmp_path / "tables/events/new.tmp"
        while process.poll() is None and not (temporary.exists() and temporary.stat().st_size >= size):
            pass
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0 and "tables/fills: " in ended.stdout, ended.stderr
    for name in ("events", "fills"):
        index = pyarrow.parquet.read_table(tmp_path / "tables" / name)["event_index"].to_pylist()
        assert index == list(range(1, rows + 1))
        assert not (tmp_path / "tables" / name / "new.tmp").exists()


def test_the_name_of_a_destination_of_the_command_is_no_directory(bus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="leave out `parquet:`"):
        zero_bus.export_parquet(bus, "parquet:tables")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_stops(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        bus.append_many([("fill.record", {"price": n}) for n in range(5_000)])
    interrupted = False
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        zero_bus.export_parquet(tmp_path / "bus", tmp_path / "tables")
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.signal(signal.SIGALRM, previous)
    # Whether or not it was in time: the next export completes the tables, once the interrupted one has ended.
    while True:
        try:
            zero_bus.export_parquet(tmp_path / "bus", tmp_path / "tables")
            break
        except errors.ExportError:
            assert interrupted
    assert pyarrow.parquet.read_table(tmp_path / "tables/fills").num_rows == 5_000


def test_a_forked_child_begins_again(bus):
    table = Reader.open(bus).to_arrow("fills")
    stream = pyarrow.RecordBatchReader.from_stream(table)
    child = os.fork()
    if child == 0:
        try:
            stream.read_all()
            os._exit(1)
        except Exception as error:
            read = pyarrow.table(table).num_rows
            os._exit(0 if "begin again here" in str(error) and read > 0 else 2)
    assert os.waitpid(child, 0)[1] == 0
    assert stream.read_all().num_rows > 0
