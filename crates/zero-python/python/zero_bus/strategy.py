"""A strategy as a program, for `zero-engine-run --strategy "exec:python3 my_strategy.py"`.

    from zero_bus import strategy

    def on_bar(bar, state):
        if bar["candles"][0]["close"] > 100 and not bar["positions"]:
            return [{"symbol": "BTC", "side": "buy", "quantity": 0.1, "confidence": 0.9, "reason": "above 100"}]
        return []

    strategy.run(on_bar)

`docs/TRADING.md` describes the messages.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Iterable, Mapping, Optional

__all__ = ["run"]

Bar = Mapping[str, Any]
Order = Mapping[str, Any]


def run(
    on_bar: Callable[[Bar, dict[str, Any]], Optional[Iterable[Order]]],
    *,
    on_start: Optional[Callable[[Mapping[str, Any]], None]] = None,
) -> None:
    """Answers the bars of the runtime until it ends.

    `on_bar(bar, state)` returns the orders for a bar; none to hold. `state` is a dictionary that the runtime records
    and gives back after a restart: keep in it what the next bar needs. `on_start(message)` sees the symbols, limits
    and costs once.

    What the strategy prints goes to standard error, since standard output belongs to the runtime. An exception ends
    the program; the runtime records that, and places no order.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        # Also what libraries below Python print.
        os.dup2(2, 1)
        state: dict[str, Any] = {}
        for line in sys.stdin:
            message = json.loads(line)
            kind = message["type"]
            if kind == "start":
                # None before the first answer.
                state = message.get("state") or {}
                if on_start is not None:
                    on_start(message)
            elif kind == "bar":
                orders = [dict(order) for order in on_bar(message, state) or ()]
                answer = {"cycle_id": message["cycle_id"], "orders": orders, "state": state}
                answers.write(_encode(answer) + "\n")
                answers.flush()
            elif kind == "stop":
                return


def _encode(answer: Mapping[str, Any]) -> str:
    from ._native import canonical

    return canonical(answer, name="answer")
