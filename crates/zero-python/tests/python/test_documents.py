"""Runs the examples of `docs/PYTHON.md`, in order and in one folder. `zero-cli` compares what the commands print."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def blocks(text):
    """The language and the text of each block."""
    language, block = None, []
    for line in text.splitlines():
        if line.startswith("```"):
            if language is not None:
                yield language, "\n".join(block)
            language, block = line[3:] if language is None else None, []
        elif language is not None:
            block.append(line)


def test_the_examples_run_and_run_again(tmp_path):
    project = Path(os.environ["ZERO_CONFORMANCE"]).parent
    (tmp_path / "examples").symlink_to(project / "examples")
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}

    def run(*command):
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, f"{command[-1]}\n{ended.stderr}"

    found = list(blocks((project / "docs/PYTHON.md").read_text()))
    programs = [text for language, text in found if language == "python"]
    assert len(programs) >= 7
    for language, text in found:
        if language == "python":
            run(sys.executable, "-c", text)
        elif language == "console":
            for command in [line[2:] for line in text.splitlines() if line.startswith("$ ")]:
                if not command.startswith("pip "):
                    run("sh", "-c", command)
    for text in programs:
        run(sys.executable, "-c", text)
