//! Public keys and their text form, the vkey (C2SP signed-note).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signature as Ed25519Signature;
use ml_dsa::{MlDsa44, Signature as MlDsaSignature, Verifier as _};
use sha2::{Digest, Sha256};

use crate::encoding::{decode_base64, encode_base64};
use crate::error::{Error, Result};

/// Maximum bytes of a vkey: a name, and a key of ML-DSA-44.
pub const MAX_VKEY_BYTES: usize = 4 << 10;

/// What a key signs and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SignatureType {
    /// 0x01: Ed25519 over the text of the note.
    Ed25519,
    /// 0x04: Ed25519 over a checkpoint and a time.
    CosignatureEd25519,
    /// 0x06: ML-DSA-44 over a checkpoint, a time and the name of the key.
    CosignatureMlDsa44,
}

impl SignatureType {
    /// The byte that stands for the type.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureEd25519 => 0x04,
            Self::CosignatureMlDsa44 => 0x06,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::CosignatureEd25519, Self::CosignatureMlDsa44]
            .into_iter()
            .find(|signature_type| signature_type.byte() == byte)
    }
}

/// The first four bytes of a hash of name, type and public key. It tells keys apart but does not
/// authenticate them. Its text form is 8 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A public key with its name and the type of its signatures. Its text form is a vkey.
///
/// ```
/// use zero_proof::VerifierKey;
/// let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// let key: VerifierKey = vkey.parse()?;
/// assert_eq!((key.name(), key.id().to_string()), ("example.com/foo", "530d903a".to_owned()));
/// assert_eq!(key.to_string(), vkey);
/// # Ok::<(), zero_proof::Error>(())
/// ```
#[derive(Clone)]
pub struct VerifierKey {
    name: String,
    id: KeyId,
    signature_type: SignatureType,
    public: PublicKey,
}

#[derive(Clone)]
pub(crate) enum PublicKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    MlDsa44(Box<ml_dsa::VerifyingKey<MlDsa44>>),
}

impl VerifierKey {
    pub(crate) fn new(name: &str, signature_type: SignatureType, public: PublicKey) -> Self {
        let id = key_id(name, signature_type, &public.bytes());
        Self { name: name.to_owned(), id, signature_type, public }
    }

    /// The name, which notes show next to the signature.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id, which signatures begin with.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What the key signs and how.
    pub fn signature_type(&self) -> SignatureType {
        self.signature_type
    }

    /// The public key alone: 32 bytes for Ed25519, 1312 for ML-DSA-44.
    pub fn public_key(&self) -> Vec<u8> {
        self.public.bytes()
    }

    /// Name and id, as error messages name a key.
    pub(crate) fn label(&self) -> String {
        format!("{}+{}", self.name, self.id)
    }

    /// Whether `signature` is this key's signature over exactly `message`. For cosignatures these
    /// are the bytes without the timestamp, and the message that the timestamp is part of.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.public {
            // The strict rules: no malleable `S`, no point of small order.
            PublicKey::Ed25519(key) => Ed25519Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            PublicKey::MlDsa44(key) => MlDsaSignature::<MlDsa44>::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

impl PublicKey {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.to_bytes().to_vec(),
            Self::MlDsa44(key) => key.encode().to_vec(),
        }
    }

    fn parse(signature_type: SignatureType, bytes: &[u8]) -> Result<Self, &'static str> {
        match signature_type {
            SignatureType::Ed25519 | SignatureType::CosignatureEd25519 => {
                let bytes = bytes.try_into().map_err(|_| "an Ed25519 key has 32 bytes")?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
                    .map_err(|_| "the Ed25519 key is no point of the curve")?;
                if key.is_weak() {
                    return Err("the Ed25519 key is a point of small order, whose signatures prove nothing");
                }
                if key.to_edwards().compress().as_bytes() != bytes {
                    return Err("the Ed25519 key is not in its canonical encoding");
                }
                Ok(Self::Ed25519(key))
            }
            SignatureType::CosignatureMlDsa44 => {
                let encoded = bytes.try_into().map_err(|_| "an ML-DSA-44 key has 1312 bytes")?;
                Ok(Self::MlDsa44(Box::new(ml_dsa::VerifyingKey::decode(encoded))))
            }
        }
    }
}

/// Checks the name of a key: not empty, no Unicode spaces, no `+`, no control characters.
///
/// # Errors
/// [`Error::Invalid`]
pub fn check_key_name(name: &str) -> Result<()> {
    let invalid =
        |problem: &str| Err(Error::invalid("key name", format!("`{}` {problem}", name.escape_debug())));
    match name.chars().find(|c| c.is_whitespace() || *c == '+' || *c < ' ') {
        Some('+') => invalid("contains a `+`"),
        Some(_) => invalid("contains a space or a control character"),
        None if name.is_empty() => invalid("is empty"),
        None => Ok(()),
    }
}

/// The recommended id: the start of the hash over name, type and public key.
fn key_id(name: &str, signature_type: SignatureType, public: &[u8]) -> KeyId {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', signature_type.byte()])
        .chain_update(public)
        .finalize();
    KeyId(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(vkey: &str) -> Result<Self> {
        let error = |offset: usize, problem: &str| Error::at_byte("vkey", offset, problem);
        if vkey.len() > MAX_VKEY_BYTES {
            return Err(error(MAX_VKEY_BYTES, "is longer than 4096 bytes"));
        }
        let form = || error(vkey.len(), "must be NAME+ID+KEY");
        let (name, rest) = vkey.split_once('+').ok_or_else(form)?;
        let (id_text, key_text) = rest.split_once('+').ok_or_else(form)?;
        check_key_name(name).map_err(|problem| error(0, &problem.to_string()))?;
        let id_at = name.len() + 1;
        let is_hex = |text: &str| {
            text.len() == 8 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        };
        let id = u32::from_str_radix(id_text, 16).ok().filter(|_| is_hex(id_text)).map(KeyId);
        let id = id.ok_or_else(|| error(id_at, "the key id must be 8 lower-case hex digits"))?;
        let key_at = id_at + id_text.len() + 1;
        let bytes = decode_base64(key_text).ok_or_else(|| error(key_at, "the key is not base64"))?;
        let (type_byte, public) = bytes.split_first().ok_or_else(|| error(key_at, "the key is empty"))?;
        let signature_type = SignatureType::of(*type_byte).ok_or_else(|| {
            error(
                key_at,
                &format!("signatures of type 0x{type_byte:02x} are not supported, only 0x01, 0x04 and 0x06"),
            )
        })?;
        let public = PublicKey::parse(signature_type, public).map_err(|problem| error(key_at, problem))?;
        let key = Self::new(name, signature_type, public);
        if key.id != id {
            return Err(error(id_at, &format!("the key id should be {}", key.id)));
        }
        Ok(key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.signature_type.byte()];
        key.extend(self.public.bytes());
        write!(f, "{}+{}+{}", self.name, self.id, encode_base64(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.signature_type, self.public.bytes())
            == (&other.name, other.signature_type, other.public.bytes())
    }
}

impl Eq for VerifierKey {}
