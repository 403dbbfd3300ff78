// SPDX-License-Identifier: GPL-2.0-only

//! The programs that come with NetTap, which are the library's examples as they stand: written once,
//! readable there by themselves, and run here as `tapctl run NAME`.
//!
//! Their arguments become part of this tool's command line, so that help, completions and the man
//! page know them.

#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example, included as it stands"
)]
#[path = "../../../userlib/examples/bridge.rs"]
pub(crate) mod bridge;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example, included as it stands"
)]
#[path = "../../../userlib/examples/delay.rs"]
pub(crate) mod delay;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example, included as it stands"
)]
#[path = "../../../userlib/examples/dump.rs"]
pub(crate) mod dump;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example, included as it stands"
)]
#[path = "../../../userlib/examples/echo.rs"]
pub(crate) mod echo;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "part of the examples, used by `tap add` as well"
)]
#[path = "../../../userlib/examples/common/expression.rs"]
pub(crate) mod expression;
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "an example, included as it stands"
)]
#[path = "../../../userlib/examples/nat.rs"]
pub(crate) mod nat;
