"""The stubs describe the package."""

import subprocess
import sys

PROGRAM = '''
import asyncio
from typing import Any, Optional

import zero_bus
from zero_bus import Bus, DurableRuntimeBus, Head, Reader, RuntimeBusEvent, Ticket, errors
from zero_bus.recording import BusHandler, step

old = DurableRuntimeBus("bus")
event: RuntimeBusEvent = old.append("a", {"x": 1}, as_of=1.0, trace_id=None)
verdict: zero_bus.RuntimeBusIntegrity = old.verify_integrity()
snapshot: Optional[dict[str, Any]] = old.read_snapshot()
with Bus.open("bus", create=True) as bus:
    ticket: Ticket = bus.submit("a", {"x": 1})
    events: list[RuntimeBusEvent] = bus.append_many([("a", {}), {"event_type": "b", "payload": {}}])
    head: Head = bus.head()
    bus.append("a", {}, expect_head=head)
    logger = BusHandler(bus, durable=True)

    @step(bus, "double", result=lambda value: value)
    def double(number: int) -> int:
        return 2 * number

    answer: int = double(2)

reader = Reader.open("bus")
one: RuntimeBusEvent = reader[0]
many: list[RuntimeBusEvent] = reader[1:3]
index: int = sum(found.event_index for found in reader.events(since=one, types=["a", "b.*"]))


async def follow() -> None:
    found: RuntimeBusEvent = await ticket
    async for found in reader.follow(since=found):
        print(found.event_id)


table: zero_bus.Table = reader.to_arrow("fills", since=one)
columns: list[str] = table.columns
exported: dict[str, Any] = zero_bus.export_parquet(reader, "tables", tables=["fills"])
proof: dict[str, Any] = reader.prove(one, secret="secret", output="proof", reveal=["event_type"])
verified: bool = zero_bus.check("proof", "policy")["ok"]


try:
    asyncio.run(follow())
except errors.DamagedError as error:
    offset: Optional[int] = error.byte_offset
'''


def mypy(tmp_path, *arguments):
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path.parent / "mypy"), *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)


def test_mypy_accepts_correct_uses_and_finds_wrong_ones(tmp_path):
    (tmp_path / "correct.py").write_text(PROGRAM)
    wrong = 'bus.append(1, {})\nold.append("a", {})\nreader["x"]\none.as_of = 1.0\n'
    (tmp_path / "wrong.py").write_text(PROGRAM + wrong)
    checked = mypy(tmp_path, "correct.py", "wrong.py")
    assert checked.returncode == 1 and "correct.py" not in checked.stdout, checked.stdout
    assert checked.stdout.count("wrong.py:") >= 4, checked.stdout


def test_the_package_itself_is_typed_strictly(tmp_path):
    checked = mypy(tmp_path, "-p", "zero_bus")
    assert checked.returncode == 0, checked.stdout


def test_the_stub_matches_the_extension(tmp_path):
    command = [sys.executable, "-m", "mypy.stubtest", "zero_bus._native"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
