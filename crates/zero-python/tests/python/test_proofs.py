"""Proofs are made and checked as by the program."""

import json
import subprocess
import sysconfig
import warnings
from pathlib import Path

import pytest

import zero_bus
from zero_bus import Bus, Reader, errors

ZERO_BUS = Path(sysconfig.get_path("scripts")) / "zero-bus"


def run(*arguments):
    ended = subprocess.run([ZERO_BUS, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A signed log of three events, its secret, and a policy that trusts its key."""
    folder = tmp_path_factory.mktemp("proofs")
    with Bus.open(folder / "bus") as bus:
        decisions = [{"allowed": n % 2 == 0, "price": 100 + n} for n in range(3)]
        bus.append_many([("decision.record", decision) for decision in decisions], as_of=1.0)
    run("key", "new", "--name", "example.com/desk", "-o", folder / "key")
    run("secret", "new", folder / "bus", "-o", folder / "secret")
    run("checkpoint", folder / "bus", "--key", folder / "key", "--secret", folder / "secret")
    keys = json.loads(run("key", "show", folder / "key", "--json"))
    (folder / "policy").write_text(f"log {keys['log']}\nquorum none\n")
    return folder


def test_a_proof_discloses_what_it_should(log):
    reader = Reader.open(log / "bus")
    names = ["event_type", "payload/allowed"]
    made = reader.prove(2, secret=log / "secret", output=log / "proof", reveal=names)
    assert (made["events"], made["first"], made["last"]) == (3, 2, 2)
    assert made["reveal"] == ["/event_type", "/payload/allowed"] and made["bytes"] == (log / "proof").stat().st_size
    checked = zero_bus.check(log / "proof", log / "policy")
    assert checked["ok"] and checked["event_index"] == 2 and checked["origin"] == "example.com/desk"
    assert checked["disclosures"] == {"/event_type": "decision.record", "/payload/allowed": False}
    assert checked == json.loads(run("check", log / "proof", "--policy", log / "policy", "--json"))


def test_a_track_record_covers_all_events(log):
    reader = Reader.open(log / "bus")
    made = reader.prove_all(secret=log / "secret", output=log / "record", reveal=["payload/price"])
    assert (made["first"], made["last"]) == (1, 3)
    checked = zero_bus.check(log / "record", log / "policy")
    prices = checked["aggregates"]["event_types"]["decision.record"]["fields"]["/payload/price"]
    assert checked["ok"] and (prices["numbers"], prices["sum"]) == (3, 303)
    part = reader.prove_all(secret=log / "secret", output=log / "part", reveal=["payload/price"], first=2, last=2)
    assert (part["first"], part["last"]) == (2, 2)


def test_what_is_not_proven_is_not_ok(log, tmp_path):
    reader = Reader.open(log / "bus")
    reader.prove(reader[0], secret=log / "secret", output=tmp_path / "proof", reveal=["payload/price"])
    assert zero_bus.check(tmp_path / "proof", log / "policy")["disclosures"] == {"/payload/price": 100}
    run("key", "new", "--name", "example.com/desk", "-o", tmp_path / "key")
    keys = json.loads(run("key", "show", tmp_path / "key", "--json"))
    (tmp_path / "policy").write_text(f"log {keys['log']}\nquorum none\n")
    checked = zero_bus.check(tmp_path / "proof", tmp_path / "policy")
    assert not checked["ok"] and checked["reason"] and "disclosures" not in checked


def test_an_event_is_named_in_several_ways(log, tmp_path):
    reader = Reader.open(log / "bus")
    files = {"secret": log / "secret", "output": tmp_path / "proof"}
    for name in (3, -1, "last", "evt-000000000003", reader[-1], reader.head()):
        assert reader.prove(name, reveal=["event_type"], **files)["first"] == 3
    assert reader.prove(-3, reveal=("event_type",), **files)["first"] == 1
    made = reader.prove_all(reveal=["payload/price"], first=-2, last="last", **files)
    assert (made["first"], made["last"]) == (2, 3)
    for name in (-4, "first", 0, 4):
        with pytest.raises(ValueError, match="event"):
            reader.prove(name, reveal=[], **files)
    for name in (1.5, None):
        with pytest.raises(TypeError, match="event: should be"):
            reader.prove(name, reveal=[], **files)


def test_a_proof_without_fields_is_warned_of_unless_it_is_meant(log, tmp_path):
    reader = Reader.open(log / "bus")
    files = {"secret": log / "secret", "output": tmp_path / "proof"}
    with pytest.warns(UserWarning, match="discloses no field") as warned:
        assert reader.prove(1, **files)["reveal"] == []
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reader.prove(1, reveal=[], **files)["reveal"] == []
    (tmp_path / "proof").unlink()
    for wrong in ("payload/price", b"payload", 1, [1]):
        with pytest.raises(TypeError, match="reveal: should be a list of field names"):
            reader.prove(1, reveal=wrong, **files)
        with pytest.raises(TypeError, match="reveal: should be a list of field names"):
            reader.prove_all(reveal=wrong, **files)
    assert not (tmp_path / "proof").exists()


def test_what_cannot_be_proven_is_an_error(log, tmp_path):
    reader = Reader.open(log / "bus")
    with pytest.raises(errors.ProofError, match="cannot read it"):
        zero_bus.check(tmp_path / "missing", log / "policy")
    with pytest.raises(errors.ProofError, match="event 4"):
        reader.prove(4, secret=log / "secret", output=tmp_path / "proof", reveal=[])
    with pytest.raises(errors.ProofError, match="inside the bus"):
        reader.prove(1, secret=log / "secret", output=log / "bus/proof", reveal=[])
    with pytest.raises(errors.ProofError):
        reader.prove(1, secret=tmp_path / "missing", output=tmp_path / "proof", reveal=[])
    assert not (tmp_path / "proof").exists()
