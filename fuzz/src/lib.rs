//! What stands between libFuzzer and the bodies: the way to the seeds, and a clock on every input.

pub mod bodies;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bodies::{Target, target};

/// Work on one input beyond this is a finding. Inputs are a few KB, and this build is several times slower than a release build.
const SLOW: Duration = Duration::from_millis(150);

/// The target of this name. With `MERIDIAN_FUZZ_SEEDS=FOLDER` it writes its seeds there, one file each, and its words beside them, and ends.
pub fn start(name: &str) -> &'static Target {
    let target = target(name).expect("a target of ours");
    if let Some(folder) = std::env::var_os("MERIDIAN_FUZZ_SEEDS") {
        let folder = Path::new(&folder);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        for (number, seed) in (target.seeds)(root).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:04}")), seed).expect("a seed is written");
        }
        let mut words = std::fs::File::create(folder.with_extension("dict")).expect("a dictionary");
        for word in target.words {
            let word = word.replace('\\', "\\\\").replace("\\\\x", "\\x").replace('"', "\\\"").replace('\n', "\\x0a");
            writeln!(words, "\"{word}\"").expect("a word is written");
        }
        println!("{}", target.max_len);
        std::process::exit(0);
    }
    target
}

/// Runs the body on one input, and panics when it is slow: by the clock at first, which costs nothing; then by this thread's own time, because
/// on a busy machine any input takes long.
pub fn run(target: &Target, data: &[u8]) {
    let start = Instant::now();
    (target.body)(data);
    if start.elapsed() > SLOW
        && let Some(before) = thread_time()
    {
        (target.body)(data);
        let spent = thread_time().map_or(Duration::ZERO, |after| after - before);
        assert!(spent <= SLOW, "slow: {} ms for {} octets", spent.as_millis(), data.len());
    }
}

/// How long this thread has been on a processor (Linux, `proc(5)`); `None` where that cannot be told.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
