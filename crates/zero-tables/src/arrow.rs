//! Tables as Arrow record batches, and through Arrow's C data interface, for other libraries in
//! this process.

use std::io;
use std::sync::Arc;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchReader, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::batch::{Batch, Column, Values};
use crate::batches::Batches;
use crate::table::{Kind, Table};

/// The schema of a table.
///
/// ```
/// use arrow_schema::DataType;
/// use zero_tables::{Table, arrow};
///
/// let schema = arrow::schema(Table::named("fills").unwrap());
/// assert_eq!(schema.field_with_name("price")?.data_type(), &DataType::Float64);
/// # Ok::<(), arrow_schema::ArrowError>(())
/// ```
pub fn schema(table: &Table) -> SchemaRef {
    let fields = table.columns.iter().map(|column| {
        let data_type = match column.kind {
            Kind::Integer => DataType::Int64,
            Kind::Number => DataType::Float64,
            Kind::Boolean => DataType::Boolean,
            Kind::Text => DataType::Utf8,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        Field::new(column.name, data_type, column.nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

const UTC: &str = "UTC";

/// The schema of a table for the C data interface.
///
/// # Errors
/// None for the tables of this crate.
pub fn c_schema(table: &Table) -> Result<FFI_ArrowSchema, ArrowError> {
    FFI_ArrowSchema::try_from(schema(table).as_ref())
}

/// The batches of a table for the C stream interface.
pub fn c_stream(batches: Batches) -> FFI_ArrowArrayStream {
    FFI_ArrowArrayStream::new(Box::new(RecordBatches::new(batches)))
}

/// The batches of a table as Arrow record batches.
pub struct RecordBatches {
    batches: Batches,
    schema: SchemaRef,
    /// The process in which the thread of the batches runs.
    process_id: u32,
}

impl RecordBatches {
    /// Wraps the batches of a table.
    pub fn new(batches: Batches) -> Self {
        Self { schema: schema(batches.table()), batches, process_id: std::process::id() }
    }
}

impl RecordBatchReader for RecordBatches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Iterator for RecordBatches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::process::id() != self.process_id {
            // A forked child has no thread that could fill a batch.
            let forked = "the process that began to read is the parent of this one; begin again here";
            return Some(Err(ArrowError::ExternalError(Box::new(io::Error::other(forked)))));
        }
        let batch = self.batches.next()?.map_err(|error| ArrowError::ExternalError(Box::new(error)));
        Some(batch.and_then(|batch| record_batch(batch, self.batches.table(), &self.schema)))
    }
}

fn record_batch(batch: Batch, table: &Table, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns.into_iter().zip(table.columns);
    let columns = columns.map(|(column, definition)| array(column, definition.kind));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// Moves the values of a column to an array, without a copy of numbers and text.
fn array(column: Column, kind: Kind) -> Result<ArrayRef, ArrowError> {
    let nulls = Some(NullBuffer::from(column.valid)).filter(|nulls| nulls.null_count() > 0);
    Ok(match column.values {
        Values::Integers(values) if kind == Kind::Time => {
            Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone(UTC))
        }
        Values::Integers(values) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
        Values::Numbers(values) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
        Values::Booleans(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
        Values::Texts { bytes, offsets } => {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
            Arc::new(StringArray::try_new(offsets, Buffer::from(bytes), nulls)?)
        }
    })
}
