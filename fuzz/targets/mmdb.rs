//! libFuzzer's way to the body `mmdb`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meridian_fuzz::bodies::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| meridian_fuzz::start("mmdb"));

fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| {
    meridian_fuzz::run(&TARGET, data);
});
