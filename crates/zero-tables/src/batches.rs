//! Reads a table from a log, in batches.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use zero_bus::{Error, Reader};

use crate::batch::Batch;
use crate::extract::Extractor;
use crate::table::Table;

/// Batches that are ready before they are asked for.
const READY_BATCHES: usize = 2;

/// The rows of a table in order of the log, in batches of bounded size. Ends after the first error.
///
/// A thread verifies the events and fills the batches; it uses further threads, as
/// [`Reader::select`] does. It ends once the batches are dropped.
pub struct Batches {
    table: &'static Table,
    receiver: Receiver<Result<Batch, Error>>,
}

impl Batches {
    /// Starts to read the rows of the events from index `first` up to index `last`.
    ///
    /// # Errors
    /// What the system reports if it starts no thread. The iterator returns the errors of
    /// [`Reader::select`], after all rows before the fault.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use std::collections::BTreeMap;
    /// use zero_bus::{Bus, Draft};
    /// use zero_tables::{Batches, Table, Values};
    ///
    /// let bus = Bus::open(dir.path())?;
    /// let fill = BTreeMap::from([("price", 64000.5)]);
    /// bus.append(Draft::new("fill.record", 1777593600.0, &fill)?)?;
    /// let fills = Table::named("fills").unwrap();
    /// for batch in Batches::read(&bus.reader(), fills, 1, bus.head().index)? {
    ///     let price = fills.columns.iter().position(|column| column.name == "price").unwrap();
    ///     assert_eq!(batch?.columns()[price].values, Values::Numbers(vec![64000.5]));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(
        reader: &Reader,
        table: &'static Table,
        first: u64,
        last: u64,
    ) -> Result<Self, std::io::Error> {
        let (sender, receiver) = sync_channel(READY_BATCHES);
        let reader = reader.clone();
        let read = move || {
            let error = match read_rows(&reader, table, first, last, &sender) {
                Ok(()) | Err(Stop::Ended) => return,
                Err(Stop::Failed(error)) => error,
            };
            // An error only means that the receiver was dropped.
            let _ = sender.send(Err(error));
        };
        thread::Builder::new().name("zero-tables".to_owned()).spawn(read)?;
        Ok(Self { table, receiver })
    }

    /// The table that is read.
    pub fn table(&self) -> &'static Table {
        self.table
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.recv().ok()
    }
}

/// Why no further row is read.
enum Stop {
    /// The last event was read, or the receiver of the rows was dropped.
    Ended,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn read_rows(
    reader: &Reader,
    table: &'static Table,
    first: u64,
    last: u64,
    sender: &SyncSender<Result<Batch, Error>>,
) -> Result<(), Stop> {
    if first > last {
        return Ok(());
    }
    let extractor = Extractor::new(table);
    let mut batch = Batch::new(table);
    let send = |batch: &mut Batch| {
        let full = std::mem::replace(batch, Batch::new(table));
        sender.send(Ok(full)).map_err(|_| Stop::Ended)
    };
    let read = reader.select(
        first,
        |event_type, _| table.event_type.is_none_or(|wanted| wanted == event_type),
        |event| {
            if event.index > last {
                return Err(Stop::Ended);
            }
            extractor.push(&event, &mut batch);
            if batch.is_full() { send(&mut batch) } else { Ok(()) }
        },
    );
    // The rows before a fault are valid.
    if batch.rows() > 0 {
        send(&mut batch)?;
    }
    read.map(drop)
}
