// SPDX-License-Identifier: GPL-2.0-only

//! Prints the ABI as the Rust side has it: sizes, offsets, requests and constants, a line each.
//! `tests/abi/run.sh` compares it with what C compilers make of the generated header.

use nettap_uapi::event::{self, Event};
use nettap_uapi::ioctl::{
    self, Filter, Info, Lock, Map, Monitor, Pull, Push, Query, Serve, Set, Tap, Untap,
};
use nettap_uapi::layout::{self, RingMap};
use nettap_uapi::lock::{self, LockWords};
use nettap_uapi::mbuf::{self, Header};
use nettap_uapi::ring::{self, Cell, Words};
use nettap_uapi::stats::{Refused, RegionStats, SessionStats, TapStats};
use nettap_uapi::tap;

/// Size of the field that a function selects.
fn size_of_field<T, F>(_: impl FnOnce(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Prints one structure. The pattern makes the compiler refuse a list of fields with a hole in it.
macro_rules! structure {
    ($name:literal, $type:ident $(<$word:ty>)?, $($field:ident)+) => {{
        type This = $type $(<$word>)?;
        let _ = |$type { $($field: _),+ }: This| ();
        println!("struct nettap_{} {}", $name, size_of::<This>());
        $(println!(
            "field nettap_{}.{} {} {}",
            $name,
            stringify!($field),
            core::mem::offset_of!(This, $field),
            size_of_field(|this: &This| &this.$field),
        );)+
    }};
}

/// Prints constants of one module, with the prefix that the C header gives them.
macro_rules! constants {
    ($prefix:literal, $module:ident: $($name:ident)+) => {
        $(println!("const {}{} {}", $prefix, stringify!($name), $module::$name);)+
    };
}

fn structures() {
    structure!("header", Header, timestamp holder next packet_len wire_len ifindex hash mark priority
        offset len vlan_tci vlan_proto csum_start csum_offset gso_size gso_hdr_len gso_type csum
        direction flags queue reserved);
    structure!("cell", Cell<u32>, tag entry);
    structure!("words", Words<u32>, position need_wakeup size reserved);
    structure!("ring_map", RingMap, ro_offset rw_offset ro_len rw_len cells reserved);
    structure!("info", Info, abi_version session features mbuf_size mbufs alpha_min_us alpha_max_us
        ring_max taps_max reserved);
    structure!("map", Map, flags prealloc ring_cells mbuf_size mbufs data_offset region_offset
        region_len alloc dealloc group access group_mbuf_size group_mbufs pad
        locks_offset reserved);
    structure!("pull", Pull, n reserved timeout_us);
    structure!("push", Push, tap n timeout_us);
    structure!("tap", Tap, ifname mode flags netns ring_cells snaplen on_full on_exit gso max_bytes
        fd id ifindex pad detour revert no_consumer fanout max_age_us filter reserved);
    structure!("filter", Filter, kind len_or_fd program);
    structure!("set", Set, id what on_full on_exit no_consumer snaplen max_bytes max_age_us filter
        reserved);
    structure!("lock", Lock, op number seen pad timeout_us reserved);
    structure!("serve", Serve, flags thread reserved);
    structure!("lock_words", LockWords<u32>, word data);
    structure!("untap", Untap, id reserved);
    structure!("query", Query, kind record_size from_id count records);
    structure!("region_stats", RegionStats, mbuf_size mbufs free allocated detoured kernel sessions
        taps reclaimed id access uid gid group huge);
    structure!("session_stats", SessionStats, id pid comm mapped taps allocated prealloc deallocated
        refused rounds calls wakeups group locks busy thread);
    structure!("refused", Refused, index holder generation flags scribbled);
    structure!("tap_stats", TapStats, id session pid mode ifindex netns ifname on_full on_exit gso
        snaplen ring_cells ring_used max_bytes held_bytes detoured detoured_bytes detoured_gso
        reverted changed crossed dropped_by_program reinjected dropped_by_policy refused_shape
        refused_offload refused_change refused_memory in_flight passed_ring passed_mbufs
        passed_bytes passed_other dropped_ring dropped_mbufs dropped_bytes dropped_other cut_off
        crossed_in injected injected_refused refused scribbled_detour undelivered
        ring_high_water no_consumer fanout flags filter max_age_us group failed_open fail_opens
        aged handed_over passed_stalled passed_filter);
    structure!("monitor", Monitor, kinds flags record_size queue pad reserved);
    structure!("event", Event, number time lost count passed dropped kind cause session tap pid by mode
        ifindex netns what group pad comm ifname group_name reserved);
}

fn requests() {
    macro_rules! requests {
        ($($name:ident $type:ident)+) => {
            $(println!(
                "ioctl NETTAP_IOC_{} {:#x}",
                stringify!($name),
                ioctl::request(ioctl::$name, size_of::<$type>()),
            );)+
        };
    }
    requests!(INFO Info  MAP Map  PULL Pull  PUSH Push  TAP Tap  UNTAP Untap  QUERY Query  SET Set
        MONITOR Monitor  LOCK Lock  SERVE Serve);
    println!("ioctl NETTAP_IOC_UNMAP {:#x}", ioctl::request_unmap());
}

fn constants() {
    use nettap_uapi as root;
    constants!("NETTAP_", root: ABI_VERSION FEATURE_FANOUT FEATURE_GROUPS FEATURE_POLICIES FEATURE_FILTER
        FEATURE_EVENTS FEATURE_LOCKS FEATURE_BUSY FEATURE_FANOUT_CPU FEATURE_UNSTAMPED FEATURES);
    constants!("NETTAP_", ioctl: MAGIC QUERY_REGION QUERY_SESSIONS QUERY_TAPS
        QUERY_ENDED SET_ON_FULL SET_ON_EXIT SET_NO_CONSUMER SET_SNAPLEN SET_MAX_BYTES SET_MAX_AGE
        SET_FILTER LOCK_REGISTER LOCK_UNREGISTER LOCK_WAIT LOCK_WAKE SERVE_BUSY);
    constants!("NETTAP_NR_", ioctl: INFO MAP UNMAP PULL PUSH TAP UNTAP QUERY SET MONITOR LOCK SERVE);
    constants!("NETTAP_", layout: RING_CELLS CELL_SIZE LOCKS_LEN);
    constants!("NETTAP_", lock: LOCKS_MAX LOCK_OWNER LOCK_OWNER_DIED LOCK_WAITERS LOCK_DATA);
    constants!("NETTAP_", mbuf: NO_MBUF MBUFS_MAX MBUF_SIZE_MIN MBUF_SIZE_MAX MBUF_SIZE_DEFAULT
        DATA_OFFSET DIR_RECEIVED DIR_SENT CSUM_NONE CSUM_PARTIAL CSUM_VALID GSO_NONE GSO_TCPV4
        GSO_UDP GSO_TCPV6 GSO_UDP_L4 GSO_ECN MBUF_VLAN MBUF_SNAPPED HEADER_SIZE HEADER_WORDS);
    constants!("NETTAP_", ring: REVERT_CHANGED REVERT_FLAGS STATE_FULL STATE_PADDING STATE_MASK
        FLAGS_SHIFT FLAGS_MASK LAP_SHIFT LAP_MASK GENERATION_SHIFT);
    constants!("NETTAP_", event: EVENT_QUEUE LISTENERS_MAX EVENT_SESSION_OPEN EVENT_SESSION_CLOSE
        EVENT_MAP EVENT_UNMAP EVENT_TAP_OPEN EVENT_TAP_CLOSE EVENT_RECLAIM EVENT_DROP EVENT_FAIL_OPEN
        EVENT_FAIL_OPEN_END EVENT_POLICY EVENT_LOCK_RELEASED EVENT_INTERFACE_GONE EVENT_GROUP_MADE
        EVENT_GROUP_GONE CAUSE_NONE CAUSE_CLOSED CAUSE_EXIT CAUSE_UNTAP CAUSE_UNMAP
        CAUSE_INTERFACE_GONE CAUSE_MAX_AGE CAUSE_POLICY CAUSE_RING CAUSE_MBUFS CAUSE_BYTES CAUSE_OTHER CAUSE_SHAPE CAUSE_OFFLOAD
        CAUSE_CHANGE CAUSE_MEMORY CAUSE_UNDELIVERED);
    constants!("", tap: TAP_INPUT TAP_OUTPUT TAP_BYPASS);
    constants!("NETTAP_", tap: ON_FULL_PASS ON_FULL_DROP ON_EXIT_REVERT ON_EXIT_DROP GSO_WHOLE
        GSO_SEGMENT RING_MIN RING_MAX RING_DEFAULT TAPS_MAX CHAIN_MAX MAX_BYTES_DEFAULT
        IFNAME_MAX NO_CONSUMER_PASS NO_CONSUMER_HOLD FANOUT_NONE FANOUT_ANY FANOUT_FLOW FANOUT_CPU TAP_STANDBY TAP_UNSTAMPED TAP_FLAGS
        FILTER_NONE FILTER_CLASSIC FILTER_EBPF FILTER_MAX ACCESS_UID ACCESS_GID ACCESS_ALL GROUP_MAX);
}

fn main() {
    structures();
    requests();
    constants();
}
