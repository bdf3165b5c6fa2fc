//! L4: the single writer. Events in, new world out.

pub mod api;
pub mod handle;

pub use handle::Handle;
