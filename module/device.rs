// SPDX-License-Identifier: GPL-2.0-only

//! The two kinds of file: `/dev/nettap`, whose opens are sessions, and tap descriptors. They only
//! lead to those who know what to do.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::control;
use crate::registry::Registry;
use crate::session::Session;
use crate::session::TapFile;
use crate::sys::chardev::FileKind;
use crate::sys::chardev::FileOps;
use crate::sys::chardev::PollRequest;
use crate::sys::chardev::Request;
use crate::sys::chardev::Vma;

/// Opens of `/dev/nettap`.
pub(crate) static SESSIONS: FileKind<Session> = FileKind::new();
/// Tap descriptors.
pub(crate) static TAPS: FileKind<TapFile> = FileKind::new();

impl FileOps for Session {
    type Context = Registry;

    fn open(registry: &Arc<Registry>) -> Result<Arc<Self>> {
        Session::open(registry)
    }

    fn release(this: Arc<Self>) {
        this.close();
    }

    fn ioctl(this: &Arc<Self>, request: &Request) -> Result {
        control::on_session(this, request)
    }

    fn mmap(&self, vma: &Vma<'_>) -> Result {
        Session::mmap(self, vma)
    }

    fn poll(&self, request: &PollRequest<'_>) -> u32 {
        self.serving.poll(request, None)
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
