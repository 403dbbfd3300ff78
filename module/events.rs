// SPDX-License-Identifier: GPL-2.0-only

//! Who is told what happens: listeners, a bounded queue for each, and the kernel's log.
//!
//! An event is told where it happens, in any context, and costs one load while nobody listens. A
//! listener that does not read loses the oldest of its events, never the newest, and is told how many:
//! nobody waits for a listener.
//!
//! Lock order: the list, then a queue; both inside every other lock of the module.

use core::time::Duration;

use crate::sys::atomic::Atomic;
use crate::sys::atomic::Relaxed;
use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::alloc::KVVec;
use kernel::alloc::KVec;
use kernel::new_spinlock;
use kernel::prelude::*;
use kernel::str::BStr;
use kernel::sync::Arc;
use kernel::sync::SpinLock;

use crate::sys::chardev::PollRequest;
use crate::sys::chardev::ReadRequest;
use crate::sys::sleepers::Sleepers;
use crate::sys::sleepers::Woken;
use crate::sys::sleepers::POLLIN;
use crate::sys::sleepers::POLLRDNORM;
use crate::sys::task::BottomHalvesOff;
use crate::sys::time::may_log;
use crate::sys::time::realtime_ns;
use crate::sys::time::Later;
use crate::uapi::event::Event;
use crate::uapi::event::EventKind;
use crate::uapi::event::EVENT_QUEUE;
use crate::uapi::event::LISTENERS_MAX;

/// What is told at most this often is told when so much time has passed, whatever happens until then.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// The events of one listener, oldest first.
struct Queue {
    /// As many places as the queue has.
    events: KVVec<Event>,
    first: usize,
    len: usize,
    /// Of the last event that came.
    number: u64,
    /// Went since the last one that was taken.
    lost: u64,
}

impl Queue {
    fn push(&mut self, event: &Event) {
        self.number = self.number.wrapping_add(1);
        if self.len == EVENT_QUEUE as usize {
            self.first = self.first.wrapping_add(1) % EVENT_QUEUE as usize;
            self.len = self.len.wrapping_sub(1);
            self.lost = self.lost.wrapping_add(1);
        }
        let at = self.first.wrapping_add(self.len) % EVENT_QUEUE as usize;
        if let Some(place) = self.events.get_mut(at) {
            *place = *event;
            place.number = self.number;
            self.len = self.len.wrapping_add(1);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        if self.len == 0 {
            return None;
        }
        let mut event = *self.events.get(self.first)?;
        self.first = self.first.wrapping_add(1) % EVENT_QUEUE as usize;
        self.len = self.len.wrapping_sub(1);
        event.lost = core::mem::take(&mut self.lost);
        Some(event)
    }
}

/// A session that listens.
#[pin_data]
pub(crate) struct Listener {
    kinds: u64,
    /// Size of a record as its program sees it.
    record_size: usize,
    sleepers: Sleepers,
    #[pin]
    queue: SpinLock<Queue>,
}

impl Listener {
    fn with<R>(&self, work: impl FnOnce(&mut Queue) -> R) -> R {
        let _bh = BottomHalvesOff::new();
        // A name, so that the guard goes before bottom halves come back: they take this lock.
        let mut queue = self.queue.lock();
        work(&mut queue)
    }

    fn is_ready(&self) -> bool {
        self.with(|queue| queue.len != 0)
    }

    /// `read`: whole records, one at least.
    pub(crate) fn read(&self, to: &ReadRequest) -> Result<usize> {
        let size = self.record_size;
        // No more than a queue's worth, should events come as fast as they are taken.
        let room = to
            .room()
            .checked_div(size)
            .unwrap_or(0)
            .min(EVENT_QUEUE as usize);
        if room == 0 {
            return Err(EINVAL);
        }
        loop {
            let mut written = 0usize;
            for _ in 0..room {
                let Some(event) = self.with(Queue::pop) else {
                    break;
                };
                if let Err(e) = to.write(written, &event, size) {
                    self.with(|queue| {
                        let lost = event.lost.wrapping_add(1);
                        queue.lost = queue.lost.wrapping_add(lost);
                    });
                    return if written == 0 { Err(e) } else { Ok(written) };
                }
                written = written.wrapping_add(size);
            }
            if written > 0 {
                return Ok(written);
            }
            if to.is_nonblocking() {
                return Err(EAGAIN);
            }
            if self.sleepers.wait(None, || self.is_ready()) == Woken::Interrupted {
                return Err(ERESTARTSYS);
            }
        }
    }

    /// `poll`: whether there is an event.
    pub(crate) fn poll(&self, request: &PollRequest<'_>) -> u32 {
        self.sleepers.poll_wait(request);
        if self.is_ready() {
            POLLIN | POLLRDNORM
        } else {
            0
        }
    }
}

/// Who listens, and to what.
#[pin_data]
pub(crate) struct Events {
    /// Kinds that somebody listens to, a bit each.
    wanted: Atomic<u64>,
    /// What was held back for a while, and is to be told by then.
    pub(crate) later: Later,
    #[pin]
    listeners: SpinLock<KVec<Arc<Listener>>>,
}

impl Events {
    /// Nobody listens.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let listeners = KVec::with_capacity(LISTENERS_MAX as usize, GFP_KERNEL)?;
        let later = Later::new()?;
        Arc::pin_init(
            pin_init!(Self {
                wanted: Atomic::new(0),
                later,
                listeners <- new_spinlock!(listeners, "nettap_listeners"),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes a listener to `kinds`; 0 for all. `EINVAL`: no such kind. `ENOSPC`: there are too many.
    pub(crate) fn listen(&self, kinds: u64, record_size: usize) -> Result<Arc<Listener>> {
        let known = EventKind::ALL.iter().fold(0, |all, kind| all | kind.bit());
        if kinds & !known != 0 {
            return Err(EINVAL);
        }
        let queue = Queue {
            events: KVVec::from_elem(Event::default(), EVENT_QUEUE as usize, GFP_KERNEL_ACCOUNT)?,
            first: 0,
            len: 0,
            number: 0,
            lost: 0,
        };
        let sleepers = Sleepers::new()?;
        let listener = Arc::pin_init(
            pin_init!(Listener {
                kinds: if kinds == 0 { known } else { kinds },
                record_size,
                sleepers,
                queue <- new_spinlock!(queue, "nettap_queue"),
            }),
            GFP_KERNEL,
        )?;
        let another = Arc::clone(&listener);
        self.change(|listeners| listeners.push_within_capacity(another).map_err(|_| ENOSPC))?;
        Ok(listener)
    }

    /// Ends it: its queue goes with the last reference to it.
    pub(crate) fn leave(&self, listener: &Arc<Listener>) {
        let gone = self.change(|listeners| {
            let at = listeners.iter().position(|l| Arc::ptr_eq(l, listener))?;
            listeners.remove(at).ok()
        });
        // Here, not under the lock: freeing the queue may sleep.
        drop(gone);
    }

    fn change<R>(&self, change: impl FnOnce(&mut KVec<Arc<Listener>>) -> R) -> R {
        let _bh = BottomHalvesOff::new();
        let mut listeners = self.listeners.lock();
        let changed = change(&mut listeners);
        let wanted = listeners
            .iter()
            .fold(0, |all, listener| all | listener.kinds);
        self.wanted.store(wanted, Relaxed);
        changed
    }

    /// Whether anybody listens to this kind.
    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.wanted.load(Relaxed) & kind.bit() != 0
    }

    /// Tells an event, whose fields `describe` fills in, to whoever wants it. From any context but a
    /// hard interrupt; nobody listening, nothing is described.
    pub(crate) fn tell(&self, kind: EventKind, describe: impl FnOnce(&mut Event)) {
        let logged = is_logged(kind);
        if !logged && !self.wants(kind) {
            return;
        }
        let mut event = Event {
            kind: kind.raw(),
            time: realtime_ns(),
            ..Event::default()
        };
        describe(&mut event);
        if logged {
            log(kind, &event);
        }
        let _bh = BottomHalvesOff::new();
        let listeners = self.listeners.lock();
        for listener in listeners.iter().filter(|l| l.kinds & kind.bit() != 0) {
            listener.queue.lock().push(&event);
            listener.sleepers.wake(POLLIN | POLLRDNORM);
        }
    }
}

/// What an administrator must know without having asked for it.
fn is_logged(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::FailOpen | EventKind::FailOpenEnd | EventKind::InterfaceGone
    )
}

fn log(kind: EventKind, event: &Event) {
    // An interface may go; packets that went with it are news.
    if kind == EventKind::InterfaceGone && event.dropped == 0 || !may_log() {
        return;
    }
    let (ifname, comm) = (text(&event.ifname), text(&event.comm));
    let (tap, pid) = (event.tap, event.pid);
    match kind {
        EventKind::FailOpen => pr_warn!(
            "{ifname}: tap {tap} of {comm} ({pid}) lets packets pass: its program is stopped or too slow\n"
        ),
        EventKind::FailOpenEnd => pr_warn!(
            "{ifname}: tap {tap} of {comm} ({pid}) takes packets again, {} have passed\n",
            event.passed
        ),
        _ => pr_warn!(
            "{ifname}: the interface is gone, and {} packets that programs held of it\n",
            event.dropped
        ),
    }
}

/// The part of a name before its end.
fn text(name: &[u8]) -> &BStr {
    let name = name.split(|&byte| byte == 0).next();
    BStr::from_bytes(name.unwrap_or_default())
}
