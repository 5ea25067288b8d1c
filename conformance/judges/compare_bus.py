#!/usr/bin/env python3
"""Compare the log of a paper trading run with the independent model.

One run:
    compare_bus.py BUS --market minute.csv --scenario run-minute.json --strategy sma-cross:fast=5,slow=21,quantity=4
All cases of a file, each with its log in BUS_ROOT/NAME (paths in the file are relative to it):
    compare_bus.py BUS_ROOT --cases conformance/market/cases.json
The commands that record these logs:
    compare_bus.py BUS_ROOT --cases conformance/market/cases.json --print-commands

BUS is `events.jsonl` or the folder that holds it. Fills, rejections and positions are compared bar by bar and in order.
Dollars and drawdowns may differ by half a cent (0.005), prices and quantities by 1e-6. `--reason "MODEL=RUNTIME"` maps
a reason text that the specification leaves open. Exit codes: 0 equal, 1 different, 2 invalid input.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import pandas as pd

from model_inputs import format_time, load_candles, load_run, parse_time
from paper_model import parse_pairs, parse_strategy, run_model

CENTS = 0.005 + 1e-9
EXACT = 1e-6
TEXT = None
FIELDS = {  # event type of the model -> the fields to compare, each with its tolerance
    "fill": {"symbol": TEXT, "side": TEXT, "quantity": EXACT, "price": EXACT, "reference_price": EXACT,
             "fee_usd": CENTS, "realized_pnl_usd": CENTS},
    "rejection": {"symbol": TEXT, "reason": TEXT},
    "bar": {"cash_usd": CENTS, "equity_usd": CENTS, "realized_pnl_usd": CENTS, "unrealized_pnl_usd": CENTS,
            "fees_usd": CENTS, "drawdown_pct": CENTS},
}
TYPES = {"fill.record": "fill", "rejection.record": "rejection", "position.snapshot": "bar"}


def read_bus(path):
    """The events to compare, as the model writes them; a failed strategy becomes an event that the model never has."""
    path = Path(path)
    events = []
    with (path / "events.jsonl" if path.is_dir() else path).open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            payload = event.get("payload") or {}
            kind = TYPES.get(event["event_type"])
            if event["event_type"] == "strategy.failed":
                kind, payload = "strategy.failed", {}
            if kind:
                as_of = payload.get("as_of", event["as_of"]) if kind == "fill" else event["as_of"]
                events.append({**payload, "type": kind, "as_of": format_time(parse_time(as_of))})
    return events


def difference(kind, expected, actual, largest):
    """What differs between two events, or None. Records the largest difference of each number."""
    found = None
    for field, tolerance in FIELDS[kind].items():
        want, have = expected[field], actual.get(field)
        if tolerance is TEXT:
            equal = want == have
        else:
            if not isinstance(have, (int, float)) or isinstance(have, bool):
                found = found or f"{kind} without the number {field}"
                continue
            distance = abs(want - have)
            equal = distance <= tolerance  # false for NaN
            largest[field] = max(largest.get(field, 0.0), distance)
        if not equal and found is None:
            found = f"{kind} {expected.get('symbol', '')}: {field} is {have}, the model has {want}"
    return found


def compare(model, bus):
    """(differences as (bar time, text), largest difference by field). Bars and the events of a bar are in order."""
    differences, largest = [], {}
    times = sorted({event["as_of"] for event in (*model, *bus)}, key=parse_time)
    by_time = {time: ({}, {}) for time in times}
    for side, events in enumerate((model, bus)):
        for event in events:
            by_time[event["as_of"]][side].setdefault(event["type"], []).append(event)
    for time, (expected, actual) in by_time.items():
        for kind in ("strategy.failed", *FIELDS):
            want, have = expected.get(kind, []), actual.get(kind, [])
            if len(want) != len(have):
                differences.append((time, f"{len(have)} events of type {kind}, the model has {len(want)}"))
            for pair in zip(want, have):
                found = difference(kind, *pair, largest)
                if found:
                    differences.append((time, found))
    order = [event["as_of"] for event in bus]
    if order != sorted(order, key=parse_time):
        differences.append((order[0], "the log is not in order of time"))
    return differences, largest


def check_case(case, folder, bus_path, bar_seconds, assume, reasons):
    """One row of the table, and the differences."""
    model = list(run_model(load_candles(folder / case["market"]), load_run(folder / case["scenario"]),
                           parse_strategy(case["strategy"], folder), bar_seconds, assume))
    for event in model:
        if event["type"] == "rejection":
            event["reason"] = reasons.get(event["reason"], event["reason"])
    bus = read_bus(bus_path)
    differences, largest = compare(model, bus)
    counts = pd.Series([event["type"] for event in bus], dtype=object).value_counts()
    row = {"data set": case["market"], "strategy": case["strategy"], "bars": counts.get("bar", 0),
           "fills": counts.get("fill", 0), "rejections": counts.get("rejection", 0)}
    for title, field in (("price", "price"), ("fee", "fee_usd"), ("equity", "equity_usd")):
        row[f"max diff {title}"] = f"{largest[field]:.2e}" if field in largest else "-"
    row["result"] = f"{len(differences)} differences" if differences else "equal"
    return row, differences


def main():
    parser = argparse.ArgumentParser(description="Compare the log of a paper trading run with the model")
    parser.add_argument("bus", type=Path, help="events.jsonl, its folder, or with --cases the folder of all logs")
    parser.add_argument("--cases", type=Path, help="a JSON list of cases: name, market, scenario, strategy")
    parser.add_argument("--market", help="candles of the run")
    parser.add_argument("--scenario", help="run file of the run")
    parser.add_argument("--strategy", help="strategy of the run")
    parser.add_argument("--bar-seconds", type=float, help="length of a bar (default: the smallest step)")
    parser.add_argument("--assume", default="", help="another reading: gross=mark, day=start, or both with a comma")
    parser.add_argument("--reason", action="append", default=[], metavar="MODEL=RUNTIME", help="map a reason text")
    parser.add_argument("--print-commands", action="store_true", help="print the command that records each case")
    args = parser.parse_args()
    if args.cases:
        folder, cases = args.cases.parent, json.loads(args.cases.read_text(encoding="utf-8"))
    elif args.market and args.scenario and args.strategy:
        folder, cases = Path("."), [{"market": args.market, "scenario": args.scenario, "strategy": args.strategy}]
    else:
        parser.error("give --cases, or all of --market, --scenario and --strategy")
    if args.print_commands:
        for case in cases:
            strategy = case["strategy"].replace("close-above-open:", f"close-above-open:{folder}/")
            print(shlex.join(["zero-engine-run", "--market", str(folder / case["market"]), "--scenario",
                              str(folder / case["scenario"]), "--strategy", strategy, "--interval", "0",
                              "--runtime-bus", str(args.bus / case.get("name", "run"))]))
        return 0
    rows, failures = [], []
    for case in cases:
        bus_path = args.bus / case["name"] if args.cases else args.bus
        row, differences = check_case(case, folder, bus_path, args.bar_seconds, parse_pairs(args.assume),
                                      parse_pairs(",".join(args.reason)))
        rows.append(row)
        if differences:
            time, text = differences[0]
            failures.append(f"{bus_path}: first difference at the bar that closes at {time}: {text}")
    print(pd.DataFrame(rows).to_string(index=False))
    for failure in failures:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError, KeyError) as error:
        print(f"cannot compare: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
