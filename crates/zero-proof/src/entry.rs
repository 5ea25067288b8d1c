//! The entry of an event, `zero.runtime.leaf.v1`: what the tree holds instead of the event.
//!
//! It is a commitment to the fields of the event. Each field can be disclosed on its own. Without
//! the secret of the bus, entries reveal nothing but their number.

use zero_bus::{Event, Json, Value};

use crate::disclosure::{
    AS_OF, CHECKSUM, Digester, Disclosure, DisclosureSecret, EVENT_TYPE, KeyedSalts, PAYLOAD, Salts,
    TRACE_ID, payload_field, quote,
};
use crate::encoding::decode_decimal;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::lines::Lines;

/// The first line of an entry.
pub const LEAF_SCHEMA: &str = "zero.runtime.leaf.v1";

/// Maximum bytes of an entry.
pub const MAX_ENTRY_BYTES: usize = 120;

/// The entry of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The index of the event, from 1. Its leaf has the index before.
    pub event_index: u64,
    /// The commitment to the fields of the event.
    pub commitment: Hash,
}

impl Entry {
    /// The entry of an event.
    pub fn of(event: &Event, secret: &DisclosureSecret) -> Self {
        Self::with_salts(event, &secret.keyed())
    }

    /// The entry of one of many events.
    pub(crate) fn with_salts(event: &Event, salts: &KeyedSalts) -> Self {
        let mut digests = digests(event, salts.salts(event.index));
        digests.sort_unstable();
        Self { event_index: event.index, commitment: commitment(&digests) }
    }

    /// The three lines.
    pub fn encode(&self) -> String {
        format!("{LEAF_SCHEMA}\n{}\n{}\n", self.event_index, self.commitment)
    }

    /// Reads the three lines.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(entry: &[u8]) -> Result<Self> {
        let mut lines = Lines::new("entry", entry, MAX_ENTRY_BYTES)?;
        if lines.expect("the schema")? != LEAF_SCHEMA {
            return Err(lines.error(format!("must be `{LEAF_SCHEMA}`")));
        }
        let event_index = decode_decimal(lines.expect("the event index")?)
            .filter(|index| *index > 0)
            .ok_or_else(|| lines.error("the event index must be a decimal from 1"))?;
        let commitment = lines.expect("the commitment")?;
        let commitment = commitment.parse().map_err(|_| lines.error("must be the base64 of 32 bytes"))?;
        if lines.next()?.is_some() {
            return Err(lines.error("nothing may follow the commitment"));
        }
        Ok(Self { event_index, commitment })
    }

    /// The hash of the leaf.
    pub fn leaf_hash(&self) -> Hash {
        Hash::of_leaf(self.encode().as_bytes())
    }
}

/// The commitment to the fields with these digests, which must be in ascending order.
pub fn commitment(digests: &[Hash]) -> Hash {
    let mut bytes = Vec::with_capacity(32 * digests.len());
    digests.iter().for_each(|digest| bytes.extend_from_slice(digest.as_bytes()));
    Hash::of(&bytes)
}

/// A disclosure of each field of an event. They reveal the whole event, except the checksum of the
/// event before it.
pub fn disclosures(event: &Event, secret: &DisclosureSecret) -> Vec<Disclosure> {
    let salts = secret.salts(event.index);
    let field = |name: &str, value: Json| Disclosure::new(&salts, name.to_owned(), value);
    let mut disclosures = vec![
        field(EVENT_TYPE, quote(&event.event_type)),
        // An event has a time that is a number.
        field(AS_OF, Json::try_from(&Value::Float(event.as_of)).unwrap_or_else(|_| Json::empty_object())),
    ];
    disclosures.extend(event.trace_id.as_deref().map(|trace_id| field(TRACE_ID, quote(trace_id))));
    disclosures.push(field(CHECKSUM, quote(&event.checksum.to_string())));
    if let Value::Object(members) = event.payload.value() {
        for (member, value) in members {
            // A member of a payload has a canonical form.
            let value = Json::try_from(&value).unwrap_or_else(|_| Json::empty_object());
            disclosures.push(field(&payload_field(&member), value));
        }
    }
    disclosures
}

/// The digests of [`disclosures`]. The text of the payload is used as it is, and nothing is built
/// that is not hashed.
fn digests(event: &Event, salts: Salts) -> Vec<Hash> {
    let mut digester = Digester::new(salts);
    let mut of = |name: &str, value: &str| digester.digest(name, name, value);
    let as_of = Json::try_from(&Value::Float(event.as_of)).unwrap_or_else(|_| Json::empty_object());
    let mut digests = Vec::with_capacity(16);
    digests.extend([
        of(EVENT_TYPE, quote(&event.event_type).as_str()),
        of(AS_OF, as_of.as_str()),
        of(CHECKSUM, &format!("\"{}\"", event.checksum)),
    ]);
    digests.extend(event.trace_id.as_deref().map(|trace_id| of(TRACE_ID, quote(trace_id).as_str())));
    let mut spelled = String::with_capacity(64);
    for (key, value) in event.payload.members() {
        spelled.clear();
        // Escapes of JSON contain neither `~` nor `/`, so both are the same in the spelled key.
        match key.contains(['~', '/']) {
            true => spelled.push_str(&payload_field(key)),
            false => {
                spelled.push_str(PAYLOAD);
                spelled.push_str(key);
            }
        }
        digests.push(match key.contains('\\') {
            false => digester.digest(&spelled, &spelled, value),
            // The salt follows from the name, not from its spelling.
            true => {
                let name = Value::parse(&format!("\"{spelled}\"")).ok();
                let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
                digester.digest(name, &spelled, value)
            }
        });
    }
    digests
}

/// The disclosures whose names are among `reveal`, and the digests of all fields in ascending
/// order.
///
/// # Errors
/// [`Error::Invalid`] if a name is repeated or not a field of the event, or if `/checksum` is
/// disclosed without every other field: the checksum of an event whose predecessor is known would
/// let a reader test guesses of the others.
pub fn reveal(
    event: &Event,
    secret: &DisclosureSecret,
    reveal: &[impl AsRef<str>],
) -> Result<(Vec<Disclosure>, Vec<Hash>)> {
    let all = disclosures(event, secret);
    let mut digests: Vec<Hash> = all.iter().map(Disclosure::digest).collect();
    digests.sort_unstable();
    let mut revealed: Vec<Disclosure> = Vec::new();
    for name in reveal.iter().map(AsRef::as_ref) {
        let invalid = |problem: &str| {
            Error::invalid("field", format!("event {}: `{}` {problem}", event.index, name.escape_debug()))
        };
        let field = all.iter().find(|field| field.name() == name);
        let field = field.ok_or_else(|| invalid("is not a field of this event"))?;
        if revealed.contains(field) {
            return Err(invalid("is named twice"));
        }
        revealed.push(field.clone());
    }
    check_checksum_rule(&revealed, all.len())?;
    Ok((revealed, digests))
}

/// The fields that every event has: type, time and checksum.
pub(crate) const MIN_FIELDS: usize = 3;

/// `/checksum` may be disclosed only together with every other field.
pub(crate) fn check_checksum_rule(revealed: &[Disclosure], fields: usize) -> Result<()> {
    if revealed.len() < fields && revealed.iter().any(|field| field.name() == CHECKSUM) {
        let problem = "`/checksum` may be disclosed only together with every other field of its event, \
                       since it would let a reader test guesses of them";
        return Err(Error::invalid("field", problem));
    }
    Ok(())
}
