//! What people and programs ask for: bodies of changes, as JSON.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::api::{Setting, is_false};
use super::things::Seen;

/// A request for an overlay.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOverlay {
    /// As the target of an overlay.
    pub target: String,
    /// What to set.
    pub set: Setting,
    /// Why; not empty, at most 500 characters.
    pub reason: String,
    /// A duration (`"2h"`, `"90s"`, `"1d"`), `"never"`, or absent for 24 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// When it begins: a duration from now, or unix seconds; at once if absent. An expiry counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<When>,
    /// A duration: a weight or a drain is reached step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// The weight that `over` begins with; the one in effect when it begins if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u16>,
    /// Go past safety rules; the reason says why.
    #[serde(default, skip_serializing_if = "is_false")]
    pub break_glass: bool,
    /// Change nothing; say what would happen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// Change nothing unless it is as whoever asks has seen it.
    #[serde(skip)]
    pub seen: Option<Seen>,
}

/// A moment, as requests say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum When {
    /// Unix seconds.
    At(u64),
    /// A duration from now.
    In(String),
}

impl<'d> Deserialize<'d> for When {
    fn deserialize<D: Deserializer<'d>>(value: D) -> Result<When, D::Error> {
        struct Moment;
        impl Visitor<'_> for Moment {
            type Value = When;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("unix seconds, or a duration from now such as \"2h\"")
            }

            fn visit_u64<E: serde::de::Error>(self, at: u64) -> Result<When, E> {
                Ok(When::At(at))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<When, E> {
                Ok(When::In(text.into()))
            }
        }
        value.deserialize_any(Moment)
    }
}

impl NewOverlay {
    /// A request that says nothing but what must be said.
    pub fn of(target: impl Into<String>, set: Setting, reason: impl Into<String>) -> NewOverlay {
        NewOverlay {
            target: target.into(),
            set,
            reason: reason.into(),
            expires: None,
            starts: None,
            over: None,
            from: None,
            break_glass: false,
            dry_run: false,
            seen: None,
        }
    }
}

/// A change of an overlay that is laid: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Amend {
    /// A duration from now, or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Change nothing unless it is as whoever asks has seen it.
    #[serde(skip)]
    pub seen: Option<Seen>,
}

/// A request to write an overlay into the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Promote {
    /// Write nothing; show what would be written.
    pub dry_run: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A request to take an overlay back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lift {
    /// Go past safety rules.
    pub break_glass: bool,
    /// Why; needed with `break_glass`, at most 500 characters.
    pub reason: Option<String>,
    /// A duration: what a drain or `down` withdrew comes back step by step.
    pub over: Option<String>,
    /// Change nothing; say what would happen.
    pub dry_run: bool,
    /// Change nothing unless it is as whoever asks has seen it.
    #[serde(skip)]
    pub seen: Option<Seen>,
}

/// A request to read the files again. An empty one means everything, zone by zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadBody {
    /// One zone; everything if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Take every zone or none.
    pub all: bool,
    /// Change nothing; say what would happen.
    pub dry_run: bool,
    /// Go past safety rules; the reason says why.
    pub break_glass: bool,
    /// Why; needed with `break_glass`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
