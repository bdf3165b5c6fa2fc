//! L4: files in, checked definitions and a complete list of problems out.

pub mod problem;
