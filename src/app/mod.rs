//! L6: the program put together: what `run`, `check` and offline `explain` do.

mod advice;
mod explainer;
mod service;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::admin;
use crate::certs::Trouble;
use crate::config::{OsFiles, Problem, Settings, Severity, load_master_alone};
use crate::control::load::{self, Build, Previous};
use crate::control::protection;
use crate::dns::Name;
use crate::serve::{certificate_troubles, shares};
pub use explainer::explain_offline;
pub use service::{RunOptions, run, runtime};

/// What `meridian check` is asked to do.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// meridian.toml.
    pub config: PathBuf,
    /// One master file alone, and its origin.
    pub zone: Option<(PathBuf, String)>,
    /// Problems as JSON.
    pub json: bool,
}

/// Loads everything as `run` does, prints every problem, changes nothing. 0 when there is no error, 1 otherwise, 2 for a bad origin.
pub fn check(options: &CheckOptions) -> ExitCode {
    let mut advice = None;
    let (problems, summary) = match &options.zone {
        Some((file, origin)) => match Name::parse_absolute(origin) {
            Ok(origin) => {
                let (zone, problems) = load_master_alone(&OsFiles, file, &origin);
                let records = zone.tree.map_or(0, |tree| tree.record_count());
                (problems, format!("{} as {origin}: {records} records", file.display()))
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "meridian: --origin {origin:?}: {error}");
                return ExitCode::from(2);
            }
        },
        None => {
            let mut build = load::build(&OsFiles, &options.config, &Previous::default());
            build.problems.extend(build.settings.iter().flat_map(problems_of_start).collect::<Vec<_>>());
            build.problems.extend(advice::unplaced(&build));
            build.problems.extend(advice::missing_programs(&build));
            let summary = summary(&options.config, &build);
            advice = protection::advice_for(&build);
            (build.problems, summary)
        }
    };
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
    let mut text = String::new();
    if options.json {
        let mut json = as_json(&problems, errors, warnings);
        json["advice"] = advice.into_iter().collect();
        text = format!("{json}\n");
    } else {
        problems.iter().for_each(|problem| text.push_str(&format!("{problem}\n")));
        advice.into_iter().for_each(|advice| text.push_str(&format!("{}: advice: {advice}\n", options.config.display())));
        text.push_str(&format!("{summary}; {errors} errors, {warnings} warnings\n"));
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the first lines alone has gone.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "meridian: standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::from(u8::from(errors > 0)),
    }
}

/// What a start would say of these settings that nothing but a start goes by.
fn problems_of_start(settings: &Settings) -> Vec<Problem> {
    let closed = service::stays_closed(settings).map(|text| {
        let subject = vec!["admin".to_owned(), "listen".to_owned()];
        Problem { severity: Severity::Warning, file: settings.file.clone(), line: 0, subject, text }
    });
    let mut problems: Vec<Problem> = closed.into_iter().chain(advice::collisions(settings)).chain(lacking_files(settings)).collect();
    problems.extend(problems_of_certificates(settings));
    problems
}

/// What a process that is started here has no room for; the service may have other limits.
fn lacking_files(settings: &Settings) -> Vec<Problem> {
    let files = crate::sys::raise_open_file_limit();
    shares::lacking(&shares::shares(settings, service::threads(settings), files), settings, files)
}

/// Of all listeners. What keeps a listener closed when the program runs is an error; what clients will not believe is a warning, for it is shown to
/// them all the same.
fn problems_of_certificates(settings: &Settings) -> Vec<Problem> {
    let of_dns = certificate_troubles(&settings.encrypted);
    let of_admin = settings.admin.tls.as_ref().map(|files| ("admin.tls", admin::Tls::load(files).map(|tls| tls.troubles())));
    let problems = of_dns.into_iter().chain(of_admin).flat_map(|(listener, found)| {
        let (severity, troubles, more) = match found {
            Ok(troubles) => (Severity::Warning, troubles, ""),
            Err(trouble) => (Severity::Error, vec![trouble], "; it would stay closed"),
        };
        let subject: Vec<String> = listener.split('.').map(str::to_owned).collect();
        let line = |trouble: &Trouble| settings.lines.of_file(listener, &trouble.file);
        let problem = |trouble: Trouble| Problem {
            severity,
            file: settings.file.clone(),
            line: line(&trouble),
            subject: subject.clone(),
            text: format!("{trouble}{more}"),
        };
        troubles.into_iter().map(problem).collect::<Vec<_>>()
    });
    problems.collect()
}

fn summary(config: &Path, build: &Build) -> String {
    let records: usize = build.good.iter().map(|zone| zone.parts.tree.record_count()).sum();
    let steered: usize = build.good.iter().map(|zone| zone.parts.model.steers.len()).sum();
    format!("{}: {} zones good, {} bad, {records} records, {steered} steered names", config.display(), build.good.len(), build.bad.len())
}

fn as_json(problems: &[Problem], errors: usize, warnings: usize) -> serde_json::Value {
    let list: Vec<serde_json::Value> = problems
        .iter()
        .map(|problem| {
            let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
            serde_json::json!({
                "severity": severity, "file": problem.file, "line": problem.line, "subject": problem.subject, "text": problem.text,
            })
        })
        .collect();
    serde_json::json!({ "errors": errors, "warnings": warnings, "problems": list })
}
