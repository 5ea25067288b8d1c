//! Private keys and their file form.
//!
//! A key file is text: a line `Name: NAME`, then the Ed25519 key as an unencrypted PKCS#8 PEM block
//! (RFC 8410), then optionally the ML-DSA-44 key as another one (RFC 9881, seed only). OpenSSL
//! skips the first line, so `openssl pkey -in FILE` reads the Ed25519 key.

use std::fmt;

use ed25519_dalek::Signer as _;
use ml_dsa::{Keypair as _, MlDsa44, SignatureEncoding as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, Result};
use crate::key::{PublicKey, SignatureType, VerifierKey, check_key_name};
use crate::lines::Lines;

/// Maximum bytes of a key file.
pub const MAX_KEY_FILE_BYTES: usize = 4 << 10;

const WHAT: &str = "key file";
const NAME: &str = "Name: ";
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Base64 digits in a line of PEM.
const PEM_COLUMNS: usize = 64;

/// The DER of a PKCS#8 key up to its seed of 32 bytes, which are the last ones.
const ED25519_DER: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const ML_DSA_44_DER: &[u8] =
    &[0x30, 0x34, 2, 1, 0, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 0x11, 4, 0x22, 0x80, 0x20];

/// The private keys of one signer, with the name that its signatures bear. They are zeroised when
/// dropped. `Debug` shows no part of them.
pub struct SigningKey {
    name: String,
    ed25519: ed25519_dalek::SigningKey,
    ml_dsa: Option<Box<ml_dsa::SigningKey<MlDsa44>>>,
}

impl SigningKey {
    /// Makes the keys from seeds, which must be random. Without a second seed there is no ML-DSA
    /// key.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the name is invalid, see [`check_key_name`], or longer than 255 bytes.
    pub fn from_seeds(name: &str, ed25519: &[u8; 32], ml_dsa: Option<&[u8; 32]>) -> Result<Self> {
        check_key_name(name)?;
        if name.len() > 255 {
            return Err(Error::invalid(
                "key name",
                format!("has {} bytes, at most 255 are possible", name.len()),
            ));
        }
        let ml_dsa = ml_dsa.map(|seed| Box::new(ml_dsa::SigningKey::from_seed(seed.into())));
        Ok(Self { name: name.to_owned(), ed25519: ed25519_dalek::SigningKey::from_bytes(ed25519), ml_dsa })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the line. The message contains nothing of the key.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let mut lines = Lines::new(WHAT, file, MAX_KEY_FILE_BYTES)?;
        let name = lines.expect("the name")?;
        let name = name.strip_prefix(NAME).ok_or_else(|| lines.error("must begin with `Name: `"))?;
        let Some(ed25519) = parse_pem(&mut lines, ED25519_DER)? else {
            return Err(Error::at_line(WHAT, lines.number() + 1, "the Ed25519 key is missing"));
        };
        let ml_dsa = parse_pem(&mut lines, ML_DSA_44_DER)?;
        if lines.next()?.is_some() {
            return Err(lines.error("nothing may follow the keys"));
        }
        Self::from_seeds(name, &ed25519, ml_dsa.as_deref())
            .map_err(|error| Error::at_line(WHAT, 1, error.to_string()))
    }

    /// The content of the key file.
    pub fn encode(&self) -> Zeroizing<String> {
        // Room for all of it, so that no copy is left behind by a reallocation.
        let mut file = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES));
        file.push_str(NAME);
        file.push_str(&self.name);
        file.push('\n');
        write_pem(&mut file, ED25519_DER, self.ed25519.as_bytes());
        if let Some(key) = &self.ml_dsa {
            write_pem(&mut file, ML_DSA_44_DER, key.as_seed().as_slice());
        }
        file
    }

    /// The name that its signatures bear.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key for one type of signature. `None` without the key that makes them.
    pub fn verifier_key(&self, signature_type: SignatureType) -> Option<VerifierKey> {
        let public = match signature_type {
            SignatureType::Ed25519 | SignatureType::CosignatureEd25519 => {
                PublicKey::Ed25519(self.ed25519.verifying_key())
            }
            SignatureType::CosignatureMlDsa44 => {
                PublicKey::MlDsa44(Box::new(self.ml_dsa.as_ref()?.verifying_key()))
            }
        };
        Some(VerifierKey::new(&self.name, signature_type, public))
    }

    pub(crate) fn sign_ed25519(&self, message: &[u8]) -> [u8; 64] {
        self.ed25519.sign(message).to_bytes()
    }

    /// Signs deterministically, with an empty context. `None` without an ML-DSA key.
    pub(crate) fn sign_ml_dsa(&self, message: &[u8]) -> Option<Result<Vec<u8>>> {
        let signature = self.ml_dsa.as_ref()?.expanded_key().sign_deterministic(message, &[]);
        // FIPS 204 allows signing to give up; no message is known for which it does.
        let failed = |_| Error::invalid("ML-DSA-44 signature", "cannot be made for this message");
        Some(signature.map(|signature| signature.to_bytes().to_vec()).map_err(failed))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.name)
    }
}

/// Reads the next PEM block, whose DER must be `prefix` and a seed. `None` at the end of the file.
fn parse_pem(lines: &mut Lines<'_>, prefix: &[u8]) -> Result<Option<Zeroizing<[u8; 32]>>> {
    match lines.next()? {
        None => return Ok(None),
        Some(BEGIN) => {}
        Some(_) => return Err(lines.error(format!("must be `{BEGIN}`"))),
    }
    let begin = lines.number() + 1;
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_BYTES));
    loop {
        match lines.expect(END)? {
            END => break,
            _ if !text.len().is_multiple_of(PEM_COLUMNS) => {
                return Err(lines.error("the line before it is too short"));
            }
            line if line.len() > PEM_COLUMNS => return Err(lines.error("is longer than 64 characters")),
            line => text.push_str(line),
        }
    }
    let der = decode_der(&text);
    let seed = der.as_ref().and_then(|der| der.strip_prefix(prefix)).and_then(|seed| seed.try_into().ok());
    match seed {
        Some(seed) => Ok(Some(Zeroizing::new(seed))),
        None => Err(Error::at_line(
            WHAT,
            begin,
            "must be an unencrypted PKCS#8 key without attributes: Ed25519 first, then ML-DSA-44 as a seed",
        )),
    }
}

fn decode_der(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    crate::encoding::decode_base64(text).map(Zeroizing::new)
}

/// Appends a PEM block with the DER `prefix` and a seed.
fn write_pem(out: &mut String, prefix: &[u8], seed: &[u8]) {
    let mut der = Zeroizing::new(Vec::with_capacity(prefix.len() + seed.len()));
    der.extend_from_slice(prefix);
    der.extend_from_slice(seed);
    let mut text = crate::encoding::encode_base64(&*der);
    out.push_str(BEGIN);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_COLUMNS));
        out.push('\n');
        out.push_str(line);
        rest = after;
    }
    out.push('\n');
    out.push_str(END);
    out.push('\n');
    text.zeroize();
}
