//! L1: what a zone's steering means: the checked definitions ([`model`]), who gets what in which order ([`resolve`]), and what that comes
//! to with health and weights ([`plan`]).

pub mod chunked;
pub mod model;
mod pick;
pub mod plan;
pub mod resolve;
pub mod shape;
