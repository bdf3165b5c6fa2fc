//! Who acts: made where a request is authenticated, carried by every change, kept with what it did.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::api::Refusal;
use crate::dns::Name;

/// Name of the program itself where it acts: an overlay expires, a ramp moves on.
pub const ITSELF: &str = "meridian";
/// Name of whoever sent SIGHUP.
pub const SIGNAL: &str = "signal";
/// In an id, where a zone's name stands: things of files without `[zone]`, which every zone may use.
pub(super) const LIBRARY: &str = "library";

/// What one may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Read,
    /// Move traffic: overlays, failback, reload.
    Operate,
    /// Give and take access; everything.
    Admin,
}

impl Role {
    /// As in JSON and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Whom they say they are (`Meridian-Actor`), else the name of the token. The owner of overlays.
    pub name: String,
    /// Id of the token; empty where none was needed.
    pub token: String,
    /// Of the token.
    pub role: Role,
    /// Zones that the token is confined to, without the final dot; `None` for everything.
    pub zones: Option<Vec<String>>,
    /// Where the request came from; IPv4 as itself. `None` for the program and for signals.
    pub from: Option<IpAddr>,
    /// Why, where the request has no place of its own for it.
    pub reason: Option<String>,
}

impl Who {
    /// The program itself.
    pub fn itself() -> Who {
        Who::unbound(ITSELF)
    }

    /// Whoever may send signals to the process may do anything.
    pub fn signal() -> Who {
        Who::unbound(SIGNAL)
    }

    fn unbound(name: &str) -> Who {
        Who { name: name.into(), token: String::new(), role: Role::Admin, zones: None, from: None, reason: None }
    }

    /// Whether it is within the scope to see `target`, an id as in [`Overlay::target`](super::api::Overlay::target) or a zone's name.
    pub fn covers(&self, target: &str) -> bool {
        let Some(zones) = &self.zones else { return true };
        let zone = target.split_once('/').map_or(target, |(zone, _)| zone);
        if zone == LIBRARY && target != zone {
            return false;
        }
        let name = |text: &str| Name::parse_absolute(text).ok().map(|name| name.to_lowercase());
        let wanted = name(zone);
        wanted.is_some() && zones.iter().any(|zone| name(zone) == wanted)
    }

    /// Whether it is within the scope to see how a DNS name is answered.
    pub fn covers_name(&self, name: &str) -> bool {
        let Some(zones) = &self.zones else { return true };
        let Ok(name) = Name::parse_absolute(name) else { return false };
        let name = name.to_lowercase();
        zones.iter().filter_map(|zone| Name::parse_absolute(zone).ok()).any(|zone| name.is_at_or_below(&zone.to_lowercase()))
    }

    /// Fails unless they may change `target`.
    ///
    /// ```text
    /// role       scope               target                         may
    /// read       any                 any                            no
    /// operate    none (all zones)    any                            yes
    /// operate    zones               zone/… of one of them          yes
    /// operate    zones               another zone, region:NAME,     no: it reaches beyond the scope
    ///                                library/…
    /// ```
    pub fn may_change(&self, target: &str) -> Result<(), Refusal> {
        self.needs(Role::Operate)?;
        if self.covers(target) {
            return Ok(());
        }
        let zones = self.zones.as_ref().map_or(String::new(), |zones| zones.join(", "));
        Err(Refusal::Forbidden { detail: format!("found {target}, which reaches beyond the zones of this token: {zones}") })
    }

    /// Access is given and taken by those who have all of it: a confined admin could make tokens that reach further than its own.
    pub fn may_give_access(&self) -> Result<(), Refusal> {
        self.needs(Role::Admin)?;
        match &self.zones {
            None => Ok(()),
            Some(_) => {
                Err(Refusal::Forbidden { detail: "this token is confined to zones: tokens are made, seen and revoked by those who are not".into() })
            }
        }
    }

    /// Fails unless they may change every zone at once.
    pub fn may_change_all(&self) -> Result<(), Refusal> {
        self.needs(Role::Operate)?;
        match &self.zones {
            None => Ok(()),
            Some(zones) => Err(Refusal::Forbidden { detail: format!("this token is confined to {}: name one of them", zones.join(", ")) }),
        }
    }

    /// Fails unless the role is at least `role`.
    pub fn needs(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        Err(Refusal::Forbidden { detail: format!("found a token of role {}, expected {}", self.role.word(), role.word()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_scopes_decide_what_may_be_changed() {
        let who =
            |role, zones: Option<&[&str]>| Who { role, zones: zones.map(|zones| zones.iter().map(ToString::to_string).collect()), ..Who::itself() };
        let all = ["example.com/fra", "example.com/fra/192.0.2.1", "region:eu", "library/sorry", "other.example/fra"];
        for target in all {
            assert!(who(Role::Operate, None).may_change(target).is_ok(), "{target}");
            assert!(who(Role::Admin, None).may_change(target).is_ok(), "{target}");
            assert!(who(Role::Read, None).may_change(target).is_err(), "{target}");
        }
        let confined = who(Role::Admin, Some(&["example.com", "0.example"]));
        for target in ["example.com/fra", "Example.COM./www/A", "example.com/policy:p/fra", "example.com.", "0.example/x"] {
            assert!(confined.may_change(target).is_ok(), "{target}");
        }
        for target in ["region:eu", "library/sorry", "library/sorry/192.0.2.1", "other.example/fra", "eu.example.com/fra", "com/x", "", "/", "x..y/z"]
        {
            assert!(confined.may_change(target).is_err(), "{target}");
        }
        for (name, seen) in [("www.Example.com", true), ("example.com.", true), ("example.org", false), ("badexample.com", false), ("a..b", false)] {
            assert_eq!(confined.covers_name(name), seen, "{name}");
        }
        assert!(confined.may_change_all().is_err() && Who::signal().may_change_all().is_ok());
        assert!(who(Role::Operate, Some(&["library"])).may_change("library/sorry").is_err(), "a zone of that name is not the library");
        assert!(who(Role::Operate, None).needs(Role::Admin).is_err());
    }
}
