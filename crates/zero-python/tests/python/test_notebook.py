"""Asks the questions of `docs/NOTEBOOK.md`, of the tables in memory and of Parquet files."""

import datetime
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import duckdb
import pyarrow

import zero_bus

PROJECT = Path(os.environ["ZERO_CONFORMANCE"]).parent
TEXT = (PROJECT / "docs/NOTEBOOK.md").read_text()


def blocks(text, language):
    return re.findall(f"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def cell(value):
    """A value as the document writes it. Libraries differ in the types of whole numbers and of times."""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, (int, float)):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return "null" if value is None else str(value)


def lines(rows):
    return [" | ".join(cell(value) for value in row) for row in rows]


def record_run(folder):
    """Runs the commands that the document begins with, as far as they record the run."""
    (folder / "examples").symlink_to(PROJECT / "examples")
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    commands = [line[2:] for line in blocks(TEXT, "console")[0].splitlines() if line.startswith("$ ")]
    for command in commands[1:]:
        subprocess.run(command, shell=True, cwd=folder, env=environment, check=True, timeout=120)


def test_both_libraries_give_the_documented_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record_run(tmp_path)
    names = {}
    parts = re.split(r"^## \d+\. ", TEXT, flags=re.MULTILINE)
    exec(blocks(parts[0], "python")[0], names)
    duckdb.sql("SET TimeZone = 'UTC'")
    assert len(parts) == 11
    wrong = []
    for question in parts[1:]:
        [python], [sql], [answer] = (blocks(question, language) for language in ("python", "sql", "text"))
        exec(python, names)
        frame = pyarrow.Table.from_pandas(names["answer"], preserve_index=False)
        in_pandas = lines(row.values() for row in frame.to_pylist())
        in_duckdb = lines(duckdb.sql(sql).fetchall())
        if not in_pandas == in_duckdb == answer.splitlines():
            wrong.append("\n".join([question.splitlines()[0], *in_pandas, "in DuckDB", *in_duckdb]))
    assert not wrong, "\n\n".join(wrong)

    zero_bus.export_parquet("bus", "tables")
    files = duckdb.connect()
    files.sql("SET TimeZone = 'UTC'")
    for name in names["names"]:
        files.sql(f"CREATE VIEW {name} AS FROM 'tables/{name}/*.parquet'")
    for question in parts[1:]:
        [sql], [answer] = blocks(question, "sql"), blocks(question, "text")
        assert lines(files.sql(sql).fetchall()) == answer.splitlines(), question
