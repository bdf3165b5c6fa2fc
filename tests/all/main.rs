//! The integration tests: one binary, one module per piece.

mod serve;
mod config;
mod origin;
mod probe;
mod store;
