"""Compares the package with what it replaces and with its peers. Each pair runs alternately in one process.

    pip install dist/zero_bus-*.whl witness-log pyarrow
    python compare.py [FOLDER] [--rounds N] [--rust PROGRAM]

`--rust` is a program that prints the events per second of durable appends of the Rust library in FOLDER, one number
per run: `cargo run --release -p zero-python --example append_rate`.
"""

import argparse
import dataclasses
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/python"))
from old_bus import OldBus

from zero_bus import Bus, DurableRuntimeBus, Reader

PAYLOAD = {"symbol": "BTC", "side": "buy", "quantity": 0.5, "price": 64000.25, "reason": "breakout", "attempt": 3}


@dataclasses.dataclass(frozen=True)
class Line:
    schema_version: str
    event_id: str
    event_index: int
    event_type: str
    as_of: float
    payload: dict
    previous_checksum: str
    checksum: str
    trace_id: str = None


def rate(count, work):
    gc.collect()
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def report(name, ours, theirs, bar):
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    verdict = "" if bar is None else f"  bar {bar}: {'met' if ratio >= bar else 'MISSED'}"
    print(f"{name:48} {statistics.median(ours):12,.0f} /s  {statistics.median(theirs):12,.0f} /s  x {ratio:8.2f}{verdict}")


def rust_rate(program, folder):
    return float(subprocess.check_output([program, folder], text=True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rust")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=arguments.folder))
    rounds = range(arguments.rounds)
    print(f"python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}, {arguments.rounds} rounds, medians")
    try:
        compare(root, rounds, arguments.rust)
    finally:
        shutil.rmtree(root)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def compare(root, rounds, rust):
    with Bus.open(root / "append") as bus:

        def append(count):
            for _ in range(count):
                bus.append("bench.event", PAYLOAD, as_of=1.0)

        append(100)
        if rust:
            ours, theirs = [], []
            for number in rounds:
                ours.append(rate(1_000, lambda: append(1_000)))
                theirs.append(rust_rate(rust, root / f"rust-{number}"))
            report("append, against the Rust library", ours, theirs, 0.9)

        ours, theirs = [], []
        for _ in rounds:

            def submit():
                tickets = [bus.submit("bench.event", PAYLOAD, as_of=1.0) for _ in range(10_000)]
                for ticket in tickets:
                    ticket.result()

            ours.append(rate(10_000, submit))
            theirs.append(rate(10_000, lambda: bus.append_many([("bench.event", PAYLOAD)] * 10_000, as_of=1.0)))
        report("submit 10,000 and wait, against append_many", ours, theirs, 0.5)

    new, old = DurableRuntimeBus(root / "new"), OldBus(root / "new")
    with Bus.open(new.root) as bus:
        bus.append_many([("bench.event", PAYLOAD)] * 5_000, as_of=1.0)
    shutil.copytree(new.root, root / "old")
    old = OldBus(root / "old")
    new.append("bench.event", PAYLOAD, as_of=1.0)
    ours, theirs = [], []
    for _ in rounds:
        ours.append(rate(200, lambda: [new.append("bench.event", PAYLOAD, as_of=1.0) for _ in range(200)]))
        theirs.append(rate(3, lambda: [old.append("bench.event", PAYLOAD, as_of=1.0) for _ in range(3)]))
    report("append at 5,000 events, against the old class", ours, theirs, 100)

    try:
        compare_witness_log(root, rounds)
    except ImportError:
        print("witness-log is not installed")

    with Bus.open(root / "read") as bus:
        for _ in range(20):
            bus.append_many([("bench.event", PAYLOAD)] * 10_000, as_of=1.0)
    read = DurableRuntimeBus(root / "read")

    def read_lines():
        with open(read.events_path) as log:
            return [Line(**json.loads(line)) for line in log]

    ours, with_payload, theirs = [], [], []
    for _ in rounds:
        ours.append(rate(200_000, read.read_events))
        with_payload.append(rate(200_000, lambda: [event.payload for event in read.read_events()]))
        theirs.append(rate(200_000, read_lines))
    report("read_events of 200,000, against json.loads", ours, theirs, 3)
    report("... and each payload used", with_payload, theirs, None)
    iterated = [rate(200_000, lambda: sum(1 for _ in Reader.open(read.root))) for _ in rounds]
    print(f"{'iteration':48} {statistics.median(iterated):12,.0f} /s")

    try:
        compare_tables(root, rounds)
    except ImportError:
        print("pyarrow is not installed")

    latencies = follow_latencies(root / "follow", 500)
    print(f"follow, from durable to delivered: p50 {latencies[250] * 1e3:.2f} ms, p99 {latencies[494] * 1e3:.2f} ms  bar 5 ms")


def compare_witness_log(root, rounds):
    import witness_log

    with Bus.open(root / "against-witness") as bus:
        log = witness_log.open(str(root / "witness.jsonl"))

        def append():
            for _ in range(500):
                bus.append("bench.event", PAYLOAD, as_of=1.0)

        def append_intent():
            for _ in range(500):
                log.append_intent(witness_log.canonical_json(PAYLOAD))
                log.sync()

        ours, theirs = [], []
        for _ in rounds:
            ours.append(rate(500, append))
            theirs.append(rate(500, append_intent))
        log.close()
    report("append, against witness-log append_intent, sync", ours, theirs, 1.3)


def compare_tables(root, rounds):
    import pyarrow
    import pyarrow.parquet

    import zero_bus

    count = 1_000_000
    limit = {"name": "max_notional_usd", "bound": 900, "value": 1224.67}
    decision = {"allowed": True, "confidence": 0.8, "idempotency_key": "order-123456", "limit": limit, "notional_usd": 640.5,
                "order_id": "o-123456", "price": 64000.25, "quantity": 0.01, "reason": "accepted", "reduce_only": False,
                "side": "buy", "source": "strategy", "strategy_reason": "breakout", "symbol": "BTC"}  # fmt: skip
    with Bus.open(root / "tables") as bus:
        for begin in range(0, count, 10_000):
            bus.append_many([("decision.record", decision)] * 10_000, as_of=1777593600.0 + begin)
    reader = Reader.open(root / "tables")
    ours, theirs = [], []
    exported = rate(count, lambda: zero_bus.export_parquet(reader, root / "parquet", tables=["decisions"]))
    for _ in rounds:
        ours.append(rate(count, lambda: pyarrow.table(reader.to_arrow("decisions"))))
        theirs.append(rate(count, lambda: pyarrow.parquet.read_table(root / "parquet/decisions")))
    report("to_arrow of decisions, against its Parquet", ours, theirs, None)
    print(f"{'export_parquet of decisions':48} {exported:12,.0f} /s")


def follow_latencies(path, count):
    delivered = {}
    with Bus.open(path) as bus:
        bus.append("bench.event", PAYLOAD)
        follow = bus.reader().follow(since=1)

        def consume():
            for event in follow:
                delivered[event.event_index] = time.perf_counter()
                if len(delivered) == count:
                    return

        consumer = threading.Thread(target=consume)
        consumer.start()
        durable = {}
        for _ in range(count):
            event = bus.append("bench.event", PAYLOAD)
            durable[event.event_index] = time.perf_counter()
            time.sleep(0.002)
        consumer.join()
    return sorted(max(0.0, delivered[index] - at) for index, at in durable.items())


if __name__ == "__main__":
    main()
