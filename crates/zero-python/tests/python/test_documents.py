"""Runs the Python blocks of `docs/PYTHON.md`, in order and in one folder."""

import os
import subprocess
import sys
from pathlib import Path


def blocks(text):
    inside, block = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            if inside:
                yield "\n".join(block)
            inside, block = line == "```python", []
        elif inside:
            block.append(line)


def test_the_examples_run(tmp_path):
    document = Path(os.environ["ZERO_CONFORMANCE"]).parent / "docs/PYTHON.md"
    found = list(blocks(document.read_text()))
    assert len(found) >= 6
    for block in found:
        ended = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, block + "\n" + ended.stderr
