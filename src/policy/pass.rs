//! The passes in which a plan is looked for: each takes what the one before it did not.

/// The pass that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// 1: a pool that is not critical.
    Healthy,
    /// 2: a critical pool with something left.
    AnyUp,
    /// 3: what has failed, but may not be withdrawn.
    LastResort,
    /// 4: `all_down`.
    AllDown,
}

impl Pass {
    /// The words of `explain` and `_why.`.
    pub fn words(self) -> &'static str {
        match self {
            Pass::Healthy => "healthy",
            Pass::AnyUp => "any up",
            Pass::LastResort => "last resort",
            Pass::AllDown => "all down",
        }
    }
}
