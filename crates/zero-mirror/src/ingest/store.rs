//! The receiver's store: a pool of connections to one destination. Each connection is used by one
//! thread at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, Semaphore};
use zero_bus::{Checksum, Event, Head};
use zero_http::Problem;

use super::log::{ReceiverLog, Topic};
use super::problem;
use crate::error::{Error, Result};
use crate::mirror::{Mirror, Record};

/// Number of locks that the buses share. Buses whose first byte maps to the same lock wait for each
/// other.
const BUS_LOCKS: usize = 64;

/// Opens a further connection to the store.
pub type OpenStore = Box<dyn Fn() -> Result<Box<dyn Mirror>> + Send + Sync>;

pub(super) struct StorePool {
    open: OpenStore,
    idle: Mutex<Vec<Box<dyn Mirror>>>,
    /// One permit for each connection that may be in use.
    permits: Arc<Semaphore>,
    /// Held while a batch is appended, so that batches of one bus are appended one after the other.
    bus_locks: Vec<Arc<tokio::sync::Mutex<()>>>,
    log: Arc<ReceiverLog>,
}

impl StorePool {
    /// Opens the first connection at once, so that an invalid address is reported at the start. An
    /// unavailable store is accepted, since it may come back.
    pub(super) fn open(open: OpenStore, max_connections: usize, log: Arc<ReceiverLog>) -> Result<Self> {
        let mut first = open()?;
        // Reading lines creates a store that is a file, which the head alone does not.
        match first.head(probe_bus()).and_then(|_| first.lines(probe_bus(), 1)) {
            Err(error @ Error::Unavailable { .. }) => log.print(Topic::Store, &format!("the store: {error}")),
            probed => drop(probed?),
        }
        Ok(Self {
            open,
            idle: Mutex::new(vec![first]),
            permits: Arc::new(Semaphore::new(max_connections.max(1))),
            bus_locks: (0..BUS_LOCKS).map(|_| Arc::default()).collect(),
            log,
        })
    }

    /// Takes the lock of a bus.
    pub(super) async fn lock_bus(&self, bus: Checksum) -> OwnedMutexGuard<()> {
        let position = usize::from(bus.as_bytes()[0]) % BUS_LOCKS;
        Arc::clone(&self.bus_locks[position]).lock_owned().await
    }

    /// Runs a job with a connection, in a thread that may block. The job runs to its end even if
    /// the caller is dropped. A connection whose job panicked is not used again.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&mut dyn Mirror) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, Problem> {
        let pool = Arc::clone(self);
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Err(Problem::internal());
        };
        let finished = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut store = match idle {
                Some(store) => store,
                None => (pool.open)()?,
            };
            let result = job(&mut *store);
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // If this connection was lost, the idle ones are probably lost too.
            if matches!(result, Err(JobError::Store(Error::Unavailable { .. }))) {
                idle.clear();
            } else {
                idle.push(store);
            }
            result
        });
        match finished.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(JobError::Problem(problem))) => Err(problem),
            Ok(Err(JobError::Store(error))) => {
                // Only the operator sees the store's own message, which may name internal hosts.
                self.log.print(Topic::Store, &format!("the store: {error}"));
                Err(match error {
                    Error::Unavailable { .. } => {
                        Problem::unavailable("the receiver's store is unavailable; try again")
                    }
                    Error::Corrupt { index, problem, .. } => problem::unsound(index, &problem),
                    _ => Problem::internal(),
                })
            }
            Err(_) => {
                self.log.print(Topic::Store, "a thread that used the store panicked");
                Err(Problem::internal())
            }
        }
    }
}

/// The id of a bus that does not exist, to test whether a store responds.
pub(super) fn probe_bus() -> Checksum {
    Checksum::of(b"")
}

/// Why a job failed.
pub(super) enum JobError {
    /// A problem for the client.
    Problem(Problem),
    /// An error of the store, for the operator.
    Store(Error),
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Problem> for JobError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Appends a verified batch to a store. It is durable when this returns `Ok`. `before_append` runs
/// after the position was checked and before anything is stored; it does not run for an empty
/// batch.
pub(super) fn append(
    store: &mut dyn Mirror,
    bus: Checksum,
    after: Head,
    batch: &[Record],
    before_append: impl FnOnce() -> Result<(), JobError>,
) -> Result<Head, JobError> {
    let head = store.head(bus)?;
    if head != after {
        return Err(explain_mismatch(store, bus, head, after, batch)?.into());
    }
    if batch.is_empty() {
        return Ok(head);
    }
    before_append()?;
    match store.append(bus, after, batch) {
        Ok(()) => Ok(batch.last().map_or(head, |last| last.event.head())),
        // Another receiver uses the same store.
        Err(Error::CursorMoved { .. }) => {
            let head = store.head(bus)?;
            Err(explain_mismatch(store, bus, head, after, batch)?.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a batch does not continue the store's chain: it belongs to another chain, or it starts
/// elsewhere.
fn explain_mismatch(
    store: &mut dyn Mirror,
    bus: Checksum,
    head: Head,
    after: Head,
    batch: &[Record],
) -> Result<Problem> {
    if after.index > head.index {
        return Ok(problem::position(bus, head));
    }
    let mut page = HashMap::new();
    let mut stored_checksum = |store: &mut dyn Mirror, index: u64| -> Result<Option<Checksum>> {
        if index == head.index {
            return Ok(head.checksum);
        }
        if !page.contains_key(&index) {
            page = store.lines(bus, index)?.into_iter().collect();
        }
        // An unreadable line has no checksum, so it differs from every event of the batch.
        let line = page.get(&index);
        Ok(line.and_then(|line| Event::read_alone(line.as_bytes(), index).ok()).map(|event| event.checksum))
    };
    if after.index > 0 && stored_checksum(store, after.index)? != after.checksum {
        return Ok(problem::fork(bus, head, after.index, false));
    }
    for record in batch.iter().take_while(|record| record.event.index <= head.index) {
        if stored_checksum(store, record.event.index)? != Some(record.event.checksum) {
            return Ok(problem::fork(bus, head, record.event.index, true));
        }
    }
    Ok(problem::position(bus, head))
}
