//! The integration tests: one binary, one module per piece.
#![allow(unreachable_pub, missing_docs)]
// Tests look at real processes from the outside: there is no event to wait for, so they look again after a while.
#![allow(clippy::disallowed_methods)]

mod additional;
mod admin;
mod asked;
mod cli;
mod config;
mod differential;
mod failover;
mod flood;
mod fuzz;
mod geo;
mod geo_served;
mod half_open;
mod load_again;
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
mod reload_named;
mod resolve;
mod rest;
mod rfc_edns;
mod rfc_lookup;
mod rfc_lookup_dname;
mod rfc_lookup_wildcard;
mod rfc_transport;
mod safety;
mod scale;
mod serve;
mod service;
mod stand_in;
mod steered_https;
mod steered_like_static;
mod store;
mod tidy;
mod unbound;
mod weights;
mod zone_text;
