//! Disclosures (RFC 9901 section 4.2): one field of an event with its salt, and the digest that an
//! entry holds of it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zero_bus::canonical::is_canonical;
use zero_bus::{Json, Value};
use zeroize::Zeroizing;

use crate::encoding::{decode_base64url, encode_base64url, encode_base64url_to};
use crate::error::{Error, Result};
use crate::hash::Hash;

/// The fields of an event besides the members of its payload, as JSON Pointers.
pub(crate) const EVENT_TYPE: &str = "/event_type";
pub(crate) const AS_OF: &str = "/as_of";
pub(crate) const TRACE_ID: &str = "/trace_id";
pub(crate) const CHECKSUM: &str = "/checksum";
pub(crate) const PAYLOAD: &str = "/payload/";

const WHAT: &str = "disclosure";
const SALT_BYTES: usize = 16;

/// The secret from which the salts of a bus follow: 32 random bytes, the whole content of its file.
/// It is zeroised when dropped. `Debug` does not show it.
pub struct DisclosureSecret(Zeroizing<[u8; 32]>);

/// The salts of a bus, before the event and the field are known.
pub(crate) struct KeyedSalts(Hmac<Sha256>);

/// The salts of the fields of one event.
pub(crate) struct Salts {
    keyed: Hmac<Sha256>,
}

/// A field of an event, as somebody may show it to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    text: String,
    name: String,
    value: Json,
}

impl DisclosureSecret {
    /// The secret with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the content of a secret file.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it has not 32 bytes.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let bytes = file.try_into().map_err(|_| {
            Error::at_byte(
                "secret file",
                file.len().min(32),
                format!("has {} bytes instead of 32", file.len()),
            )
        })?;
        Ok(Self::from_bytes(bytes))
    }

    /// The content of the secret file.
    pub fn encode(&self) -> &[u8; 32] {
        &self.0
    }

    /// The start of every salt, computed once for many events.
    pub(crate) fn keyed(&self) -> KeyedSalts {
        // HMAC pads a short key with zeros to the block size of the hash.
        let mut padded = Zeroizing::new([0; 64]);
        padded[..32].copy_from_slice(&*self.0);
        KeyedSalts(Hmac::new(&(*padded).into()))
    }

    pub(crate) fn salts(&self, event_index: u64) -> Salts {
        self.keyed().salts(event_index)
    }
}

impl KeyedSalts {
    pub(crate) fn salts(&self, event_index: u64) -> Salts {
        let mut keyed = self.0.clone();
        keyed.update(b"zero.runtime.salt.v1\n");
        keyed.update(event_index.to_string().as_bytes());
        keyed.update(b"\n");
        Salts { keyed }
    }
}

impl std::fmt::Debug for DisclosureSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DisclosureSecret(...)")
    }
}

impl Salts {
    /// The salt of a field.
    fn salt(&self, name: &str) -> [u8; SALT_BYTES] {
        let code: [u8; 32] = self.keyed.clone().chain_update(name).finalize().into_bytes().into();
        std::array::from_fn(|at| code[at])
    }
}

/// Computes digests of disclosures whose texts are not kept.
pub(crate) struct Digester {
    salts: Salts,
    array: Vec<u8>,
    text: Vec<u8>,
}

impl Digester {
    pub(crate) fn new(salts: Salts) -> Self {
        Self { salts, array: Vec::with_capacity(256), text: Vec::with_capacity(512) }
    }

    /// The digest of the field `name`, whose canonical JSON is `spelled_name` in quotes, with the
    /// canonical value `value`.
    pub(crate) fn digest(&mut self, name: &str, spelled_name: &str, value: &str) -> Hash {
        let Self { salts, array, text } = self;
        array.clear();
        array.extend_from_slice(b"[\"");
        encode_base64url_to(&salts.salt(name), array);
        for part in ["\",\"", spelled_name, "\",", value, "]"] {
            array.extend_from_slice(part.as_bytes());
        }
        text.clear();
        encode_base64url_to(array, text);
        Hash::of(text)
    }
}

impl Disclosure {
    /// Makes the disclosure of a field. `name` is one of the names that [`check_field_name`]
    /// accepts.
    pub(crate) fn new(salts: &Salts, name: String, value: Json) -> Self {
        let quoted = quote(&name);
        let salt = encode_base64url(salts.salt(&name));
        let array = format!("[\"{salt}\",{quoted},{value}]");
        Self { text: encode_base64url(array), name, value }
    }

    /// Reads the text of a disclosure.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte in the text or, if it is base64url, in what it encodes.
    pub fn parse(text: &str) -> Result<Self> {
        let error = |problem: &str| Error::at_byte(WHAT, 0, problem);
        let array = decode_base64url(text).ok_or_else(|| error("is not base64url without padding"))?;
        let array = String::from_utf8(array)
            .map_err(|error| Error::at_byte(WHAT, error.utf8_error().valid_up_to(), "is not UTF-8"))?;
        if !is_canonical(&array) {
            return Err(error("is not canonical JSON"));
        }
        let value = Value::parse(&array).map_err(|problem| {
            Error::at_byte(WHAT, problem.offset().unwrap_or_default(), problem.to_string())
        })?;
        let form = || error("must be an array of salt, name and value");
        let Value::Array(items) = value else { return Err(form()) };
        let [Value::String(salt), Value::String(name), value] = items.as_slice() else { return Err(form()) };
        if decode_base64url(salt).is_none_or(|salt| salt.len() != SALT_BYTES) {
            return Err(error("the salt must be the base64url of 16 bytes"));
        }
        check_field_name(name)?;
        let value = Json::try_from(value).map_err(|problem| error(&problem.to_string()))?;
        Ok(Self { text: text.to_owned(), name: name.clone(), value })
    }

    /// The text of the disclosure.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The JSON Pointer of the field, such as `/event_type` or `/payload/symbol`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of the field.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// The digest that the entry holds of the field.
    pub fn digest(&self) -> Hash {
        digest(&self.text)
    }
}

/// The digest of any disclosure of RFC 9901.
///
/// ```
/// let disclosure = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0";
/// let digest = zero_proof::disclosure::digest(disclosure);
/// assert_eq!(digest.to_string(), "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0=");
/// ```
pub fn digest(disclosure: &str) -> Hash {
    Hash::of(disclosure.as_bytes())
}

/// The name of a member of the payload: a JSON Pointer (RFC 6901).
///
/// ```
/// assert_eq!(zero_proof::disclosure::payload_field("a/b~c"), "/payload/a~1b~0c");
/// ```
pub fn payload_field(member: &str) -> String {
    format!("{PAYLOAD}{}", member.replace('~', "~0").replace('/', "~1"))
}

/// Checks that a name is `/event_type`, `/as_of`, `/trace_id`, `/checksum`, or `/payload/` and the
/// name of a whole member.
///
/// # Errors
/// [`Error::Invalid`]
pub fn check_field_name(name: &str) -> Result<()> {
    let is_member = |member: &str| {
        let escapes_are_valid = member.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        !member.contains('/') && escapes_are_valid
    };
    if [EVENT_TYPE, AS_OF, TRACE_ID, CHECKSUM].contains(&name)
        || name.strip_prefix(PAYLOAD).is_some_and(is_member)
    {
        return Ok(());
    }
    let problem = format!(
        "`{}` is not one of {EVENT_TYPE}, {AS_OF}, {TRACE_ID}, {CHECKSUM}, {PAYLOAD}NAME",
        name.escape_debug()
    );
    Err(Error::invalid("field name", problem))
}

/// The canonical JSON of a string.
pub(crate) fn quote(text: &str) -> Json {
    // Every string has a canonical form.
    Json::try_from(&Value::String(text.to_owned())).unwrap_or_else(|_| Json::empty_object())
}
