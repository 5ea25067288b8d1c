"""Measures how long it takes to import the package: the difference between whole processes, median of 20 pairs."""

import statistics
import subprocess
import sys
import time


def seconds(program):
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begin


for statement in ("import zero_bus", "from zero_bus import DurableRuntimeBus"):
    seconds(statement)
    pairs = [seconds(statement) - seconds("pass") for _ in range(20)]
    print(f"{statement}: {statistics.median(pairs) * 1e3:.1f} ms  bar 50 ms")
