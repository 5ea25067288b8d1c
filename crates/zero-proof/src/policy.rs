//! Policies (C2SP tlog-policy): which logs and which sets of witnesses a verifier trusts.

use std::collections::{BTreeMap, BTreeSet};

use crate::encoding::decode_decimal;
use crate::error::{Error, Result};
use crate::key::{SignatureType, VerifierKey};
use crate::signed_checkpoint::SignedCheckpoint;

/// Maximum bytes of a policy file.
pub const MAX_POLICY_BYTES: usize = 1 << 20;

/// Maximum number of logs, of witnesses, and of groups.
pub const MAX_DEFINITIONS: usize = 256;

const WHAT: &str = "policy";

/// A policy file: logs, witnesses, and the quorum of witnesses that must have cosigned.
#[derive(Clone, Debug)]
pub struct Policy {
    logs: Vec<LogDefinition>,
    /// Witnesses and groups, in the order of their lines. A group refers only to earlier ones.
    definitions: Vec<Definition>,
    quorum: Quorum,
}

/// A `log` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDefinition {
    /// The key. Its name is the origin of the log.
    pub key: VerifierKey,
    /// Where to reach the log.
    pub url: Option<String>,
}

/// A `witness` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessDefinition {
    /// Its name in this policy. Bytes that are not UTF-8 are shown as U+FFFD.
    pub name: String,
    /// The key.
    pub key: VerifierKey,
    /// Where to reach the witness: by convention its submission prefix.
    pub url: Option<String>,
}

/// What a policy accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<'p> {
    /// The keys of the log that have signed. At least one.
    pub log_keys: Vec<&'p VerifierKey>,
    /// The witnesses that have cosigned, in the order of their signatures.
    pub cosigners: Vec<Cosigner<'p>>,
}

/// A witness that has cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigner<'p> {
    /// The witness.
    pub witness: &'p WitnessDefinition,
    /// When, in POSIX seconds, as the witness states it. `None` if it states no time.
    pub timestamp: Option<u64>,
}

#[derive(Clone, Debug)]
struct Definition {
    name: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Witness(Box<WitnessDefinition>),
    /// At least `threshold` of the members, given by their positions among the definitions.
    Group {
        threshold: usize,
        members: Vec<usize>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Quorum {
    None,
    Definition(usize),
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(file: &[u8]) -> Result<Self> {
        if file.len() > MAX_POLICY_BYTES {
            let problem = format!("is longer than {MAX_POLICY_BYTES} bytes");
            return Err(Error::at_byte(WHAT, MAX_POLICY_BYTES, problem));
        }
        let mut parser = Parser::default();
        let mut number = 0;
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            number += 1;
            parser.line(line).map_err(|problem| Error::at_line(WHAT, number, problem))?;
        }
        let quorum =
            parser.quorum.ok_or_else(|| Error::at_line(WHAT, number + 1, "the quorum line is missing"))?;
        Ok(Self { logs: parser.logs, definitions: parser.definitions, quorum })
    }

    /// The logs, in the order of their lines.
    pub fn logs(&self) -> &[LogDefinition] {
        &self.logs
    }

    /// The witnesses, in the order of their lines.
    pub fn witnesses(&self) -> impl Iterator<Item = &WitnessDefinition> + Clone {
        self.definitions.iter().filter_map(|definition| match &definition.kind {
            Kind::Witness(witness) => Some(witness.as_ref()),
            Kind::Group { .. } => None,
        })
    }

    /// Checks that a listed log has signed a checkpoint, that every signature by a listed key is
    /// valid, and that a quorum of witnesses has cosigned.
    ///
    /// # Errors
    /// [`Error::UnknownLog`], [`Error::NotSigned`], [`Error::BadSignature`],
    /// [`Error::QuorumNotMet`]; [`Error::Invalid`] for extension lines.
    pub fn check(&self, signed: &SignedCheckpoint) -> Result<Accepted<'_>> {
        let origin = &signed.checkpoint().origin;
        // A signature of type 0x06 does not cover them, so anybody could have added them.
        if !signed.checkpoint().extension_lines.is_empty() {
            return Err(Error::invalid("checkpoint", "has extension lines, which no log of a bus signs"));
        }
        let log_keys = self.logs.iter().map(|log| &log.key).filter(|key| key.name() == origin);
        if log_keys.clone().next().is_none() {
            return Err(Error::UnknownLog { origin: origin.clone() });
        }
        let log_keys = signed.verify(log_keys)?.into_iter().map(|signed| signed.key).collect();
        let cosigners = self.cosigners(signed)?;
        let has_cosigned = |definition: &WitnessDefinition| {
            cosigners.iter().any(|cosigner| std::ptr::eq(cosigner.witness, definition))
        };
        if let Quorum::Definition(position) = self.quorum
            && !self.satisfied(has_cosigned)[position]
        {
            return Err(Error::QuorumNotMet {
                quorum: String::from_utf8_lossy(&self.definitions[position].name).into_owned(),
                cosigned_by: cosigners.iter().map(|cosigner| cosigner.witness.name.clone()).collect(),
            });
        }
        Ok(Accepted { log_keys, cosigners })
    }

    /// The witnesses of this policy that have cosigned, whether they are a quorum or not.
    ///
    /// # Errors
    /// [`Error::BadSignature`]
    pub fn cosigners(&self, signed: &SignedCheckpoint) -> Result<Vec<Cosigner<'_>>> {
        let cosigned = match signed.verify(self.witnesses().map(|witness| &witness.key)) {
            Err(Error::NotSigned { .. }) => Vec::new(),
            result => result?,
        };
        let cosigners = cosigned.into_iter().filter_map(|signed| {
            let witness = self.witnesses().find(|witness| std::ptr::eq(&witness.key, signed.key))?;
            Some(Cosigner { witness, timestamp: signed.timestamp })
        });
        Ok(cosigners.collect())
    }

    /// Whether each definition is satisfied.
    fn satisfied(&self, has_cosigned: impl Fn(&WitnessDefinition) -> bool) -> Vec<bool> {
        let mut satisfied: Vec<bool> = Vec::with_capacity(self.definitions.len());
        for definition in &self.definitions {
            let value = match &definition.kind {
                Kind::Witness(witness) => has_cosigned(witness),
                Kind::Group { threshold, members } => {
                    members.iter().filter(|member| satisfied[**member]).count() >= *threshold
                }
            };
            satisfied.push(value);
        }
        satisfied
    }
}

#[derive(Default)]
struct Parser {
    logs: Vec<LogDefinition>,
    definitions: Vec<Definition>,
    /// Positions of the definitions by name.
    positions: BTreeMap<Vec<u8>, usize>,
    /// The definitions that are already members of a group.
    used: BTreeSet<usize>,
    quorum: Option<Quorum>,
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\n").ok_or("the line break is missing")?;
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err("contains a control character".to_owned());
        }
        let items: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", vkey] => self.log(vkey, None),
            [b"log", vkey, url] => self.log(vkey, Some(url)),
            [b"witness", name, vkey] => self.witness(name, vkey, None),
            [b"witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            [first, ..] => Err(match *first {
                b"log" => "a log line is: log VKEY [URL]".to_owned(),
                b"witness" => "a witness line is: witness NAME VKEY [URL]".to_owned(),
                b"group" => "a group line is: group NAME all|any|NUMBER NAME...".to_owned(),
                b"quorum" => "a quorum line is: quorum NAME".to_owned(),
                _ => format!("`{}` is not log, witness, group or quorum", lossy(first).escape_debug()),
            }),
        }
    }

    fn log(&mut self, vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        if self.logs.len() == MAX_DEFINITIONS {
            return Err(format!("there are more than {MAX_DEFINITIONS} logs"));
        }
        let key = parse_key(vkey)?;
        if key.signature_type() == SignatureType::CosignatureEd25519 {
            return Err("a key of type 0x04 is for witnesses".to_owned());
        }
        check_new_key(&key, self.logs.iter().map(|log| &log.key))?;
        check_other_role(&key, self.witness_keys(), "witness")?;
        self.logs.push(LogDefinition { key, url: url.map(lossy) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key = parse_key(vkey)?;
        if key.signature_type() == SignatureType::Ed25519 {
            return Err("a key of type 0x01 is for logs; a witness has one of type 0x04 or 0x06".to_owned());
        }
        check_new_key(&key, self.witness_keys())?;
        check_other_role(&key, self.logs.iter().map(|log| &log.key), "log")?;
        let witness = WitnessDefinition { name: lossy(name), key, url: url.map(lossy) };
        self.define(name, Kind::Witness(Box::new(witness)))
    }

    fn witness_keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.definitions.iter().filter_map(|definition| match &definition.kind {
            Kind::Witness(witness) => Some(&witness.key),
            Kind::Group { .. } => None,
        })
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], names: &[&[u8]]) -> Result<(), String> {
        if names.is_empty() {
            return Err("the group has no members".to_owned());
        }
        let mut members = Vec::new();
        for member in names {
            let position = self.position(member)?;
            if !self.used.insert(position) {
                return Err(format!("`{}` is a member of a group already", lossy(member)));
            }
            members.push(position);
        }
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            number => std::str::from_utf8(number)
                .ok()
                .and_then(decode_decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or_else(|| format!("the threshold must be all, any, or 1 to {}", members.len()))?,
        };
        self.define(name, Kind::Group { threshold, members })
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum line already".to_owned());
        }
        self.quorum = Some(match name {
            b"none" => Quorum::None,
            _ => Quorum::Definition(self.position(name)?),
        });
        Ok(())
    }

    fn define(&mut self, name: &[u8], kind: Kind) -> Result<(), String> {
        if name == b"none" {
            return Err("the name `none` is reserved".to_owned());
        }
        if self.definitions.len() == 2 * MAX_DEFINITIONS {
            return Err(format!("there are more than {} witnesses and groups", 2 * MAX_DEFINITIONS));
        }
        if self.positions.insert(name.to_vec(), self.definitions.len()).is_some() {
            return Err(format!("`{}` is defined already", lossy(name)));
        }
        self.definitions.push(Definition { name: name.to_vec(), kind });
        Ok(())
    }

    fn position(&self, name: &[u8]) -> Result<usize, String> {
        let position = self.positions.get(name).copied();
        position.ok_or_else(|| format!("`{}` is not a witness or group of an earlier line", lossy(name)))
    }
}

fn parse_key(vkey: &[u8]) -> Result<VerifierKey, String> {
    let text = std::str::from_utf8(vkey).map_err(|_| "the vkey is not UTF-8")?;
    text.parse().map_err(|error: Error| error.to_string())
}

/// Keys are duplicates if the underlying public key is the same. Name and id must be unique too,
/// since signatures have nothing else.
fn check_new_key<'k>(
    key: &VerifierKey,
    mut others: impl Iterator<Item = &'k VerifierKey>,
) -> Result<(), String> {
    let public = key.public_key();
    let is_taken = others
        .any(|other| other.public_key() == public || (other.name(), other.id()) == (key.name(), key.id()));
    if is_taken { Err("an earlier line has this key already".to_owned()) } else { Ok(()) }
}

/// One signature must not count both as the log's and as a witness's.
fn check_other_role<'k>(
    key: &VerifierKey,
    mut others: impl Iterator<Item = &'k VerifierKey>,
    role: &str,
) -> Result<(), String> {
    let is_taken = others.any(|other| (other.name(), other.id()) == (key.name(), key.id()));
    if is_taken { Err(format!("an earlier line has this key already, as that of a {role}")) } else { Ok(()) }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
