//! The stores behind a receiver: a few connections to one destination, each used by one thread at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, Semaphore};
use zero_bus::{Checksum, Event, Head};

use super::operator::{About, Operator};
use super::problem::Problem;
use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};

/// Buses whose batches wait for each other: those with the same first bits.
const STRIPES: usize = 64;

/// Opens one more connection to the store.
pub type Open = Box<dyn Fn() -> Result<Box<dyn Mirror>> + Send + Sync>;

/// The stores.
pub(super) struct Stores {
    open: Open,
    idle: Mutex<Vec<Box<dyn Mirror>>>,
    /// As many as may be in use at once.
    free: Arc<Semaphore>,
    stripes: Vec<Arc<tokio::sync::Mutex<()>>>,
    operator: Arc<Operator>,
}

impl Stores {
    /// Opens the first one at once, so that what is wrong with it is said at the start. One that is away may come.
    pub(super) fn open(open: Open, at_once: usize, operator: Arc<Operator>) -> Result<Self> {
        let mut first = open()?;
        match first.head(nobody()) {
            Err(error @ Error::Unavailable { .. }) => {
                operator.tell(About::Store, &format!("the store: {error}"))
            }
            asked => drop(asked?),
        }
        Ok(Self {
            open,
            idle: Mutex::new(vec![first]),
            free: Arc::new(Semaphore::new(at_once.max(1))),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            operator,
        })
    }

    /// Waits until nobody else hands over events of a bus.
    pub(super) async fn alone(&self, bus: Checksum) -> OwnedMutexGuard<()> {
        let stripe = usize::from(bus.as_bytes()[0]) % STRIPES;
        Arc::clone(&self.stripes[stripe]).lock_owned().await
    }

    /// Does something with one of the stores, in a thread that may block. It goes on to its end even where nobody waits for
    /// it any more. A store that a panic met is not used again.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&mut dyn Mirror) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Problem> {
        let stores = Arc::clone(self);
        let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { return Err(Problem::broken()) };
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = stores.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut store = match idle {
                Some(store) => store,
                None => (stores.open)()?,
            };
            let done = job(&mut *store);
            let mut idle = stores.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // What lost one connection has lost the others too.
            if matches!(done, Err(Failure::Store(Error::Unavailable { .. }))) {
                idle.clear()
            } else {
                idle.push(store)
            }
            done
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Problem(problem))) => Err(problem),
            Ok(Err(Failure::Store(error))) => {
                self.operator.tell(About::Store, &format!("the store: {error}"));
                Err(match error {
                    Error::Unavailable { .. } => {
                        Problem::away("the store behind the receiver is away; try again")
                    }
                    Error::Corrupt { index, problem, .. } => Problem::unsound(index, &problem),
                    _ => Problem::broken(),
                })
            }
            Err(_) => {
                self.operator.tell(About::Store, "a thread that used the store panicked");
                Err(Problem::broken())
            }
        }
    }
}

/// A bus that there is not, to ask a store whether it answers.
pub(super) fn nobody() -> Checksum {
    Checksum::of(b"")
}

/// Why something with a store was not done.
pub(super) enum Failure {
    /// It is the client's to know.
    Problem(Problem),
    /// It is the operator's to know.
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Puts a batch into a store, where it belongs there. When this returns, it is durable.
pub(super) fn put(
    store: &mut dyn Mirror,
    bus: Checksum,
    behind: Head,
    batch: &[Record],
    claim: impl FnOnce() -> Result<(), Failure>,
) -> Result<Head, Failure> {
    let held = store.head(bus)?;
    if held != behind {
        return Err(compare(store, bus, held, behind, batch)?.into());
    }
    if batch.is_empty() {
        return Ok(held);
    }
    claim()?;
    match store.append(bus, behind, batch) {
        Ok(()) => Ok(batch.last().map_or(held, |last| last.event.head())),
        // Another receiver uses the same store.
        Err(Error::CursorMoved { .. }) => {
            let held = store.head(bus)?;
            Err(compare(store, bus, held, behind, batch)?.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// What keeps a batch from being put where it should go: it begins elsewhere, or belongs to another chain.
fn compare(
    store: &mut dyn Mirror,
    bus: Checksum,
    held: Head,
    behind: Head,
    batch: &[Record],
) -> Result<Problem> {
    if behind.index > held.index {
        return Ok(Problem::position(bus, held));
    }
    let mut page = HashMap::new();
    let mut at = |store: &mut dyn Mirror, index: u64| -> Result<Option<Checksum>> {
        if index == held.index {
            return Ok(held.checksum);
        }
        if !page.contains_key(&index) {
            page = store.lines(bus, index)?.into_iter().collect();
        }
        // What can't be read there is not what comes in.
        let line = page.get(&index);
        Ok(line.and_then(|line| Event::read_alone(line.as_bytes(), index).ok()).map(|event| event.checksum))
    };
    if behind.index > 0 && at(store, behind.index)? != behind.checksum {
        return Ok(Problem::fork(bus, held, behind.index, false));
    }
    for record in batch.iter().take_while(|record| record.event.index <= held.index) {
        if at(store, record.event.index)? != Some(record.event.checksum) {
            return Ok(Problem::fork(bus, held, record.event.index, true));
        }
    }
    Ok(Problem::position(bus, held))
}
