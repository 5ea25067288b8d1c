"""The old class as the specification describes it: each call reads the whole log.

This is a re-creation for comparison. What it does for valid logs is specified and recorded. What it raises was checked
against the published source of the old class.
"""

import hashlib
import json
import os
from pathlib import Path


def dumps(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def checksum(core):
    return "sha256:" + hashlib.sha256(dumps(core).encode()).hexdigest()


class OldBus:
    def __init__(self, root):
        self.root = Path(root)
        self.events_path = self.root / "events.jsonl"
        self.snapshot_path = self.root / "state-snapshot.json"

    def read_events(self):
        if not self.events_path.exists():
            return []
        return [json.loads(line) for line in self.events_path.read_text().split("\n") if line.strip()]

    def append(self, event_type, payload, *, as_of, trace_id=None):
        log = self.read_events()
        event = {
            "schema_version": "zero.runtime.event.v1",
            "event_id": "evt-%012d" % (len(log) + 1),
            "event_index": len(log) + 1,
            "event_type": event_type,
            "as_of": as_of,
            "payload": payload,
            "previous_checksum": log[-1]["checksum"] if log else None,
        }
        if trace_id:
            event["trace_id"] = trace_id
        event["checksum"] = checksum(event)
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.events_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a") as log_file:
            log_file.write(dumps(event) + "\n")
            log_file.flush()
            os.fsync(descriptor)
        return event

    def write_snapshot(self, payload, *, as_of, source_event_id=None):
        log = self.read_events()
        snapshot = {
            "schema_version": "zero.runtime.snapshot.v1",
            "as_of": as_of,
            "source_event_id": source_event_id,
            "event_count": len(log),
            "last_checksum": log[-1]["checksum"] if log else None,
            "payload": payload,
        }
        self.root.mkdir(parents=True, exist_ok=True)
        self.snapshot_path.write_text(dumps(snapshot) + "\n")
        return snapshot
