"use strict";
// The proof of one event: C2SP tlog-proof with the extra data zero.runtime.disclosure.v1.

const PROOF_HEADER = "c2sp.org/tlog-proof@v1";
const DISCLOSURE_SCHEMA = "zero.runtime.disclosure.v1";
const LEAF_SCHEMA = "zero.runtime.leaf.v1";
const MAX_PROOF_BYTES = 64 << 20;
const MAX_PATH_HASHES = 63;

const NO_POLICY =
  "A signature proves something only to somebody who trusts the key. Give this page your policy: it names the keys that you trust.";

const STEPS = [
  "Read the proof file",
  "Find the digest of each disclosed field",
  "Compute the entry of the event",
  "Follow the path to the root of the log",
  "Verify the signature of the log",
  "Verify the cosignatures of witnesses",
];

/**
 * Checks a proof against a policy, which is null if there is none yet.
 *
 * Returns `verdict`: "proven", "failed" or "pending"; `reason`, why it is not proven; `claim`, what
 * the file claims; `steps` with their facts; and `signatures`. Only a proven result has `proven`, the
 * disclosed fields and the signers.
 */
async function checkProof(file, policy) {
  const result = { verdict: "failed", reason: "", claim: null, signatures: [], proven: null };
  result.steps = STEPS.map((title) => ({ title, state: "waiting", facts: [], details: [] }));
  const steps = result.steps.values();
  let step = null;
  const next = () => {
    if (step !== null) {
      step.state = "passed";
    }
    step = steps.next().value ?? null;
    return step;
  };
  try {
    const proof = readProof(file, next(), result);
    await findDigests(proof, next());
    const leaf = await computeLeaf(proof, next());
    await followPath(proof, leaf, next());
    next();
    if (policy === null) {
      result.verdict = "pending";
      result.reason = NO_POLICY;
      return result;
    }
    const logKeys = await checkLogSignature(proof.checkpoint, policy);
    step.facts.push(...logKeys.map((key) => ["Signed by", keyLabel(key)]));
    const cosigned = await verifyCosignatures(proof.checkpoint, policy, next());
    describeQuorum(policy, cosigned, step);
    checkQuorum(policy, cosigned);
    next();
    result.verdict = "proven";
    result.proven = { disclosures: proof.extra.disclosures, cosigners: cosigned.cosigners, logKeys };
  } catch (error) {
    // Whatever goes wrong, nothing is proven.
    result.reason = error instanceof Failure ? error.message : `the check could not be finished: ${error}`;
    step.state = error instanceof Unverifiable ? "unverifiable" : "failed";
    step.facts.push(["Reason", result.reason]);
  }
  return result;
}

function keyLabel(key) {
  return `${visible(key.name)}+${key.id}`;
}

/** A number with separators. */
function grouped(number) {
  return number.toLocaleString("en-US");
}

/** "1 field", "2 fields". */
function counted(count, one, many = `${one}s`) {
  return `${grouped(count)} ${BigInt(count) === 1n ? one : many}`;
}

/** Seconds since 1970 as a time in UTC. */
function timeText(seconds) {
  if (seconds === 0n) {
    return "at a time that it does not state";
  }
  // A Date counts to 8,640,000,000,000 seconds.
  return seconds > 8640000000000n
    ? `${seconds} seconds after 1970`
    : `${new Date(Number(seconds) * 1000).toISOString().slice(0, -5).replace("T", " ")} UTC`;
}

function readProof(file, step, result) {
  const proof = parseProof(file);
  const { checkpoint, extra } = proof;
  result.signatures = checkpoint.signatures;
  result.claim = {
    event: extra.eventIndex,
    origin: visible(checkpoint.origin),
    size: checkpoint.size,
    disclosed: extra.disclosures.length,
    fields: extra.digests.length,
  };
  step.facts.push(
    ["Size", counted(file.length, "byte")],
    ["Event", grouped(extra.eventIndex)],
    ["Log", visible(checkpoint.origin)],
    ["Events in the log", grouped(checkpoint.size)],
  );
  return proof;
}

async function findDigests({ extra }, step) {
  const digests = new Set(extra.digests.map(hex));
  const names = new Set();
  for (const [position, disclosure] of extra.disclosures.entries()) {
    const digest = await sha256(bytesOf(disclosure.text));
    if (!digests.has(hex(digest))) {
      fail(`the event has no digest of disclosure ${position + 1}`);
    }
    if (names.has(disclosure.name)) {
      fail(`disclosure ${position + 1} discloses a field for the second time`);
    }
    names.add(disclosure.name);
    step.details.push([`Disclosure ${position + 1}`, encodeBase64(digest)]);
  }
  step.facts.push(["Found", `${grouped(extra.disclosures.length)} of ${counted(extra.digests.length, "digest")}`]);
}

async function computeLeaf({ extra }, step) {
  const commitment = await sha256(...extra.digests);
  const entry = `${LEAF_SCHEMA}\n${extra.eventIndex}\n${encodeBase64(commitment)}\n`;
  const leaf = await sha256([0], bytesOf(entry));
  step.facts.push(["Commitment", encodeBase64(commitment)], ["Leaf hash", encodeBase64(leaf)]);
  return leaf;
}

/** Checks an inclusion proof (RFC 9162 section 2.1.3.2). */
async function followPath({ index, path, checkpoint }, leaf, step) {
  const failed = () => fail(`the path does not lead from leaf ${index} to the root of the ${checkpoint.size} leaves`);
  if (index >= checkpoint.size) {
    failed();
  }
  let [at, last, hash] = [index, checkpoint.size - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) {
      failed();
    }
    const isRight = at % 2n === 1n || at === last;
    hash = isRight ? await sha256([1], sibling, hash) : await sha256([1], hash, sibling);
    step.details.push([isRight ? "Hash on the left" : "Hash on the right", encodeBase64(sibling)]);
    step.details.push(["Node", encodeBase64(hash)]);
    // A last node without a right sibling moves up unchanged.
    while (isRight && at % 2n === 0n && at > 0n) {
      [at, last] = [at / 2n, last / 2n];
    }
    [at, last] = [at / 2n, last / 2n];
  }
  step.facts.push(["Path", counted(path.length, "hash", "hashes")]);
  step.facts.push(["Root in the checkpoint", encodeBase64(checkpoint.root)]);
  if (last !== 0n || compareBytes(hash, checkpoint.root) !== 0) {
    failed();
  }
}

function describeQuorum(policy, { cosigners, satisfied }, step) {
  for (const { name, key, time } of cosigners) {
    step.facts.push([`Witness ${name}`, `${timeText(time)}, by the key ${keyLabel(key)}`]);
  }
  for (const [position, { name, members, threshold }] of policy.definitions.entries()) {
    if (members !== undefined) {
      const count = members.filter((member) => satisfied[member]).length;
      step.details.push([`Group ${name}`, `${count} of ${members.length} have cosigned, ${threshold} needed`]);
    }
  }
  const quorum = policy.quorum === null ? "none: your policy asks for no witness" : policy.definitions[policy.quorum].name;
  step.facts.push(["Quorum", quorum]);
}

/** Reads a proof file of an event. */
function parseProof(file) {
  if (file.length > MAX_PROOF_BYTES) {
    fail(`the proof is longer than ${MAX_PROOF_BYTES} bytes`);
  }
  const text = decodeUtf8(file);
  if (text === null) {
    fail("the proof is not UTF-8");
  }
  const lines = new Lines(text, "proof");
  if (lines.expect("the header") !== PROOF_HEADER) {
    lines.fail(`must be ${PROOF_HEADER}`);
  }
  let line = lines.expect("the leaf index");
  let extra = null;
  if (line.startsWith("extra ")) {
    extra = decodeBase64(line.slice("extra ".length)) ?? lines.fail("the extra data are not base64");
    line = lines.expect("the leaf index");
  }
  const index = line.startsWith("index ") ? decodeDecimal(line.slice("index ".length)) : null;
  if (index === null) {
    lines.fail("must be index and a decimal");
  }
  const path = parsePath(lines);
  const checkpoint = parseCheckpoint(lines.rest, lines.number);
  extra = parseExtra(extra ?? fail("the extra data of an event are missing"));
  if (extra.eventIndex - 1n !== index) {
    fail(`leaf ${index} is not that of event ${extra.eventIndex}`);
  }
  return { extra, index, path, checkpoint };
}

/** Reads hashes, one in a line, up to an empty line. */
function parsePath(lines) {
  const path = [];
  for (let line = lines.expect("an empty line"); line !== ""; line = lines.expect("an empty line")) {
    if (path.length === MAX_PATH_HASHES) {
      lines.fail(`the path has more than ${MAX_PATH_HASHES} hashes`);
    }
    path.push(decodeHash(line) ?? lines.fail("a hash must be the base64 of 32 bytes"));
  }
  return path;
}

function parseExtra(bytes) {
  const text = decodeUtf8(bytes);
  const value = text === null ? null : parseCanonicalJson(text);
  if (value === null || value.kind !== "object") {
    fail("the extra data are not a canonical JSON object");
  }
  const { members } = value;
  const names = ["digests", "disclosures", "event_index", "schema_version"];
  if (members.size !== names.length || !names.every((name) => members.has(name))) {
    fail("the extra data must have digests, disclosures, event_index and schema_version, and nothing else");
  }
  if (members.get("schema_version").string !== DISCLOSURE_SCHEMA) {
    fail(`the schema_version of the extra data must be ${DISCLOSURE_SCHEMA}`);
  }
  const eventIndex = decodeDecimal(members.get("event_index").text);
  if (eventIndex === null || eventIndex === 0n) {
    fail("event_index must be an integer from 1");
  }
  const digests = strings(members, "digests").map((text) => decodeHash(text) ?? fail("a digest is not base64 of 32 bytes"));
  const disclosures = strings(members, "disclosures").map(parseDisclosure);
  if (digests.some((digest, position) => position > 0 && compareBytes(digests[position - 1], digest) >= 0)) {
    fail("the digests must be in ascending order and different");
  }
  return { eventIndex, digests, disclosures };
}

/** A member that is an array of strings. */
function strings(members, name) {
  const { items } = members.get(name);
  if (items === undefined || items.some((item) => item.kind !== "string")) {
    fail(`${name} must be an array of strings`);
  }
  return items.map((item) => item.string);
}

/** Reads a disclosure (RFC 9901): salt, name and value of a field. */
function parseDisclosure(text, position) {
  const failed = (problem) => fail(`disclosure ${position + 1} ${problem}`);
  const bytes = decodeBase64url(text) ?? failed("is not base64url without padding");
  const array = decodeUtf8(bytes) ?? failed("is not UTF-8");
  const value = parseCanonicalJson(array);
  if (value === null || value.kind !== "array" || value.items.length !== 3) {
    failed("must be a canonical JSON array of salt, name and value");
  }
  const [salt, name, field] = value.items;
  if (salt.kind !== "string" || decodeBase64url(salt.string)?.length !== 16) {
    failed("must have a salt of 16 bytes");
  }
  if (name.kind !== "string" || !isFieldName(name.string)) {
    failed("has a name that is not a field of an event");
  }
  return { text, name: name.string, value: field };
}

/** Whether a name is the JSON Pointer (RFC 6901) of a field: a member of an event or of its payload. */
function isFieldName(name) {
  return (
    ["/event_type", "/as_of", "/trace_id", "/checksum"].includes(name) || /^\/payload\/(?:[^/~]|~[01])*$/.test(name)
  );
}
