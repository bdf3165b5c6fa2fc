//! What a zone or library file may have of this machine: which files it may name, and whether it may have programs run. Who writes zone files is trusted
//! with less than the server is: a token that it reads could be sent to anybody, a key of its own be used with anybody.
//!
//! ```text
//! the state file, the admin token, whatever else is below the state folder   never
//! below the zone folder, below what `[zones] may_read` names                 yes
//! what `[defaults.monitor]` of meridian.toml names                           yes
//! anything else                                                              no
//! ```
//! Links are followed before that is asked. It is asked at load, and again whenever a check takes up a file or a program: what was loaded under other
//! settings may serve on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::io_words;
use super::settings::Settings;

/// What lies beside the state file and opens everything.
const ADMIN_TOKEN: &str = "admin.token";

/// Why a file may not be read.
const OWN: &str = "it belongs to the server's own state, which no zone file may name";
const OUTSIDE: &str = "it is outside the zone folder, and zone files may name files there alone; expected a file below the zone folder, or below what \
                       [zones] may_read in meridian.toml names";

/// What of this machine zone files may have. Without settings: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// `[health] exec`.
    pub exec: bool,
    /// The zone folder.
    pub zones: Option<PathBuf>,
    /// Files and folders beside it.
    pub open: Vec<PathBuf>,
    /// The state file.
    pub state: Option<PathBuf>,
}

impl Settings {
    /// What zone files may have.
    pub fn reach(&self) -> Reach {
        let defaults = &self.defaults.monitor;
        let named = [&defaults.client_certificate, &defaults.client_key].into_iter().flatten().map(|file| file.value.clone());
        Reach {
            exec: self.health.exec,
            zones: Some(self.zones_dir.clone()),
            open: self.may_read.iter().cloned().chain(named).collect(),
            state: Some(self.state_path.clone()),
        }
    }
}

impl Reach {
    /// True when the same files may be named.
    pub(super) fn has_files_of(&self, other: &Reach) -> bool {
        (&self.zones, &self.open, &self.state) == (&other.zones, &other.open, &other.state)
    }

    /// Why a file may not be taken; `real` gives a path without links.
    pub(super) fn refuses(&self, path: &Path, real: impl Fn(&Path) -> PathBuf) -> Option<&'static str> {
        let file = real(path);
        if self.is_own(&file, &real) {
            return Some(OWN);
        }
        (!self.zones.iter().chain(&self.open).any(|place| file.starts_with(real(place)))).then_some(OUTSIDE)
    }

    /// The same where only what is the server's own may not.
    pub(super) fn refuses_own(&self, path: &Path, real: impl Fn(&Path) -> PathBuf) -> Option<&'static str> {
        self.is_own(&real(path), &real).then_some(OWN)
    }

    fn is_own(&self, file: &Path, real: &impl Fn(&Path) -> PathBuf) -> bool {
        let Some(state) = self.state.as_ref().map(|state| real(state)) else { return false };
        let (Some(folder), Some(name)) = (state.parent(), state.file_name()) else { return false };
        let Ok(below) = file.strip_prefix(folder) else { return false };
        let is_beside = below.as_os_str().as_encoded_bytes().starts_with(name.as_encoded_bytes()) || below == Path::new(ADMIN_TOKEN);
        // Where zones lie in the folder of the state, they are not its own for that.
        let zones = self.zones.iter().map(|zones| real(zones)).filter(|zones| zones.starts_with(folder));
        let open = self.open.iter().map(|place| real(place)).filter(|place| place.starts_with(folder) && place != folder);
        is_beside || !zones.chain(open).any(|place| file.starts_with(place))
    }

    /// Opens a file that a zone file names, if it may; it does not wait for the other end of a pipe. Blocks.
    fn take(&self, path: &Path) -> Result<File, String> {
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| io_words(&error))?;
        // Where what is open lies, not what the name leads to by now.
        let lies = opened_path(&file).unwrap_or_else(|| real(path));
        self.refuses(&lies, real).map_or(Ok(file), |why| Err(why.to_owned()))
    }

    /// What such a file holds, up to `most` octets and one. Blocks.
    pub fn read(&self, path: &Path, most: usize) -> Result<Vec<u8>, String> {
        let file = self.take(path)?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err("not a regular file".into());
        }
        let mut octets = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut octets).map_err(|error| io_words(&error))?;
        Ok(octets)
    }
}

/// Where a file lies that is open, as far as the system tells.
fn opened_path(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// The path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    without_links(path, |path| std::fs::canonicalize(path))
}

/// The same by `canonical`: a file that is not there lies where its folder does.
pub(super) fn without_links(path: &Path, canonical: impl Fn(&Path) -> io::Result<PathBuf>) -> PathBuf {
    let beside = || {
        let folder = path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        Some(canonical(folder).ok()?.join(path.file_name()?))
    };
    canonical(path).ok().or_else(beside).unwrap_or_else(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::super::files::lexical;
    use super::*;

    #[test]
    fn what_is_the_servers_own_is_nobodys() {
        let refuses = |state: &str, zones: &str, open: &[&str], file: &str| {
            let open = open.iter().map(PathBuf::from).collect();
            let reach = Reach { exec: false, zones: Some(zones.into()), open, state: Some(state.into()) };
            match reach.refuses(Path::new(file), lexical) {
                Some(OWN) => "own",
                Some(_) => "outside",
                None => "",
            }
        };
        for (state, zones, open, file, expected) in [
            ("/c/state/m.db", "/c/zones", &[][..], "/c/zones/token", ""),
            ("/c/state/m.db", "/c/zones", &[], "/c/zones/deep/token", ""),
            ("/c/state/m.db", "/c/zones", &[], "/c/zones/../state/admin.token", "own"),
            ("/c/state/m.db", "/c/zones", &[], "/c/state/anything", "own"),
            ("/c/state/m.db", "/c/zones", &[], "/c/zones2/token", "outside"),
            ("/c/state/m.db", "/c/zones", &[], "/etc/shadow", "outside"),
            ("/c/state/m.db", "/c/zones", &["/run/secrets", "/etc/m/token"], "/run/secrets/a", ""),
            ("/c/state/m.db", "/c/zones", &["/run/secrets", "/etc/m/token"], "/etc/m/token", ""),
            ("/c/state/m.db", "/c/zones", &["/run/secrets", "/etc/m/token"], "/etc/m/token2", "outside"),
            ("/c/state/m.db", "/c/zones", &["/c"], "/c/state/admin.token", "own"),
            ("/c/state/m.db", "/c/zones", &["/c/state", "/c/state/admin.token"], "/c/state/admin.token", "own"),
            // State and zones in one folder.
            ("/c/m.db", "/c/zones", &[], "/c/zones/token", ""),
            ("/c/m.db", "/c/zones", &[], "/c/admin.token", "own"),
            ("/c/m.db", "/c/zones", &["/c/secrets"], "/c/secrets/token", ""),
            ("/c/m.db", "/c/zones", &["/c"], "/c/meridian.toml", "own"),
            ("/c/m.db", "/c", &[], "/c/token", ""),
            ("/c/m.db", "/c", &[], "/c/admin.token", "own"),
            ("/c/m.db", "/c", &[], "/c/m.db-wal", "own"),
            ("/c/zones/state/m.db", "/c/zones", &[], "/c/zones/state/x", "own"),
            ("/c/zones/state/m.db", "/c/zones", &[], "/c/zones/state/admin.token", "own"),
        ] {
            assert_eq!(refuses(state, zones, open, file), expected, "{state} {zones} {open:?} {file}");
        }
        assert_eq!(Reach::default().refuses(Path::new("zones/a"), lexical), Some(OUTSIDE));
    }

    #[test]
    fn a_link_is_where_it_leads() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for folder in ["zones", "state", "else"] {
            std::fs::create_dir(at(folder)).expect("a folder");
        }
        for file in ["zones/own", "state/admin.token", "else/token"] {
            std::fs::write(at(file), file).expect("written");
        }
        for (to, link) in [("state/admin.token", "zones/stolen"), ("else/token", "zones/other"), ("zones/own", "else/inwards")] {
            std::os::unix::fs::symlink(at(to), at(link)).expect("linked");
        }
        let reach = Reach { exec: false, zones: Some(at("zones")), open: Vec::new(), state: Some(at("state/m.db")) };
        let read = |file: &str| reach.read(&at(file), 100).map(|octets| String::from_utf8(octets).expect("text"));
        assert_eq!(read("zones/own"), Ok("zones/own".into()));
        assert_eq!(read("else/inwards"), Ok("zones/own".into()));
        assert_eq!(read("zones/stolen"), Err(OWN.into()));
        assert_eq!(read("zones/other"), Err(OUTSIDE.into()));
        assert_eq!(read("zones/none"), Err("no such file or folder".into()));
    }
}
