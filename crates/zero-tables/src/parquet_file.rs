//! One table as a Parquet file.
//!
//! The columns are written directly, without Arrow arrays: that saves the larger half of what the
//! crate `parquet` would compile.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use crate::batch::{Batch, Column, Values};
use crate::table::{ColumnDefinition, Kind, Table};

/// A file that is being written. Each batch becomes a row group.
pub(crate) struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    table: &'static Table,
}

impl<W: Write + Send> ParquetFile<W> {
    pub(crate) fn create(output: W, table: &'static Table) -> Result<Self> {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("zero-bus {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(ZstdLevel::default()));
        // Their values are all different, so a dictionary would only cost time.
        for unique in ["event_id", "payload", "previous_checksum", "checksum"] {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(unique), false);
        }
        let writer = SerializedFileWriter::new(output, schema(table)?, Arc::new(properties.build()))?;
        Ok(Self { writer, table })
    }

    pub(crate) fn write(&mut self, batch: Batch) -> Result<()> {
        let mut row_group = self.writer.next_row_group()?;
        for (column, definition) in batch.columns.into_iter().zip(self.table.columns) {
            // The schema has as many columns as the table.
            let Some(mut writer) = row_group.next_column()? else { break };
            write_column(&mut writer, column, definition)?;
            writer.close()?;
        }
        row_group.close().map(drop)
    }

    /// Writes what is left, and returns the file.
    pub(crate) fn finish(self) -> Result<W> {
        self.writer.into_inner()
    }
}

fn schema(table: &Table) -> Result<TypePtr> {
    let columns = table.columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            Kind::Integer => (PhysicalType::INT64, None),
            Kind::Number => (PhysicalType::DOUBLE, None),
            Kind::Boolean => (PhysicalType::BOOLEAN, None),
            Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Time => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let column = Type::primitive_type_builder(column.name, physical);
        column.with_logical_type(logical).with_repetition(repetition).build().map(Arc::new)
    });
    let columns = columns.collect::<Result<_>>()?;
    Type::group_type_builder(table.name).with_fields(columns).build().map(Arc::new)
}

/// Writes the values that are not null, and for a nullable column which rows have one.
fn write_column(
    writer: &mut SerializedColumnWriter<'_>,
    column: Column,
    definition: &ColumnDefinition,
) -> Result<()> {
    let valid = &column.valid;
    let levels: Option<Vec<i16>> =
        definition.nullable.then(|| valid.iter().map(|valid| i16::from(*valid)).collect());
    let levels = levels.as_deref();
    let written = match column.values {
        Values::Integers(values) => {
            writer.typed::<Int64Type>().write_batch(&present(values, valid), levels, None)
        }
        Values::Numbers(values) => {
            writer.typed::<DoubleType>().write_batch(&present(values, valid), levels, None)
        }
        Values::Booleans(values) => {
            writer.typed::<BoolType>().write_batch(&present(values, valid), levels, None)
        }
        Values::Texts { bytes, offsets } => {
            let bytes = Bytes::from(bytes);
            let texts = offsets
                .windows(2)
                .map(|ends| ByteArray::from(bytes.slice(ends[0] as usize..ends[1] as usize)));
            let texts = present(texts.collect(), valid);
            writer.typed::<ByteArrayType>().write_batch(&texts, levels, None)
        }
    };
    written.map(drop)
}

/// The values of the rows that have one.
fn present<T>(values: Vec<T>, valid: &[bool]) -> Vec<T> {
    if valid.iter().all(|valid| *valid) {
        return values;
    }
    values.into_iter().zip(valid).filter(|(_, valid)| **valid).map(|(value, _)| value).collect()
}
