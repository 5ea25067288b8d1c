"""The console scripts behave as the programs."""

import json
import os
import pty
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest

from zero_bus import Bus, Reader

SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(name, *arguments, **options):
    command = [SCRIPTS / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_help_versions_and_usage_errors_are_those_of_the_programs():
    for name in ("zero-bus", "zero-engine-run", "zero-feed-hyperliquid"):
        shown = run(name, "--help")
        assert shown.returncode == 0 and f"Usage: {name}" in shown.stdout and not shown.stderr
        assert run(name, "--version").stdout.startswith(name + " ")
        wrong = run(name, "--no-such-option")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr.startswith(f"{name}: ") and wrong.stderr.count("\n") == 1


def test_python_and_the_program_write_one_bus(tmp_path):
    path = tmp_path / "bus"
    with Bus.open(path) as bus:
        first = bus.append("a", {})
        printed = run("zero-bus", "append", path, "--type", "b", '{"n": 1}')
        assert json.loads(printed.stdout)["previous_checksum"] == first.checksum
        feeder = subprocess.Popen(
            [SCRIPTS / "zero-bus", "append", path, "--batch"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for n in range(20):
            feeder.stdin.write('{"event_type": "b", "as_of": 1.0, "payload": {"n": %d}}\n' % n)
            feeder.stdin.flush()
            bus.append("a", {"n": n})
        feeder.stdin.close()
        assert feeder.wait(60) == 0
        feeder.stdout.close()
    verified = run("zero-bus", "verify", path, "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["integrity"]["events"] == 42
    text = (path / "events.jsonl").read_text()
    (path / "events.jsonl").write_text(text.replace('"n":5', '"n":6', 1))
    assert run("zero-bus", "verify", path).returncode == 1
    assert run("zero-bus", "verify", tmp_path / "missing").returncode == 2


def test_a_run_of_the_runtime(tmp_path):
    ended = run(
        "zero-engine-run", "--max-cycles", 3, "--interval", 0, "--journal", "j.jsonl", "--runtime-bus", "bus", cwd=tmp_path
    )
    assert ended.returncode == 0 and json.loads(ended.stdout)["schema_version"] == "zero.runtime.cycle.v1"
    reader = Reader.open(tmp_path / "bus")
    assert reader.verify()["ok"] and reader.replay()["cycles"] == 3


def start_engine(tmp_path, **options):
    command = [SCRIPTS / "zero-engine-run", "--interval", "3600", "--journal", "j.jsonl", "--runtime-bus", "bus"]
    return subprocess.Popen(command, cwd=tmp_path, text=True, **options)


def wait_for_a_cycle(tmp_path):
    # Whoever comes first creates the bus.
    Bus.open(tmp_path / "bus").close()
    follow = Reader.open(tmp_path / "bus").follow(types="runtime.health")
    assert follow.next(timeout=60) is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_runtime_in_an_orderly_way(tmp_path, number):
    process = start_engine(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_a_cycle(tmp_path)
    process.send_signal(number)
    output, messages = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in messages
    assert json.loads(output)["cycle_id"] == 1


def test_a_signal_ends_a_follower_as_it_ends_the_program(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        bus.append("a", {})
    process = subprocess.Popen(
        [SCRIPTS / "zero-bus", "tail", tmp_path / "bus", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_a_closed_pipe_is_no_error(tmp_path):
    with Bus.open(tmp_path / "bus") as bus:
        bus.append_many([("a", {"x": "y" * 200})] * 3_000)
    command = f"'{SCRIPTS}/zero-bus' tail bus -n 3000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "0" and ended.stderr == ""


def test_a_terminal_is_a_terminal(tmp_path):
    controller, terminal = pty.openpty()
    process = start_engine(tmp_path, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    wait_for_a_cycle(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    shown = b""
    try:
        while True:
            shown += os.read(controller, 65536)
    except OSError:
        # Nobody has the terminal open any more.
        pass
    os.close(controller)
    assert b"scenario" in shown and b"cycle 1" in shown
