//! Asking before much is withdrawn at once.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use super::args::{ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::{finish, read};
use super::{REFUSED, complain, show, tell};
use crate::control::api::Consequences;

/// Asks the server what a change would do (`call` is the change as a dry run), and the operator if it is much. `Err` with the exit code when it must
/// not be made. What safety rules forbid is left to the server, so that the refusal is its own.
pub(super) async fn ask(config: &ConfigArg, connect: &Connect, call: Call<'_>, break_glass: bool) -> Result<(), ExitCode> {
    let reply = async {
        let reply = Client::new(config, connect)?.call(call).await?;
        // A reload tells more than its consequences, and where it has none it tells of none.
        let found = reply.get("consequences").or_else(|| reply.get("confirm").map(|_| &reply));
        found.map_or_else(|| Ok(Consequences::default()), read::<Consequences>)
    };
    let reply = reply.await;
    let consequences = match reply {
        Ok(consequences) => consequences,
        Err(error) => return Err(finish(connect.json, Err(error), |_| Ok(String::new()))),
    };
    if !consequences.confirm || (!consequences.broken.is_empty() && !break_glass) {
        return Ok(());
    }
    tell(&show::consequences(&consequences));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        complain("that is more than safety.confirm_above, and there is no terminal to ask on: say --yes; nothing was changed");
        return Err(REFUSED.into());
    }
    tell("Go on? [y/N] ");
    let mut answer = String::new();
    let _ = io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(finish(connect.json, Err(CallError::Declined), |_| Ok(String::new())))
}
