#!/usr/bin/env python3
"""Write a paper scenario from thirteen years of real daily closing prices.

Usage: python3 make_scenario.py CSV_DIR > scenario.json

CSV_DIR is the folder that holds stocks.csv.gz of the package bokeh-sampledata
(release 2026.1). The rule, for AAPL, GOOG, IBM and MSFT alike, at the last
trading day of every month that the file covers to its end:

  - close below the average of the last 12 month ends: sell all that is held;
  - else the highest of the last 9 month ends: buy for about 1000 USD, in lots of
    5 shares, at least one lot;
  - else below the average of the last 3 month ends: sell half of what is held,
    rounded up to a whole share;
  - sells are reduce-only, and there is none while nothing is held;
  - confidence is 0.5 plus twice the distance of the close from the 12-month
    average (as a share of that average), and 0.95 at most.

What is held follows from the fills, so the script keeps a book under the same
limits as the runtime: a buy that the runtime will refuse is written all the
same, but adds nothing to the book.
"""

import csv
import gzip
import json
import math
import sys
from pathlib import Path

FILE = "stocks.csv.gz"
COLUMNS = ("Ticker", "Date", "Adj Close")
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")

FAST_MONTHS = 3
HIGH_MONTHS = 9
SLOW_MONTHS = 12
ORDER_USD = 1000
LOT = 5

LIMITS = {
    "max_notional_usd": 1250,
    "max_position_notional_usd": 5000,
    "max_leverage": 1,
    "min_confidence": 0.65,
}


def read_closes(path):
    """Adjusted closes as {symbol: [(date, close), ...]}, oldest first."""
    closes = {symbol: [] for symbol in SYMBOLS}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for column in COLUMNS:
            if column not in (rows.fieldnames or ()):
                raise ValueError(f"column '{column}' is missing")
        for row in rows:
            if row["Ticker"] not in closes:
                continue
            try:
                close = float(row["Adj Close"])
            except (TypeError, ValueError):
                close = math.nan
            if not (math.isfinite(close) and close > 0):
                raise ValueError(f"line {rows.line_num}: 'Adj Close' is not a price")
            closes[row["Ticker"]].append((row["Date"], close))
    for symbol in SYMBOLS:
        if not closes[symbol]:
            raise ValueError(f"no rows for {symbol}")
        closes[symbol].sort()
    return closes


def month_ends(days):
    """The last day of each month; a month counts once a later one has begun."""
    return [day for day, after in zip(days, days[1:]) if day[0][:7] != after[0][:7]]


def samples(closes):
    """(date, symbol, the last 12 month-end closes), by date, then symbol."""
    found = []
    for symbol in SYMBOLS:
        ends = month_ends(closes[symbol])
        for i in range(SLOW_MONTHS, len(ends) + 1):
            window = [close for _, close in ends[i - SLOW_MONTHS : i]]
            found.append((ends[i - 1][0], symbol, window))
    return sorted(found)


def average(prices):
    return math.fsum(prices) / len(prices)


def decide(window, held):
    """The rule: (side, quantity), or None where it asks for nothing."""
    close = window[-1]
    if close < average(window):
        return ("sell", held) if held else None
    if close == max(window[-HIGH_MONTHS:]):
        return "buy", max(LOT, round(ORDER_USD / close / LOT) * LOT)
    if held and close < average(window[-FAST_MONTHS:]):
        return "sell", (held + 1) // 2
    return None


def book_fill(book, order):
    """Apply the order to {symbol: (quantity, average price)} if the limits let it in."""
    held, paid = book[order["symbol"]]
    quantity, price = order["quantity"], order["price"]
    if order["reduce_only"]:
        left = held - quantity
        book[order["symbol"]] = (left, paid if left else 0.0)
        return
    total = held + quantity
    paid = (paid * held + price * quantity) / total
    if (
        order["confidence"] >= LIMITS["min_confidence"]
        and quantity * price <= LIMITS["max_notional_usd"]
        and total * paid <= LIMITS["max_position_notional_usd"]
    ):
        book[order["symbol"]] = (total, paid)


def make_orders(closes):
    book = {symbol: (0, 0.0) for symbol in SYMBOLS}
    orders = []
    for _, symbol, window in samples(closes):
        decision = decide(window, book[symbol][0])
        if decision is None:
            continue
        side, quantity = decision
        distance = abs(window[-1] / average(window) - 1)
        order = {
            "symbol": symbol,
            "side": side,
            "quantity": quantity,
            "price": round(window[-1], 2),
            "confidence": round(min(0.95, 0.5 + 2 * distance), 3),
            "reduce_only": side == "sell",
        }
        book_fill(book, order)
        orders.append(order)
    return orders


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 make_scenario.py CSV_DIR > scenario.json")
    path = Path(sys.argv[1]) / FILE
    try:
        closes = read_closes(path)
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"make_scenario: {path}: {reason}")
    scenario = {
        "name": "real-market",
        "mode": "paper",
        "limits": LIMITS,
        "orders": make_orders(closes),
    }
    print(json.dumps(scenario, indent=1))


if __name__ == "__main__":
    main()
