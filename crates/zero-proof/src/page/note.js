"use strict";
// Keys, and checkpoints with their signatures: C2SP signed-note, tlog-checkpoint, tlog-cosignature.

const MAX_NOTE_BYTES = 1 << 20;
const MAX_SIGNATURES = 100;
const MAX_VKEY_BYTES = 4096;
/** Leaves of a tree, and seconds since 1970: what a signed 64-bit integer can count. */
const MAX_INT64 = (1n << 63n) - 1n;

/** Types of signatures. */
const ED25519 = 0x01;
const COSIGNATURE_ED25519 = 0x04;
const COSIGNATURE_ML_DSA_44 = 0x06;

/** Checks the name of a key: not empty, no Unicode spaces, no `+`, no control characters. */
function checkKeyName(name) {
  const forbidden = /[\x00-\x20+\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
  if (name === "" || forbidden.test(name)) {
    fail(`the key name ${visible(name)} is empty, or contains a space, a plus or a control character`);
  }
}

/** Reads the text form of a public key: `NAME+ID+KEY`. */
async function parseVkey(vkey) {
  if (bytesOf(vkey).length > MAX_VKEY_BYTES) {
    fail(`the vkey is longer than ${MAX_VKEY_BYTES} bytes`);
  }
  const parts = /^([^+]*)\+([^+]*)\+([^]*)$/.exec(vkey);
  if (parts === null) {
    fail("a vkey is NAME+ID+KEY");
  }
  const [, name, id, encoded] = parts;
  checkKeyName(name);
  const bytes = decodeBase64(encoded);
  if (bytes === null || bytes.length === 0) {
    fail("the key of the vkey is not base64");
  }
  const key = { name, id, type: bytes[0], public: bytes.slice(1), imported: null };
  checkPublicKey(key);
  const digest = await sha256(bytesOf(`${name}\n`), bytes);
  if (hex(digest.slice(0, 4)) !== id) {
    fail(`the key id of the vkey should be ${hex(digest.slice(0, 4))}`);
  }
  return key;
}

function checkPublicKey(key) {
  switch (key.type) {
    case ED25519:
    case COSIGNATURE_ED25519:
      if (key.public.length !== 32 || !isStrongPoint(key.public)) {
        fail("the key of the vkey is no Ed25519 key whose signatures prove something");
      }
      break;
    case COSIGNATURE_ML_DSA_44:
      if (key.public.length !== 1312) {
        fail("an ML-DSA-44 key has 1312 bytes");
      }
      break;
    default:
      fail(`signatures of type ${key.type} are not supported, only 1, 4 and 6`);
  }
}

/** The prime of Curve25519, the constant d of Ed25519 and the order of its base point (RFC 8032). */
const FIELD = (1n << 255n) - 19n;
const CURVE_D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
const ORDER = (1n << 252n) + 27742317777372353535851937790883648493n;

function littleEndian(bytes) {
  return BigInt(`0x${hex(bytes.slice().reverse())}`);
}

/** The y coordinate that 32 bytes encode, reduced or not. The highest bit is the sign of x. */
function yOf(point) {
  return littleEndian(point) & ((1n << 255n) - 1n);
}

/** Whether the points with this y have an order of 1, 2, 4 or 8. Signatures by such keys prove nothing. */
function hasSmallOrder(y) {
  const square = (y * y) % FIELD;
  // Doubling a point of order 8 leads to y = 0, which is d y^4 + 2 y^2 = 1.
  const doublesToZero = (CURVE_D * square * square + 2n * square - 1n) % FIELD === 0n;
  return square === 0n || square === 1n || doublesToZero;
}

/** Whether bytes are the canonical encoding of a point of the curve that is not of small order. */
function isStrongPoint(point) {
  const y = yOf(point);
  if (y >= FIELD || hasSmallOrder(y)) {
    return false;
  }
  // x^2 = (y^2 - 1) / (d y^2 + 1) must be a square. A product is one if and only if the quotient is.
  const square = (y * y) % FIELD;
  return power(((square - 1n) * (CURVE_D * square + 1n)) % FIELD, (FIELD - 1n) / 2n) === 1n;
}

function power(base, exponent) {
  let result = 1n;
  for (; exponent > 0n; exponent >>= 1n) {
    result = exponent & 1n ? (result * base) % FIELD : result;
    base = (base * base) % FIELD;
  }
  return result;
}

/** Reads a checkpoint with its signatures. Nothing of it is verified. */
function parseCheckpoint(note, linesBefore) {
  if (bytesOf(note).length > MAX_NOTE_BYTES) {
    fail(`the checkpoint is longer than ${MAX_NOTE_BYTES} bytes`);
  }
  // The last empty line separates text and signatures.
  const separator = note.lastIndexOf("\n\n");
  if (separator < 0) {
    fail(`checkpoint, line ${linesBefore + 1}: an empty line and signatures are missing`);
  }
  const text = note.slice(0, separator + 1);
  const lines = new Lines(text, "checkpoint", linesBefore);
  if (/[\x00-\x09\x0b-\x1f]/.test(text)) {
    fail("the checkpoint contains a control character");
  }
  const origin = lines.expect("the origin");
  if (origin === "") {
    lines.fail("the origin is empty");
  }
  const size = decodeDecimal(lines.expect("the tree size"));
  if (size === null || size > MAX_INT64) {
    lines.fail(`the tree size must be a decimal of at most ${MAX_INT64}`);
  }
  const root = decodeHash(lines.expect("the root hash"));
  if (root === null) {
    lines.fail("the root hash must be the base64 of 32 bytes");
  }
  // A signature of type 0x06 does not cover extension lines, so anybody could have added them.
  if (lines.next() !== null) {
    lines.fail("has extension lines, which no log of a bus signs");
  }
  const signatures = parseSignatures(note.slice(separator + 2), lines.number + 1);
  return { text, origin, size, root, signatures };
}

function parseSignatures(text, linesBefore) {
  const lines = new Lines(text, "signatures", linesBefore);
  const signatures = [];
  for (let line = lines.next(); line !== null; line = lines.next()) {
    if (signatures.length === MAX_SIGNATURES) {
      lines.fail(`there are more than ${MAX_SIGNATURES} signatures`);
    }
    const parts = /^\u2014 ([^ ]*) ([^]*)$/.exec(line);
    if (parts === null) {
      lines.fail("a signature is an em dash, a key name and base64");
    }
    const bytes = decodeBase64(parts[2]);
    if (bytes === null || bytes.length < 5) {
      lines.fail("the signature must be the base64 of at least 5 bytes");
    }
    checkKeyName(parts[1]);
    const [id, signature] = [hex(bytes.slice(0, 4)), bytes.slice(4)];
    signatures.push({ number: signatures.length + 1, name: parts[1], id, bytes: signature, key: null, state: "waiting" });
  }
  if (signatures.length === 0) {
    lines.fail("there is no signature");
  }
  return signatures;
}

/**
 * Verifies each signature by a known key. Returns a Map from each key that has signed to the time of
 * its first signature in seconds since 1970; the time is 0 if it states none.
 *
 * Signatures by other keys are ignored. One that bears the name and id of a known key, which has not
 * made it, refutes the checkpoint.
 */
async function verifySignatures(checkpoint, keys) {
  const signed = new Map();
  for (const signature of checkpoint.signatures) {
    const key = keys.find((key) => key.name === signature.name && key.id === signature.id);
    if (key === undefined) {
      continue;
    }
    Object.assign(signature, { key, state: "unverified" });
    const time = await verifySignature(checkpoint, key, signature.bytes);
    signature.state = time === null ? "invalid" : "valid";
    if (time === null) {
      fail(`signature ${signature.number} is not by the key that it names, ${visible(key.name)}+${key.id}`);
    }
    signature.time = time;
    // Of several signatures by one key, the earliest counts.
    const first = signed.get(key) ?? 0n;
    if (!signed.has(key) || (time > 0n && (first === 0n || time < first))) {
      signed.set(key, time);
    }
  }
  return signed;
}

/** The time that a valid signature states, 0 if it states none; null if the signature is invalid. */
async function verifySignature(checkpoint, key, signature) {
  if (key.type === ED25519) {
    return (await hasSignedEd25519(key, bytesOf(checkpoint.text), signature)) ? 0n : null;
  }
  if (signature.length < 8) {
    return null;
  }
  const time = BigInt(`0x${hex(signature.slice(0, 8))}`);
  if (time > MAX_INT64) {
    return null;
  }
  const verify = key.type === COSIGNATURE_ED25519 ? hasCosignedEd25519 : hasCosignedMlDsa;
  return (await verify(checkpoint, key, time, signature.slice(8))) ? time : null;
}

function hasCosignedEd25519(checkpoint, key, time, signature) {
  const message = bytesOf(`cosignature/v1\ntime ${time}\n${checkpoint.text}`);
  return hasSignedEd25519(key, message, signature);
}

/** The strict rules: no malleable S, no point of small order. */
async function hasSignedEd25519(key, message, signature) {
  if (signature.length !== 64) {
    return false;
  }
  const [r, s] = [signature.slice(0, 32), signature.slice(32)];
  if (hasSmallOrder(yOf(r)) || littleEndian(s) >= ORDER) {
    return false;
  }
  return hasSigned(key, "raw", { name: "Ed25519" }, message, signature);
}

async function hasCosignedMlDsa(checkpoint, key, time, signature) {
  const [cosigner, origin] = [bytesOf(key.name), bytesOf(checkpoint.origin)];
  if (signature.length !== 2420 || cosigner.length > 255 || origin.length > 255) {
    return false;
  }
  const message = concat(
    bytesOf("subtree/v1\n\0"),
    [cosigner.length],
    cosigner,
    bigEndian(time),
    [origin.length],
    origin,
    bigEndian(0n),
    bigEndian(checkpoint.size),
    checkpoint.root,
  );
  return hasSigned(key, "raw-public", { name: "ML-DSA-44" }, message, signature);
}

/** The 8 bytes of a number. */
function bigEndian(number) {
  return Uint8Array.from(number.toString(16).padStart(16, "0").match(/../g), (digits) => parseInt(digits, 16));
}

async function hasSigned(key, format, algorithm, message, signature) {
  try {
    key.imported ??= await crypto.subtle.importKey(format, key.public, algorithm, false, ["verify"]);
    return await crypto.subtle.verify(algorithm, key.imported, signature, message);
  } catch {
    throw new Unverifiable(
      `this browser cannot verify signatures of type ${algorithm.name}, such as that by ${visible(key.name)}+${key.id}. ` +
        "Signatures of this type are not verified by this page",
    );
  }
}
