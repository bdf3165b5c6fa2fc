//! The integration tests: one binary, one module per piece.

mod admin;
mod cli;
mod config;
mod geo;
mod origin;
mod probe;
mod serve;
mod stand_in;
mod store;
