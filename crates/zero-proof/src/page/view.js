"use strict";
// What the page shows. All text from the proof and the policy enters the page as text, never as HTML.

const TITLES = { proven: "Proven", failed: "Not proven", pending: "Not proven yet" };
const STATES = {
  passed: "passed",
  failed: "failed",
  unverifiable: "not verified",
  waiting: "not done",
};

function byId(id) {
  return document.getElementById(id);
}

/** An element with text or other elements in it. */
function element(name, className, ...content) {
  const created = document.createElement(name);
  if (className !== "") {
    created.className = className;
  }
  created.append(...content);
  return created;
}

/** Checks a proof against a policy, null for none, and shows the result. */
async function present(file, policy) {
  show(await checkProof(file, policy));
}

function show(result) {
  byId("claim").textContent = claimText(result.claim);
  byId("field-rows").replaceChildren(...(result.proven?.disclosures ?? []).map(fieldRow));
  byId("withheld").textContent = withheldText(result);
  byId("steps").replaceChildren(...result.steps.map(stepItem));
  byId("signature-rows").replaceChildren(...result.signatures.map(signatureRow));
  byId("signatures").hidden = result.signatures.length === 0;
  // The verdict comes last: if something above fails, the page does not say that it is proven.
  showVerdict(result);
}

function showVerdict(result) {
  const { verdict } = result;
  document.body.dataset.verdict = verdict;
  byId("fields").hidden = verdict !== "proven";
  byId("verdict-title").textContent = TITLES[verdict];
  byId("verdict-text").textContent = verdict === "proven" ? provenText(result) : notProvenText(result);
  const times = (result.proven?.cosigners ?? []).map(({ name, key, time }) =>
    element("li", "", element("b", "", name), ` (${keyLabel(key)}) `, element("time", "", timeText(time))),
  );
  byId("times").replaceChildren(...times);
  byId("times").hidden = times.length === 0;
}

function provenText({ claim, proven }) {
  const fields = claim.disclosed > 0 ? "has the fields below. It was" : "was";
  const held = `Event ${grouped(claim.event)} of the log ${claim.origin} ${fields} in the log when the log had ${counted(claim.size, "event")}.`;
  return proven.cosigners.length > 0
    ? `${held} Witnesses of your policy saw the log in this state and cosigned it at these times:`
    : `${held} Your policy asks for no witness and none has cosigned. Only the log's own signature stands behind this: it proves no time, and the log may show others something else.`;
}

function notProvenText({ verdict, reason }) {
  const consequences = { pending: "", failed: "Do not rely on anything in this proof. " };
  return consequences[verdict] + sentence(reason);
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}

function claimText(claim) {
  return claim === null
    ? "The file in this page is not a proof of an event."
    : `The file in this page claims: event ${grouped(claim.event)} of the log ${claim.origin} is among its first ${counted(claim.size, "event")}. It discloses ${grouped(claim.disclosed)} of the ${counted(claim.fields, "field")} of this event.`;
}

function withheldText({ claim, proven }) {
  const withheld = proven === null ? 0 : claim.fields - claim.disclosed;
  return withheld === 0
    ? "The proof discloses every field of the event."
    : `The event has ${counted(withheld, "more field")}. Their number is proven; their names and values are not disclosed, and a withheld field can have the same name as a disclosed one.`;
}

function fieldRow({ name, value }) {
  const cell = element("td", "", element("code", "", value.text));
  const reading = readable(name, value);
  if (reading !== null) {
    cell.append(element("div", "reading", "reads: ", element("bdi", "", reading)));
  }
  return element("tr", "", element("th", "", element("code", "", visible(name))), cell);
}

/** What a value that is hard to read says; null if it is plain. */
function readable(name, { kind, text, string }) {
  if (kind === "string" && /\\u/.test(text)) {
    // Letters and signs as they are; all that is invisible or changes the order of others as code points.
    return string.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, (found) => visible(found));
  }
  const seconds = Number(text);
  return name === "/as_of" && kind === "float" && seconds > 0 && seconds < 253402300800
    ? new Date(seconds * 1000).toISOString().replace("T", " ").replace("Z", " UTC")
    : null;
}

function stepItem({ title, state, facts, details }) {
  const heading = element("h3", "", title, " ", element("span", "state", STATES[state]));
  const item = element("li", `step ${state}`, heading);
  if (facts.length > 0) {
    item.append(factList(facts));
  }
  if (details.length > 0) {
    item.append(element("details", "", element("summary", "", "Details"), factList(details)));
  }
  return item;
}

function factList(facts) {
  return element("dl", "", ...facts.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

function signatureRow({ name, id, key, state, time }) {
  const kinds = { 1: "Ed25519", 4: "Ed25519, cosignature", 6: "ML-DSA-44" };
  const meanings = {
    waiting: "not verified yet",
    unknown: "no key of your policy; ignored",
    unverified: "not verified by this page",
    invalid: "not by this key",
    valid: "valid",
  };
  const when = state === "valid" && time > 0n ? `, ${timeText(time)}` : "";
  return element(
    "tr",
    state,
    element("th", "", element("code", "", visible(name))),
    element("td", "", element("code", "", id)),
    element("td", "", key === null ? "" : kinds[key.type]),
    element("td", "", meanings[state] + when),
  );
}

/** The proof that the page carries. */
function embeddedProof() {
  return decodeBase64(byId("proof").textContent) ?? new Uint8Array(0);
}

/** The bytes of a policy file; null while the text of the policy is what counts. */
let policyFile = null;
/** Counts the checks, so that a slow one does not replace the result of a later one. */
let checks = 0;

/** The policy as the reader gave it; null for none. A typed policy may lack its last line break. */
function givenPolicy() {
  const text = byId("policy").value;
  if (policyFile !== null || text.trim() === "") {
    return policyFile;
  }
  return bytesOf(text.endsWith("\n") ? text : `${text}\n`);
}

/** Checks the proof of this page against the policy as it stands. */
async function recheck() {
  checks += 1;
  const check = checks;
  showVerdict({ verdict: "pending", reason: "The proof is being checked." });
  const given = givenPolicy();
  byId("used-policy").textContent = given === null ? "none" : byId("policy").value;
  let policy = null;
  let problem = null;
  try {
    policy = given === null ? null : await parsePolicy(given);
  } catch (error) {
    problem = error.message;
  }
  const result = await checkProof(embeddedProof(), policy);
  if (problem !== null && result.verdict === "pending") {
    Object.assign(result, { verdict: "failed", reason: `the policy cannot be used: ${problem}` });
  }
  if (check === checks) {
    show(result);
  }
}

async function readPolicyFile(file) {
  if (file === undefined) {
    return;
  }
  policyFile = file.size > MAX_POLICY_BYTES ? new Uint8Array(MAX_POLICY_BYTES + 1) : new Uint8Array(await file.arrayBuffer());
  byId("policy").value = new TextDecoder().decode(policyFile);
  byId("policy-source").textContent = `From the file ${visible(file.name)}`;
  await recheck();
}

function saveProof() {
  const link = element("a", "");
  link.href = URL.createObjectURL(new Blob([embeddedProof()], { type: "application/octet-stream" }));
  link.download = "event.tlog-proof";
  link.click();
}

function start() {
  const policy = byId("policy");
  policy.addEventListener("input", () => {
    policyFile = null;
    byId("policy-source").textContent = "";
    recheck();
  });
  byId("policy-file").addEventListener("change", (event) => {
    readPolicyFile(event.target.files[0]);
    event.target.value = "";
  });
  byId("save").addEventListener("click", saveProof);
  // A file may be dropped anywhere; a browser would leave the page for it.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  for (const name of ["dragleave", "drop"]) {
    document.addEventListener(name, () => document.body.classList.remove("dragging"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    readPolicyFile(event.dataTransfer.files[0]);
  });
  document.body.classList.add("running");
  recheck();
}

start();
