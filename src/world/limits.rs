//! What clients may ask over UDP: the checked values of `[rate_limit]`. Who counts is `serve`.

use crate::policy::model::Prefix;

/// Rate limits per client prefix. Rates are per second and per prefix; 0 is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Equal replies with records.
    pub responses_per_second: u32,
    /// Empty replies for one name.
    pub nodata_per_second: u32,
    /// NXDOMAIN from one zone.
    pub nxdomains_per_second: u32,
    /// Referrals to one delegation.
    pub referrals_per_second: u32,
    /// Everything else, REFUSED among it.
    pub errors_per_second: u32,
    /// Queries of any kind, before they are looked at.
    pub queries_per_second: u32,
    /// Seconds of its rate that a prefix can be in debt, 1 to 3,600: how long it stays limited when it has stopped asking too much.
    pub window_s: u32,
    /// Every so many limited replies one is sent, empty and truncated; 0 for none, 1 for all.
    pub slip: u32,
    /// Bits of an IPv4 address that make one client, 1 to 32.
    pub v4_len: u8,
    /// Bits of an IPv6 address that make one client, 1 to 64.
    pub v6_len: u8,
    /// Never limited.
    pub exempt: Vec<Prefix>,
    /// Buckets in all, shared out to the threads.
    pub table_size: usize,
    /// Count and log, but answer everything.
    pub log_only: bool,
    /// Under overload, let the kernel drop what comes from prefixes that are far over `queries_per_second`.
    pub kernel_filter: bool,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit {
            responses_per_second: 0,
            nodata_per_second: 0,
            nxdomains_per_second: 0,
            referrals_per_second: 0,
            errors_per_second: 0,
            queries_per_second: 0,
            window_s: 1,
            slip: 2,
            v4_len: 24,
            v6_len: 56,
            exempt: Vec::new(),
            table_size: 1 << 18,
            log_only: false,
            kernel_filter: true,
        }
    }
}
