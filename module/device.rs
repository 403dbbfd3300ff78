// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/nettap`, whose opens are sessions. It only leads to those who know what to do.

use kernel::prelude::*;
use kernel::sync::Arc;

use crate::control;
use crate::registry::Registry;
use crate::session::Session;
use crate::sys::chardev::FileKind;
use crate::sys::chardev::FileOps;
use crate::sys::chardev::PollRequest;
use crate::sys::chardev::ReadRequest;
use crate::sys::chardev::Request;
use crate::sys::chardev::Vma;

/// Opens of `/dev/nettap`.
pub(crate) static SESSIONS: FileKind<Session> = FileKind::new();

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

    fn read(&self, request: &ReadRequest) -> Result<usize> {
        self.listener().ok_or(EINVAL)?.read(request)
    }

    fn poll(&self, request: &PollRequest<'_>) -> u32 {
        match self.listener() {
            Some(listener) => listener.poll(request),
            None => self.serving.poll(request, None),
        }
    }
}
