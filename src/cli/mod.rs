//! L6: the command line.

pub mod geo;
