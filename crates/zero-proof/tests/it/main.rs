//! Tests through the public interface. One binary, since each one is linked on its own.

#![allow(clippy::unwrap_used)]

mod aggregates;
mod checkpoint_state;
mod chromium;
mod disclosure;
mod fuzz;
mod go_judge;
mod judge;
mod keys;
mod note;
mod page;
mod page_agreement;
mod page_reader;
mod policy;
mod proof;
mod support;
mod tile;
mod tile_store;
mod track_record;
mod tree;
