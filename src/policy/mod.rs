//! L1: what a zone's steering means: the checked definitions ([`model`]), who gets what in which order ([`resolve`]), and what that comes
//! to with health and weights ([`plan`]).

pub mod balance;
mod choice;
pub mod chunked;
mod limits;
pub mod model;
mod monitor;
mod pass;
pub mod pattern;
mod pick;
pub mod plan;
pub mod query;
mod reported;
pub mod resolve;
pub mod shape;
