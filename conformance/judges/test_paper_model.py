#!/usr/bin/env python3
"""Hand-computed cases for the model, its readers, its data and the comparison. Run: python3 test_paper_model.py"""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from fractions import Fraction
from pathlib import Path

import pandas as pd

import compare_bus
import make_candles
from model_inputs import bar_length, format_time, load_candles, load_run, parse_flat_yaml
from paper_model import Account, apply_order, close_above_open, parse_pairs, parse_strategy, run_model, sma_cross

MARKET = Path(__file__).resolve().parents[1] / "market"
COSTS = {"fee_bps": 10, "half_spread_bps": 60, "slippage_bps": 40}  # 1 % on the price, 0.1 % as fee


def candles(rows, start="2026-01-05T00:00:00Z", step=60):
    """Candles of rows (index of the bar, symbol, open, close)."""
    first = pd.Timestamp(start).timestamp()
    return pd.DataFrame([{"symbol": symbol, "ts": first + index * step, "open": opened, "high": max(opened, close),
                          "low": min(opened, close), "close": close, "volume": 0.0}
                         for index, symbol, opened, close in rows])


def scripted(script):
    """A strategy that sends a given order at the n-th bar of a symbol: {(symbol, n): (side, quantity, options)}."""
    def decide(symbol, candle, closes, position):
        if (symbol, len(closes)) not in script:
            return None
        side, quantity, *options = script[symbol, len(closes)]
        return {"symbol": symbol, "side": side, "quantity": quantity, "confidence": 1.0, "reduce_only": False,
                **(options[0] if options else {})}
    return decide


def model(rows, script, run=None, step=60, start="2026-01-05T00:00:00Z", assume=None):
    events = list(run_model(candles(rows, start, step), load_run(run or {}), scripted(script), step, assume))
    return {kind: [event for event in events if event["type"] == kind] for kind in ("fill", "rejection", "bar")}


class Positions(unittest.TestCase):
    def test_average_cost(self):
        position, realized = apply_order((0.0, 0.0), "buy", 10, 100.0)
        self.assertEqual((position, realized), ((10, 100.0), 0.0))
        position, realized = apply_order(position, "buy", 30, 120.0)  # (1000 + 3600) / 40
        self.assertEqual((position, realized), ((40, 115.0), 0.0))
        position, realized = apply_order(position, "sell", 10, 125.0)  # 10 x 10; the average stays
        self.assertEqual((position, realized), ((30, 115.0), 100.0))
        position, realized = apply_order(position, "sell", 50, 110.0)  # 30 x -5; 20 short at 110
        self.assertEqual((position, realized), ((-20, 110.0), -150.0))
        position, realized = apply_order(position, "buy", 20, 104.0)  # 20 x 6
        self.assertEqual((position, realized), ((0.0, 0.0), 120.0))


class Fills(unittest.TestCase):
    def test_next_open_with_costs(self):
        rows = [(0, "A", 99, 100), (1, "A", 110, 120), (2, "A", 130, 125), (3, "A", 100, 90)]
        out = model(rows, {("A", 1): ("buy", 2), ("A", 3): ("sell", 2, {"reduce_only": True})}, {"costs": COSTS})
        buy, sell = out["fill"]
        self.assertEqual((buy["as_of"], buy["reference_price"]), ("2026-01-05T00:02:00Z", 110))
        self.assertAlmostEqual(buy["price"], 111.1)
        self.assertAlmostEqual(buy["fee_usd"], 0.2222)
        self.assertEqual((sell["as_of"], sell["reference_price"]), ("2026-01-05T00:04:00Z", 100))
        self.assertAlmostEqual(sell["price"], 99.0)
        self.assertAlmostEqual(sell["realized_pnl_usd"], 2 * (99 - 111.1))
        self.assertAlmostEqual(sell["fee_usd"], 0.198)
        before, held, high, last = out["bar"]
        self.assertEqual((before["cash_usd"], before["drawdown_pct"]), (10000, 0))
        self.assertAlmostEqual(held["cash_usd"], 10000 - 222.2 - 0.2222)
        self.assertAlmostEqual(held["equity_usd"], 10000 - 222.4222 + 240)
        self.assertAlmostEqual(held["unrealized_pnl_usd"], 2 * (120 - 111.1))
        self.assertAlmostEqual(last["cash_usd"], 10000 - 222.4222 + 198 - 0.198)
        self.assertAlmostEqual(last["equity_usd"], last["cash_usd"])
        self.assertAlmostEqual(last["fees_usd"], 0.4202)
        peak = high["equity_usd"]  # 10000 - 222.4222 + 250
        self.assertAlmostEqual(peak, 10027.5778)
        self.assertAlmostEqual(last["drawdown_pct"], (peak - last["equity_usd"]) / peak * 100)

    def test_fill_at_the_close(self):
        out = model([(0, "A", 99, 100)], {("A", 1): ("sell", 3)}, {"fill": "close", "costs": COSTS})
        self.assertAlmostEqual(out["fill"][0]["price"], 99.0)
        self.assertEqual(out["fill"][0]["as_of"], "2026-01-05T00:01:00Z")
        self.assertAlmostEqual(out["bar"][0]["equity_usd"], 10000 - 3 * 1 - 0.297)

    def test_gap_delays_the_fill_and_keeps_the_mark(self):
        rows = [(0, "A", 10, 10), (0, "B", 5, 5), (1, "A", 10, 10), (1, "B", 5, 5), (2, "B", 5, 6), (5, "A", 14, 15)]
        out = model(rows, {("A", 1): ("buy", 1), ("A", 2): ("buy", 2)})
        self.assertEqual([(fill["as_of"], fill["price"]) for fill in out["fill"]],
                         [("2026-01-05T00:02:00Z", 10), ("2026-01-05T00:06:00Z", 14)])
        self.assertEqual([bar["equity_usd"] for bar in out["bar"]], [10000, 10000, 10000, 10000 + 5 + 2])

    def test_order_without_a_later_bar_stays_open(self):
        out = model([(0, "A", 10, 10)], {("A", 1): ("buy", 1)})
        self.assertEqual((out["fill"], out["rejection"]), ([], []))


class Limits(unittest.TestCase):
    def reasons(self, *args, **kwargs):
        return [event["reason"] for event in model(*args, **kwargs)["rejection"]]

    def test_the_four_in_order(self):
        rows = [(index, "A", 100, 100) for index in range(9)]
        script = {("A", 1): ("buy", 11, {"confidence": 0.59}), ("A", 2): ("buy", 10.5), ("A", 3): ("buy", 10),
                  ("A", 4): ("buy", 10), ("A", 5): ("buy", 6), ("A", 6): ("buy", 5, {"confidence": 0.6}),
                  ("A", 7): ("sell", 10.5)}
        self.assertEqual(self.reasons(rows, script), ["confidence below minimum", "order notional exceeds limit",
                                                      "projected position exceeds limit",
                                                      "order notional exceeds limit"])

    def test_waiting_orders_count(self):
        account = Account(load_run({"limits": {"max_position_notional_usd": 150}}))
        order = {"symbol": "A", "side": "buy", "quantity": 10, "confidence": 1, "reduce_only": False, "price": 8.0}
        account.marks["A"] = 8.0
        self.assertIsNone(account.refusal(order, 0))
        account.waiting.append(dict(order))
        self.assertEqual(account.refusal(order, 0), "projected position exceeds limit")
        sell = {**order, "side": "sell", "quantity": 10, "reduce_only": True, "confidence": 0}
        self.assertIsNone(account.refusal(sell, 0))
        self.assertIsNotNone(account.refusal({**sell, "quantity": 10.5}, 0))

    def test_reduce_only_never_opens_increases_or_reverses(self):
        rows = [(index, "A", 10, 10) for index in range(6)]
        reduce_only = {"reduce_only": True, "confidence": 0.0}
        script = {("A", 1): ("sell", 1, reduce_only), ("A", 2): ("buy", 5), ("A", 3): ("buy", 1, reduce_only),
                  ("A", 4): ("sell", 6, reduce_only), ("A", 5): ("sell", 5, reduce_only)}
        out = model(rows, script)
        self.assertEqual([event["reason"] for event in out["rejection"]],
                         ["reduce-only order would not reduce the position"] * 3)
        self.assertEqual(len(out["fill"]), 2)

    def test_gross_exposure(self):
        rows = [(0, "A", 10, 10), (0, "B", 20, 20), (1, "A", 10, 30), (1, "B", 20, 20), (2, "A", 30, 30),
                (2, "B", 20, 20)]
        script = {("A", 1): ("buy", 10), ("B", 1): ("sell", 5), ("B", 2): ("sell", 1), ("A", 2): ("sell", 1)}
        run = {"limits": {"max_gross_exposure_usd": 200}}
        self.assertEqual(self.reasons(rows, script, run), ["gross exposure exceeds limit"])  # B at bar 2: 90 + 120
        run["limits"]["max_gross_exposure_usd"] = 210
        self.assertEqual(self.reasons(rows, script, run), [])
        self.assertEqual(self.reasons(rows, script, run, assume={"gross": "mark"}), ["gross exposure exceeds limit"])

    def test_daily_loss_lasts_for_the_day(self):
        rows = [(0, "A", 100, 100), (1, "A", 100, 90), (2, "A", 90, 100), (3, "A", 100, 100), (4, "A", 100, 100)]
        script = {("A", 1): ("buy", 1), ("A", 2): ("buy", 1), ("A", 3): ("buy", 1), ("A", 4): ("buy", 1)}
        run = {"limits": {"max_daily_loss_usd": 10}}
        # Bars start at 20:00; those that close at 00:00 and later, the fourth and fifth, belong to the next day.
        out = model(rows, script, run, step=3600, start="2026-01-05T20:00:00Z")
        self.assertEqual([(event["as_of"], event["reason"]) for event in out["rejection"]],
                         [("2026-01-05T22:00:00Z", "daily loss limit reached"),
                          ("2026-01-05T23:00:00Z", "daily loss limit reached")])
        out = model(rows, script, run, step=3600, start="2026-01-05T20:00:00Z", assume={"day": "start"})
        self.assertEqual(len(out["rejection"]), 3)
        run["limits"]["max_daily_loss_usd"] = 10.01
        self.assertEqual(self.reasons(rows, script, run, step=3600), [])

    def test_daily_loss_starts_from_the_equity_of_the_day_before(self):
        rows = [(0, "A", 100, 100), (1, "A", 100, 96), (2, "A", 92, 92), (3, "A", 92, 92)]
        script = {("A", 1): ("buy", 1), ("A", 3): ("buy", 1), ("A", 4): ("buy", 1)}
        run = {"limits": {"max_daily_loss_usd": 5}}  # the loss is 4 on the first day, then another 4 on the next
        self.assertEqual(self.reasons(rows, script, run, step=3600, start="2026-01-05T21:00:00Z"), [])

    def test_drawdown_and_order_rate(self):
        rows = [(0, "A", 100, 100), (1, "A", 100, 90), (2, "A", 90, 100), (3, "A", 100, 100)]
        script = {("A", 1): ("buy", 10), ("A", 2): ("buy", 1), ("A", 3): ("buy", 1)}
        run = {"start_cash_usd": 1000, "limits": {"max_drawdown_pct": 10}}
        self.assertEqual(self.reasons(rows, script, run), ["drawdown limit reached"])
        rows = [(index, "A", 10, 10) for index in range(4)]
        script = {("A", 1): ("buy", 1), ("A", 2): ("buy", 1), ("A", 3): ("buy", 1)}
        run = {"limits": {"max_orders_per_minute": 1}}
        self.assertEqual(self.reasons(rows, script, run, step=30), ["order rate limit exceeded"])

    def test_invalid_limits(self):
        for limits in ({"max_notional_usd": 0}, {"min_confidence": 1.1}, {"max_nonsense": 1}):
            with self.assertRaises(ValueError):
                load_run({"limits": limits})


class Strategies(unittest.TestCase):
    def test_sma_cross(self):
        decide = sma_cross(2, 3, 5.0)
        self.assertIsNone(decide("A", None, [1, 2], 0))
        self.assertEqual(decide("A", None, [1, 2, 3], 0)["side"], "buy")  # 2.5 > 2
        self.assertIsNone(decide("A", None, [1, 2, 3], 5))
        self.assertIsNone(decide("A", None, [3, 2, 1], 0))
        sell = decide("A", None, [3, 2, 1], 5)  # 1.5 < 2
        self.assertEqual((sell["side"], sell["quantity"], sell["reduce_only"]), ("sell", 5.0, True))
        self.assertIsNone(decide("A", None, [2, 2, 2], 5))

    def test_sma_cross_run(self):
        closes = [10, 11, 12, 13, 9, 8, 8]
        rows = [(index, "A", close, close) for index, close in enumerate(closes)]
        fills = [event for event in run_model(candles(rows), load_run({}), sma_cross(2, 3, 5.0), 60)
                 if event["type"] == "fill"]
        # Third close: 11.5 > 11, filled at 13. Fifth: 11 < 11.33, filled at 8.
        self.assertEqual([(fill["side"], fill["price"], fill["realized_pnl_usd"]) for fill in fills],
                         [("buy", 13, 0.0), ("sell", 8, -25.0)])

    def test_close_above_open(self):
        spec = {"name": "n", "version": "1", "paper_only": True, "symbol": "a", "side": "BUY", "quantity": 2,
                "confidence": 0.7, "condition": {"type": "close_above_open", "min_move_pct": 0.5}}
        yaml = "\n".join(["# comment", "name: n", "symbol: a  # lower case", "side: buy", "quantity: 2",
                          "confidence: 0.7", "paper_only: true", "condition:", "  type: close_above_open",
                          "  min_move_pct: 0.5"])
        flow = yaml.split("condition:")[0] + "condition: {type: close_above_open, min_move_pct: 0.5}"
        bar = {close: next(candles([(0, "A", 200, close)]).itertuples()) for close in (199, 200, 200.9, 201)}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "strategy"
            for text in (json.dumps(spec), yaml, flow):
                path.write_text(text, encoding="utf-8")
                decide = close_above_open(path)
                self.assertEqual([decide("A", candle, [], 0) is not None for candle in bar.values()],
                                 [False, False, False, True])
                self.assertIsNone(decide("B", bar[201], [], 0))
                self.assertEqual(decide("A", bar[201], [], 0), {"symbol": "A", "side": "buy", "quantity": 2.0,
                                                                "confidence": 0.7, "reduce_only": False})
            path.write_text(json.dumps({**spec, "condition": {"type": "close_above_open"}}), encoding="utf-8")
            self.assertIsNone(close_above_open(path)("A", bar[200], [], 0))
            self.assertIsNotNone(close_above_open(path)("A", bar[200.9], [], 0))
            path.write_text(json.dumps({**spec, "paper_only": False}), encoding="utf-8")
            with self.assertRaises(ValueError):
                close_above_open(path)
        self.assertEqual(parse_flat_yaml("a: 'x'\nb:\n  c: 1\nd: false"), {"a": "x", "b": {"c": 1.0}, "d": False})


class Readers(unittest.TestCase):
    def load(self, name, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            return load_candles(path)

    def test_csv_and_jsonl_are_equal(self):
        csv = self.load("abc.csv", "Close,Time,OPEN,high,low\n2.5,1767571200,2,3,1\n2.4,1767571260,2,3,1\n")
        lines = [{"ts": "2026-01-05T01:00:00+01:00", "symbol": "abc", "open": 2, "high": 3, "low": 1, "close": 2.5},
                 {"ts": 1767571260, "symbol": "Abc", "open": 2, "high": 3, "low": 1, "close": 2.4, "volume": 0}]
        jsonl = self.load("x.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        self.assertEqual(csv.to_dict("records"), jsonl.to_dict("records"))
        self.assertEqual((csv["symbol"][0], bar_length(csv)), ("ABC", 60.0))
        self.assertEqual(format_time(csv["ts"][0] + 0.5), "2026-01-05T00:00:00.500000Z")

    def test_bad_candles(self):
        good = "1,2,3,1,2\n"
        for bad in ("1,2,3,1,2\n", "0,2,3,1,2\n", "2,2,3,1,3.5\n", "2,2,3,1,0.5\n", "2,0,3,0,2\n", "2,2,3,1,nan\n"):
            with self.assertRaises(ValueError, msg=bad):
                self.load("a.csv", "ts,open,high,low,close\n" + good + bad)


class Data(unittest.TestCase):
    def test_committed_candles_are_what_the_script_writes(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            sys.argv = ["make_candles.py", folder]
            make_candles.main()
            for name in ("minute.csv", "hour.csv", "real.jsonl"):
                self.assertEqual((Path(folder) / name).read_bytes(), (MARKET / name).read_bytes(), name)

    def test_sets(self):
        for name, bars, symbols, seconds in (("minute.csv", 3000, 2, 60), ("hour.csv", 2000, 3, 3600)):
            frame = load_candles(MARKET / name)
            steps = frame.groupby("symbol")["ts"].diff().dropna()
            self.assertLess(abs(len(frame) - bars), 50)
            self.assertEqual((frame["symbol"].nunique(), bar_length(frame)), (symbols, seconds))
            self.assertGreater((steps > seconds).sum(), 40)
            self.assertTrue((steps > 3 * seconds).any())
        real = load_candles(MARKET / "real.jsonl")
        prices = [order["price"] for order in json.loads(make_candles.REAL_PRICES.read_text())["orders"]]
        self.assertEqual(real["close"].tolist(), prices)
        self.assertTrue((real["open"] == real["close"]).all())


class Comparison(unittest.TestCase):
    """The comparison accepts a log that carries the model's own figures and finds every change in it."""

    @classmethod
    def setUpClass(cls):
        cls.cases = json.loads((MARKET / "cases.json").read_text())
        cls.events = {case["name"]: list(run_model(load_candles(MARKET / case["market"]),
                                                   load_run(MARKET / case["scenario"]),
                                                   parse_strategy(case["strategy"], MARKET))) for case in cls.cases}
        cls.case = next(case for case in cls.cases if case["name"] == "hour-sma")
        types = {kind: name for name, kind in compare_bus.TYPES.items()}
        cls.log = [{"event_type": types[event["type"]], "as_of": event["as_of"], "payload": event}
                   for event in cls.events["hour-sma"]]

    def write_log(self, folder, log):
        (Path(folder) / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in log))

    def first_difference(self, log):
        with tempfile.TemporaryDirectory() as folder:
            self.write_log(folder, log)
            differences, _ = compare_bus.compare(self.events["hour-sma"], compare_bus.read_bus(folder))
        return differences[0] if differences else (None, "")

    def test_command(self):
        for change, code, words in ((0, 0, "equal"), (0.01, 1, "first difference at the bar that closes at")):
            log = json.loads(json.dumps(self.log))
            log[-1]["payload"]["equity_usd"] += change
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as output:
                self.write_log(folder, log)
                sys.argv = ["compare_bus.py", folder, "--market", str(MARKET / self.case["market"]), "--scenario",
                            str(MARKET / self.case["scenario"]), "--strategy", self.case["strategy"]]
                self.assertEqual(compare_bus.main(), code)
            self.assertIn(words, output.getvalue())

    def test_every_change_is_found(self):
        self.assertEqual(self.first_difference(self.log), (None, ""))
        changes = [("fill.record", "price", 0.00001), ("fill.record", "fee_usd", 0.0051),
                   ("fill.record", "realized_pnl_usd", 0.01), ("fill.record", "quantity", 0.001),
                   ("fill.record", "side", None), ("fill.record", "reference_price", 0.01),
                   ("rejection.record", "reason", None), ("rejection.record", "symbol", None)]
        changes += [("position.snapshot", field, 0.0051) for field in compare_bus.FIELDS["bar"]]
        for event_type, field, change in changes:
            log = json.loads(json.dumps(self.log))
            event = [event for event in log if event["event_type"] == event_type][7]
            event["payload"][field] = "other" if change is None else event["payload"][field] + change
            time, text = self.first_difference(log)
            self.assertEqual(time, event["as_of"], field)
            self.assertIn(field, text)

    def test_missing_and_extra_events_are_found(self):
        first = {event["event_type"]: index for index, event in reversed(list(enumerate(self.log)))}
        for index in first.values():
            as_of = self.log[index]["as_of"]
            for copies in (0, 2):
                log = self.log[:index] + self.log[index:index + 1] * copies + self.log[index + 1:]
                self.assertEqual(self.first_difference(log)[0], as_of)
        failed = {"event_type": "strategy.failed", "as_of": self.log[5]["as_of"], "payload": {}}
        self.assertIn("strategy.failed", self.first_difference(self.log[:5] + [failed] + self.log[5:])[1])
        log = json.loads(json.dumps(self.log))
        del log[0]["payload"]["drawdown_pct"]
        self.assertIn("drawdown_pct", self.first_difference(log)[1])
        self.assertIn("order of time", self.first_difference(self.log[1:] + self.log[:1])[1])

    def test_books_balance(self):
        for case in self.cases:
            cash = start = load_run(MARKET / case["scenario"])["start_cash_usd"]
            for event in self.events[case["name"]]:
                if event["type"] == "fill":
                    sign = 1 if event["side"] == "sell" else -1
                    cash += sign * event["quantity"] * event["price"] - event["fee_usd"]
                elif event["type"] == "bar":
                    self.assertAlmostEqual(event["cash_usd"], cash, places=6)
                    profit = event["realized_pnl_usd"] + event["unrealized_pnl_usd"] - event["fees_usd"]
                    self.assertAlmostEqual(event["equity_usd"], start + profit, places=6)

    def test_every_case_has_fills_and_rejections(self):
        reasons = set()
        for case in self.cases:
            events = self.events[case["name"]]
            self.assertGreater(sum(event["type"] == "fill" for event in events), 40, case)
            reasons |= {event["reason"] for event in events if event["type"] == "rejection"}
        self.assertEqual(reasons, {"order notional exceeds limit", "projected position exceeds limit",
                                   "gross exposure exceeds limit", "daily loss limit reached"})

    def test_no_decision_hangs_on_the_last_bit(self):
        """No two averages are equal as exact numbers: the order of additions cannot change a decision."""
        for case in self.cases:
            if not case["strategy"].startswith("sma-cross:"):
                continue
            options = parse_pairs(case["strategy"].partition(":")[2])
            fast, slow = int(options["fast"]), int(options["slow"])
            for symbol, frame in load_candles(MARKET / case["market"]).groupby("symbol"):
                closes = [Fraction(repr(close)) for close in frame["close"].tolist()]
                for end in range(slow, len(closes) + 1):
                    self.assertNotEqual(sum(closes[end - fast:end]) * slow, sum(closes[end - slow:end]) * fast,
                                        (case["name"], symbol, end))

    def test_other_readings_change_the_case(self):
        frame, run = load_candles(MARKET / self.case["market"]), load_run(MARKET / self.case["scenario"])
        outcomes = [[event["type"] for event in run_model(frame, run, parse_strategy(self.case["strategy"]),
                                                          assume=assume)]
                    for assume in ({}, {"gross": "mark"}, {"day": "start"})]
        self.assertNotEqual(outcomes[0], outcomes[1])
        self.assertNotEqual(outcomes[0], outcomes[2])


if __name__ == "__main__":
    unittest.main()
