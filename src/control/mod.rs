//! L4: the single writer. Events in, new world out.

pub mod api;
