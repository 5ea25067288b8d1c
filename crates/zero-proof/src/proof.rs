//! Proof files (C2SP tlog-proof), and what the proof of an event carries in addition.

use zero_bus::canonical::is_canonical;
use zero_bus::{Event, Json, Value};

use crate::disclosure::{Disclosure, DisclosureSecret};
use crate::encoding::{decode_base64, decode_decimal, encode_base64};
use crate::entry::{self, Entry};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::lines::Lines;
use crate::policy::{Accepted, Policy};
use crate::signed_checkpoint::SignedCheckpoint;
use crate::tree::{self, MAX_PROOF_HASHES};

/// The first line of a proof file.
pub const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The schema of the extra data in the proof of an event.
pub const DISCLOSURE_SCHEMA: &str = "zero.runtime.disclosure.v1";

/// Maximum bytes of a proof file: room for an event of the maximum size that is disclosed whole.
pub const MAX_PROOF_BYTES: usize = 64 << 20;

const WHAT: &str = "proof";

/// A proof file: a leaf is in the tree of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Data that the proof does not authenticate.
    pub extra: Option<Vec<u8>>,
    /// The index of the leaf, from 0.
    pub index: u64,
    /// The hashes from the sibling of the leaf up to the child of the root.
    pub path: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

/// The extra data in the proof of an event: some fields, and the digests of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// The index of the event, from 1.
    pub event_index: u64,
    /// The digests of all fields, in ascending order.
    pub digests: Vec<Hash>,
    /// The disclosed fields.
    pub disclosures: Vec<Disclosure>,
}

/// What the proof of an event proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<'p> {
    /// The index of the event, from 1.
    pub event_index: u64,
    /// The disclosed fields.
    pub disclosures: Vec<Disclosure>,
    /// Number of fields of the event, disclosed or not.
    pub fields: usize,
    /// The signers.
    pub accepted: Accepted<'p>,
}

impl Proof {
    /// Proves an event to whoever trusts the signers of the checkpoint, and discloses the fields
    /// whose names are in `reveal`. `path` is the inclusion proof of the event's leaf.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`entry::reveal`]; [`Error::NotIncluded`] if the event is not in the
    /// tree of the checkpoint.
    pub fn prove(
        event: &Event,
        secret: &DisclosureSecret,
        reveal: &[impl AsRef<str>],
        path: Vec<Hash>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Self> {
        let (disclosures, digests) = entry::reveal(event, secret, reveal)?;
        let extra = Extra { event_index: event.index, digests, disclosures };
        let proof =
            Self { extra: Some(extra.encode().into_bytes()), index: event.index - 1, path, checkpoint };
        proof.check_inclusion(&extra.entry().leaf_hash())?;
        Ok(proof)
    }

    /// Checks that a policy accepts the proof of an event. The extra data become trustworthy by it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the extra data are not those of an event; [`Error::NotCommitted`] if
    /// the event has no such field; [`Error::NotIncluded`] if the event is not in the tree of the
    /// checkpoint; as [`Policy::check`] if the policy does not accept the checkpoint.
    pub fn check<'p>(&self, policy: &'p Policy) -> Result<Proven<'p>> {
        let extra =
            self.extra.as_deref().ok_or_else(|| Error::at_line(WHAT, 2, "the extra data are missing"))?;
        let extra = Extra::parse(extra)?;
        if extra.event_index - 1 != self.index {
            let problem = format!("leaf {} is not that of event {}", self.index, extra.event_index);
            return Err(Error::at_line(WHAT, 3, problem));
        }
        extra.check()?;
        self.check_inclusion(&extra.entry().leaf_hash())?;
        let accepted = policy.check(&self.checkpoint)?;
        let Extra { event_index, digests, disclosures } = extra;
        Ok(Proven { event_index, disclosures, fields: digests.len(), accepted })
    }

    /// Checks that the path leads from a leaf to the root of the checkpoint, whose signatures it
    /// does not verify.
    ///
    /// # Errors
    /// [`Error::NotIncluded`]
    pub fn check_inclusion(&self, leaf: &Hash) -> Result<()> {
        let checkpoint = self.checkpoint.checkpoint();
        tree::check_inclusion(leaf, self.index, checkpoint.size, &self.path, &checkpoint.root)
    }

    /// The text form.
    pub fn encode(&self) -> String {
        let mut text = format!("{PROOF_HEADER}\n");
        if let Some(extra) = &self.extra {
            text += &format!("extra {}\n", encode_base64(extra));
        }
        text += &format!("index {}\n", self.index);
        for hash in &self.path {
            text += &format!("{hash}\n");
        }
        text + "\n" + &self.checkpoint.encode()
    }

    /// Reads a proof file.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let mut lines = Lines::new(WHAT, file, MAX_PROOF_BYTES)?;
        if lines.expect("the header")? != PROOF_HEADER {
            return Err(lines.error(format!("must be `{PROOF_HEADER}`")));
        }
        let mut line = lines.expect("the leaf index")?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra = Some(decode_base64(encoded).ok_or_else(|| lines.error("the extra data are not base64"))?);
            line = lines.expect("the leaf index")?;
        }
        let index = line.strip_prefix("index ").and_then(decode_decimal);
        let index = index.ok_or_else(|| lines.error("must be `index ` and a decimal"))?;
        let path = parse_hashes(&mut lines)?;
        let checkpoint = SignedCheckpoint::parse(lines.rest().as_bytes())
            .map_err(|error| error.after_lines(lines.number()))?;
        Ok(Self { extra, index, path, checkpoint })
    }
}

impl Extra {
    /// The canonical JSON.
    pub fn encode(&self) -> String {
        let digests = self.digests.iter().map(|digest| Value::String(digest.to_string())).collect();
        let disclosures =
            self.disclosures.iter().map(|disclosure| Value::String(disclosure.as_str().to_owned())).collect();
        let members = [
            ("digests", Value::Array(digests)),
            ("disclosures", Value::Array(disclosures)),
            ("event_index", Value::Integer(self.event_index.into())),
            ("schema_version", Value::String(DISCLOSURE_SCHEMA.to_owned())),
        ];
        let object = Value::Object(members.map(|(name, value)| (name.to_owned(), value)).into());
        // Strings and integers have a canonical form.
        Json::try_from(&object).map(|json| json.to_string()).unwrap_or_default()
    }

    /// Reads the canonical JSON.
    ///
    /// # Errors
    /// [`Error::Malformed`]; the message names the field.
    pub fn parse(extra: &[u8]) -> Result<Self> {
        let error = |problem: String| Error::at_byte("extra data", 0, problem);
        let text = std::str::from_utf8(extra)
            .map_err(|problem| Error::at_byte("extra data", problem.valid_up_to(), "is not UTF-8"))?;
        if !is_canonical(text) {
            return Err(error("is not canonical JSON".to_owned()));
        }
        let value = Value::parse(text).map_err(|problem| error(problem.to_string()))?;
        let Value::Object(members) = &value else { return Err(error("is not an object".to_owned())) };
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        if names != ["digests", "disclosures", "event_index", "schema_version"] {
            let problem = "must have digests, disclosures, event_index and schema_version, and nothing else";
            return Err(error(problem.to_owned()));
        }
        if value.get("schema_version").and_then(Value::as_str) != Some(DISCLOSURE_SCHEMA) {
            return Err(error(format!("schema_version: must be `{DISCLOSURE_SCHEMA}`")));
        }
        let event_index = value.get("event_index").and_then(Value::as_u64).filter(|index| *index > 0);
        let event_index =
            event_index.ok_or_else(|| error("event_index: must be an integer from 1".to_owned()))?;
        let digests = strings(&value, "digests", |text| text.parse::<Hash>()).map_err(error)?;
        let disclosures = strings(&value, "disclosures", Disclosure::parse).map_err(error)?;
        if !digests.is_sorted_by(|one, next| one < next) {
            return Err(error("digests: must be in ascending order and different".to_owned()));
        }
        Ok(Self { event_index, digests, disclosures })
    }

    /// Checks that each disclosure has its digest, that no field is disclosed twice, and that
    /// `/checksum` is disclosed only with every other field.
    ///
    /// # Errors
    /// [`Error::NotCommitted`]; [`Error::Malformed`] for a repeated name, or fewer digests than an
    /// event has fields; [`Error::Invalid`] for a checksum without every other field.
    pub fn check(&self) -> Result<()> {
        if self.digests.len() < entry::MIN_FIELDS {
            let problem = format!("digests: every event has at least {} fields", entry::MIN_FIELDS);
            return Err(Error::at_byte("extra data", 0, problem));
        }
        let mut names = std::collections::BTreeSet::new();
        for (disclosure, number) in self.disclosures.iter().zip(1..) {
            let name = disclosure.name();
            if self.digests.binary_search(&disclosure.digest()).is_err() {
                let event_index = self.event_index;
                return Err(Error::NotCommitted { event_index, number, name: name.to_owned() });
            }
            if !names.insert(name) {
                let problem = format!("disclosures: `{}` is disclosed twice", name.escape_debug());
                return Err(Error::at_byte("extra data", 0, problem));
            }
        }
        entry::check_checksum_rule(&self.disclosures, self.digests.len())
    }

    /// The entry that the digests lead to.
    pub fn entry(&self) -> Entry {
        Entry { event_index: self.event_index, commitment: entry::commitment(&self.digests) }
    }
}

/// Reads hashes, one in a line, up to an empty line.
fn parse_hashes(lines: &mut Lines<'_>) -> Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    loop {
        match lines.expect("an empty line")? {
            "" => return Ok(hashes),
            _ if hashes.len() == MAX_PROOF_HASHES => {
                return Err(lines.error(format!("the path has more than {MAX_PROOF_HASHES} hashes")));
            }
            line => {
                hashes.push(line.parse().map_err(|_| lines.error("a hash must be the base64 of 32 bytes"))?)
            }
        }
    }
}

/// Reads a member that is an array of strings.
fn strings<T>(value: &Value, name: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>, String> {
    let Some(Value::Array(items)) = value.get(name) else { return Err(format!("{name}: must be an array")) };
    let parsed = items.iter().zip(1..).map(|(item, number)| {
        let text = item.as_str().ok_or_else(|| format!("{name}, item {number}: must be a string"))?;
        parse(text).map_err(|error| format!("{name}, item {number}: {error}"))
    });
    parsed.collect()
}
