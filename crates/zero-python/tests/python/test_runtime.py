"""How the package behaves in a process: threads, asyncio, fork, signals, memory, exits."""

import asyncio
import fcntl
import gc
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from conftest import SOAK

import zero_bus._awaiting
from zero_bus import Bus, Reader, errors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bus"


@pytest.fixture
def bus(path):
    with Bus.open(path) as bus:
        yield bus


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.002)


class Held:
    """Holds the lock of a bus, as a stopped process would."""

    def __init__(self, path):
        self.file = open(Path(path) / "bus.lock", "rb+")

    def __enter__(self):
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        self.file.close()


def threads_and_files_of(process_id):
    """The names of the threads of a process, and of its open files."""
    names = []
    for entry in [*Path(f"/proc/{process_id}/task").iterdir(), *Path(f"/proc/{process_id}/fd").iterdir()]:
        try:
            names.append(os.readlink(entry) if entry.is_symlink() else (entry / "comm").read_text().strip())
        except OSError:
            pass
    return names


def test_threads_share_a_handle_and_other_threads_run_while_one_waits(bus, path):
    bus.append("a", {})
    waiting = threading.Thread(target=lambda: bus.append("b", {}))
    with Held(path):
        waiting.start()
        wait_for(lambda: "zero-bus lock" in threads_and_files_of(os.getpid()))
        # This thread runs although the other one waits inside the extension.
        assert waiting.is_alive() and len(list(path.iterdir())) >= 2
    waiting.join()
    producers = [threading.Thread(target=lambda: [bus.append("c", {"n": n}) for n in range(25)]) for _ in range(4)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    assert bus.reader().verify()["events"] == 102


def test_an_append_needs_no_other_thread_while_the_lock_is_free(path):
    program = """
import sys, zero_bus
from pathlib import Path

bus = zero_bus.Bus.open(sys.argv[1])
tasks = Path("/proc/self/task").iterdir()
[worker] = [task for task in tasks if (task / "comm").read_text() == "zero-bus worker\\n"]

def status(name):
    return [line for line in (worker / "status").read_text().splitlines() if line.startswith(name)]

while not status("State:\\tS"):  # until it sleeps
    pass
before = status("voluntary_ctxt_switches")
for n in range(50):
    bus.append("a", {"n": n})
    bus.append("a", {"n": n}, expect_head=2 * n + 1)
assert status("voluntary_ctxt_switches") == before
"""
    subprocess.check_call([sys.executable, "-c", program, str(path)])
    assert len(Reader.open(path)) == 100


def test_asyncio_awaits_tickets_and_follows(bus, path):
    async def main():
        tickets = [bus.submit("a", {"n": n}) for n in range(20)]
        events = await asyncio.gather(*tickets)
        assert [event.event_index for event in events] == list(range(1, 21))
        follow = Reader.open(path).follow(since=10)
        seen = []

        async def consume():
            async for event in follow:
                seen.append(event.event_index)

        consumer = asyncio.ensure_future(consume())
        while len(seen) < 10:
            await asyncio.sleep(0.001)
        await bus.submit("b", {})
        while len(seen) < 11:
            await asyncio.sleep(0.001)
        # A cancelled task loses nothing.
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        await bus.submit("c", {})
        assert (await follow.__anext__()).event_index == 22
        follow.cancel()
        assert [event async for event in follow] == []
        assert seen == list(range(11, 22))
        (path / "events.jsonl").rename(path / "moved.jsonl")
        with pytest.raises(errors.ChangedError):
            await bus.submit("d", {})

    asyncio.run(main())


def in_child(work):
    """Runs `work` in a forked child and returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_does_not_share_a_handle(bus, path):
    bus.append("a", {})
    reader, follow = bus.reader(), bus.reader().follow()
    assert next(follow).event_index == 1
    with Held(path):
        pending = bus.submit("b", {})

        def work():
            nonlocal bus, follow
            for call in (lambda: bus.append("x", {}), bus.head, bus.close, follow.next, bus.flush):
                with pytest.raises(errors.ForkError) as raised:
                    call()
                assert str(os.getpid()) in str(raised.value) and isinstance(raised.value, RuntimeError)
            with pytest.raises(RuntimeError):
                pending.result()
            # Dropping the handles of the parent does not wait for its threads.
            del bus, follow
            gc.collect()

        assert in_child(work) == 0

    def read_and_append():
        assert reader[0].event_type == "a"
        with Bus.open(path) as own:
            own.append("c", {})

    assert pending.result(30).event_index == 2
    assert in_child(read_and_append) == 0
    assert bus.append("d", {}).event_index == 4


def test_events_go_to_spawned_processes(bus):
    events = [bus.append("a", {"n": n}) for n in range(3)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(operator.attrgetter("payload"), events) == [{"n": 0}, {"n": 1}, {"n": 2}]


WAITING = {
    "append": ("zero-bus lock", "bus.append('a', {})"),
    "append_many": ("zero-bus lock", "bus.append_many([('a', {})])"),
    "submit": ("zero-bus lock", "bus.submit('a', {}).result()"),
    "flush": ("zero-bus lock", "bus.submit('a', {}); bus.flush()"),
    "full": ("zero-bus lock", "[bus.submit('a', {'x': 'y' * (1 << 19)}) for _ in range(5)]"),
    "open": ("zero-bus lock", "zero_bus.Bus.open(sys.argv[1], lock_timeout=1e6)"),
    "follow": ("anon_inode:inotify", "next(bus.reader().follow(since=1))"),
    "async": ("anon_inode:inotify", "asyncio.run(next_event(bus.reader().follow(since=1)))"),
    "ticket": ("zero-bus lock", "bus.submit('a', {}).exception(timeout=1e6)"),
}


@pytest.mark.parametrize("name", WAITING)
def test_an_interrupt_ends_every_call_that_waits(bus, path, name):
    name_of_wait, call = WAITING[name]
    bus.append("a", {})
    program = f"""
import asyncio, os, signal, sys, zero_bus

# A shell that starts a program in the background may have it ignore this signal.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def next_event(follow):
    return await follow.__anext__()

bus = zero_bus.Bus.open(sys.argv[1], lock_timeout=1e6)
print("open", flush=True)
sys.stdin.readline()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(0)
print("completed", flush=True)
os._exit(1)
"""
    command = [sys.executable, "-c", program, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "open\n"
    # Only the interrupt can end the wait: the lock is held until the child has ended.
    with Held(path):
        child.stdin.write("go\n")
        child.stdin.flush()
        wait_for(lambda: name_of_wait in threads_and_files_of(child.pid))
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "interrupted\n"
    assert child.returncode == 0


def test_an_interrupt_ends_a_long_call_before_it_appends(bus, path):
    class Interrupted(Exception):
        pass

    def interrupt(_signal, _frame):
        raise Interrupted

    events = [("a", {"n": n, "list": [n, n, n]}) for n in range(200_000)]
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            bus.append_many(events)
    finally:
        signal.signal(signal.SIGALRM, previous)
    bus.close()
    assert len(Reader.open(path)) == 0


def test_the_intervals_of_all_waits_leave_room_below_200_ms():
    # A call can wait twice in a row, and the program has to get its turn.
    assert 3 * zero_bus._native._SIGNAL_INTERVAL_S <= 0.2
    assert zero_bus._awaiting._WAIT_S == zero_bus._native._SIGNAL_INTERVAL_S


def test_an_exit_waits_for_submitted_events(path):
    program = """
import sys, zero_bus
bus = zero_bus.Bus.open(sys.argv[1])
tickets = [bus.submit("a", {"n": n}) for n in range(300)]
"""
    subprocess.check_call([sys.executable, "-c", program, str(path)])
    assert [event.payload["n"] for event in Reader.open(path)] == list(range(300))


def test_a_kill_loses_nothing_that_was_acknowledged(path):
    program = """
import sys, zero_bus
bus = zero_bus.Bus.open(sys.argv[1])
while True:
    if sys.argv[2] == "append":
        print(bus.append("a", {"x": "y" * 100}).event_index, flush=True)
    else:
        tickets = [bus.submit("a", {"x": "y" * 100}) for _ in range(20)]
        print(tickets[-1].result().event_index, flush=True)
"""
    for round in range(12 if SOAK else 4):
        how = ["append", "submit"][round % 2]
        child = subprocess.Popen([sys.executable, "-c", program, str(path), how], stdout=subprocess.PIPE, text=True)
        for _ in range(5 + 7 * round):
            acknowledged = int(child.stdout.readline())
        child.kill()
        rest = child.communicate()[0].split("\n")
        # The last line may be cut.
        acknowledged = max([acknowledged, *map(int, filter(None, rest[:-1]))])
        verdict = Reader.open(path).verify()
        assert verdict["events"] >= acknowledged and verdict["byte_offset"] is None or verdict["torn_bytes"]
    with Bus.open(path) as bus:
        assert bus.append("b", {}).event_index > acknowledged
        assert bus.reader().verify()["ok"]


def resident_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_memory_does_not_grow_with_the_events(bus):
    def work(events):
        for _ in range(events // 1_000):
            bus.append_many([("a", {"n": n, "list": [1.5, "text", None]}) for n in range(500)])
            for ticket in [bus.submit("a", {"n": n}) for n in range(490)]:
                ticket.result()
            for n in range(10):
                event = bus.append("a", {"n": n}, trace_id="t")
                event.payload, event.to_dict(), repr(event)
            with pytest.raises(ValueError):
                bus.append("a", {"n": float("nan")})
        for event in bus.reader().events(since=bus.head().index - 500):
            event.payload

    work(3_000)
    gc.collect()
    resident = resident_kib()
    tracemalloc.start()
    work(1_000)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    work(1_000_000 if SOAK else 6_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - traced
    tracemalloc.stop()
    assert grown < 200_000, f"{grown} bytes are still allocated"
    # 6,000 leaked events would be about 5 MiB.
    assert resident_kib() - resident < (20_000 if SOAK else 4_000)


def test_a_thread_may_wait_while_the_interpreter_ends(path):
    program = """
import sys, threading, zero_bus
bus = zero_bus.Bus.open(sys.argv[1])
bus.append("a", {})
follow = bus.reader().follow(since=1)
threading.Thread(target=lambda: next(follow), daemon=True).start()
bus.submit("b", {}).add_done_callback(lambda ticket: None)
"""
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(Reader.open(path)) == 2
