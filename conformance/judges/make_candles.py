#!/usr/bin/env python3
"""Write the candles of the conformance cases: two seeded synthetic sets and one of real prices.

    make_candles.py OUTPUT_FOLDER [--real-prices examples/real-market/scenario.json]

`minute.csv`  two symbols, 1-minute bars over two UTC days, epoch seconds
`hour.csv`    three symbols, 1-hour bars over a month, RFC 3339, other names and order of columns
`real.jsonl`  real month-end prices of four shares, close-only: open = high = low = close = price

The synthetic sets have single missing bars, longer outages and price jumps. The same seed gives the same bytes on
every machine: the random walk uses uniform numbers and arithmetic on integers, and no global random state.

The real prices come as a list of orders without dates, sorted by date, then by symbol. A new bar time starts where the
symbol is not greater than the one before. Bar times are consecutive days, since only their order is known.
"""

import argparse
import json
import random
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
REAL_PRICES = ROOT / "examples" / "real-market" / "scenario.json"


def random_walk(rng, bars, start, step_bps, jumps, drift_bars):
    """Open, high, low and close of each bar, in ticks. The open differs from the close before."""
    def uniform_sum():  # close to a normal distribution of variance 1, without a logarithm
        return sum(rng.random() for _ in range(12)) - 6

    def moved(price, bps):
        return max(1, round(price * (1 + bps / 10000)))

    jump_at = {rng.randrange(50, bars): rng.choice((-1, 1)) * rng.randrange(250, 700) for _ in range(jumps)}
    close, drift, rows = start, 0.0, []
    for index in range(bars):
        if index % drift_bars == 0:
            drift = (rng.random() - 0.5) * step_bps * 0.5
        opened = moved(close, step_bps * 0.3 * uniform_sum() + jump_at.get(index, 0))
        close = moved(opened, step_bps * uniform_sum() + drift)
        high = moved(max(opened, close), step_bps * rng.random())
        low = moved(min(opened, close), -step_bps * rng.random())
        rows.append((opened, max(high, opened, close), min(low, opened, close), close))
    return rows


def missing_bars(rng, bars, single, outages, longest):
    """Indices without a bar. The first ten are always there, so that every reader infers the same bar length."""
    missing = {index for index in range(10, bars) if rng.random() < single}
    for _ in range(outages):
        first = rng.randrange(10, bars - longest)
        missing.update(range(first, first + rng.randrange(3, longest)))
    return missing


def synthetic(seed, start, seconds, bars, symbols, step_bps, drift_bars, longest):
    """Candles of several symbols. `symbols` maps each to (start price in ticks, decimals)."""
    rng = random.Random(seed)
    market_closed = missing_bars(rng, bars, 0, 1, longest)
    frames = []
    for symbol, (price, decimals) in symbols.items():
        rows = random_walk(rng, bars, price, step_bps, 6, drift_bars)
        frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"])
        frame = frame.map(lambda ticks, decimals=decimals: f"{ticks / 10 ** decimals:.{decimals}f}")
        frame.insert(0, "symbol", symbol)
        frame.insert(1, "ts", [start + seconds * index for index in range(bars)])
        frame["volume"] = [rng.randrange(0, 5000) for _ in range(bars)]
        frames.append(frame.drop(index=list(market_closed | missing_bars(rng, bars, 0.02, 2, longest))))
    return pd.concat(frames).sort_values(["ts", "symbol"], ignore_index=True)


def minute_candles():
    start = pd.Timestamp("2026-03-02T20:00:00Z").timestamp()
    return synthetic(20260302, int(start), 60, 1560, {"AAX": (24000, 2), "BBX": (41200, 4)}, 9, 40, 20)


def hour_candles():
    start = pd.Timestamp("2026-03-30T05:00:00Z").timestamp()
    symbols = {"CCX": (6800, 2), "DDX": (19500, 2), "EEX": (152000, 2)}
    frame = synthetic(20260330, int(start), 3600, 700, symbols, 55, 24, 12)
    frame["ts"] = pd.to_datetime(frame["ts"], unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = frame[["ts", "symbol", "close", "open", "high", "low", "volume"]]
    return frame.rename(columns={"ts": "Timestamp", "symbol": "Symbol", "close": "Close"})


def real_candles(path):
    orders = pd.DataFrame(json.loads(Path(path).read_text(encoding="utf-8"))["orders"])[["symbol", "price"]]
    day = (orders["symbol"] <= orders["symbol"].shift(fill_value="")).cumsum()
    start = pd.Timestamp("2001-05-31T00:00:00Z")
    for symbol, price, index in zip(orders["symbol"], orders["price"], day):
        ts = (start + pd.Timedelta(days=index)).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield {"symbol": symbol, "ts": ts, "open": price, "high": price, "low": price, "close": price}


def main():
    parser = argparse.ArgumentParser(description="Write the candles of the conformance cases")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real-prices", type=Path, default=REAL_PRICES)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("minute.csv", minute_candles()), ("hour.csv", hour_candles())):
        frame.to_csv(args.folder / name, index=False, lineterminator="\n")
        print(f"{name}: {len(frame)} bars")
    lines = [json.dumps(candle) + "\n" for candle in real_candles(args.real_prices)]
    (args.folder / "real.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"real.jsonl: {len(lines)} bars")


if __name__ == "__main__":
    main()
