//! What a client and a witness exchange (C2SP tlog-witness): the body of a request to
//! `add-checkpoint`, and the answer that tells the size that the witness cosigned last.

use std::fmt::Write as _;

use crate::encoding::decode_decimal;
use crate::error::Result;
use crate::hash::Hash;
use crate::lines::Lines;
use crate::signed_checkpoint::SignedCheckpoint;

/// Maximum number of hashes of a consistency proof.
pub const MAX_PROOF_HASHES: usize = 63;

/// Maximum bytes of a body. It has room for 63 hashes and 32 of the largest signatures.
pub const MAX_BODY_BYTES: usize = 256 << 10;

const WHAT: &str = "add-checkpoint request";

/// A request to cosign a checkpoint. Nothing of it was verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as the client believes; 0 for none.
    pub old_size: u64,
    /// The consistency proof from the old size to that of the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with the signatures of its log.
    pub checkpoint: SignedCheckpoint,
}

impl AddCheckpoint {
    /// The body.
    ///
    /// ```
    /// use zero_proof::{AddCheckpoint, Checkpoint, Hash, SignedCheckpoint, SigningKey};
    ///
    /// let key = SigningKey::from_seeds("example.com/bus", &[1; 32], None)?;
    /// let checkpoint = Checkpoint::new("example.com/bus", 0, Hash::EMPTY_TREE);
    /// let checkpoint = SignedCheckpoint::sign(checkpoint, &key, 1777593600)?;
    /// let request = AddCheckpoint { old_size: 0, proof: Vec::new(), checkpoint };
    /// let body = request.encode();
    /// assert!(body.starts_with("old 0\n\nexample.com/bus\n0\n"));
    /// assert_eq!(AddCheckpoint::parse(body.as_bytes()), Ok(request));
    /// # Ok::<(), zero_proof::Error>(())
    /// ```
    pub fn encode(&self) -> String {
        let mut body = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            // Writing to a string cannot fail.
            let _ = writeln!(body, "{hash}");
        }
        body.push('\n');
        body.push_str(&self.checkpoint.encode());
        body
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) with the line, or with the byte if it is too
    /// long or not UTF-8.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut lines = Lines::new(WHAT, body, MAX_BODY_BYTES)?;
        let old_size = lines.expect("the old size")?.strip_prefix("old ").and_then(decode_decimal);
        let old_size =
            old_size.ok_or_else(|| lines.error("must be `old`, a space and the old size in decimal"))?;
        let mut proof = Vec::new();
        // The first empty line ends the proof; the note has empty lines of its own.
        loop {
            let line = lines.expect("the empty line before the checkpoint")?;
            if line.is_empty() {
                break;
            }
            if proof.len() == MAX_PROOF_HASHES {
                return Err(lines.error(format!("the proof has more than {MAX_PROOF_HASHES} hashes")));
            }
            let hash = line.parse();
            proof.push(hash.map_err(|_| lines.error("a line of the proof must be the base64 of 32 bytes"))?);
        }
        let checkpoint = SignedCheckpoint::parse(lines.rest().as_bytes());
        let checkpoint = checkpoint.map_err(|error| error.after_lines(lines.number()))?;
        Ok(Self { old_size, proof, checkpoint })
    }
}

/// The body of the answer to a request whose old size was not the last one.
///
/// ```
/// use zero_proof::add_checkpoint::{encode_size, parse_size};
/// assert_eq!(encode_size(20852163), "20852163\n");
/// assert_eq!(parse_size("20852163\n"), Some(20852163));
/// assert_eq!(parse_size("020852163\n"), None);
/// ```
pub fn encode_size(size: u64) -> String {
    format!("{size}\n")
}

/// Reads the body of the answer to a request whose old size was not the last one. `None` if it has
/// another form.
pub fn parse_size(body: &str) -> Option<u64> {
    body.strip_suffix('\n').and_then(decode_decimal)
}
