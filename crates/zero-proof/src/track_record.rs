//! Track records, `zero.runtime.track-record.v1`: some fields of *all* events of a range, so that
//! nobody can leave out an event.
//!
//! A record holds a leaf's worth of data for each event: its disclosed fields and the digests of
//! the others. From these and the hashes of the subtrees before and after the range, a checker
//! computes the root of the tree. An event that is missing, repeated or changed leads to another
//! root.
//!
//! Digests do not tell which field they hide. A record could therefore hide a field of one event
//! and let it seem absent. The checker does not accept that: if a record discloses a field for one
//! event of a type, then each other event of the type must disclose it, or disclose all its fields.

use std::collections::BTreeMap;

use zero_bus::canonical::is_canonical;
use zero_bus::{Event, Json, Value};

use crate::aggregates::Aggregates;
use crate::disclosure::{Disclosure, DisclosureSecret, EVENT_TYPE, check_field_name};
use crate::encoding::{decode_base64, decode_decimal, encode_base64};
use crate::entry::{self, Entry};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::lines::Lines;
use crate::policy::{Accepted, Policy};
use crate::signed_checkpoint::SignedCheckpoint;
use crate::tree::{CompactRange, MAX_PROOF_HASHES, MAX_SIZE, Node};

/// The first line of a track record.
pub const TRACK_RECORD_SCHEMA: &str = "zero.runtime.track-record.v1";

/// Maximum bytes of a track record: 2 GiB, some three million events.
pub const MAX_TRACK_RECORD_BYTES: usize = 2 << 30;

/// Maximum number of names that a track record reveals.
pub const MAX_NAMES: usize = 100;

const WHAT: &str = "track record";
/// Stands for the digests of an event without hidden fields.
const NO_DIGESTS: &str = "-";

/// Writes a track record, event by event.
#[derive(Debug)]
pub struct TrackRecordBuilder {
    first: u64,
    names: Vec<String>,
    lines: String,
    leaves: CompactRange,
    completeness: Completeness,
}

/// What a track record proves.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvenRecord<'p> {
    /// The first event of the range.
    pub first: u64,
    /// The last event of the range.
    pub last: u64,
    /// Events in the tree of the checkpoint. Every statement is about the range only.
    pub size: u64,
    /// The names that are disclosed.
    pub names: Vec<String>,
    /// By event type, the names that no event of the type discloses although it hides fields: the
    /// type lacks them, or the operator withholds them for all its events.
    pub unproven: BTreeMap<String, Vec<String>>,
    /// Number of withheld fields of all events. Each can have the name of a disclosed one: an entry
    /// does not show that its names differ.
    pub withheld: u64,
    /// Aggregates over the disclosed fields.
    pub aggregates: Aggregates,
    /// The signers.
    pub accepted: Accepted<'p>,
}

impl TrackRecordBuilder {
    /// Begins a record with event `first` that reveals the fields with these names. `/event_type`
    /// is always among them.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name is invalid or repeated, or if there are too many.
    pub fn new(first: u64, names: &[impl AsRef<str>]) -> Result<Self> {
        let Some(begin) = first.checked_sub(1) else {
            return Err(Error::invalid("event index", "events are counted from 1"));
        };
        let mut names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        if !names.iter().any(|name| name == EVENT_TYPE) {
            names.insert(0, EVENT_TYPE.to_owned());
        }
        check_names(&names).map_err(|problem| Error::invalid("field names", problem))?;
        let leaves = CompactRange::empty(begin);
        Ok(Self { first, names, lines: String::new(), leaves, completeness: Completeness::default() })
    }

    /// Adds the next event.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not the next one, or if `/checksum` would be disclosed without
    /// every other field.
    pub fn push(&mut self, event: &Event, secret: &DisclosureSecret) -> Result<()> {
        if event.index != self.leaves.end() + 1 {
            let problem = format!("{} does not follow event {}", event.index, self.leaves.end());
            return Err(Error::invalid("event index", problem));
        }
        let fields = entry::disclosures(event, secret);
        let count = fields.len();
        let is_revealed = |field: &Disclosure| self.names.iter().any(|name| name == field.name());
        let (revealed, hidden): (Vec<_>, Vec<_>) = fields.into_iter().partition(is_revealed);
        entry::check_checksum_rule(&revealed, count)?;
        let mut recorded =
            RecordedEvent { hidden: hidden.iter().map(Disclosure::digest).collect(), revealed };
        recorded.hidden.sort_unstable();
        recorded.write(&mut self.lines);
        self.leaves.push(recorded.entry(event.index).leaf_hash(), &mut |_, _| {})?;
        self.completeness.add(event.index, &event.event_type, &self.names, &recorded);
        Ok(())
    }

    /// Whether an event so far discloses a field.
    pub fn discloses(&self, name: &str) -> bool {
        self.completeness.fields.iter().any(|((_, field), presence)| field == name && presence.is_disclosed)
    }

    /// The record. `before` and `after` are the hashes of the subtrees outside the range, see
    /// [`Node::covering`](crate::Node::covering): of the leaves from 0 to `first - 1`, and of those
    /// from the last event to the size of the checkpoint.
    ///
    /// # Errors
    /// [`Error::Withheld`] if an event lacks a field that others of its type have;
    /// [`Error::RootMismatch`] if the events are not those of the checkpoint; [`Error::Invalid`] if
    /// there are no events, or too many.
    pub fn finish(self, before: &[Hash], after: &[Hash], checkpoint: &SignedCheckpoint) -> Result<String> {
        let last = self.leaves.end();
        if last < self.first {
            return Err(Error::invalid(WHAT, "has no events"));
        }
        self.completeness.check()?;
        check_root(&self.leaves, before, after, checkpoint)?;
        let names = Value::Array(self.names.into_iter().map(Value::String).collect());
        // Strings have a canonical form.
        let names = Json::try_from(&names).unwrap_or_else(|_| Json::empty_object());
        let mut record = format!("{TRACK_RECORD_SCHEMA}\nevents {} {last}\nreveal {names}\n", self.first);
        write_hashes("before", before, &mut record);
        record += &self.lines;
        write_hashes("after", after, &mut record);
        record.push('\n');
        record += &checkpoint.encode();
        if record.len() > MAX_TRACK_RECORD_BYTES {
            let problem = format!("would have {} bytes, more than {MAX_TRACK_RECORD_BYTES}", record.len());
            return Err(Error::invalid(WHAT, problem));
        }
        Ok(record)
    }
}

/// Checks that a policy accepts a track record, and computes the aggregates over all its events.
///
/// # Errors
/// [`Error::Malformed`] with the line; [`Error::RootMismatch`] if an event is missing, repeated or
/// changed; [`Error::Withheld`] if a field is withheld for some events of a type; as
/// [`Policy::check`] if the policy does not accept the checkpoint.
pub fn check<'p>(record: &[u8], policy: &'p Policy) -> Result<ProvenRecord<'p>> {
    let mut lines = Lines::new(WHAT, record, MAX_TRACK_RECORD_BYTES)?;
    if lines.expect("the schema")? != TRACK_RECORD_SCHEMA {
        return Err(lines.error(format!("must be `{TRACK_RECORD_SCHEMA}`")));
    }
    let (first, last) = parse_range(lines.expect("the range of events")?)
        .ok_or_else(|| lines.error("must be `events FIRST LAST`, with events counted from 1"))?;
    let names = lines.expect("the names")?;
    let names = parse_names(names).map_err(|problem| lines.error(problem))?;
    let mut leaves = CompactRange::empty(first - 1);
    let before = parse_hashes(&mut lines, "before", Node::covering(0, first - 1).count())?;
    let (mut completeness, mut aggregates) = (Completeness::default(), Aggregates::default());
    let mut withheld = 0;
    for event_index in first..=last {
        let line = lines.expect("an event")?;
        let event = RecordedEvent::parse(line, &names).map_err(|problem| lines.error(problem))?;
        let event_type =
            event.event_type().ok_or_else(|| lines.error("must disclose /event_type, a string"))?;
        leaves.push(event.entry(event_index).leaf_hash(), &mut |_, _| {})?;
        completeness.add(event_index, &event_type, &names, &event);
        withheld += event.hidden.len() as u64;
        let fields = event.revealed.iter().map(|field| (field.name(), field.value()));
        aggregates.add(&event_type, fields.filter(|(name, _)| names.iter().any(|revealed| revealed == name)));
    }
    let mut after = Vec::new();
    loop {
        match lines.expect("an empty line")? {
            "" => break,
            _ if after.len() == MAX_PROOF_HASHES => return Err(lines.error("there are too many hashes")),
            line => {
                let hash =
                    parse_hash(line, "after").ok_or_else(|| lines.error("must be `after ` and a hash"))?;
                after.push(hash);
            }
        }
    }
    let checkpoint = SignedCheckpoint::parse(lines.rest().as_bytes())
        .map_err(|error| error.after_lines(lines.number()))?;
    check_root(&leaves, &before, &after, &checkpoint)?;
    completeness.check()?;
    let accepted = policy.check(&checkpoint)?;
    let (size, unproven) = (checkpoint.checkpoint().size, completeness.unproven());
    Ok(ProvenRecord { first, last, size, names, unproven, withheld, aggregates, accepted })
}

/// The data of one event.
struct RecordedEvent {
    /// The digests of the fields that are not disclosed, in ascending order.
    hidden: Vec<Hash>,
    revealed: Vec<Disclosure>,
}

impl RecordedEvent {
    fn write(&self, out: &mut String) {
        match self.hidden.as_slice() {
            [] => out.push_str(NO_DIGESTS),
            digests => {
                let bytes: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
                out.push_str(&encode_base64(bytes));
            }
        }
        for disclosure in &self.revealed {
            out.push(' ');
            out.push_str(disclosure.as_str());
        }
        out.push('\n');
    }

    fn parse(line: &str, names: &[String]) -> Result<Self, String> {
        let mut items = line.split(' ');
        let hidden = match items.next().unwrap_or_default() {
            NO_DIGESTS => Vec::new(),
            encoded => {
                let bytes = decode_base64(encoded).unwrap_or_default();
                match bytes.as_chunks::<32>() {
                    (digests, []) if !digests.is_empty() => {
                        digests.iter().copied().map(Hash::from_bytes).collect()
                    }
                    _ => return Err("the digests must be `-`, or the base64 of 32 bytes each".to_owned()),
                }
            }
        };
        if !hidden.is_sorted_by(|one, next| one < next) {
            return Err("the digests must be in ascending order and different".to_owned());
        }
        let mut revealed: Vec<Disclosure> = Vec::new();
        for item in items {
            let disclosure = Disclosure::parse(item).map_err(|error| error.to_string())?;
            let name = disclosure.name();
            if revealed.iter().any(|other| other.name() == name) {
                return Err(format!("`{}` is disclosed twice", name.escape_debug()));
            }
            if !hidden.is_empty() && !names.iter().any(|revealed| revealed == name) {
                return Err(format!("`{}` is not among the names to reveal", name.escape_debug()));
            }
            revealed.push(disclosure);
        }
        Ok(Self { hidden, revealed })
    }

    fn entry(&self, event_index: u64) -> Entry {
        let mut digests = self.hidden.clone();
        digests.extend(self.revealed.iter().map(Disclosure::digest));
        digests.sort_unstable();
        Entry { event_index, commitment: entry::commitment(&digests) }
    }

    fn event_type(&self) -> Option<String> {
        let field = self.revealed.iter().find(|field| field.name() == EVENT_TYPE)?;
        field.value().value().as_str().map(str::to_owned)
    }
}

/// Finds fields that are disclosed for some events of a type only.
#[derive(Debug, Default)]
struct Completeness {
    /// By event type and name.
    fields: BTreeMap<(String, String), Presence>,
}

#[derive(Debug, Default)]
struct Presence {
    is_disclosed: bool,
    /// The first event that neither discloses the field nor proves its absence.
    withheld_by: Option<u64>,
}

impl Completeness {
    fn add(&mut self, event_index: u64, event_type: &str, names: &[String], event: &RecordedEvent) {
        for name in names {
            let is_disclosed = event.revealed.iter().any(|field| field.name() == name);
            if !is_disclosed && event.hidden.is_empty() {
                continue;
            }
            let presence = self.fields.entry((event_type.to_owned(), name.clone())).or_default();
            presence.is_disclosed |= is_disclosed;
            if !is_disclosed {
                presence.withheld_by.get_or_insert(event_index);
            }
        }
    }

    /// What [`ProvenRecord::unproven`] says.
    fn unproven(&self) -> BTreeMap<String, Vec<String>> {
        let mut unproven: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((event_type, name), presence) in &self.fields {
            if !presence.is_disclosed {
                unproven.entry(event_type.clone()).or_default().push(name.clone());
            }
        }
        unproven
    }

    fn check(&self) -> Result<()> {
        let mut withheld: Vec<_> = self
            .fields
            .iter()
            .filter(|(_, presence)| presence.is_disclosed)
            .filter_map(|(key, presence)| Some((presence.withheld_by?, key)))
            .collect();
        withheld.sort_unstable();
        match withheld.first() {
            None => Ok(()),
            Some((event_index, (event_type, name))) => Err(Error::Withheld {
                event_index: *event_index,
                event_type: event_type.clone(),
                name: name.clone(),
            }),
        }
    }
}

/// Checks that the leaves, with what is before and after them, lead to the root of the checkpoint.
fn check_root(
    leaves: &CompactRange,
    before: &[Hash],
    after: &[Hash],
    signed: &SignedCheckpoint,
) -> Result<()> {
    let checkpoint = signed.checkpoint();
    let (first, last, size) = (leaves.begin() + 1, leaves.end(), checkpoint.size);
    let mismatch = Error::RootMismatch { first, last, size };
    if last > size {
        return Err(mismatch);
    }
    let mut tree = CompactRange::from_hashes(0, leaves.begin(), before)?;
    tree.append(leaves)?;
    tree.append(&CompactRange::from_hashes(last, size, after)?)?;
    if tree.root() == Some(checkpoint.root) { Ok(()) } else { Err(mismatch) }
}

fn check_names(names: &[String]) -> Result<(), String> {
    if names.len() > MAX_NAMES {
        return Err(format!("there are more than {MAX_NAMES} names"));
    }
    for (position, name) in names.iter().enumerate() {
        check_field_name(name).map_err(|error| error.to_string())?;
        if names[..position].contains(name) {
            return Err(format!("`{}` is named twice", name.escape_debug()));
        }
    }
    Ok(())
}

fn parse_range(line: &str) -> Option<(u64, u64)> {
    let (first, last) = line.strip_prefix("events ")?.split_once(' ')?;
    let (first, last) = (decode_decimal(first)?, decode_decimal(last)?);
    (0 < first && first <= last && last <= MAX_SIZE).then_some((first, last))
}

fn parse_names(line: &str) -> Result<Vec<String>, String> {
    let form = || "must be `reveal ` and a canonical JSON array of names with /event_type".to_owned();
    let text = line.strip_prefix("reveal ").ok_or_else(form)?;
    if !is_canonical(text) {
        return Err(form());
    }
    let Ok(Value::Array(items)) = Value::parse(text) else { return Err(form()) };
    let names: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    let names = names.filter(|names| names.iter().any(|name| name == EVENT_TYPE)).ok_or_else(form)?;
    check_names(&names)?;
    Ok(names)
}

fn write_hashes(word: &str, hashes: &[Hash], out: &mut String) {
    for hash in hashes {
        out.push_str(&format!("{word} {hash}\n"));
    }
}

fn parse_hash(line: &str, word: &str) -> Option<Hash> {
    line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok()
}

fn parse_hashes(lines: &mut Lines<'_>, word: &str, count: usize) -> Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    for _ in 0..count {
        let line = lines.expect("a hash")?;
        hashes.push(
            parse_hash(line, word).ok_or_else(|| lines.error(format!("must be `{word} ` and a hash")))?,
        );
    }
    Ok(hashes)
}
