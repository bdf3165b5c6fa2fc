//! The integration tests: one binary, one module per piece.
#![allow(unreachable_pub, missing_docs)]
// Tests look at real processes from the outside: there is no event to wait for, so they look again after a while.
#![allow(clippy::disallowed_methods)]

mod admin;
mod cli;
mod config;
mod differential;
mod failover;
mod fuzz;
mod geo;
mod geo_served;
mod meridian;
mod namespace;
mod origin;
mod overlays;
mod packets;
mod plan;
mod probe;
mod rate_limit;
mod readme;
mod reload;
mod resolve;
mod rest;
mod serve;
mod service;
mod stand_in;
mod store;
mod tidy;
mod unbound;
mod weights;
mod zone_text;
