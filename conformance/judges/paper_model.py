#!/usr/bin/env python3
"""An independent model of a paper trading run on recorded candles.

It is written from the specification of the runtime, not from its code, and shares nothing with it. It reads candles,
a run file and a strategy, and prints one JSON object a line: every `fill`, `rejection` and `bar`, in order.

    paper_model.py --market minute.csv --scenario run-minute.json --strategy sma-cross:fast=5,slow=21,quantity=4

The model needs Python 3.9 and pandas. It covers market orders; no strategy that it knows sends limit orders.
"""
# Decisions where the specification is silent
#
#  1. Bar length. The smallest distance between two neighbouring bars of one symbol, over all symbols; --bar-seconds
#     overrides it. Close time = start + length.
#  2. Duplicate bars, bars of a symbol out of order and impossible prices end the run. Gaps and jumps are accepted.
#  3. "The next bar" is the next bar of the order's symbol, however late. An order without one stays open.
#  4. Sequence of a cycle. Fills at the open come first, in order of decision, with this cycle's close time. Then the
#     closes become the marks. Then the strategy decides on the positions after these fills.
#  5. Symbols of one bar time, and so their orders, are handled in alphabetical order.
#  6. Mark. The last close of the symbol. A symbol without a bar at this time keeps its earlier close.
#  7. Order notional. Quantity x close of the deciding bar, without costs.
#  8. Projected position. The filled position, then each waiting order at the close of its own decision, then the new
#     order at its close, without costs; notional = |quantity x average price|, as in recorded runs. No second check
#     takes place when the order fills.
#  9. Reduce-only is checked against the filled position plus the waiting orders. A fill is never cut.
# 10. The further limits come after the four, in the order of their list. Their reasons: `gross exposure exceeds limit`,
#     `daily loss limit reached`, `drawdown limit reached`, `order rate limit exceeded`.
# 11. An order that makes |projected quantity| smaller without changing its sign is reducing, marked or not. The further
#     limits do not apply to it; the four do, unless it is marked.
# 12. Gross exposure. The sum of |quantity x average price| over the projected positions of all symbols; rejected when
#     above the limit. --assume gross=mark values them at the marks instead.
# 13. Daily loss. Equity after the last cycle of the day before (first day: start cash) minus equity now, so with fees
#     and unrealised profit. Reached means >= the limit, and lasts for the day even if equity recovers. It is evaluated
#     in every cycle: before each order and at the end.
# 14. UTC day. The date of the close time: the bar from 23:00 to 00:00 belongs to the new day. --assume day=start uses
#     the date of the bar's start instead.
# 15. Drawdown. (peak - equity) / peak x 100; the peak is the greatest equity at the end of a cycle so far, or the start
#     cash. The limit is reached at >=; below it, orders are accepted again.
# 16. Orders per minute. Accepted orders, reducing ones included, whose close time is less than 60 s ago.
# 17. `max_data_age_s` never applies: a recorded candle is 0 s old at its close. `max_leverage` is not checked, as in
#     recorded runs. Cash may become negative.
# 18. `close-above-open`: close > open and (close - open) / open x 100 >= min_move_pct. Its orders are not reduce-only.
#     Confidence defaults to 1, min_move_pct to 0. Each matching bar is a new order, whatever the position.
# 19. `sma-cross`: an average is the plain sum of closes, oldest first, divided by their number. Closes are counted in
#     bars of the symbol, whatever the gaps. "Flat" and "long" refer to the filled position.
# 20. Realised profit of a fill: closed quantity x (price - average), with the sign of the old position. Half spread and
#     slippage are part of the price, and so of the average; fees are not.

import argparse
import json
import math
from pathlib import Path

from model_inputs import bar_length, format_time, load_candles, load_run, parse_flat_yaml


# --- Strategies: (symbol, candle, closes so far, filled quantity) -> order or None ------------------------------------

def mean(values):
    total = 0.0
    for value in values:  # not sum(): newer versions of Python compensate its rounding errors
        total += value
    return total / len(values)


def sma_cross(fast, slow, quantity):
    if not 0 < fast < slow or not quantity > 0:
        raise ValueError("sma-cross needs 0 < fast < slow and quantity > 0")

    def decide(symbol, candle, closes, position):
        if len(closes) < slow:
            return None
        fast_mean, slow_mean = mean(closes[-fast:]), mean(closes[-slow:])
        order = {"symbol": symbol, "quantity": quantity, "confidence": 1.0}
        if position == 0 and fast_mean > slow_mean:
            return {**order, "side": "buy", "reduce_only": False}
        if position > 0 and fast_mean < slow_mean:
            return {**order, "side": "sell", "reduce_only": True}
        return None
    return decide


def close_above_open(path):
    text = Path(path).read_text(encoding="utf-8")
    spec = json.loads(text) if text.lstrip().startswith("{") else parse_flat_yaml(text)
    condition, side = spec["condition"], spec["side"].lower()
    if condition["type"] != "close_above_open" or side not in ("buy", "sell"):
        raise ValueError(f"{path}: unknown condition or side")
    if spec.get("paper_only", True) is not True:
        raise ValueError(f"{path}: paper_only must be true")
    order = {"symbol": spec["symbol"].upper(), "side": side, "quantity": float(spec["quantity"]),
             "confidence": float(spec.get("confidence", 1.0)), "reduce_only": False}
    min_move_pct = float(condition.get("min_move_pct", 0.0))

    def decide(symbol, candle, closes, position):
        move_pct = (candle.close - candle.open) / candle.open * 100
        if symbol == order["symbol"] and candle.close > candle.open and move_pct >= min_move_pct:
            return dict(order)
        return None
    return decide


def parse_strategy(spec, folder="."):
    name, _, rest = spec.partition(":")
    if name == "close-above-open":
        return close_above_open(Path(folder) / rest)
    if name == "sma-cross":
        options = parse_pairs(rest)
        return sma_cross(int(options["fast"]), int(options["slow"]), float(options["quantity"]))
    raise ValueError(f"unknown strategy: {spec}")


# --- Account and risk checks ------------------------------------------------------------------------------------------

def apply_order(position, side, quantity, price):
    """The position after an order, and the profit that it realises. A position is (signed quantity, average price)."""
    old, average = position
    signed = quantity if side == "buy" else -quantity
    new = old + signed
    realized = 0.0
    if old * signed < 0:
        realized = min(abs(old), quantity) * (price - average) * (1 if old > 0 else -1)
    if new == 0:
        return (0.0, 0.0), realized
    if old * signed >= 0:
        return (new, (average * abs(old) + price * quantity) / abs(new)), realized
    return (new, average if old * new > 0 else price), realized


class Account:
    def __init__(self, run, assume=None):
        self.run, self.limits, self.costs = run, run["limits"], run["costs"]
        self.assume = {"gross": "average", "day": "close", **(assume or {})}
        self.cash = self.peak = self.day_start_equity = self.last_equity = run["start_cash_usd"]
        self.realized = self.fees = 0.0
        self.positions, self.marks = {}, {}
        self.waiting = []  # accepted orders without a fill, in order of decision
        self.accepted_at = []  # close times of accepted orders
        self.day, self.loss_reached = None, False

    def position(self, symbol):
        return self.positions.get(symbol, (0.0, 0.0))

    def projected(self, symbol):
        position = self.position(symbol)
        for order in self.waiting:
            if order["symbol"] == symbol:
                position, _ = apply_order(position, order["side"], order["quantity"], order["price"])
        return position

    def unrealized(self):
        total = 0.0
        for symbol, (quantity, average) in sorted(self.positions.items()):
            total += quantity * (self.marks[symbol] - average)
        return total

    def equity(self):
        total = self.cash
        for symbol, (quantity, _) in sorted(self.positions.items()):
            total += quantity * self.marks[symbol]
        return total

    def drawdown_pct(self):
        return (self.peak - self.equity()) / self.peak * 100

    def start_cycle(self, day):
        if day != self.day:
            self.day, self.day_start_equity, self.loss_reached = day, self.last_equity, False

    def check_daily_loss(self):
        loss = self.day_start_equity - self.equity()
        self.loss_reached |= loss >= self.limits.get("max_daily_loss_usd", math.inf)

    def end_cycle(self):
        self.check_daily_loss()
        self.last_equity = self.equity()
        self.peak = max(self.peak, self.last_equity)

    def gross_exposure(self, symbol, projected):
        total = 0.0
        for other in sorted({*self.positions, *(order["symbol"] for order in self.waiting), symbol}):
            quantity, average = projected if other == symbol else self.projected(other)
            total += abs(quantity * (self.marks[other] if self.assume["gross"] == "mark" else average))
        return total

    def refusal(self, order, as_of):
        """The reason to reject an order, or None."""
        limits, symbol = self.limits, order["symbol"]
        before = self.projected(symbol)
        after, _ = apply_order(before, order["side"], order["quantity"], order["price"])
        reducing = abs(after[0]) < abs(before[0]) and after[0] * before[0] >= 0
        if order["reduce_only"]:
            return None if reducing else "reduce-only order would not reduce the position"
        if order["confidence"] < limits["min_confidence"]:
            return "confidence below minimum"
        if order["quantity"] * order["price"] > limits["max_notional_usd"]:
            return "order notional exceeds limit"
        if abs(after[0] * after[1]) > limits["max_position_notional_usd"]:
            return "projected position exceeds limit"
        if reducing:
            return None
        if self.gross_exposure(symbol, after) > limits.get("max_gross_exposure_usd", math.inf):
            return "gross exposure exceeds limit"
        if self.loss_reached:
            return "daily loss limit reached"
        if self.drawdown_pct() >= limits.get("max_drawdown_pct", math.inf):
            return "drawdown limit reached"
        recent = sum(1 for time in self.accepted_at if as_of - time < 60)
        if recent >= limits.get("max_orders_per_minute", math.inf):
            return "order rate limit exceeded"
        return None

    def fill(self, order, reference, as_of):
        shift = (self.costs["half_spread_bps"] + self.costs["slippage_bps"]) / 10000
        price = reference * (1 + shift if order["side"] == "buy" else 1 - shift)
        quantity, symbol = order["quantity"], order["symbol"]
        fee = quantity * price * self.costs["fee_bps"] / 10000
        self.positions[symbol], realized = apply_order(self.position(symbol), order["side"], quantity, price)
        self.cash += (quantity * price if order["side"] == "sell" else -quantity * price) - fee
        self.fees += fee
        self.realized += realized
        return {"type": "fill", "as_of": format_time(as_of), "symbol": symbol, "side": order["side"],
                "quantity": quantity, "reference_price": reference, "price": price, "fee_usd": fee,
                "realized_pnl_usd": realized}


def run_model(candles, run, strategy, bar_seconds=None, assume=None):
    """Yields fills, rejections and bars in order."""
    bar_seconds = bar_seconds or bar_length(candles)
    account, closes = Account(run, assume), {}
    for ts, bars in candles.groupby("ts", sort=True):
        as_of = ts + bar_seconds
        account.start_cycle(format_time(ts if account.assume["day"] == "start" else as_of)[:10])
        bars = {candle.symbol: candle for candle in bars.itertuples(index=False)}
        ready = [order for order in account.waiting if order["symbol"] in bars]
        account.waiting = [order for order in account.waiting if order["symbol"] not in bars]
        for order in ready:
            yield account.fill(order, bars[order["symbol"]].open, as_of)
        for symbol, candle in bars.items():
            account.marks[symbol] = candle.close
            closes.setdefault(symbol, []).append(candle.close)
        orders = [strategy(symbol, candle, closes[symbol], account.position(symbol)[0])
                  for symbol, candle in bars.items()]
        for order in filter(None, orders):
            account.check_daily_loss()
            order["price"] = bars[order["symbol"]].close
            reason = account.refusal(order, as_of)
            if reason is not None:
                yield {"type": "rejection", "as_of": format_time(as_of), "symbol": order["symbol"], "reason": reason}
                continue
            account.accepted_at.append(as_of)
            if run["fill"] == "close":
                yield account.fill(order, order["price"], as_of)
            else:
                account.waiting.append(order)
        account.end_cycle()
        yield {"type": "bar", "as_of": format_time(as_of), "cash_usd": account.cash,
               "equity_usd": account.last_equity, "realized_pnl_usd": account.realized,
               "unrealized_pnl_usd": account.unrealized(), "fees_usd": account.fees,
               "drawdown_pct": account.drawdown_pct()}


def parse_pairs(text):
    """`a=b,c=d` as a dict."""
    return dict(pair.split("=") for pair in text.split(",") if pair)


def main():
    parser = argparse.ArgumentParser(description="Print the fills, rejections and bars of a paper trading run")
    parser.add_argument("--market", required=True, help="a .jsonl or .csv file of candles, or a directory of them")
    parser.add_argument("--scenario", required=True, help="the run file")
    parser.add_argument("--strategy", required=True, help="sma-cross:fast=N,slow=M,quantity=Q or close-above-open:FILE")
    parser.add_argument("--bar-seconds", type=float, help="length of a bar (default: the smallest step)")
    parser.add_argument("--assume", default="", help="another reading: gross=mark, day=start, or both with a comma")
    args = parser.parse_args()
    events = run_model(load_candles(args.market), load_run(args.scenario), parse_strategy(args.strategy),
                       args.bar_seconds, parse_pairs(args.assume))
    for event in events:
        print(json.dumps(event))


if __name__ == "__main__":
    main()
