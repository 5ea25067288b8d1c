"""Log lines, steps and strategies."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zero_bus import Bus, Reader
from zero_bus.recording import BusHandler, step


@pytest.fixture
def bus(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        yield bus


@pytest.mark.parametrize("durable", [True, False])
def test_log_lines_become_events(bus, durable):
    logger = logging.Logger("trading")
    handler = BusHandler(bus, durable=durable, level=logging.INFO)
    logger.addHandler(handler)
    logger.debug("not recorded")
    logger.info("bought %s at %d", "BTC", 64000)
    try:
        raise ValueError("no such \udc80 symbol")
    except ValueError:
        logger.exception("failed")
    handler.flush()
    first, second = bus.reader()
    assert first.payload == {"level": "INFO", "logger": "trading", "message": "bought BTC at 64000"}
    assert first.event_type == "log.line" and first.as_of > 1_700_000_000
    assert second.payload["exception"].rstrip().endswith("ValueError: no such \\udc80 symbol")
    bus.close()
    handler.flush()


def test_a_failure_of_the_handler_does_not_reach_the_program(bus, capsys):
    logger = logging.Logger("trading")
    logger.addHandler(BusHandler(bus))
    bus.close()
    logger.info("lost")
    assert "ClosedError" in capsys.readouterr().err


def test_a_step_records_intent_and_outcome(bus):
    seen = []

    @step(bus, arguments=lambda symbol, quantity: {"symbol": symbol, "quantity": quantity}, result=lambda value: value)
    def order(symbol, quantity):
        # The intent is durable by now.
        seen.append(bus.reader()[-1].event_type)
        if quantity < 0:
            raise ValueError("negative")
        return quantity * 2

    assert order("BTC", quantity=2) == 4 and order.__name__ == "order"
    with pytest.raises(ValueError, match="negative"):
        order("BTC", -1)
    intent, result, second, failed = bus.reader()
    assert seen == ["step.intent", "step.intent"]
    assert intent.payload["arguments"] == {"symbol": "BTC", "quantity": 2}
    assert intent.payload["step"].endswith("order") and result.payload["result"] == 4
    assert intent.trace_id == result.trace_id != second.trace_id == failed.trace_id
    assert failed.payload["exception"] == {"class": "ValueError", "message": "negative"}
    assert [event.event_type for event in bus.reader()] == ["step.intent", "step.result", "step.intent", "step.failed"]


def test_a_result_that_cannot_be_recorded_reaches_the_caller_and_has_an_outcome(bus):
    def missing(value):
        raise KeyError("missing")

    for part, reason in [(lambda value: {value}, "PayloadTypeError"), (missing, "KeyError")]:
        assert step(bus, "order", result=part)(lambda: "id-1")() == "id-1"
        outcome = bus.reader()[-1]
        assert outcome.event_type == "step.result"
        assert outcome.payload["unrecorded"]["class"] == reason and "result" not in outcome.payload


def test_what_cannot_be_a_step_is_refused_where_it_is_decorated(bus):
    def numbers():
        yield 1

    with pytest.raises(TypeError, match="numbers is a generator function"):
        step(bus)(numbers)
    with pytest.raises(TypeError, match="expects a Bus"):
        step(lambda: 1)


def test_a_step_without_an_intent_does_not_run(bus):
    ran = []

    @step(bus, "order", arguments=lambda value: value)
    def order(value):
        ran.append(value)

    with pytest.raises(ValueError):
        order(float("nan"))
    assert ran == [] and len(bus.reader()) == 0


def test_coroutines_are_steps(bus):
    @step(bus, "ask", result=lambda value: value)
    async def ask(question):
        await asyncio.sleep(0)
        if question is None:
            await asyncio.sleep(3600)
        return question

    async def main():
        assert await ask("x") == "x"
        task = asyncio.ensure_future(ask(None))
        while len(bus.reader()) < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [event.event_type for event in bus.reader()] == ["step.intent", "step.result", "step.intent", "step.failed"]
    assert bus.reader()[-1].payload["exception"]["class"] == "CancelledError"


def run_strategy(program, *lines):
    return subprocess.run(
        [sys.executable, "-c", program], input="".join(lines), capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "returned,problem",
    [
        ('{"symbol": "BTC"}', "It has returned one dictionary; write [order]"),
        ('"buy"', "It has returned 'buy'"),
        ("3", "It has returned 3"),
        ('[{"symbol": "BTC"}, "sell"]', "Order 2 is 'sell'"),
    ],
)
def test_what_is_no_list_of_orders_is_named(returned, problem):
    program = f"from zero_bus import strategy\nstrategy.run(lambda bar, state: {returned})"
    ended = run_strategy(program, '{"type": "start"}\n', '{"type": "bar", "cycle_id": 1}\n')
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "TypeError: on_bar should return a list of orders" in ended.stderr and problem in ended.stderr


def test_a_program_that_does_not_call_run_is_told(tmp_path):
    message = "the program ends without a call of strategy.run(on_bar)"
    for imported in ("from zero_bus import strategy", "from zero_bus.strategy import run"):
        ended = run_strategy(f"{imported}\ndef on_bar(bar, state): return []")
        assert ended.returncode == 0 and message in ended.stderr, ended.stderr
    (tmp_path / "mine.py").write_text("from zero_bus import strategy\ndef on_bar(bar, state): return []")
    for program in (
        "from zero_bus import strategy\nstrategy.run(lambda bar, state: [])",
        "from zero_bus import strategy\nraise ValueError",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mine",
    ):
        assert message not in run_strategy(program).stderr


STRATEGY = """
import os
from zero_bus import strategy

def on_bar(bar, state):
    print("prints do not disturb the runtime")
    os.system("echo neither do children")
    state["bars"] = state.get("bars", 0) + 1
    if state["bars"] % 3:
        return None
    candle = bar["candles"][0]
    return [{"symbol": candle["symbol"], "side": "buy", "quantity": 0.01, "confidence": 0.9, "reason": "third bar"}]

strategy.run(on_bar)
"""


def test_a_strategy_trades_and_keeps_its_state(tmp_path):
    (tmp_path / "strategy.py").write_text(STRATEGY)
    run = '{"name": "r", "limits": {"max_notional_usd": 500}, "start_cash_usd": 10000}'
    (tmp_path / "run.json").write_text(run)
    market = Path(os.environ["ZERO_CONFORMANCE"]).parent / "examples/market-data/demo.csv"
    command = [
        Path(sys.executable).with_name("zero-engine-run"), "--market", market, "--strategy",
        f"exec:{sys.executable} strategy.py", "--scenario", "run.json", "--journal", "j.jsonl", "--runtime-bus", "bus",
    ]  # fmt: skip
    # In two parts, so that the second one begins with the recorded state.
    for cycles in ("4", "5"):
        ended = subprocess.run(
            [*command, "--max-cycles", cycles], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        assert "prints do not disturb the runtime" in ended.stderr and "neither do children" in ended.stderr
    reader = Reader.open(tmp_path / "bus")
    assert reader.verify()["ok"]
    assert not reader.read(types="strategy.failed")
    assert len(reader.read(types="decision.record")) == 3
