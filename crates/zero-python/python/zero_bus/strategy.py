"""A strategy as a program, for `zero-engine-run --strategy "exec:python3 my_strategy.py"`.

    from zero_bus import strategy

    def on_bar(bar, state):
        if bar["candles"][0]["close"] > 100 and not bar["positions"]:
            return [{"symbol": "BTC", "side": "buy", "quantity": 0.1, "confidence": 0.9, "reason": "above 100"}]
        return []

    strategy.run(on_bar)

`docs/PYTHON.md` lists the fields of bars and orders, and `docs/TRADING.md` describes the messages.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import Any, Callable, Iterable, Mapping, Optional

__all__ = ["run"]

Bar = Mapping[str, Any]
Order = Mapping[str, Any]

_has_run = False


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
    global _has_run
    _has_run = True
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
                orders = _orders(on_bar(message, state))
                answer = {"cycle_id": message["cycle_id"], "orders": orders, "state": state}
                answers.write(_encode(answer) + "\n")
                answers.flush()
            elif kind == "stop":
                return


def _orders(returned: object) -> list[dict[str, Any]]:
    """What `on_bar` has returned, as a list of dictionaries."""
    expected = "on_bar should return a list of orders, each a dictionary; an empty list or None to hold"
    if returned is None:
        return []
    if isinstance(returned, Mapping):
        raise TypeError(f"{expected}. It has returned one dictionary; write [order]")
    if isinstance(returned, str) or not isinstance(returned, Iterable):
        raise TypeError(f"{expected}. It has returned {returned!r}")
    orders: list[dict[str, Any]] = []
    for order in returned:
        if not isinstance(order, Mapping):
            raise TypeError(f"{expected}. Order {len(orders) + 1} is {order!r}")
        orders.append(dict(order))
    return orders


def _encode(answer: Mapping[str, Any]) -> str:
    from ._native import canonical

    return canonical(answer, name="answer")


def _report_missing_run() -> None:
    """Tells the author of a program that imports this module, but ends without a call of `run`."""
    program = vars(sys.modules["__main__"]).values()
    imports_this = any(value is run or value is sys.modules[__name__] for value in program)
    if imports_this and not _has_run and not hasattr(sys, "last_value"):
        print("zero_bus.strategy: the program ends without a call of strategy.run(on_bar)", file=sys.stderr)


atexit.register(_report_missing_run)
