//! The integration tests: one binary, one module per piece.
#![allow(unreachable_pub, missing_docs)]

mod admin;
mod cli;
mod config;
mod geo;
mod meridian;
mod origin;
mod probe;
mod readme;
mod serve;
mod service;
mod stand_in;
mod store;
mod tidy;
mod zone_text;
