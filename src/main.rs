//! The `meridian` program.

fn main() -> std::process::ExitCode {
    let config = std::env::args().nth(2).unwrap_or_else(|| "meridian.toml".into()).into();
    match std::env::args().nth(1).as_deref() {
        Some("run") => meridian::app::run(&meridian::app::RunOptions { config, strict: false }),
        _ => meridian::app::check(&meridian::app::CheckOptions { config, zone: None, json: false }),
    }
}
