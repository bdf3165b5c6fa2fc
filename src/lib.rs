//! Meridian: an authoritative DNS server that steers traffic.
//!
//! The layers, lowest first; imports point downward only (`tests/all/tidy.rs` proves it). `ARCHITECTURE.md` tells the story.

// The docs are for readers of the source: `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

// Below all: system calls, and every `unsafe` there is.
pub mod sys;
// L0: bytes and RFCs.
pub mod dns;
// L1: pure data and pure functions.
pub mod geo;
pub mod health;
pub mod policy;
pub mod zone;
// L2: the immutable whole.
pub mod world;
// L3: the engine.
pub mod answer;
// L4: the single writer and what it stands on.
pub mod certs;
pub mod config;
pub mod control;
pub mod store;
pub mod telemetry;
// L5: sockets, checks and HTTP; they never import each other.
pub mod admin;
pub mod probe;
pub mod serve;
// L6: the command line and what it starts.
pub mod app;
pub mod cli;
