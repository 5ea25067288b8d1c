//! The program `zero-feed-hyperliquid`: a feed of live candles for the paper runtime.
//!
//! It polls the public API of the exchange Hyperliquid and prints each candle as a line of JSON
//! once its bar has closed, in the order of time. It needs no account and places no order. The
//! runtime starts it for `--market hyperliquid:...`; it is a program of its own, so that the
//! runtime needs no HTTP client.
//!
//! Modules in reading order: [`program`] (arguments, output), [`address`], [`exchange`] (one
//! request), [`poller`] (when to ask, and what is a closed bar), [`time`].

#![forbid(unsafe_code)]

pub mod address;
pub mod exchange;
pub mod poller;
pub mod program;
pub mod time;
