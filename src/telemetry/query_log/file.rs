//! The file of the query log: opened, written, rotated. What goes wrong is said once, tried again, and counted.
//!
//! ```text
//!            open ── ok ──▶ OPEN ── full, or too old ──▶ rotate: FILE.1 → FILE.2 …, FILE → FILE.1 ──▶ open
//!             ▲              │  └── moved away by somebody else ──▶ open
//!             │              └ cannot be written, or renamed
//!             └── after RETRY ◀── FAILED: what comes is lost, and counted
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::dnstap;
use crate::world::{LogFormat, QueryLog};

/// Permission bits of a new file: the group may read it, others nothing. Who has less in mind sets the umask.
const MODE: u32 = 0o640;

/// Octets that are gathered before they are written.
const GATHER_LEN: usize = 64 << 10;

/// After a failure, and between looks whether the file is still where it was.
const RETRY: Duration = Duration::from_secs(1);

/// What became of logged replies. Written by the writing thread alone.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) octets: AtomicU64,
    /// Records that the file did not take.
    pub(super) lost: AtomicU64,
    pub(super) rotations: AtomicU64,
    /// Failed tries to open, write or rotate.
    pub(super) errors: AtomicU64,
}

/// The file, and what is on its way there.
#[derive(Debug)]
pub(super) struct LogFile {
    settings: Arc<QueryLog>,
    open: Option<Open>,
    /// Whole records, and how many.
    pending: Vec<u8>,
    records: u64,
    /// Since when nothing can be written, and how many were lost until then.
    failing: Option<Failing>,
    look_at: Instant,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Octets of it that are whole.
    len: u64,
    /// Octets before the first record.
    head: u64,
    since: Instant,
    /// Device and inode.
    identity: (u64, u64),
}

#[derive(Debug)]
struct Failing {
    lost_before: u64,
    retry_at: Instant,
}

impl LogFile {
    /// Opens nothing yet: that is done with the first record, or the first time that it is tended.
    pub(super) fn new(settings: Arc<QueryLog>, counts: Arc<Counts>) -> LogFile {
        LogFile { settings, open: None, pending: Vec::new(), records: 0, failing: None, look_at: Instant::now(), counts }
    }

    /// Takes over settings that change nothing of the file itself; false when another file is to be opened.
    pub(super) fn adopt(&mut self, settings: &Arc<QueryLog>) -> bool {
        let is_same = self.settings.file == settings.file && self.settings.format == settings.format;
        if is_same {
            self.settings = settings.clone();
        }
        is_same
    }

    /// Appends a record, which `write` does; when that says false, there is none after all, and it is lost.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let begun = self.pending.len();
        if !write(&mut self.pending) {
            self.pending.truncate(begun);
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        let stands = self.open.as_ref().map_or(0, |open| open.len - open.head) + begun as u64;
        let head = self.open.as_ref().map_or(0, |open| open.head);
        if stands > 0 && head + stands + (self.pending.len() - begun) as u64 + self.tail_len() > self.settings.max_len {
            let record = self.pending.split_off(begun);
            self.flush();
            self.rotate_now();
            self.pending.extend_from_slice(&record);
        }
        self.records += 1;
        if self.pending.len() >= GATHER_LEN {
            self.flush();
        }
    }

    fn tail_len(&self) -> u64 {
        if self.settings.format == LogFormat::Dnstap { dnstap::STOP.len() as u64 } else { 0 }
    }

    /// Writes what has been gathered; what cannot be written is lost.
    pub(super) fn flush(&mut self) {
        if self.records == 0 {
            return;
        }
        if self.open.is_none() && self.failing.as_ref().is_none_or(|failing| failing.retry_at <= Instant::now()) {
            self.reopen();
        }
        let result = match &mut self.open {
            None => Err(None),
            Some(open) => open.write(&self.pending).map_err(Some),
        };
        match result {
            Ok(()) => {
                self.counts.written.fetch_add(self.records, Relaxed);
                self.counts.octets.fetch_add(self.pending.len() as u64, Relaxed);
                self.recovered();
            }
            Err(error) => {
                if let Some(error) = error {
                    self.failed("cannot be written", &error);
                }
                self.counts.lost.fetch_add(self.records, Relaxed);
            }
        }
        self.pending.clear();
        self.records = 0;
    }

    /// Now and then: opens it again after a failure, or when somebody has moved it away; rotates it when it is too old.
    pub(super) fn tend(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + RETRY;
        if self.open.is_none() {
            self.reopen();
        } else if self.is_elsewhere() {
            self.finish();
            self.reopen();
        }
        let too_old = |open: &Open| self.settings.max_age.is_some_and(|age| now.saturating_duration_since(open.since) >= age) && open.len > open.head;
        if self.open.as_ref().is_some_and(too_old) {
            self.rotate_now();
        }
    }

    /// Writes what is left and ends the file.
    pub(super) fn finish(&mut self) {
        self.flush();
        let tail: &[u8] = if self.settings.format == LogFormat::Dnstap { dnstap::STOP } else { b"" };
        if let Some(mut open) = self.open.take()
            && let Err(error) = open.write(tail)
        {
            self.failed("cannot be ended", &error);
        }
    }

    fn rotate_now(&mut self) {
        self.finish();
        if self.failing.is_some() {
            return;
        }
        match rotate(&self.settings.file, self.settings.keep) {
            Ok(()) => {
                self.counts.rotations.fetch_add(1, Relaxed);
                self.reopen();
            }
            Err(error) => self.failed("cannot be rotated", &error),
        }
    }

    fn reopen(&mut self) {
        match open(&self.settings) {
            Ok((open, rotated)) => {
                self.counts.rotations.fetch_add(u64::from(rotated), Relaxed);
                self.open = Some(open);
            }
            Err(error) => self.failed("cannot be opened", &error),
        }
    }

    fn is_elsewhere(&self) -> bool {
        let now = fs::metadata(&self.settings.file).map(|found| (found.dev(), found.ino())).ok();
        self.open.as_ref().is_some_and(|open| now != Some(open.identity))
    }

    fn failed(&mut self, what: &str, error: &io::Error) {
        self.open = None;
        self.counts.errors.fetch_add(1, Relaxed);
        let lost_before = match self.failing.take() {
            Some(failing) => failing.lost_before,
            None => {
                let file = self.settings.file.display();
                tracing::error!(
                    "query log {file} {what}: {error}; queries are answered as before, what is not logged is counted, tried again every second"
                );
                self.counts.lost.load(Relaxed)
            }
        };
        self.failing = Some(Failing { lost_before, retry_at: Instant::now() + RETRY });
    }

    fn recovered(&mut self) {
        if let Some(failing) = self.failing.take() {
            let lost = self.counts.lost.load(Relaxed) - failing.lost_before;
            tracing::warn!("query log {} is written again; {lost} records were lost", self.settings.file.display());
        }
    }
}

impl Open {
    /// Writes all of it or, as far as the file can be mended, nothing.
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self.file.write_all(octets) {
            Ok(()) => {
                self.len += octets.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a record would make the rest of the file unreadable.
                let _ = self.file.set_len(self.len);
                Err(error)
            }
        }
    }
}

/// Opens the file for appending; true when one that was there had to be rotated for it.
fn open(settings: &QueryLog) -> io::Result<(Open, bool)> {
    let path = &settings.file;
    let rotated = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        Ok(found) => match written_before(path, found.len())? {
            None => false,
            // A file that was ended takes nothing more, and one that was not may end in half a record.
            Some(LogFormat::Json) if settings.format == LogFormat::Json && found.len() < settings.max_len && found.len() > 0 => false,
            Some(_) => {
                rotate(path, settings.keep)?;
                true
            }
        },
    };
    let file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    let found = file.metadata()?;
    if found.mode() & 0o777 & !MODE != 0 {
        file.set_permissions(Permissions::from_mode(found.mode() & MODE))?;
    }
    let mut open = Open { len: found.len(), head: 0, since: Instant::now(), identity: (found.dev(), found.ino()), file };
    if open.len == 0 && settings.format == LogFormat::Dnstap {
        open.write(dnstap::START)?;
        open.head = open.len;
    }
    let mut last = [b'\n'];
    if open.len > 0 && settings.format == LogFormat::Json {
        open.file.read_exact_at(&mut last, open.len - 1)?;
    }
    if last != [b'\n'] {
        // The end of a run that was cut short.
        open.write(b"\n")?;
    }
    Ok((open, rotated))
}

/// Which format a file that is there is in, `None` for an empty one. One that is no query log is an error: it is somebody's.
fn written_before(path: &Path, len: u64) -> io::Result<Option<LogFormat>> {
    let mut head = Vec::new();
    File::open(path)?.take(dnstap::START.len() as u64).read_to_end(&mut head)?;
    match head.first() {
        None => Ok(None),
        Some(b'{') => Ok(Some(LogFormat::Json)),
        // The beginning alone is what is left where the disk was full.
        Some(_) if dnstap::START.starts_with(&head) => Ok(Some(LogFormat::Dnstap)),
        Some(_) => Err(io::Error::other(format!("it holds {len} octets of something that is no query log"))),
    }
}

/// Makes room at `path`: every full file moves on by one number, the last ones are removed. Each step is one rename.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let absent_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // Of a time when more were kept.
    let mut beyond = keep.saturating_add(1);
    while fs::remove_file(numbered(path, beyond)).is_ok() {
        beyond = beyond.saturating_add(1);
    }
    if keep == 0 {
        return absent_is_fine(fs::remove_file(path));
    }
    for number in (1..keep).rev() {
        absent_is_fine(fs::rename(numbered(path, number), numbered(path, number + 1)))?;
    }
    absent_is_fine(fs::rename(path, numbered(path, 1)))
}

/// `FILE.NUMBER`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(file: PathBuf, format: LogFormat) -> QueryLog {
        QueryLog { file, format, sample: 1, max_len: 1000, max_age: None, keep: 3, client_prefix: None }
    }

    fn start(settings: &QueryLog) -> (LogFile, Arc<Counts>) {
        let counts = Arc::<Counts>::default();
        let mut file = LogFile::new(Arc::new(settings.clone()), counts.clone());
        file.tend(Instant::now());
        (file, counts)
    }

    /// Octets of the file and its numbers, as far as they are there.
    fn texts(path: &Path) -> Vec<String> {
        let one = |path: PathBuf| fs::read(path).map_or("-".into(), |octets| String::from_utf8_lossy(&octets).into_owned());
        [path.to_path_buf()].into_iter().chain((1..5).map(|number| numbered(path, number))).map(one).collect()
    }

    fn record(file: &mut LogFile, text: &str) {
        file.append(|out| {
            out.extend_from_slice(text.as_bytes());
            true
        });
        file.flush();
    }

    /// As if the time had come to look.
    fn tend(file: &mut LogFile) {
        file.tend(Instant::now() + 2 * RETRY);
    }

    #[test]
    fn files_that_are_full_move_on_and_the_last_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let line = |n: u8| format!("{{{}}}\n", char::from(b'a' + n).to_string().repeat(397));
        let (mut file, counts) = start(&settings(path.clone(), LogFormat::Json));
        (0..11).for_each(|n| record(&mut file, &line(n)));
        // Two lines of 400 octets to a file; five files, of which the last and three before are there.
        let pair = |n: u8| line(n) + &line(n + 1);
        assert_eq!(texts(&path), [line(10), pair(8), pair(6), pair(4), "-".into()]);
        assert_eq!((counts.rotations.load(Relaxed), counts.written.load(Relaxed), counts.lost.load(Relaxed)), (5, 11, 0));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !MODE, 0);
        // Fewer are kept from now on.
        assert!(file.adopt(&Arc::new(QueryLog { keep: 1, ..settings(path.clone(), LogFormat::Json) })));
        (11..13).for_each(|n| record(&mut file, &line(n)));
        assert_eq!(texts(&path), [line(12), pair(10), "-".into(), "-".into(), "-".into()]);
    }

    #[test]
    fn dnstap_files_are_whole_and_none_is_longer_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let (mut file, counts) = start(&settings(path.clone(), LogFormat::Dnstap));
        for number in 0..30 {
            file.append(|out| {
                out.extend_from_slice(&[7; 97]);
                true
            });
            // One that came to nothing leaves nothing behind.
            file.append(|out| {
                out.extend_from_slice(&[8; 50]);
                number > 30
            });
        }
        assert_eq!(counts.lost.load(Relaxed), 30);
        file.finish();
        for path in [path.clone(), numbered(&path, 1), numbered(&path, 2), numbered(&path, 3)] {
            let octets = fs::read(&path).unwrap();
            assert!(octets.starts_with(dnstap::START) && octets.ends_with(dnstap::STOP) && octets.len() <= 1000, "{path:?}: {}", octets.len());
            assert_eq!((octets.len() - dnstap::START.len() - dnstap::STOP.len()) % 97, 0);
        }
        // The next run leaves them alone.
        let before = texts(&path);
        let (_file, counts) = start(&settings(path.clone(), LogFormat::Dnstap));
        assert_eq!((&texts(&path)[1], counts.rotations.load(Relaxed)), (&before[0], 1));
    }

    #[test]
    fn a_json_file_goes_on_after_a_restart_even_behind_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        fs::write(&path, "{1}\n{2").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let (mut file, _) = start(&settings(path.clone(), LogFormat::Json));
        record(&mut file, "{3}\n");
        assert_eq!(texts(&path)[0], "{1}\n{2\n{3}\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn one_that_was_moved_away_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("q"), dir.path().join("away"));
        let (mut file, counts) = start(&settings(path.clone(), LogFormat::Dnstap));
        record(&mut file, "one");
        fs::rename(&path, &away).unwrap();
        record(&mut file, "two");
        tend(&mut file);
        record(&mut file, "three");
        file.finish();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()[dnstap::START.len()..]).into_owned();
        let stop = String::from_utf8_lossy(dnstap::STOP);
        assert_eq!((text(&away), text(&path)), (format!("onetwo{stop}"), format!("three{stop}")));
        assert_eq!(counts.errors.load(Relaxed), 0);
    }

    #[test]
    fn a_file_that_is_too_old_is_rotated_unless_nothing_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        let (mut file, counts) = start(&QueryLog { max_age: Some(RETRY), ..settings(path.clone(), LogFormat::Dnstap) });
        tend(&mut file);
        assert_eq!(counts.rotations.load(Relaxed), 0);
        record(&mut file, "one");
        file.tend(Instant::now() + 10 * RETRY);
        assert_eq!((counts.rotations.load(Relaxed), texts(&path)[1].contains("one")), (1, true));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder/q");
        let (mut file, counts) = start(&settings(path.clone(), LogFormat::Json));
        record(&mut file, "{1}\n");
        record(&mut file, "{2}\n");
        assert_eq!((counts.lost.load(Relaxed), counts.written.load(Relaxed)), (2, 0));
        fs::create_dir(dir.path().join("folder")).unwrap();
        tend(&mut file);
        record(&mut file, "{3}\n");
        assert_eq!((counts.lost.load(Relaxed), counts.written.load(Relaxed), texts(&path)[0].as_str()), (2, 1, "{3}\n"));
        assert!(file.failing.is_none() && counts.errors.load(Relaxed) >= 1);
    }

    #[test]
    fn nobodys_file_is_taken_for_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        for format in [LogFormat::Json, LogFormat::Dnstap] {
            fs::write(&path, "root:x:0:0:\n").unwrap();
            let (mut file, counts) = start(&settings(path.clone(), format));
            record(&mut file, "{1}\n");
            assert_eq!((texts(&path)[0].as_str(), counts.lost.load(Relaxed)), ("root:x:0:0:\n", 1));
            assert_eq!(texts(&path)[1], "-");
        }
        // A folder, a device or a pipe is none either; a pipe that nobody reads would hold up its writer.
        let (_, counts) = start(&settings(dir.path().to_path_buf(), LogFormat::Json));
        let (_, device) = start(&settings("/dev/null".into(), LogFormat::Json));
        assert_eq!((counts.errors.load(Relaxed), device.errors.load(Relaxed)), (1, 1));
    }

    #[test]
    fn a_log_in_the_other_format_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q");
        record(&mut start(&settings(path.clone(), LogFormat::Json)).0, "{1}\n");
        record(&mut start(&settings(path.clone(), LogFormat::Dnstap)).0, "two");
        record(&mut start(&settings(path.clone(), LogFormat::Json)).0, "{3}\n");
        assert_eq!((texts(&path)[0].as_str(), texts(&path)[2].as_str()), ("{3}\n", "{1}\n"));
        assert!(texts(&path)[1].contains("two"));
    }
}
