//! What of `meridian.toml` waits for a restart: told by every reload, and by the status until it is over, together with what a start would then trip over.

use super::load::Build;
use crate::config::{Problem, Settings, Severity};

/// What `check` says of settings beside what is wrong with the text: certificates, addresses, room for connections. Blocking.
pub type Look = fn(&Settings) -> Vec<Problem>;

/// What the process was started with, and what has changed since.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) look: Look,
    at_start: Option<Settings>,
    waiting: Vec<String>,
}

impl Restart {
    pub(super) fn new(look: Look) -> Restart {
        Restart { look, at_start: None, waiting: Vec::new() }
    }

    /// In sentences.
    pub(super) fn waiting(&self) -> Vec<String> {
        self.waiting.clone()
    }

    /// Takes the settings of a build; what is to be said of them.
    pub(super) fn take(&mut self, build: &Build) -> Vec<String> {
        let Some(settings) = &build.settings else { return Vec::new() };
        let Some(before) = &self.at_start else {
            self.at_start = Some(settings.clone());
            return Vec::new();
        };
        let Some(at_restart) = &build.at_restart else { return Vec::new() };
        self.waiting = changes(before, settings).into_iter().map(|change| change.waiting(at_restart, settings)).collect();
        self.foresee(build)
    }

    /// What [`Restart::take`] would say.
    pub(super) fn foresee(&self, build: &Build) -> Vec<String> {
        let (Some(settings), Some(before), Some(at_restart)) = (&build.settings, &self.at_start, &build.at_restart) else { return Vec::new() };
        changes(before, settings).into_iter().flat_map(|change| change.told(at_restart, settings)).collect()
    }
}

/// A part of the settings that only a restart changes.
struct Change {
    key: &'static str,
}

impl Change {
    /// What a start would say of it.
    fn problems<'p>(&self, at_restart: &'p [Problem]) -> impl Iterator<Item = &'p Problem> {
        at_restart.iter().filter(|problem| problem.subject.join(".").starts_with(self.key))
    }

    fn waiting(&self, at_restart: &[Problem], now: &Settings) -> String {
        let found: String = self.problems(at_restart).map(|problem| format!("; {}", problem.text)).collect();
        format!("{} has changed in {}, and the old value holds until a restart{found}", self.key, now.file.display())
    }

    fn told(&self, at_restart: &[Problem], now: &Settings) -> Vec<String> {
        let head = format!("{}: warning: {} changed: needs a restart; until then the old value holds", now.file.display(), self.key);
        let found = self.problems(at_restart).map(|problem| Problem { severity: Severity::Warning, ..problem.clone() }.to_string());
        [head].into_iter().chain(found).collect()
    }
}

fn changes(before: &Settings, now: &Settings) -> Vec<Change> {
    let changed = [
        ("server.listen", before.listen != now.listen),
        ("server.threads", before.threads != now.threads),
        ("server.busy_poll", before.busy_poll != now.busy_poll),
        ("server.tcp", before.tcp != now.tcp),
        ("server.tls", before.encrypted.tls != now.encrypted.tls),
        ("server.https", before.encrypted.https != now.encrypted.https),
        ("server.quic", before.encrypted.quic != now.encrypted.quic),
        ("admin", (before.admin_listen, before.admin_enabled, &before.admin) != (now.admin_listen, now.admin_enabled, &now.admin)),
        ("state.path", before.state_path != now.state_path),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| Change { key }).collect()
}
