//! The extension module of the Python package `zero_bus`.
//!
//! The classes in Python's words are in `python/zero_bus`; this crate holds what is fast or waits.
//! Read `event` and `payload` first (values in both directions), then `bus` and `ticket`
//! (appending), `reader` and `follow` (reading), `tables` (Arrow and Parquet). `wait` is how every
//! call waits: without the GIL, and so that Ctrl-C ends it.

#![deny(unsafe_code)]

mod bus;
mod directory;
mod draft;
mod error;
mod event;
mod follow;
mod handle;
mod head;
mod paper;
mod payload;
mod program;
mod proof;
mod reader;
mod tables;
mod ticket;
mod type_filter;
mod verdict;
mod wait;

/// The extension module `zero_bus._native`.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const _SIGNAL_INTERVAL_S: f64 = crate::wait::SIGNAL_INTERVAL.as_secs_f64();

    #[pymodule_export]
    use crate::bus::{Bus, flush_open};
    #[pymodule_export]
    use crate::event::RuntimeBusEvent;
    #[pymodule_export]
    use crate::follow::Follow;
    #[pymodule_export]
    use crate::head::Head;
    #[pymodule_export]
    use crate::payload::{canonical, checksum};
    #[pymodule_export]
    use crate::program::run_program;
    #[pymodule_export]
    use crate::proof::check;
    #[pymodule_export]
    use crate::reader::{EventIterator, Reader};
    #[pymodule_export]
    use crate::tables::{Table, export_parquet};
    #[pymodule_export]
    use crate::ticket::Ticket;
}
