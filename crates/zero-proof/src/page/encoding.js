"use strict";
// Bytes, texts and canonical JSON. Each value has one spelling; every other spelling is refused.

/** A form that is violated, or a check that failed. The message is for the reader. */
class Failure extends Error {}

/** A check that this browser cannot make. It proves nothing and refutes nothing. */
class Unverifiable extends Failure {}

function fail(message) {
  throw new Failure(message);
}

/** The UTF-8 of a text. */
function bytesOf(text) {
  return new TextEncoder().encode(text);
}

/** The text of UTF-8 bytes; null for other bytes. A byte order mark stays a part of the text. */
function decodeUtf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

function concat(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Negative, 0 or positive, as the left bytes come before, equal or come after the right ones. */
function compareBytes(left, right) {
  const length = Math.min(left.length, right.length);
  for (let at = 0; at < length; at++) {
    if (left[at] !== right[at]) {
      return left[at] - right[at];
    }
  }
  return left.length - right.length;
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One character for each byte. */
function latin1(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

function encodeBase64(bytes) {
  return btoa(latin1(bytes));
}

/** The bytes of strict base64 (RFC 4648 section 4); null for other text. */
function decodeBase64(text) {
  let decoded;
  try {
    decoded = atob(text);
  } catch {
    return null;
  }
  // `atob` accepts several spellings. Only the one that it would write itself is valid.
  if (btoa(decoded) !== text) {
    return null;
  }
  const bytes = new Uint8Array(decoded.length);
  for (let at = 0; at < bytes.length; at++) {
    bytes[at] = decoded.charCodeAt(at);
  }
  return bytes;
}

/** The bytes of strict base64url without padding (RFC 4648 section 5); null for other text. */
function decodeBase64url(text) {
  if (/[+/=]/.test(text)) {
    return null;
  }
  const padding = "=".repeat((4 - (text.length % 4)) % 4);
  return decodeBase64(text.replaceAll("-", "+").replaceAll("_", "/") + padding);
}

/** The 32 bytes of a hash in base64; null for other text. */
function decodeHash(text) {
  const bytes = decodeBase64(text);
  return bytes !== null && bytes.length === 32 ? bytes : null;
}

/** The number of a decimal of at most 64 bits, as a BigInt; null for other text. */
function decodeDecimal(text) {
  if (text.length > 20 || !/^(0|[1-9][0-9]*)$/.test(text)) {
    return null;
  }
  const number = BigInt(text);
  return number < 1n << 64n ? number : null;
}

/** A text in printable ASCII: every other character is shown as its code point. */
function visible(text) {
  return text.replace(/[^ -[\]-~]/gu, (character) =>
    character === "\\" ? "\\\\" : `\\u{${character.codePointAt(0).toString(16)}}`,
  );
}

/** SHA-256 over the parts, one after the other. */
async function sha256(...parts) {
  if (!globalThis.crypto?.subtle) {
    throw new Unverifiable(
      "this browser offers no cryptography to this page. Save the page and open it as a file, or use another browser",
    );
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}

/** Reads a text line by line. Each line ends with a line break. */
class Lines {
  /** `number` counts the lines before the text, for the messages. */
  constructor(text, what, number = 0) {
    this.rest = text;
    this.what = what;
    this.number = number;
  }

  /** The next line without its line break; null at the end. */
  next() {
    if (this.rest === "") {
      return null;
    }
    this.number += 1;
    const end = this.rest.indexOf("\n");
    if (end < 0) {
      this.fail("the line break is missing");
    }
    const line = this.rest.slice(0, end);
    this.rest = this.rest.slice(end + 1);
    return line;
  }

  /** The next line, which must exist. */
  expect(expected) {
    const line = this.next();
    if (line === null) {
      this.number += 1;
      this.fail(`${expected} is missing`);
    }
    return line;
  }

  fail(problem) {
    fail(`${this.what}, line ${this.number}: ${problem}`);
  }
}

/** How deep arrays and objects may nest. */
const MAX_DEPTH = 1000;

/**
 * Reads one canonical JSON value, which must be the whole text; null for every other text.
 *
 * A value is `{kind, text}` with `string` for strings, `items` for arrays and `members`, a Map, for
 * objects. Numbers stay text, since doubles would round them.
 */
function parseCanonicalJson(text) {
  const parser = new CanonicalJson(text);
  const value = parser.value(0);
  return value !== null && parser.at === text.length ? value : null;
}

class CanonicalJson {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  value(depth) {
    const begin = this.at;
    const value = this.anyValue(depth);
    return value === null ? null : { ...value, text: this.text.slice(begin, this.at) };
  }

  anyValue(depth) {
    switch (this.text[this.at]) {
      case '"':
        return this.string();
      case "[":
        return depth < MAX_DEPTH ? this.array(depth + 1) : null;
      case "{":
        return depth < MAX_DEPTH ? this.object(depth + 1) : null;
      default:
        return this.word() ?? this.number();
    }
  }

  /** Skips a character if it is the next one. */
  skip(character) {
    const isNext = this.text[this.at] === character;
    this.at += isNext ? 1 : 0;
    return isNext;
  }

  /** Skips what the sticky expression matches here, and returns it; null if it does not match. */
  match(expression) {
    expression.lastIndex = this.at;
    const found = expression.exec(this.text);
    if (found === null) {
      return null;
    }
    this.at += found[0].length;
    return found[0];
  }

  word() {
    return this.match(/null|true|false/y) === null ? null : { kind: "word" };
  }

  number() {
    const token = this.match(/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-][0-9]+)?/y);
    if (token === null) {
      return null;
    }
    if (!/[.e]/.test(token)) {
      return token === "-0" ? null : { kind: "integer" };
    }
    const number = Number(token);
    return Number.isFinite(number) && writeFloat(number) === token ? { kind: "float" } : null;
  }

  string() {
    const begin = this.at;
    this.at += 1;
    for (;;) {
      this.match(/[ !#-[\]-~]*/y);
      if (this.skip('"')) {
        return { kind: "string", string: JSON.parse(this.text.slice(begin, this.at)) };
      }
      if (!this.escape()) {
        return null;
      }
    }
  }

  /** Skips an escape that is the canonical spelling of its character. */
  escape() {
    if (this.match(/\\["\\bfnrt]/y) !== null) {
      return true;
    }
    const unit = this.unit();
    if (unit === null || [0x8, 0x9, 0xa, 0xc, 0xd].includes(unit) || (unit >= 0x20 && unit <= 0x7e)) {
      return false;
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const low = this.unit();
      return low !== null && low >= 0xdc00 && low <= 0xdfff;
    }
    return unit < 0xdc00 || unit > 0xdfff;
  }

  unit() {
    const escape = this.match(/\\u[0-9a-f]{4}/y);
    return escape === null ? null : parseInt(escape.slice(2), 16);
  }

  array(depth) {
    this.at += 1;
    const items = [];
    if (this.skip("]")) {
      return { kind: "array", items };
    }
    do {
      const item = this.value(depth);
      if (item === null) {
        return null;
      }
      items.push(item);
    } while (this.skip(","));
    return this.skip("]") ? { kind: "array", items } : null;
  }

  /** Keys ascend by code point, which is the order of their UTF-8. */
  object(depth) {
    this.at += 1;
    const members = new Map();
    if (this.skip("}")) {
      return { kind: "object", members };
    }
    let previous = null;
    do {
      const key = this.text[this.at] === '"' ? this.string() : null;
      if (key === null || !this.skip(":")) {
        return null;
      }
      const bytes = bytesOf(key.string);
      if (previous !== null && compareBytes(previous, bytes) >= 0) {
        return null;
      }
      previous = bytes;
      const value = this.value(depth);
      if (value === null) {
        return null;
      }
      members.set(key.string, value);
    } while (this.skip(","));
    return this.skip("}") ? { kind: "object", members } : null;
  }
}

/** A finite double in its shortest digits, laid out as Python's `repr` does it. */
function writeFloat(number) {
  if (number === 0) {
    return Object.is(number, -0) ? "-0.0" : "0.0";
  }
  const [mantissa, exponentText] = Math.abs(number).toExponential().split("e");
  const exponent = Number(exponentText);
  const sign = number < 0 ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    const digits = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${digits}`;
  }
  const digits = mantissa.replace(".", "");
  if (exponent < 0) {
    return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  }
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}
