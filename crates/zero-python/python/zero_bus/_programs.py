"""The console scripts. Each behaves as the program of its name."""

from __future__ import annotations

import os
import signal
import sys


def zero_bus() -> None:
    """Runs `zero-bus` and ends the process."""
    _run("zero-bus")


def zero_engine_run() -> None:
    """Runs `zero-engine-run` and ends the process."""
    _run("zero-engine-run")


def zero_feed_hyperliquid() -> None:
    """Runs `zero-feed-hyperliquid` and ends the process."""
    _run("zero-feed-hyperliquid")


def _run(name: str) -> None:
    # Python handles this signal, and the programs expect what the system does by default. If it was ignored at the
    # start, as after `nohup`, it stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Last, so that it finds only what is nowhere else: the programs start each other.
    scripts = os.path.dirname(os.path.abspath(sys.argv[0]))
    os.environ["PATH"] = os.pathsep.join(filter(None, [os.environ.get("PATH"), scripts]))

    from ._native import _run_program

    _run_program(name, [name, *sys.argv[1:]])
