//! L1: what a zone's steering means: the checked definitions ([`model`]), how they come to a decision, and how that is explained.

pub mod model;
