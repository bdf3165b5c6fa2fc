//! The integration tests: one binary, one module per piece.

mod config;
mod origin;
mod probe;
mod serve;
mod store;
