//! Signed notes (C2SP signed-note): a text and signatures by any number of keys.

use crate::encoding::{decode_base64, encode_base64};
use crate::error::{Error, Result};
use crate::key::{KeyId, SignatureType, VerifierKey, check_key_name};
use crate::lines::Lines;
use crate::signing_key::SigningKey;

/// Maximum bytes of a note with its signatures.
pub const MAX_NOTE_BYTES: usize = 1 << 20;

/// Maximum number of signatures of a note.
pub const MAX_SIGNATURES: usize = 100;

const WHAT: &str = "signed note";
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A text with signatures that nobody has verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// One signature line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub key_name: String,
    /// The id of the key.
    pub key_id: KeyId,
    /// What the type of the key defines, without the key id. Not empty.
    pub bytes: Vec<u8>,
}

impl Note {
    /// A note without signatures. It can be encoded once it has one.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the text does not end with a line break, contains another control
    /// character, or is too long.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let mut lines = Lines::new(WHAT, text.as_bytes(), MAX_NOTE_BYTES)?;
        if text.is_empty() {
            return Err(Error::at_line(WHAT, 1, "the text is empty"));
        }
        while let Some(line) = lines.next()? {
            if line.bytes().any(|byte| byte < b' ') {
                return Err(lines.error("contains a control character"));
            }
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Signs a text with the Ed25519 key (type 0x01).
    ///
    /// # Errors
    /// As [`Note::new`].
    pub fn sign(text: impl Into<String>, key: &SigningKey) -> Result<Self> {
        let mut note = Self::new(text)?;
        note.signatures.extend(Signature::sign(&note.text, key));
        Ok(note)
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse(note: &[u8]) -> Result<Self> {
        let all = Lines::new(WHAT, note, MAX_NOTE_BYTES)?.rest();
        // The last empty line separates text and signatures.
        let missing = || Error::at_line(WHAT, 1, "an empty line and signatures are missing");
        let text_end = all.rfind("\n\n").ok_or_else(missing)? + 1;
        let mut parsed = Self::new(&all[..text_end])?;
        let lines_before = parsed.text.lines().count() as u64 + 1;
        parsed.signatures =
            Self::parse_signatures(&all[text_end + 1..]).map_err(|error| error.after_lines(lines_before))?;
        Ok(parsed)
    }

    /// Reads signature lines without a text, such as a witness returns them.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line.
    pub fn parse_signatures(text: &str) -> Result<Vec<Signature>> {
        let mut lines = Lines::new(WHAT, text.as_bytes(), MAX_NOTE_BYTES)?;
        let mut signatures = Vec::new();
        while let Some(line) = lines.next()? {
            if signatures.len() == MAX_SIGNATURES {
                return Err(lines.error(format!("there are more than {MAX_SIGNATURES} signatures")));
            }
            signatures.push(Signature::parse(line).map_err(|problem| lines.error(problem))?);
        }
        if signatures.is_empty() {
            return Err(Error::at_line(WHAT, 1, "there is no signature"));
        }
        Ok(signatures)
    }

    /// The text form.
    pub fn encode(&self) -> String {
        format!("{}\n{}", self.text, Self::encode_signatures(&self.signatures))
    }

    /// Signature lines without a text.
    pub fn encode_signatures(signatures: &[Signature]) -> String {
        signatures
            .iter()
            .map(|signature| {
                let mut bytes = signature.key_id.0.to_be_bytes().to_vec();
                bytes.extend_from_slice(&signature.bytes);
                format!("{SIGNATURE_PREFIX}{} {}\n", signature.key_name, encode_base64(bytes))
            })
            .collect()
    }

    /// The text. Do not use it before the signatures were verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, verified or not.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds signatures, except those that the note has already.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond [`MAX_SIGNATURES`]. Then no signature was added.
    pub fn add_signatures(&mut self, signatures: impl IntoIterator<Item = Signature>) -> Result<()> {
        let mut all = self.signatures.clone();
        for signature in signatures {
            if !all.contains(&signature) {
                all.push(signature);
            }
        }
        if all.len() > MAX_SIGNATURES {
            let problem = format!("would have {} signatures, more than {MAX_SIGNATURES}", all.len());
            return Err(Error::invalid("signed note", problem));
        }
        self.signatures = all;
        Ok(())
    }

    /// Verifies the signatures of type 0x01 and returns the keys that have signed. Signatures by
    /// other keys are ignored. For checkpoints, which have more types, see
    /// [`SignedCheckpoint::verify`](crate::SignedCheckpoint::verify).
    ///
    /// # Errors
    /// [`Error::NotSigned`] if none of the keys has signed; [`Error::BadSignature`] if a signature
    /// bears the name and id of a key that has not made it; [`Error::Invalid`] if a key is of
    /// another type.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>> {
        if let Some(key) = keys.iter().find(|key| key.signature_type() != SignatureType::Ed25519) {
            return Err(Error::invalid("key", format!("{} signs checkpoints only", key.label())));
        }
        let signed =
            self.verify_each(keys, |key, bytes| key.has_signed(self.text.as_bytes(), bytes).then_some(()))?;
        Ok(signed.into_iter().map(|(key, ())| key).collect())
    }

    /// Verifies each signature by a known key with `verify`, which returns `None` if the signature
    /// is invalid. Returns each key that has signed once, with the smallest result of `verify`.
    pub(crate) fn verify_each<'k, T: PartialOrd>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey> + Clone,
        verify: impl Fn(&VerifierKey, &[u8]) -> Option<T>,
    ) -> Result<Vec<(&'k VerifierKey, T)>> {
        let mut signed: Vec<(&VerifierKey, T)> = Vec::new();
        for (signature, number) in self.signatures.iter().zip(1..) {
            let is_by = |key: &&VerifierKey| {
                (key.name(), key.id()) == (signature.key_name.as_str(), signature.key_id)
            };
            let Some(key) = keys.clone().into_iter().find(is_by) else { continue };
            let verified = verify(key, &signature.bytes)
                .ok_or_else(|| Error::BadSignature { number, key: key.label() })?;
            match signed.iter_mut().find(|(other, _)| *other == key) {
                None => signed.push((key, verified)),
                Some((_, first)) if verified < *first => *first = verified,
                Some(_) => {}
            }
        }
        if signed.is_empty() {
            return Err(Error::NotSigned { keys: keys.into_iter().map(VerifierKey::label).collect() });
        }
        Ok(signed)
    }
}

impl Signature {
    /// The signature of the Ed25519 key over a text (type 0x01).
    pub(crate) fn sign(text: &str, key: &SigningKey) -> Option<Self> {
        let signature = key.sign_ed25519(text.as_bytes());
        Self::new(key, SignatureType::Ed25519, signature.to_vec())
    }

    /// `None` if the signer has no key of that type.
    pub(crate) fn new(key: &SigningKey, signature_type: SignatureType, bytes: Vec<u8>) -> Option<Self> {
        let verifier = key.verifier_key(signature_type)?;
        Some(Self { key_name: key.name().to_owned(), key_id: verifier.id(), bytes })
    }

    fn parse(line: &str) -> Result<Self, String> {
        let rest =
            line.strip_prefix(SIGNATURE_PREFIX).ok_or("a signature begins with an em dash and a space")?;
        let (name, encoded) = rest.split_once(' ').ok_or("a signature is a key name and base64")?;
        check_key_name(name).map_err(|error| error.to_string())?;
        let bytes = decode_base64(encoded).ok_or("the signature is not base64")?;
        match bytes.split_first_chunk::<4>() {
            Some((id, bytes)) if !bytes.is_empty() => Ok(Self {
                key_name: name.to_owned(),
                key_id: KeyId(u32::from_be_bytes(*id)),
                bytes: bytes.to_vec(),
            }),
            _ => Err("the signature has fewer than 5 bytes".to_owned()),
        }
    }
}
