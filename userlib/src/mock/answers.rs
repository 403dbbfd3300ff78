// SPDX-License-Identifier: (GPL-2.0-only OR MIT)

//! What the mock answers to system calls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nettap_uapi::ioctl;
use nettap_uapi::lock::{owner_of, release_dead};
use nettap_uapi::mbuf::DATA_OFFSET;
use nettap_uapi::ring::{PrivateConsumer, PrivateProducer, Word};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use super::{detour, revert, Mock, State, Tap, TAPS};
use crate::error::{Error, Result};
use crate::sys::{Kernel, Ready};

/// The only session of the machine.
pub(crate) const SESSION: u32 = 7;
/// The thread that serves it while it is busy.
pub(crate) const SERVER: u32 = 77;

fn micros(timeout_us: u64) -> Option<Duration> {
    (timeout_us != 0).then(|| Duration::from_micros(timeout_us))
}

impl Kernel for Arc<Mock> {
    fn info(&self, arg: &mut ioctl::Info) -> Result<()> {
        if arg.abi_version > self.machine.abi_version {
            return Err(Error::request("info", "", Errno::EPROTO));
        }
        arg.abi_version = self.machine.abi_version;
        arg.features = nettap_uapi::FEATURES;
        arg.session = SESSION;
        Ok(())
    }

    fn map(&self, arg: &mut ioctl::Map) -> Result<()> {
        arg.mbuf_size = self.machine.mbuf_size;
        arg.mbufs = self.machine.told_mbufs.unwrap_or(self.machine.mbufs);
        arg.data_offset = DATA_OFFSET;
        arg.region_len = u64::from(self.machine.mbufs) * u64::from(self.machine.mbuf_size);
        arg.locks_offset = self.locks_at();
        arg.alloc = self.told(0);
        arg.dealloc = self.told(1);
        self.serve();
        Ok(())
    }

    fn unmap(&self) -> Result<()> {
        self.state().unmapped = true;
        Ok(())
    }

    fn pull(&self, arg: &mut ioctl::Pull) -> Result<()> {
        if arg.n > 0 {
            self.serve();
            self.refill(&mut self.state(), self.machine.prealloc + arg.n);
            return Ok(());
        }
        self.until(micros(arg.timeout_us), |state| {
            (0..state.taps.len())
                .any(|tap| self.has_packet(state, tap))
                .then_some(())
        })
        .ok_or(Error::TimedOut)
    }

    fn push(&self, arg: &mut ioctl::Push) -> Result<()> {
        let mut state = self.state();
        state.doorbells += 1;
        let ended = |tap: &Tap| tap.ended && tap.fd == arg.tap;
        if state.taps.iter().any(ended) {
            return Err(Error::request("mbuf_push", "", Errno::ENODEV));
        }
        drop(state);
        self.serve();
        Ok(())
    }

    fn tap(&self, arg: &mut ioctl::Tap) -> Result<OwnedFd> {
        let mut state = self.state();
        if arg.ifname.starts_with(b"busy") {
            return Err(Error::request("interface_tap", "", Errno::EBUSY));
        }
        let fd = OwnedFd::from(EventFd::new().expect("a descriptor"));
        let tap = state.taps.len();
        assert!((tap as u64) < TAPS, "the mock has no more");
        arg.id = tap as u32 + 1;
        arg.ifindex = 10 + tap as u32;
        arg.detour = self.told(detour(tap));
        arg.revert = self.told(revert(tap));
        state.taps.push(Tap {
            fd: fd.as_raw_fd(),
            detour: PrivateProducer::new(),
            revert: PrivateConsumer::new(),
            ended: false,
        });
        Ok(fd)
    }

    fn set(&self, arg: &mut ioctl::Set) -> Result<()> {
        let mut state = self.state();
        if !(1..=state.taps.len() as u32).contains(&arg.id) {
            return Err(Error::request("set a tap's policies", "", Errno::ENOENT));
        }
        state.set.push(*arg);
        Ok(())
    }

    fn untap(&self, _arg: &mut ioctl::Untap) -> Result<()> {
        Err(Error::request("interface_untap", "", Errno::ENOENT))
    }

    fn lock(&self, arg: &mut ioctl::Lock) -> Result<()> {
        let word = &self.lock_words(arg.number).word;
        match arg.op {
            ioctl::LOCK_REGISTER => self.state().locks |= 1 << arg.number,
            ioctl::LOCK_UNREGISTER => {
                self.state().locks &= !(1 << arg.number);
                release_dead(word, SESSION);
            }
            // Any other owner is none.
            ioctl::LOCK_WAIT if owner_of(arg.seen) != SESSION => {
                release_dead(word, owner_of(arg.seen));
            }
            ioctl::LOCK_WAIT => {
                let seen = arg.seen;
                let changed = |_: &State| (word.load() != seen).then_some(());
                return self
                    .until(micros(arg.timeout_us), changed)
                    .ok_or(Error::TimedOut);
            }
            _ => {}
        }
        Ok(())
    }

    fn serving(&self, arg: &mut ioctl::Serve) -> Result<()> {
        let busy = arg.flags & ioctl::SERVE_BUSY != 0;
        arg.thread = if busy { SERVER } else { 0 };
        self.state().busy = busy;
        Ok(())
    }

    fn query(&self, _kind: u32, from: u32, size: usize, records: &mut [u8]) -> Result<usize> {
        // As many records as there are taps; only their ids, which lie in front, are filled.
        let taps = self.state().taps.len() as u32;
        let ids = from.max(1)..=taps;
        let mut found = 0;
        for (record, id) in records.chunks_mut(size).zip(ids) {
            record[..4].copy_from_slice(&id.to_ne_bytes());
            found += 1;
        }
        Ok(found)
    }

    fn pages(&self, offset: u64, len: usize, writable: bool) -> Result<MmapRaw> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        let pages = if writable {
            options.map_raw(&self.file)
        } else {
            options.map_raw_read_only(&self.file)
        };
        let pages = pages.map_err(|_| Error::request("mmap", "", Errno::ENOMEM))?;
        // As the module maps its pages: a child does not have them.
        pages
            .advise(Advice::DontFork)
            .expect("the kernel takes the advice");
        Ok(pages)
    }

    fn poll(&self, taps: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Vec<Ready>> {
        let timeout = timeout.or(Some(Duration::from_secs(10)));
        let count = self.state().taps.len();
        assert!(taps.len() <= count);
        let ready = |state: &State| -> Vec<Ready> {
            (0..taps.len())
                .map(|tap| Ready {
                    packet: self.has_packet(state, tap),
                    ended: state.taps[tap].ended,
                })
                .collect()
        };
        let found = self.until(timeout, |state| {
            let all = ready(state);
            all.iter().any(|one| one.packet || one.ended).then_some(all)
        });
        Ok(found.unwrap_or_else(|| ready(&self.state())))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
