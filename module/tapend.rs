// SPDX-License-Identifier: GPL-2.0-only

//! A tap as its session has it: the kernel's end of the revert ring, and what ends with it. Under the
//! session's lock.

use kernel::sync::Arc;

use crate::drops;
use crate::stats::End;
use crate::stats::RevertCounts;
use crate::sys::netdev::Device;
use crate::sys::word::SharedWord;
use crate::tap::Tap;
use crate::uapi::ring::PrivateConsumer;
use crate::uapi::stats::TapStats;
use crate::watch::Watch;

/// One tap of the session: its way back, and what ends with it.
pub(crate) struct TapEnd {
    pub(crate) tap: Arc<Tap>,
    pub(crate) device: Arc<Device>,
    pub(crate) counts: RevertCounts,
    pub(crate) consumer: PrivateConsumer<SharedWord>,
    pub(crate) watch: Watch,
    /// It is about to leave its session.
    pub(crate) retires: bool,
}

impl TapEnd {
    /// The way back of a tap that has just been opened.
    pub(crate) fn new(tap: Arc<Tap>, device: Arc<Device>) -> Self {
        Self {
            tap,
            device,
            counts: RevertCounts::default(),
            consumer: PrivateConsumer::new(),
            watch: Watch::new(),
            retires: false,
        }
    }

    /// Counts the end of one of this tap's packets and frees its bytes for others.
    pub(crate) fn ended(&mut self, truesize: u32, end: End) {
        self.ended_all(1, u64::from(truesize), end);
    }

    /// The same for several packets and their bytes.
    pub(crate) fn ended_all(&mut self, packets: u64, truesize: u64, end: End) {
        self.counts.ends.count(end, packets);
        self.tap.credit(truesize);
        if let End::Refused(flaw) = end {
            self.tap.tell_drop(drops::refused(flaw), 0, 1);
        }
    }

    /// Whether packets of this tap are out. Bottom halves are off.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.tap.detoured() != self.counts.ends.all()
    }

    /// Everything that is known of the tap but what is in flight, see [`Tap::count_out`]. Bottom halves are off.
    pub(crate) fn export(&self) -> TapStats {
        let mut stats = TapStats::default();
        self.counts.export(&mut stats);
        self.tap.export(&mut stats);
        stats.refused.scribbled = self.consumer.scribbled();
        stats
    }
}
