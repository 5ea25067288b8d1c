#!/usr/bin/env python3
"""Check a proof file against a policy and print the disclosed fields: check_proof.py POLICY FILE.tlog-proof
Written from the specification and C2SP/C2SP (commit 5ba5ee8) alone. Needs Python 3.9 and the package `cryptography`.
Exit status: 0 the proof holds, 1 it does not (one line says why), 2 the check could not run. Output: JSON lines."""
import base64, hashlib, json, re, sys
try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.exit(print("cannot check: install the Python package cryptography", file=sys.stderr) or 2)
try:  # Decision: without ML-DSA-44, a 0x06 line is reported as not verified, counts for nothing, rejects nothing.
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
    MLDSA44PublicKey.from_public_bytes(bytes(1312))
except Exception:
    MLDSA44PublicKey = None
KEY_BYTES = {1: 32, 4: 32, 6: 1312}  # 0x01 Ed25519, 0x04 Ed25519 cosignature, 0x06 ML-DSA-44 cosignature
ORDER_8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826  # y of points of order 8; or p minus it
MAX_SIGNATURES = 100  # Decision: more are refused; the standard asks for a limit of at least 16.
sha256 = lambda data: hashlib.sha256(data).digest()
FIELD_NAME = re.compile(r"/(event_type|as_of|trace_id|checksum|payload/([^/~]|~[01])*)")

class Failed(Exception):
    """Arguments: the exit status (1 or 2) and the reason."""

def require(condition, reason, status=1):
    if not condition:
        raise Failed(status, reason)

def from_base64(text, what, status=1):
    form = re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", text) and len(text) % 4 == 0
    require(form and base64.b64encode(base64.b64decode(text)) == text, what + " is not canonical base64", status)
    return base64.b64decode(text)

def decimal(text, what):  # Decision: sizes and indexes have 64 bits without a sign, as in the message of 0x06.
    require(re.fullmatch(rb"0|[1-9][0-9]{0,19}", text) and int(text) < 1 << 64, what + " is not a decimal number")
    return int(text)

def canonical_json(raw, what):  # Decision: only the canonical form is accepted, so that no text has two readings.
    try:
        value = json.loads(raw.decode("ascii"))
        same = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() == raw
        json.dumps(value, ensure_ascii=False).encode()  # fails on an unpaired surrogate
    except (ValueError, RecursionError):
        same = False
    require(same, what + " is not canonical JSON")
    return value

def is_key_name(name):
    text = name.decode(errors="replace")
    return text.encode() == name != b"" and not any(c.isspace() or c == "+" for c in text)

def parse_vkey(vkey, types, where):
    name, key_id, encoded = (vkey.split(b"+", 2) + [b"", b""])[:3]
    raw = from_base64(encoded, where + "the key", 2)
    computed = sha256(name + b"\n" + raw)[:4]  # Decision: every type must have the recommended id.
    require(raw and raw[0] in types and len(raw) == 1 + KEY_BYTES[raw[0]], where + "unsuitable type of key", 2)
    y, p = int.from_bytes(raw[1:], "little") % (1 << 255), (1 << 255) - 19  # the eight torsion points have these y
    require(raw[0] == 6 or y < p and min(y, p - y) not in (0, 1, ORDER_8), where + "weak or non-canonical key", 2)
    require(is_key_name(name) and key_id == computed.hex().encode(), where + "the id does not match the key", 2)
    return (name, computed), raw[0], raw[1:]

def parse_policy(data):  # Returns the known keys by (key name, key id), the groups in order, the quorum's name.
    # Decision: "each line is terminated" includes the last one, so that a truncated policy is refused.
    require(data.endswith(b"\n") and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data),
            "the policy contains a control character, or its last line has no newline", 2)
    keys, public_keys, groups, quorums, defined, free = {}, set(), [], [], {b"none"}, set()  # free: in no group yet
    for number, line in enumerate(data.split(b"\n"), 1):
        words, where = line.split(), "policy line %d: " % number
        if not words or words[0].startswith(b"#"):
            continue
        verb, name, listed = words[0], None if words[0] == b"log" else b"".join(words[1:2]), words[3:]
        require(verb not in (b"witness", b"group") or name not in defined, where + "the name is defined twice", 2)
        if (verb == b"log" and len(words) in (2, 3)) or (verb == b"witness" and len(words) in (3, 4)):
            key, kind, public = parse_vkey(words[1 if name is None else 2], (1, 6) if name is None else (4, 6), where)
            # Decision: a log and a witness may have the same public key, but not the same key name and key id.
            require((verb, public) not in public_keys and key not in keys, where + "duplicate key", 2)
            public_keys.add((verb, public))
            keys[key] = name, kind, public
        elif verb == b"group" and listed:
            require(len(free.intersection(listed)) == len(listed), where + "undefined or repeated member", 2)
            rule = {b"any": b"1", b"all": b"%d" % len(listed)}.get(words[2], words[2])  # Decision: no leading zero.
            require(re.fullmatch(rb"[1-9][0-9]{0,8}", rule) and int(rule) <= len(listed), where + "bad threshold", 2)
            groups.append((name, int(rule), listed))
            free.difference_update(listed)
        else:
            require(verb == b"quorum" and len(words) == 2 and name in defined, where + "invalid line", 2)
            quorums.append(name)
            continue
        defined.add(name)
        free.add(name)
    require(len(quorums) == 1, "the policy needs exactly one quorum line", 2)  # Decision: it need not name a log.
    return keys, groups, quorums[0]

def verify_signature(key_name, kind, public, raw, text):
    # Returns whether it verifies (None: ML-DSA-44 is missing) and its time. Decision: future times are accepted.
    time, raw = (None, raw) if kind == 1 else (int.from_bytes(raw[:8], "big"), raw[8:])
    if kind == 6 and MLDSA44PublicKey is None:
        return None, time
    message = (b"cosignature/v1\ntime %d\n" % time if kind == 4 else b"") + text
    try:
        if kind == 6:  # A name longer than 255 bytes has no message: bytes() raises a ValueError.
            origin, size, root = text.split(b"\n")[:3]
            message = b"subtree/v1\n\0" + bytes([len(key_name)]) + key_name + time.to_bytes(8, "big")
            message += bytes([len(origin)]) + origin + bytes(8) + int(size).to_bytes(8, "big") + base64.b64decode(root)
        (MLDSA44PublicKey if kind == 6 else Ed25519PublicKey).from_public_bytes(public).verify(raw, message)
    except (InvalidSignature, ValueError):
        return False, time
    return (time or 0) < 1 << 63, time

def verify_path(node, index, size, path):  # Returns the root to which the path leads (RFC 6962, section 2.1.1).
    require(index < size, "the index is not below the tree size")
    last = size - 1
    for sibling in path:
        require(last > 0, "the inclusion path is too long")
        while index == last and index % 2 == 0:  # a node without a sibling moves up
            index, last = index // 2, last // 2
        node = sha256(b"\1" + (sibling + node if index % 2 else node + sibling))
        index, last = index // 2, last // 2
    require(last == 0, "the inclusion path is too short")
    return node

def verify_checkpoint(note, policy, leaf, index, path):
    keys, groups, quorum = policy
    require(note.decode(errors="replace").encode() == note and not re.search(rb"[\x00-\x09\x0b-\x1f]", note)
            and note.endswith(b"\n"), "the checkpoint is not UTF-8, contains a control character, or is truncated")
    text, _, signatures = note.rpartition(b"\n\n")
    lines, signatures, text = text.split(b"\n"), signatures[:-1].split(b"\n"), text + b"\n"
    require(len(lines) == 3 and is_key_name(lines[0]) and len(signatures) <= MAX_SIGNATURES,
            "the checkpoint is not an origin, a size and a root hash, or has too many signatures")
    size, root = decimal(lines[1], "the tree size"), from_base64(lines[2], "the root hash")
    require(verify_path(leaf, index, size, path) == root, "the inclusion path does not lead to the root hash")
    seen, report = {b"none"}, [{"origin": lines[0].decode(), "tree_size": size}]  # seen has None if the log signed
    for line in signatures:
        dash, name, encoded = line.split(b" ") if line.count(b" ") == 2 else (b"", b"", b"")
        raw = from_base64(encoded, "a signature")
        require(dash == "—".encode() and is_key_name(name) and len(raw) > 4, "invalid signature line")
        witness, kind, public = keys.get((name, raw[:4]), (None, None, None))
        # Decision: every line of a known key must verify, also a second one and one of a log with another origin.
        verified, time = (None, None) if kind is None else verify_signature(name, kind, public, raw[4:], text)
        require(verified is not False, "a signature of a known key does not verify: " + ascii(name.decode()))
        seen.update([witness] if verified and (witness or name == lines[0]) else [])
        role = "unknown" if kind is None else "witness" if witness else "log"
        report.append({"key_name": name.decode(), "role": role, "time": time, "verified": bool(verified)})
    require(None in seen, "no log of the policy with this origin signed the checkpoint")
    for name, threshold, listed in groups:
        seen.update([name] if len(seen.intersection(listed)) >= threshold else [])
    require(quorum in seen, "the witnesses that signed do not meet the quorum")
    return report

def parse_extra(raw, index):  # Returns the entry of the event and the disclosed fields.
    extra = canonical_json(raw, "the extra data")
    types = {key: type(value) for key, value in extra.items()} if isinstance(extra, dict) else {}
    require(types == {"digests": list, "disclosures": list, "event_index": int, "schema_version": str}
            and extra["schema_version"] == "zero.runtime.disclosure.v1" and extra["event_index"] == index + 1
            and all(isinstance(text, str) for text in extra["digests"] + extra["disclosures"]),
            "the extra data is not a zero.runtime.disclosure.v1 of the event at this index")
    digests = [from_base64(s.encode(), "a digest") for s in extra["digests"]]
    # Decision: the order is that of the digests' bytes, not of their base64. An event has at least 3 fields.
    require(len(digests) >= 3 and all(len(d) == 32 for d in digests) and digests == sorted(set(digests)),
            "the digests are not at least 3 different ones of 32 bytes in ascending order")
    fields = {}
    for disclosure in extra["disclosures"]:
        require(sha256(disclosure.encode()) in digests, "a disclosure has no digest in the proof")
        require(re.fullmatch(r"[A-Za-z0-9_-]*", disclosure), "a disclosure is not base64url without padding")
        encoded = disclosure.replace("-", "+").replace("_", "/") + "=" * (-len(disclosure) % 4)
        triple = canonical_json(from_base64(encoded.encode(), "a disclosure"), "a disclosure")
        require(isinstance(triple, list) and [type(part) for part in triple[:2]] == [str, str] and len(triple) == 3
                and re.fullmatch(r"[A-Za-z0-9_-]{21}[AQgw]", triple[0]) and FIELD_NAME.fullmatch(triple[1])
                and triple[1] not in fields, "a disclosure is not [16-byte salt, name, value] of one field of an event")
        fields[triple[1]] = triple[2]  # Decision: any JSON value is shown; its type is not checked.
    require("/checksum" not in fields or len(fields) == len(digests), "/checksum is disclosed without all other fields")
    require(len(fields) < len(digests) or {"/event_type", "/as_of", "/checksum"} <= set(fields), "a field is missing")
    return b"zero.runtime.leaf.v1\n%d\n%s\n" % (index + 1, base64.b64encode(sha256(b"".join(digests)))), fields

def check(policy, proof):  # Returns the lines to print. `policy` is what parse_policy returned.
    head, _, note = proof.partition(b"\n\n")
    lines = head.split(b"\n")
    opening = [lines[0]] + [line[:6] for line in lines[1:3]]
    require(opening == [b"c2sp.org/tlog-proof@v1", b"extra ", b"index "], "the file is no tlog-proof with extra data")
    index = decimal(lines[2][6:], "the index")
    entry, fields = parse_extra(from_base64(lines[1][6:], "the extra data"), index)
    path = [from_base64(line, "a hash of the path") for line in lines[3:]]
    require(all(len(node) == 32 for node in path), "a hash of the path does not have 32 bytes")
    report = verify_checkpoint(note, policy, sha256(b"\0" + entry), index, path)
    return report + [{"event_index": index + 1, "name": name, "value": fields[name]} for name in fields]

def main(arguments):
    sys.setrecursionlimit(5000)  # A payload may be 1000 levels deep.
    getattr(sys, "set_int_max_str_digits", abs)(0)  # Integers may have more than the 4300 digits Python allows.
    try:
        require(len(arguments) == 2, "usage: check_proof.py POLICY FILE.tlog-proof", 2)
        with open(arguments[0], "rb") as policy, open(arguments[1], "rb") as proof:
            lines = check(parse_policy(policy.read()), proof.read())
    except (Failed, OSError) as error:
        status, reason = error.args if isinstance(error, Failed) else (2, error)
        return print("%s: %s" % ("not proven" if status == 1 else "cannot check", reason), file=sys.stderr) or status
    return print("\n".join(map(json.dumps, lines))) or 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
