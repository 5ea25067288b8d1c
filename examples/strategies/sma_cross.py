#!/usr/bin/env python3
"""A strategy for `zero-engine-run --strategy "exec:python3 sma_cross.py"`.

It reads one JSON object per line and prints one answer per bar. It needs nothing
but Python. Start your own strategy from it: change `decide`.

The rule: buy when the average of the last FAST closes is above the average of the
last SLOW closes and nothing is held; sell everything when it is below.
"""

import json
import sys

FAST = 5
SLOW = 20
QUANTITY = 1.0


def decide(candle, held, closes):
    """Return the orders for one symbol.

    candle: {"symbol", "ts", "open", "high", "low", "close", "volume"}
    held: the quantity of the position, negative for a short one, 0.0 for none
    closes: the last closes of the symbol, this one included
    """
    if len(closes) < SLOW:
        return []
    fast = sum(closes[-FAST:]) / FAST
    slow = sum(closes) / SLOW
    if held == 0.0 and fast > slow:
        return [order(candle, "buy", QUANTITY, f"fast {fast:.4f} is above slow {slow:.4f}")]
    if held > 0.0 and fast < slow:
        return [order(candle, "sell", held, f"fast {fast:.4f} is below slow {slow:.4f}", reduce_only=True)]
    return []


def order(candle, side, quantity, reason, **options):
    return {
        "symbol": candle["symbol"],
        "side": side,
        "quantity": quantity,
        "confidence": 1.0,
        "reason": reason,
        **options,
    }


def main():
    # The state: everything that the next decision depends on. The runtime records it
    # with each answer, and returns it in the start message after a restart.
    closes = {}
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "start":
            closes = message.get("state") or {}
        elif message["type"] == "bar":
            held = {position["symbol"]: position["quantity"] for position in message["positions"]}
            orders = []
            for candle in message["candles"]:
                symbol = candle["symbol"]
                closes[symbol] = (closes.get(symbol, []) + [candle["close"]])[-SLOW:]
                orders += decide(candle, held.get(symbol, 0.0), closes[symbol])
            # Standard output is for answers only. Print messages to sys.stderr.
            print(json.dumps({"orders": orders, "state": closes}), flush=True)
        elif message["type"] == "stop":
            break


if __name__ == "__main__":
    main()
