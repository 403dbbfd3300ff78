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

/// Tap descriptors.
pub(crate) static TAPS: FileKind<TapFile> = FileKind::new();

/// A tap as its descriptor has it: by name. The descriptor may be kept for long after the tap has ended,
/// and must not keep its rings and its region.
pub(crate) struct TapFile {
    pub(crate) registry: Arc<Registry>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) id: u32,
    pub(crate) place: usize,
}

impl TapFile {
    /// Ends the tap, if it has not ended yet.
    pub(crate) fn end(&self) {
        let rtnl = Rtnl::lock();
        let cause = Cause::of_closing();
        self.registry
            .end_tap_of(self.id, &self.serving, self.place, cause, &rtnl);
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
        self.serving.poll(request, Some((self.place, self.id)))
    }
}
