//! No programs on sockets: limits hold in the program alone, and each thread counts what reaches it.

use std::io;
use std::os::fd::AsFd;

use crate::sys::socket::Buffered;

/// One instruction of a filter, as Linux has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to pass over when the comparison holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// A number to do it with.
    pub k: u32,
}

/// `Unsupported`.
pub fn attach_filter(_: &impl AsFd, _: &[Instruction]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing was attached.
pub fn detach_filter(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}

/// `Unsupported`.
pub fn attach_steering(_: &impl AsFd, _: &[Instruction]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing was attached.
pub fn detach_steering(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}

/// `Unsupported`: how full a receive buffer is, is not known.
pub fn buffered(_: &impl AsFd) -> io::Result<Buffered> {
    Err(io::ErrorKind::Unsupported.into())
}
