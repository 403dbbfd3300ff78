// SPDX-License-Identifier: GPL-2.0-only

//! A tap's descriptor: closing it, by whatever end of its program, ends the tap.

use kernel::sync::Arc;

use crate::reclaim::Cause;
use crate::registry::Registry;
use crate::serve::Serving;
use crate::sys::chardev::FileKind;
use crate::sys::chardev::FileOps;
use crate::sys::chardev::PollRequest;
use crate::sys::netdev::Rtnl;
use crate::sys::task::Pinned;
use crate::tap::Tap;

/// Tap descriptors.
pub(crate) static TAPS: FileKind<TapFile> = FileKind::new();

/// A tap as its descriptor has it.
pub(crate) struct TapFile {
    pub(crate) registry: Arc<Registry>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) tap: Arc<Tap>,
    pub(crate) place: usize,
    /// What the tap's rings count against the program's limit of locked memory.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) pin: Pinned,
}

impl TapFile {
    /// Ends the tap, if it has not ended yet.
    pub(crate) fn end(&self) {
        let rtnl = Rtnl::lock();
        let id = self.tap.label.id;
        let _ = self.registry.end_tap(id, false, Cause::Untap, &rtnl);
    }
}

/// Nothing is mapped through a tap: a mapped file is not released by `close`, and closing a tap's
/// descriptor must end it.
impl FileOps for TapFile {
    type Context = ();

    fn release(this: Arc<Self>) {
        this.end();
    }

    fn poll(&self, request: &PollRequest<'_>) -> u32 {
        self.serving
            .poll(request, Some((self.place, self.tap.label.id)))
    }
}
