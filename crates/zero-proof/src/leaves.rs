//! The leaves of the events of a log, hashed on the threads that verify it.

use zero_bus::{Checksum, Reader};

use crate::disclosure::DisclosureSecret;
use crate::entry::Entry;
use crate::hash::Hash;
use crate::store_error::StoreError;

/// The leaf of an event.
pub(crate) struct Leaf {
    pub(crate) hash: Hash,
    /// The checksum of the event.
    pub(crate) checksum: Checksum,
}

/// Calls `on_leaf` in order with the leaf of each event from an index on, up to the end of the log.
///
/// # Errors
/// As [`Reader::select`].
pub(crate) fn for_each_leaf(
    reader: &Reader,
    from: u64,
    secret: &DisclosureSecret,
    on_leaf: impl FnMut(Leaf) -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    let every_event = |_: &str, _: Option<&str>| true;
    let keyed = secret.keyed();
    let leaf = |event: zero_bus::Event| Leaf {
        hash: Entry::with_salts(&event, &keyed).leaf_hash(),
        checksum: event.checksum,
    };
    reader.select_map(from, every_event, leaf, on_leaf)?;
    Ok(())
}
