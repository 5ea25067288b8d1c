"use strict";
// Policies (C2SP tlog-policy): whose signatures the reader of this page asks for.

const MAX_POLICY_BYTES = 1 << 20;
const MAX_DEFINITIONS = 256;

/**
 * Reads a policy file.
 *
 * Returns `logs`, keys; `definitions`, witnesses and groups in the order of their lines, with
 * `members` as positions of earlier ones; and `quorum`, a position, or null for `quorum none`.
 */
async function parsePolicy(bytes) {
  if (bytes.length > MAX_POLICY_BYTES) {
    fail(`the policy is longer than ${MAX_POLICY_BYTES} bytes`);
  }
  const parser = new PolicyParser();
  // Names are bytes: one character stands for each.
  const lines = new Lines(latin1(bytes), "policy");
  for (let line = lines.next(); line !== null; line = lines.next()) {
    try {
      await parser.line(line);
    } catch (error) {
      throw error instanceof Unverifiable || !(error instanceof Failure)
        ? error
        : new Failure(`policy, line ${lines.number}: ${error.message}`);
    }
  }
  if (parser.quorum === undefined) {
    fail("the policy has no quorum line");
  }
  return { logs: parser.logs, definitions: parser.definitions, quorum: parser.quorum };
}

class PolicyParser {
  constructor() {
    this.logs = [];
    this.definitions = [];
    this.positions = new Map();
    this.used = new Set();
    this.quorum = undefined;
  }

  async line(line) {
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(line)) {
      fail("contains a control character");
    }
    const [word, ...items] = line.split(/[ \t]/).filter((item) => item !== "");
    if (word === undefined || word.startsWith("#")) {
      return;
    }
    if (word === "log" && (items.length === 1 || items.length === 2)) {
      await this.log(items[0]);
    } else if (word === "witness" && (items.length === 2 || items.length === 3)) {
      await this.witness(items[0], items[1]);
    } else if (word === "group" && items.length >= 2) {
      this.group(items[0], items[1], items.slice(2));
    } else if (word === "quorum" && items.length === 1) {
      this.setQuorum(items[0]);
    } else {
      fail("must be log VKEY [URL], witness NAME VKEY [URL], group NAME all|any|NUMBER NAME... or quorum NAME");
    }
  }

  async log(vkey) {
    if (this.logs.length === MAX_DEFINITIONS) {
      fail(`there are more than ${MAX_DEFINITIONS} logs`);
    }
    const key = await readVkey(vkey);
    if (key.type === COSIGNATURE_ED25519) {
      fail("a key of type 0x04 is for witnesses");
    }
    checkNewKey(key, this.logs);
    checkOtherRole(key, witnessesOf(this).map((witness) => witness.key));
    this.logs.push(key);
  }

  async witness(name, vkey) {
    const key = await readVkey(vkey);
    if (key.type === ED25519) {
      fail("a key of type 0x01 is for logs; a witness has one of type 0x04 or 0x06");
    }
    checkNewKey(key, witnessesOf(this).map((witness) => witness.key));
    checkOtherRole(key, this.logs);
    this.define(name, { key });
  }

  group(name, threshold, names) {
    if (names.length === 0) {
      fail("the group has no members");
    }
    const members = names.map((member) => {
      const position = this.position(member);
      if (this.used.has(position)) {
        fail(`${displayName(member)} is a member of a group already`);
      }
      this.used.add(position);
      return position;
    });
    const words = { all: BigInt(members.length), any: 1n };
    const needed = Object.hasOwn(words, threshold) ? words[threshold] : decodeDecimal(threshold);
    if (needed === null || needed < 1n || needed > BigInt(members.length)) {
      fail(`the threshold must be all, any, or 1 to ${members.length}`);
    }
    this.define(name, { members, threshold: Number(needed) });
  }

  setQuorum(name) {
    if (this.quorum !== undefined) {
      fail("there is a quorum line already");
    }
    this.quorum = name === "none" ? null : this.position(name);
  }

  define(name, definition) {
    if (name === "none") {
      fail("the name none is reserved");
    }
    if (this.definitions.length === 2 * MAX_DEFINITIONS) {
      fail(`there are more than ${2 * MAX_DEFINITIONS} witnesses and groups`);
    }
    if (this.positions.has(name)) {
      fail(`${displayName(name)} is defined already`);
    }
    this.positions.set(name, this.definitions.length);
    this.definitions.push({ name: displayName(name), ...definition });
  }

  position(name) {
    const position = this.positions.get(name);
    if (position === undefined) {
      fail(`${displayName(name)} is not a witness or group of an earlier line`);
    }
    return position;
  }
}

function witnessesOf(policy) {
  return policy.definitions.filter((definition) => definition.key !== undefined);
}

function bytesOfLatin1(text) {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** A name as text. */
function displayName(name) {
  return visible(new TextDecoder().decode(bytesOfLatin1(name)));
}

function readVkey(vkey) {
  const text = decodeUtf8(bytesOfLatin1(vkey));
  if (text === null) {
    fail("the vkey is not UTF-8");
  }
  return parseVkey(text);
}

/** One signature must not count both as the log's and as a witness's. */
function checkOtherRole(key, others) {
  if (others.some((other) => other.name === key.name && other.id === key.id)) {
    fail("an earlier line has this key already, as that of a log or of a witness");
  }
}

/** Two lines must not have the same public key, nor the same name and id. */
function checkNewKey(key, others) {
  const isSame = (other) =>
    compareBytes(other.public, key.public) === 0 || (other.name === key.name && other.id === key.id);
  if (others.some(isSame)) {
    fail("an earlier line has this key already");
  }
}

/** The keys of the log, which must have signed the checkpoint. */
async function checkLogSignature(checkpoint, policy) {
  const keys = policy.logs.filter((key) => key.name === checkpoint.origin);
  if (keys.length === 0) {
    fail(`your policy lists no log with the origin ${visible(checkpoint.origin)}`);
  }
  const signed = await verifySignatures(checkpoint, keys);
  if (signed.size === 0) {
    const labels = keys.map((key) => `${visible(key.name)}+${key.id}`);
    fail(`none of the keys that your policy lists for the log has signed: ${labels.join(", ")}`);
  }
  return [...signed.keys()];
}

/**
 * The witnesses that have cosigned, each with its time, and for each definition of the policy
 * whether it is satisfied.
 */
async function verifyCosignatures(checkpoint, policy) {
  const signed = await verifySignatures(checkpoint, witnessesOf(policy).map((witness) => witness.key));
  for (const signature of checkpoint.signatures.filter((signature) => signature.key === null)) {
    signature.state = "unknown";
  }
  const satisfied = [];
  for (const definition of policy.definitions) {
    satisfied.push(
      definition.key !== undefined
        ? signed.has(definition.key)
        : definition.members.filter((member) => satisfied[member]).length >= definition.threshold,
    );
  }
  const cosigners = [...signed].map(([key, time]) => ({
    name: witnessesOf(policy).find((witness) => witness.key === key).name,
    key,
    time,
  }));
  return { cosigners, satisfied };
}

function checkQuorum(policy, { cosigners, satisfied }) {
  if (policy.quorum !== null && !satisfied[policy.quorum]) {
    const names = cosigners.map((cosigner) => cosigner.name).join(", ") || "no witness of your policy";
    fail(`the quorum ${policy.definitions[policy.quorum].name} is not met; cosigned by: ${names}`);
  }
}
