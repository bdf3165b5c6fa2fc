//! What holds for all zones: server options from the settings, and the secrets of DNS cookies.
//!
//! ```text
//! server.cookies   server.cookie_secrets   the file      secrets
//! false            –                       –             none: cookies are off
//! true             not given               –             one of our own, made at the first need, for the life of the process
//! true             given                   good          those of the file, read again on every reload
//! true             given                   not usable    those before; at a start one of our own (an error, and degraded)
//! ```

use std::path::Path;

use super::load::Build;
use crate::config::{Files, Problem, Settings, Severity};
use crate::dns::cookie::{MAX_SECRETS, SECRET_LEN, Secrets};
use crate::world::ServerOptions;

/// Permission bits that let everybody on the machine read the secrets, or the group write them.
const TOO_OPEN: u32 = 0o037;

/// Which secrets the files ask for.
#[derive(Clone, Debug, Default)]
pub(super) enum Wanted {
    /// None.
    #[default]
    Off,
    /// Those of this process.
    Own,
    /// Those of a file.
    Shared(Secrets),
    /// Those of a file that cannot be used; why.
    Unusable(String),
}

/// The secrets in use.
#[derive(Debug, Default)]
pub(super) struct Jar {
    own: Option<Secrets>,
    current: Option<Secrets>,
}

impl Jar {
    /// Takes what the files ask for; returns what is wrong, in a sentence.
    pub(super) fn take(&mut self, wanted: Wanted) -> Option<String> {
        let mut trouble = None;
        self.current = match wanted {
            Wanted::Off => None,
            Wanted::Shared(secrets) => Some(secrets),
            Wanted::Own => self.own(),
            Wanted::Unusable(why) => {
                let instead = match self.current {
                    Some(_) => "those in use before stay",
                    None => "secrets of this process alone are in use, so servers that share theirs do not accept its cookies",
                };
                trouble = Some(format!("{why}; {instead}"));
                self.current.take().or_else(|| self.own())
            }
        };
        trouble
    }

    fn own(&mut self) -> Option<Secrets> {
        if self.own.is_none() {
            let mut secret = [0; SECRET_LEN];
            // Without randomness there are no cookies rather than ones that can be guessed.
            self.own = getrandom::fill(&mut secret).ok().and_then(|()| Secrets::new(&[secret]));
        }
        self.own.clone()
    }

    /// Options that hold for all zones.
    pub(super) fn options(&self, settings: &Settings) -> ServerOptions {
        let octets = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().into());
        let trust = settings.ecs_trust.clone();
        let trusts_all = trust.iter().filter(|prefix| prefix.len == 0).count() == 2;
        ServerOptions {
            nsid: octets(&settings.nsid),
            version: octets(&settings.version),
            cookies: self.current.clone(),
            ecs_trust: (!trusts_all).then_some(trust),
            rotate: settings.rotate,
            diagnostics: settings.diagnostics_allow.clone(),
            rate_limit: settings.rate_limit.clone(),
            query_log: settings.query_log.clone(),
        }
    }
}

/// Reads the secrets that the settings name. They are read here and nowhere else: other texts are kept for the next start, these are not.
pub(super) fn read_secrets(files: &dyn Files, settings: &Settings, build: &mut Build) -> Wanted {
    let Some(path) = settings.cookie_secrets.as_deref().filter(|_| settings.cookies) else {
        return if settings.cookies { Wanted::Own } else { Wanted::Off };
    };
    match read_file(files, path) {
        Ok(secrets) => Wanted::Shared(secrets),
        Err((line, text)) => {
            let sentence = format!("{}: cookie secrets: {text}", path.display());
            build.problems.push(Problem { severity: Severity::Error, file: path.to_path_buf(), line, subject: vec!["cookie secrets".into()], text });
            Wanted::Unusable(sentence)
        }
    }
}

fn read_file(files: &dyn Files, path: &Path) -> Result<Secrets, (u32, String)> {
    let octets = files.read(path).map_err(|error| (0, format!("cannot be read: {error}")))?;
    if let Some(mode) = files.mode(path).filter(|mode| mode & TOO_OPEN != 0) {
        return Err((0, format!("found mode {:04o}, expected no access for others and only reading for the group: 0600 or 0640", mode & 0o7777)));
    }
    parse(&String::from_utf8_lossy(&octets))
}

/// One secret a line; empty lines and those that start with `#` say nothing. What is wrong is told without showing it.
fn parse(text: &str) -> Result<Secrets, (u32, String)> {
    let mut all = Vec::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let Some(secret) = octets.and_then(|octets| <[u8; SECRET_LEN]>::try_from(octets).ok()) else {
            return Err((line, format!("found {} characters, expected {} hexadecimal digits", text.chars().count(), 2 * SECRET_LEN)));
        };
        if all.contains(&secret) {
            return Err((line, "found a secret that is there already".into()));
        }
        all.push(secret);
    }
    Secrets::new(&all).ok_or_else(|| (0, format!("found {} secrets, expected 1 to {MAX_SECRETS}", all.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_line_by_line() {
        let (a, b) = ("00112233445566778899aabbccddeeff", "FFEEDDCCBBAA99887766554433221100");
        let error = |line, text: &str| Err((line, text.to_string()));
        let both = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        let mut reversed = both;
        reversed.reverse();
        let lines = |count: u8| (0..count).map(|n| format!("{n:032x}\n")).collect::<String>();
        for (text, expected) in [
            (a.to_string(), Secrets::new(&[both]).ok_or((0, String::new()))),
            (format!("# active\n{a}\n\n  {b} \r\n# end"), Secrets::new(&[both, reversed]).ok_or((0, String::new()))),
            (String::new(), error(0, "found 0 secrets, expected 1 to 8")),
            (lines(9), error(0, "found 9 secrets, expected 1 to 8")),
            (format!("{a}\n{a}\n"), error(2, "found a secret that is there already")),
            (format!("{a}\n{}\n", &a[1..]), error(2, "found 31 characters, expected 32 hexadecimal digits")),
            (format!("{a}{b}"), error(1, "found 64 characters, expected 32 hexadecimal digits")),
            ("0x112233445566778899aabbccddeeff".into(), error(1, "found 32 characters, expected 32 hexadecimal digits")),
        ] {
            assert_eq!(parse(&text), expected, "{text:?}");
        }
        assert!(parse(&lines(8)).is_ok());
    }

    #[test]
    fn an_unusable_file_keeps_the_secrets_before() {
        let shared = Secrets::new(&[[7; SECRET_LEN]]).expect("one");
        let mut jar = Jar::default();
        assert_eq!((jar.take(Wanted::Shared(shared.clone())), &jar.current), (None, &Some(shared.clone())));
        assert_eq!((jar.take(Wanted::Unusable("why".into())), &jar.current), (Some("why; those in use before stay".into()), &Some(shared)));
        assert_eq!(jar.take(Wanted::Off), None);
        assert_eq!(jar.current, None);
        jar.take(Wanted::Unusable("why".into()));
        let own = jar.current.clone().expect("one of our own");
        jar.take(Wanted::Own);
        assert_eq!(jar.current, Some(own), "for the life of the process");
    }
}
