/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The ABI between the NetTap module and the programs that use it, for C and C++.
 *
 * Generated from uapi/src by uapi/header.sh (cbindgen): do not edit. The comments are those of the
 * Rust source, which also holds the rules by which the ABI grows (lib.rs), who may write which page
 * (layout.rs) and the proof of the ring (ring.rs). Rust names in them mean the C names: `Map` is
 * struct nettap_map, `ON_FULL_PASS` is NETTAP_ON_FULL_PASS. The TAP_ modes keep the patent's names.
 */
#ifndef NETTAP_H
#define NETTAP_H

#include <stddef.h>
#include <stdint.h>

#include <linux/ioctl.h>

/**
 * Version of the ABI that these files describe.
 */
#define NETTAP_ABI_VERSION 1

/**
 * Feature bit: sessions can share a tap.
 */
#define NETTAP_FEATURE_FANOUT 1

/**
 * Feature bit: named groups, with regions of their own.
 */
#define NETTAP_FEATURE_GROUPS (1 << 1)

/**
 * Feature bit: policies can be changed while a tap is open; `max_age` and `no_consumer`.
 */
#define NETTAP_FEATURE_POLICIES (1 << 2)

/**
 * Feature bit: taps can have filters.
 */
#define NETTAP_FEATURE_FILTER (1 << 3)

/**
 * Feature bit: a session can listen to events, see `ioctl::Monitor`.
 */
#define NETTAP_FEATURE_EVENTS (1 << 4)

/**
 * Feature bit: shared locks, see `lock`.
 */
#define NETTAP_FEATURE_LOCKS (1 << 5)

/**
 * Feature bit: a session can be served without rest, see `ioctl::Serve`.
 */
#define NETTAP_FEATURE_BUSY (1 << 6)

/**
 * Feature bit: sessions can share a tap by CPU, see `tap::FANOUT_CPU`.
 */
#define NETTAP_FEATURE_FANOUT_CPU (1 << 7)

/**
 * Feature bit: packets can come without time stamps, see `tap::TAP_UNSTAMPED`.
 */
#define NETTAP_FEATURE_UNSTAMPED (1 << 8)

/**
 * Feature bits of this version; see `ioctl::Info::features`.
 */
#define NETTAP_FEATURES ((((((((NETTAP_FEATURE_FANOUT | NETTAP_FEATURE_GROUPS) | NETTAP_FEATURE_POLICIES) | NETTAP_FEATURE_FILTER) | NETTAP_FEATURE_EVENTS) | NETTAP_FEATURE_LOCKS) | NETTAP_FEATURE_BUSY) | NETTAP_FEATURE_FANOUT_CPU) | NETTAP_FEATURE_UNSTAMPED)

/**
 * Events that a listener's queue holds.
 */
#define NETTAP_EVENT_QUEUE 256

/**
 * Most listeners of the machine.
 */
#define NETTAP_LISTENERS_MAX 64

/**
 * `Event::kind`: a session was opened.
 */
#define NETTAP_EVENT_SESSION_OPEN 1

/**
 * `Event::kind`: a session has ended; `cause`.
 */
#define NETTAP_EVENT_SESSION_CLOSE 2

/**
 * `Event::kind`: a session has joined a region.
 */
#define NETTAP_EVENT_MAP 3

/**
 * `Event::kind`: a session has left its region; `cause`.
 */
#define NETTAP_EVENT_UNMAP 4

/**
 * `Event::kind`: a tap was opened.
 */
#define NETTAP_EVENT_TAP_OPEN 5

/**
 * `Event::kind`: a tap has ended; `cause`, and `by` for `CAUSE_UNTAP`.
 */
#define NETTAP_EVENT_TAP_CLOSE 6

/**
 * `Event::kind`: what the program of a tap or a session held was taken back: `count` mbufs. Of the
 * packets in them `passed` were sent on and `dropped` dropped; `cause`.
 */
#define NETTAP_EVENT_RECLAIM 7

/**
 * `Event::kind`: packets did not come to the program, or were not taken from it. Since the last event
 * of this tap and `cause`, `passed` went on without the program and `dropped` were dropped. Told at the
 * first packet, then at most once a second, and when the tap ends.
 */
#define NETTAP_EVENT_DROP 8

/**
 * `Event::kind`: a tap lets packets pass from now on, because its program has held one for too long.
 * What it held is told as `EVENT_RECLAIM`.
 */
#define NETTAP_EVENT_FAIL_OPEN 9

/**
 * `Event::kind`: the program has caught up, and packets are detoured again; `passed` went by
 * meanwhile.
 */
#define NETTAP_EVENT_FAIL_OPEN_END 10

/**
 * `Event::kind`: policies of a tap were changed: the `SET_` bits in `what`; `by`.
 */
#define NETTAP_EVENT_POLICY 11

/**
 * `Event::kind`: shared locks of a session that has ended were released: `count`; `cause`.
 */
#define NETTAP_EVENT_LOCK_RELEASED 12

/**
 * `Event::kind`: an interface that had taps is gone, and they with it: `count`. With them `dropped`
 * packets went, which had nowhere to go.
 */
#define NETTAP_EVENT_INTERFACE_GONE 13

/**
 * `Event::kind`: a named group was made; `by`.
 */
#define NETTAP_EVENT_GROUP_MADE 14

/**
 * `Event::kind`: a named group went with its last session; `by`.
 */
#define NETTAP_EVENT_GROUP_GONE 15

/**
 * `Event::cause`: none to tell.
 */
#define NETTAP_CAUSE_NONE 0

/**
 * `Event::cause`: the last descriptor was closed.
 */
#define NETTAP_CAUSE_CLOSED 1

/**
 * `Event::cause`: the process has ended or was killed.
 */
#define NETTAP_CAUSE_EXIT 2

/**
 * `Event::cause`: somebody who may asked for the tap's end, by its id.
 */
#define NETTAP_CAUSE_UNTAP 3

/**
 * `Event::cause`: `mbuf_unmap`.
 */
#define NETTAP_CAUSE_UNMAP 4

/**
 * `Event::cause`: the interface was deleted or left its namespace.
 */
#define NETTAP_CAUSE_INTERFACE_GONE 5

/**
 * `Event::cause`: a packet was held longer than `max_age`.
 */
#define NETTAP_CAUSE_MAX_AGE 6

/**
 * `Event::cause`: a policy was changed.
 */
#define NETTAP_CAUSE_POLICY 7

/**
 * `Event::cause`: the detour ring was full.
 */
#define NETTAP_CAUSE_RING 16

/**
 * `Event::cause`: no mbuf was free.
 */
#define NETTAP_CAUSE_MBUFS 17

/**
 * `Event::cause`: the tap held `max_bytes`.
 */
#define NETTAP_CAUSE_BYTES 18

/**
 * `Event::cause`: the packet was not readable by a processor, or there was no memory to keep it.
 */
#define NETTAP_CAUSE_OTHER 19

/**
 * `Event::cause`: offset, length or chain of a changed or new packet could not be.
 */
#define NETTAP_CAUSE_SHAPE 20

/**
 * `Event::cause`: checksum or segmentation state of a changed or new packet could not be.
 */
#define NETTAP_CAUSE_OFFLOAD 21

/**
 * `Event::cause`: the change did not fit the packet, or the packet not the interface.
 */
#define NETTAP_CAUSE_CHANGE 22

/**
 * `Event::cause`: no memory for a changed or new packet.
 */
#define NETTAP_CAUSE_MEMORY 23

/**
 * `Event::cause`: the host or the interface refused the packet after the tap had sent it on.
 */
#define NETTAP_CAUSE_UNDELIVERED 24

/**
 * The letter of all requests, in `_IOC` terms.
 */
#define NETTAP_MAGIC 206

/**
 * Number of the request with structure `Info`, on sessions.
 */
#define NETTAP_NR_INFO 64

/**
 * Number of the request with structure `Map`, on sessions.
 */
#define NETTAP_NR_MAP 65

/**
 * Number of the request without a structure, on sessions.
 *
 * Ends the session's taps, takes its mbufs back and destroys its alloc and dealloc rings. The memory
 * stays mapped until `munmap`, but is of no use any more. `ENXIO`: nothing is mapped.
 */
#define NETTAP_NR_UNMAP 66

/**
 * Number of the request with structure `Pull`, on sessions.
 */
#define NETTAP_NR_PULL 67

/**
 * Number of the request with structure `Push`, on sessions.
 */
#define NETTAP_NR_PUSH 68

/**
 * Number of the request with structure `Tap`, on sessions.
 */
#define NETTAP_NR_TAP 69

/**
 * Number of the request with structure `Untap`, on sessions.
 */
#define NETTAP_NR_UNTAP 70

/**
 * Number of the request with structure `Query`, on sessions.
 */
#define NETTAP_NR_QUERY 71

/**
 * Number of the request with structure `Set`, on sessions.
 */
#define NETTAP_NR_SET 72

/**
 * Number of the request with structure `Monitor`, on sessions.
 */
#define NETTAP_NR_MONITOR 73

/**
 * Number of the request with structure `Lock`, on sessions.
 */
#define NETTAP_NR_LOCK 74

/**
 * Number of the request with structure `Serve`, on sessions.
 */
#define NETTAP_NR_SERVE 75

/**
 * `Set::what`: `on_full`.
 */
#define NETTAP_SET_ON_FULL 1

/**
 * `Set::what`: `on_exit`.
 */
#define NETTAP_SET_ON_EXIT 2

/**
 * `Set::what`: `no_consumer`.
 */
#define NETTAP_SET_NO_CONSUMER 4

/**
 * `Set::what`: `snaplen`.
 */
#define NETTAP_SET_SNAPLEN 8

/**
 * `Set::what`: `max_bytes`.
 */
#define NETTAP_SET_MAX_BYTES 16

/**
 * `Set::what`: `max_age`.
 */
#define NETTAP_SET_MAX_AGE 32

/**
 * `Set::what`: the filter; `FILTER_NONE` takes it off.
 */
#define NETTAP_SET_FILTER 64

/**
 * `Lock::op`: should the session end while it has the lock, the kernel releases it. To be asked for
 * before the lock is taken for the first time; twice is as good as once.
 */
#define NETTAP_LOCK_REGISTER 1

/**
 * `Lock::op`: undoes `LOCK_REGISTER`. A lock that the session still has is released as at its end.
 */
#define NETTAP_LOCK_UNREGISTER 2

/**
 * `Lock::op`: sleeps while the word is as it was seen. It returns at once when the word has changed,
 * or when the owner that it names is none and the kernel has released it.
 */
#define NETTAP_LOCK_WAIT 3

/**
 * `Lock::op`: wakes all who sleep on the lock, after its release.
 */
#define NETTAP_LOCK_WAKE 4

/**
 * `Serve::flags`: a thread of the kernel's serves without rest.
 */
#define NETTAP_SERVE_BUSY 1

/**
 * `Query::kind`: the regions, a `RegionStats` each; the default group's has id 0.
 */
#define NETTAP_QUERY_REGION 1

/**
 * `Query::kind`: sessions, a `SessionStats` each.
 */
#define NETTAP_QUERY_SESSIONS 2

/**
 * `Query::kind`: taps, a `TapStats` each.
 */
#define NETTAP_QUERY_TAPS 3

/**
 * `Query::kind`: the last figures of the latest taps that have ended, a `TapStats` each.
 */
#define NETTAP_QUERY_ENDED 4

/**
 * Where the cells begin in the pages of the side that fills the ring.
 */
#define NETTAP_RING_CELLS 64

/**
 * Size of a cell.
 */
#define NETTAP_CELL_SIZE 8

/**
 * Length of the pages of a region's shared locks: `LOCKS_MAX` times
 * `LockWords`.
 */
#define NETTAP_LOCKS_LEN 4096

/**
 * Locks of a region.
 */
#define NETTAP_LOCKS_MAX 64

/**
 * Bits of the word: the session that has the lock. No session's id is larger.
 */
#define NETTAP_LOCK_OWNER 1073741823

/**
 * Bit of the word: the last owner ended while it had the lock.
 */
#define NETTAP_LOCK_OWNER_DIED 1073741824

/**
 * Bit of the word: somebody sleeps in the kernel until the word changes.
 */
#define NETTAP_LOCK_WAITERS 2147483648

/**
 * Words behind a lock's own that programs may use for what it guards.
 */
#define NETTAP_LOCK_DATA 15

/**
 * End of a chain in `Header::next`.
 */
#define NETTAP_NO_MBUF UINT32_MAX

/**
 * Most mbufs of a region; an index is always below this.
 */
#define NETTAP_MBUFS_MAX (1 << 24)

/**
 * Smallest size of an mbuf, header included.
 */
#define NETTAP_MBUF_SIZE_MIN 512

/**
 * Largest size of an mbuf, header included.
 */
#define NETTAP_MBUF_SIZE_MAX 32768

/**
 * Size of an mbuf unless the module's parameter says otherwise.
 */
#define NETTAP_MBUF_SIZE_DEFAULT 2048

/**
 * Bytes from the start of an mbuf to its data when the kernel fills it: the header and headroom
 * for what a program may want to put in front.
 */
#define NETTAP_DATA_OFFSET 128

/**
 * `Header::direction`: the packet came from the network.
 */
#define NETTAP_DIR_RECEIVED 1

/**
 * `Header::direction`: the packet came from the host's network layer.
 */
#define NETTAP_DIR_SENT 2

/**
 * `Header::csum`: nothing is known; the checksums are what the bytes say.
 */
#define NETTAP_CSUM_NONE 0

/**
 * `Header::csum`: the sum from `Header::csum_start` to the end of the packet is still to be put
 * at `csum_start + csum_offset`, by the interface or by the kernel; as `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
 */
#define NETTAP_CSUM_PARTIAL 1

/**
 * `Header::csum`: somebody has verified the checksums; as `VIRTIO_NET_HDR_F_DATA_VALID`.
 */
#define NETTAP_CSUM_VALID 2

/**
 * `Header::gso_type`: an ordinary packet.
 */
#define NETTAP_GSO_NONE 0

/**
 * `Header::gso_type`: TCP over IPv4; the values are those of `struct virtio_net_hdr`.
 */
#define NETTAP_GSO_TCPV4 1

/**
 * `Header::gso_type`: UDP datagram to be fragmented.
 */
#define NETTAP_GSO_UDP 3

/**
 * `Header::gso_type`: TCP over IPv6.
 */
#define NETTAP_GSO_TCPV6 4

/**
 * `Header::gso_type`: UDP to be segmented into datagrams.
 */
#define NETTAP_GSO_UDP_L4 5

/**
 * Bit of `Header::gso_type`: TCP with ECN set.
 */
#define NETTAP_GSO_ECN 128

/**
 * Bit of `Header::flags`: `Header::vlan_tci` and `Header::vlan_proto` hold a VLAN tag that
 * the kernel carries beside the packet, not in its bytes.
 */
#define NETTAP_MBUF_VLAN 1

/**
 * Bit of `Header::flags`: the bytes are only the first part of the packet; see
 * `Header::wire_len`.
 */
#define NETTAP_MBUF_SNAPPED 2

/**
 * Size of `Header` in bytes; data never begins before it.
 */
#define NETTAP_HEADER_SIZE 64

/**
 * Words of `Header`: it is moved in and out of shared memory a word at a time, since a field at a time takes
 * three times as many steps.
 */
#define NETTAP_HEADER_WORDS ((size_t)NETTAP_HEADER_SIZE / 8)

/**
 * Bit of `Entry::flags` on a revert ring: bytes or header of the mbuf were changed, the kernel has
 * to read them. Without it the packet goes on exactly as it was.
 */
#define NETTAP_REVERT_CHANGED 1

/**
 * All bits that may be set in `Entry::flags` on a revert ring.
 */
#define NETTAP_REVERT_FLAGS NETTAP_REVERT_CHANGED

/**
 * State bits of a tag: the cell is Full.
 */
#define NETTAP_STATE_FULL 2

/**
 * State bits of a tag: the cell is Padding.
 */
#define NETTAP_STATE_PADDING 3

/**
 * Where the state lies in a tag. A tag that is 0 as a whole is a cell that was never used.
 */
#define NETTAP_STATE_MASK 3

/**
 * How far `Entry::flags` is shifted in a tag.
 */
#define NETTAP_FLAGS_SHIFT 2

/**
 * The bits of `Entry::flags` that a tag carries, before shifting.
 */
#define NETTAP_FLAGS_MASK 63

/**
 * How far the lap is shifted in a tag.
 */
#define NETTAP_LAP_SHIFT 8

/**
 * The bits of the lap (position divided by the number of cells) that a tag carries, before shifting.
 */
#define NETTAP_LAP_MASK 255

/**
 * How far `Entry::generation` is shifted in a tag; it is the rest of the tag.
 */
#define NETTAP_GENERATION_SHIFT 16

/**
 * Received packets go to the program before the host's network layer sees them, and revert into
 * the host's network layer (patent paragraph 37).
 */
#define TAP_INPUT 1

/**
 * Packets that the host sends go to the program before the interface sees them, and revert to the
 * interface (patent paragraph 38).
 */
#define TAP_OUTPUT 2

/**
 * The interface and the program exchange packets, the host's network layer is cut off (patent
 * paragraph 39).
 */
#define TAP_BYPASS 3

/**
 * `on_full`: a packet for which there is no mbuf, no ring cell or no byte budget goes on as if
 * there were no tap. The default.
 */
#define NETTAP_ON_FULL_PASS 0

/**
 * `on_full`: such a packet is dropped, as a network card does when its ring is full.
 */
#define NETTAP_ON_FULL_DROP 1

/**
 * `on_exit`: packets that the program still holds when its tap ends go on unmodified and in order.
 * The default.
 */
#define NETTAP_ON_EXIT_REVERT 0

/**
 * `on_exit`: such packets are dropped.
 */
#define NETTAP_ON_EXIT_DROP 1

/**
 * `gso`: super-packets (GSO, GRO) pass whole, as the kernel has them. The default.
 */
#define NETTAP_GSO_WHOLE 0

/**
 * `gso`: super-packets are cut into packets of wire size before the program sees them.
 */
#define NETTAP_GSO_SEGMENT 1

/**
 * `no_consumer`: while no program consumes, because all taps of a fan-out are on standby, packets go on
 * as if there were no tap. The default.
 */
#define NETTAP_NO_CONSUMER_PASS 0

/**
 * `no_consumer`: such packets wait for the next program that opens the tap, up to `max_bytes` and
 * `max_age`: a program can be replaced without a packet passing it by.
 */
#define NETTAP_NO_CONSUMER_HOLD 1

/**
 * `fanout`: one session has the tap, a second one gets `EBUSY`. The default.
 */
#define NETTAP_FANOUT_NONE 0

/**
 * `fanout`: sessions share the packets of one mode of an interface; each goes to the one that holds
 * least.
 */
#define NETTAP_FANOUT_ANY 1

/**
 * `fanout`: the same, and the packets of a flow go to the same session, by the packet's flow hash.
 */
#define NETTAP_FANOUT_FLOW 2

/**
 * `fanout`: the same, and the packets that come on a CPU go to the same session: sessions have their turns
 * in the order in which they joined. One whose gate is shut is passed over. With
 * `FEATURE_FANOUT_CPU`.
 */
#define NETTAP_FANOUT_CPU 3

/**
 * Flag of a tap: it keeps the tap open and gets packets only while nobody else of its fan-out consumes and
 * `no_consumer` says hold.
 */
#define NETTAP_TAP_STANDBY 1

/**
 * Flag of a tap: its program does not look at the time of packets. What brings no time stamp gets none, and the
 * kernel's clock is not read for each packet.
 */
#define NETTAP_TAP_UNSTAMPED 2

/**
 * All flags of a tap.
 */
#define NETTAP_TAP_FLAGS (NETTAP_TAP_STANDBY | NETTAP_TAP_UNSTAMPED)

/**
 * No filter: all packets are detoured.
 */
#define NETTAP_FILTER_NONE 0

/**
 * Classic BPF, as tcpdump compiles it.
 */
#define NETTAP_FILTER_CLASSIC 1

/**
 * An eBPF program of type socket filter.
 */
#define NETTAP_FILTER_EBPF 2

/**
 * Most instructions of a classic filter: `BPF_MAXINSNS` of linux/bpf_common.h.
 */
#define NETTAP_FILTER_MAX 4096

/**
 * Who may join a group: the effective user who created it. The default.
 */
#define NETTAP_ACCESS_UID 0

/**
 * Who may join a group: whoever is in its creator's effective users' group.
 */
#define NETTAP_ACCESS_GID 1

/**
 * Who may join a group: everybody who can open the device (FFPF's one-for-all).
 */
#define NETTAP_ACCESS_ALL 2

/**
 * Longest name of a group, with its terminating zero.
 */
#define NETTAP_GROUP_MAX 32

/**
 * Fewest cells of a ring.
 */
#define NETTAP_RING_MIN 16

/**
 * Most cells of a ring.
 */
#define NETTAP_RING_MAX (1 << 16)

/**
 * Cells of a ring when the program does not say.
 */
#define NETTAP_RING_DEFAULT 256

/**
 * Most taps of one session.
 */
#define NETTAP_TAPS_MAX 64

/**
 * Most mbufs of one packet. Longer packets are captured up to here, as with a snap length.
 */
#define NETTAP_CHAIN_MAX 64

/**
 * Bytes of packets (with the kernel's bookkeeping) that one tap may hold when the program does not
 * say: 32 MiB.
 */
#define NETTAP_MAX_BYTES_DEFAULT (32 << 20)

/**
 * Longest interface name, with its terminating zero: `IFNAMSIZ` of linux/if.h.
 */
#define NETTAP_IFNAME_MAX 16

/**
 * The first 64 bytes of every mbuf: one cache line.
 *
 * In a chain only the first header describes the packet; the others carry `holder`, `next`,
 * `offset` and `len`.
 */
struct nettap_header {
	/**
	 * When the packet was received or sent, nanoseconds of `CLOCK_REALTIME`; 0 when nobody knows (`TAP_UNSTAMPED`).
	 */
	uint64_t timestamp;
	/**
	 * Process that holds the mbuf, 0 for none (patent paragraph 44). For people and tools only.
	 */
	uint32_t holder;
	/**
	 * Index of the next mbuf of the packet, or `NO_MBUF`.
	 */
	uint32_t next;
	/**
	 * Bytes of the packet in the whole chain.
	 */
	uint32_t packet_len;
	/**
	 * Length of the packet as the kernel has it; more than `packet_len` when `MBUF_SNAPPED`.
	 */
	uint32_t wire_len;
	/**
	 * Interface of the tap.
	 */
	uint32_t ifindex;
	/**
	 * Flow hash of the packet, 0 for none.
	 */
	uint32_t hash;
	/**
	 * Firewall mark (`SO_MARK`, nftables `meta mark`).
	 */
	uint32_t mark;
	/**
	 * Priority (`SO_PRIORITY`).
	 */
	uint32_t priority;
	/**
	 * Where the data begins, counted from the start of the mbuf.
	 */
	uint16_t offset;
	/**
	 * Bytes of data in this mbuf.
	 */
	uint16_t len;
	/**
	 * VLAN tag: priority, drop eligibility and VLAN number; valid with `MBUF_VLAN`.
	 */
	uint16_t vlan_tci;
	/**
	 * VLAN protocol in host order, 0x8100 or 0x88a8; valid with `MBUF_VLAN`.
	 */
	uint16_t vlan_proto;
	/**
	 * With `CSUM_PARTIAL`: where summing begins, counted from the packet's first byte.
	 */
	uint16_t csum_start;
	/**
	 * With `CSUM_PARTIAL`: where the sum goes, counted from `csum_start`.
	 */
	uint16_t csum_offset;
	/**
	 * Payload bytes of each segment of a super-packet.
	 */
	uint16_t gso_size;
	/**
	 * Bytes of headers that each segment of a super-packet repeats.
	 */
	uint16_t gso_hdr_len;
	/**
	 * One of the `GSO_` types.
	 */
	uint8_t gso_type;
	/**
	 * One of the `CSUM_` states.
	 */
	uint8_t csum;
	/**
	 * One of the `DIR_` directions.
	 */
	uint8_t direction;
	/**
	 * `MBUF_` bits.
	 */
	uint8_t flags;
	/**
	 * Receive queue of the packet.
	 */
	uint16_t queue;
	/**
	 * Must be zero.
	 */
	uint16_t reserved;
};

/**
 * How to map one ring.
 */
struct nettap_ring_map {
	/**
	 * mmap offset of the pages that the kernel writes.
	 */
	uint64_t ro_offset;
	/**
	 * mmap offset of the pages that the program writes.
	 */
	uint64_t rw_offset;
	/**
	 * Length of the pages that the kernel writes.
	 */
	uint32_t ro_len;
	/**
	 * Length of the pages that the program writes.
	 */
	uint32_t rw_len;
	/**
	 * Cells of the ring, a power of two.
	 */
	uint32_t cells;
	/**
	 * Zero.
	 */
	uint32_t reserved;
};

/**
 * What module and ABI this is. Never fails for want of state or privilege.
 */
struct nettap_info {
	/**
	 * In: the ABI version that the program was built with, or 0. `EPROTO`: newer than the module.
	 * Out: the module's.
	 */
	uint32_t abi_version;
	/**
	 * Out: id of this session.
	 */
	uint32_t session;
	/**
	 * Out: feature bits.
	 */
	uint64_t features;
	/**
	 * Out: size of an mbuf in the default region.
	 */
	uint32_t mbuf_size;
	/**
	 * Out: mbufs of the default region.
	 */
	uint32_t mbufs;
	/**
	 * Out: shortest time between two rounds of serving while something is out, in microseconds.
	 */
	uint32_t alpha_min_us;
	/**
	 * Out: longest such time.
	 */
	uint32_t alpha_max_us;
	/**
	 * Out: most cells of a ring.
	 */
	uint32_t ring_max;
	/**
	 * Out: most taps of a session.
	 */
	uint32_t taps_max;
	/**
	 * Zero.
	 */
	uint64_t reserved[4];
};

/**
 * `mbuf_map`: joins a region and creates the session's alloc and dealloc rings (patent paragraph 33).
 *
 * A *group* is a region of its own, which sessions join by its name (FFPF, section IV.A: flowgroups).
 * The first to name it creates it, with size and access rule, and it goes with its last session. Those
 * who join it give the same sizes and rule, or zero. A name is of printable ASCII without spaces; groups
 * of one name are the same group, whatever user or network namespace they are named in.
 *
 * - `EPERM`: the caller lacks `CAP_NET_ADMIN`, over the machine for the default group, over its own
 *   network namespace to create a group; whoever maps a region sees every packet in it.
 * - `EACCES`: the group's access rule does not let the caller in.
 * - `EEXIST`: the group is there with other sizes or another rule.
 * - `EBUSY`: this session has mapped already.
 * - `EINVAL`: `prealloc` is more than the region has or the alloc ring could hold, `ring_cells` is no
 *   power of two in range, the group's name cannot be, its sizes are out of range, or sizes or a rule
 *   are given without a group.
 * - `ENOBUFS`: the locked-memory limit (`ulimit -l`) would be exceeded. Memory counts as long as it is
 *   mapped, also after `UNMAP`.
 * - `ENOMEM`: no memory for region or rings, or fewer than `prealloc` mbufs are free.
 */
struct nettap_map {
	/**
	 * In: must be zero.
	 */
	uint32_t flags;
	/**
	 * In: how many mbufs the kernel keeps in the alloc ring, at least (patent paragraph 34).
	 */
	uint32_t prealloc;
	/**
	 * In: cells of the alloc and dealloc rings; 0 lets the kernel choose.
	 */
	uint32_t ring_cells;
	/**
	 * Out: size of an mbuf.
	 */
	uint32_t mbuf_size;
	/**
	 * Out: mbufs of the region.
	 */
	uint32_t mbufs;
	/**
	 * Out: where data begin in an mbuf that the kernel hands out.
	 */
	uint32_t data_offset;
	/**
	 * Out: mmap offset of the region.
	 */
	uint64_t region_offset;
	/**
	 * Out: length of the region.
	 */
	uint64_t region_len;
	/**
	 * Out: the alloc ring.
	 */
	struct nettap_ring_map alloc;
	/**
	 * Out: the dealloc ring.
	 */
	struct nettap_ring_map dealloc;
	/**
	 * In: name of the group whose region to join, zero terminated; empty: the default group.
	 */
	uint8_t group[NETTAP_GROUP_MAX];
	/**
	 * In: who may join a group that this request creates, one of the `ACCESS_` rules.
	 */
	uint32_t access;
	/**
	 * In: size of an mbuf in a group that this request creates, a power of two from 512 to 32768; 0 for
	 * that of the default region.
	 */
	uint32_t group_mbuf_size;
	/**
	 * In: mbufs of a group that this request creates, up to 16777216; 0 for as many as the default region
	 * has.
	 */
	uint32_t group_mbufs;
	/**
	 * In: must be zero.
	 */
	uint32_t pad;
	/**
	 * Out: mmap offset of the shared locks, which are `LOCKS_LEN` long.
	 */
	uint64_t locks_offset;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved;
};

/**
 * `mbuf_pull` (patent paragraphs 34 and 41).
 *
 * With `n` above zero: puts `n` more mbufs into the alloc ring now. With `n` zero: waits until a
 * detour ring of the session has a packet. Either serves all rings of the session on the way.
 *
 * - `ETIMEDOUT`: the time passed first.
 * - `EINTR`: a signal came first.
 * - `ENXIO`: nothing is mapped.
 * - `EINVAL`: `n` is more than the alloc ring has free cells.
 * - `ENODEV`: `n` is zero and the session has no tap that could bring a packet.
 */
struct nettap_pull {
	/**
	 * In: mbufs wanted, or 0.
	 */
	uint32_t n;
	/**
	 * In: must be zero.
	 */
	uint32_t reserved;
	/**
	 * In: longest wait in microseconds; 0 waits for ever.
	 */
	uint64_t timeout_us;
};

/**
 * `mbuf_push` (patent paragraphs 34 and 42).
 *
 * With a tap: serves the session and waits until the kernel has taken `n` more entries from the
 * tap's revert ring, or all of them if there are fewer. `n` zero is the doorbell: serve, do not
 * wait. With `tap` -1: takes everything from the dealloc ring.
 *
 * - `ETIMEDOUT`, `EINTR`: as for `Pull`.
 * - `ENXIO`: nothing is mapped, with `tap` -1.
 * - `EBADF`: `tap` is no descriptor of a tap of this session.
 * - `ENODEV`: the tap had ended before. One that ends during the wait ends the wait.
 */
struct nettap_push {
	/**
	 * In: tap descriptor, or -1.
	 */
	int32_t tap;
	/**
	 * In: entries to wait for.
	 */
	uint32_t n;
	/**
	 * In: longest wait in microseconds; 0 waits for ever.
	 */
	uint64_t timeout_us;
};

/**
 * A filter over packets from their Ethernet header on: what does not match never leaves the kernel's
 * path, not even where a bypass tap cuts the host off. Its result is a snap length: 0 does not match, else
 * so many bytes at most are copied. A VLAN tag that travels beside the bytes is seen as with packet
 * sockets (`SKF_AD_VLAN_TAG` of linux/filter.h, `vlan_tci` of `struct __sk_buff`), and a super-packet
 * whole, also where it will be cut.
 */
struct nettap_filter {
	/**
	 * One of the `FILTER_` kinds.
	 */
	uint32_t kind;
	/**
	 * Classic BPF: number of instructions. eBPF: descriptor of a socket-filter program.
	 */
	uint32_t len_or_fd;
	/**
	 * Classic BPF: address of the instructions, `struct sock_filter` of linux/filter.h. Else zero.
	 */
	uint64_t program;
};

/**
 * `interface_tap` (patent paragraphs 36 to 40): opens a tap and returns its descriptor.
 *
 * `poll` on the descriptor is readable while the detour ring has a packet and reports `POLLHUP`
 * once the tap has ended. Closing its last copy ends the tap.
 *
 * With a `fanout` several sessions open the same mode of an interface (patent paragraph 45): each has
 * a tap, with rings, id and figures of its own, and each packet goes to one of them. What decides over
 * a packet before it has a tap must be the same for all: `on_full`, `no_consumer`, `fanout`, `gso` and
 * the filter; the last may differ in `snaplen`, `max_bytes`, `max_age` and ring size.
 *
 * - `ENXIO`: the session has not mapped.
 * - `ENODEV`: no such interface in the namespace.
 * - `EPERM`: no `CAP_NET_ADMIN` over the interface's network namespace.
 * - `EBUSY`: a tap that this one cannot stand beside is open on the interface, or one of another
 *   group.
 * - `EEXIST`: the taps that this one would share packets with have other options.
 * - `ENOSPC`: the session has as many taps as it may, or as many share the packets as may (64).
 * - `ENOBUFS`, `ENOMEM`: as for `Map`.
 * - `EOPNOTSUPP`: frames of the interface have no Ethernet header.
 * - `ENOEXEC`: the filter is no program that the kernel takes for one.
 * - `EBADF`: `netns`, or the filter's, is no descriptor. `EMFILE`, `ENFILE`: no descriptor is left for the tap.
 * - `E2BIG`: netfilter takes no more hooks on the interface (1024).
 */
struct nettap_tap {
	/**
	 * In: interface, zero terminated.
	 */
	uint8_t ifname[NETTAP_IFNAME_MAX];
	/**
	 * In: one of the `TAP_` modes.
	 */
	uint32_t mode;
	/**
	 * In: `TAP_STANDBY`, `TAP_UNSTAMPED`, both, or zero.
	 */
	uint32_t flags;
	/**
	 * In: descriptor of a network namespace to look in, or -1 for the caller's.
	 */
	int32_t netns;
	/**
	 * In: cells of the detour and revert rings; 0 lets the kernel choose.
	 */
	uint32_t ring_cells;
	/**
	 * In: longest part of a packet that is copied for the program; 0 copies all of it.
	 */
	uint32_t snaplen;
	/**
	 * In: one of the `ON_FULL_` policies.
	 */
	uint32_t on_full;
	/**
	 * In: one of the `ON_EXIT_` policies.
	 */
	uint32_t on_exit;
	/**
	 * In: one of the `GSO_` options.
	 */
	uint32_t gso;
	/**
	 * In: most bytes of packets (with the kernel's bookkeeping) that the tap may hold; 0 for the
	 * default.
	 */
	uint64_t max_bytes;
	/**
	 * Out: tap descriptor.
	 */
	int32_t fd;
	/**
	 * Out: id of the tap.
	 */
	uint32_t id;
	/**
	 * Out: index of the interface.
	 */
	uint32_t ifindex;
	/**
	 * Zero.
	 */
	uint32_t pad;
	/**
	 * Out: the detour ring.
	 */
	struct nettap_ring_map detour;
	/**
	 * Out: the revert ring.
	 */
	struct nettap_ring_map revert;
	/**
	 * In: one of the `NO_CONSUMER_` policies.
	 */
	uint32_t no_consumer;
	/**
	 * In: one of the `FANOUT_` options.
	 */
	uint32_t fanout;
	/**
	 * In: microseconds that a packet may be held before it follows `on_exit`; 0: any time.
	 */
	uint64_t max_age_us;
	/**
	 * In: which packets are detoured.
	 */
	struct nettap_filter filter;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved[4];
};

/**
 * `interface_untap` by id, for whoever administers the machine; programs close their descriptor.
 *
 * The tap ends with its `on_exit` policy; its owner sees `POLLHUP`.
 *
 * - `ENOENT`: no tap has this id.
 * - `EPERM`: no `CAP_NET_ADMIN` over the interface's network namespace.
 */
struct nettap_untap {
	/**
	 * In: id of the tap.
	 */
	uint32_t id;
	/**
	 * In: must be zero.
	 */
	uint32_t reserved;
};

/**
 * Copies records of one kind, in ascending order of their ids.
 *
 * The kernel writes records of `record_size` bytes, 8 to 4096: what its records have beyond that is left out,
 * what the program knows beyond that is zero.
 */
struct nettap_query {
	/**
	 * In: one of the `QUERY_` kinds.
	 */
	uint32_t kind;
	/**
	 * In: size of a record in the program's view.
	 */
	uint32_t record_size;
	/**
	 * In: records with an id from this one on.
	 */
	uint32_t from_id;
	/**
	 * In: records that fit. Out: records written.
	 */
	uint32_t count;
	/**
	 * In: address of the records.
	 */
	uint64_t records;
};

/**
 * Changes policies of an open tap, by id, for whoever administers the machine. What a request does not
 * name stays; either all is changed or nothing. With a fan-out, what all of its taps have in common
 * changes for all.
 *
 * - `ENOENT`, `EPERM`: as for `Untap`.
 * - `EINVAL`: a value names nothing.
 * - `ENOEXEC`, `EBADF`: the filter, as for `Tap`.
 */
struct nettap_set {
	/**
	 * In: id of the tap.
	 */
	uint32_t id;
	/**
	 * In: `SET_` bits of what is to change.
	 */
	uint32_t what;
	/**
	 * In: one of the `ON_FULL_` policies.
	 */
	uint32_t on_full;
	/**
	 * In: one of the `ON_EXIT_` policies.
	 */
	uint32_t on_exit;
	/**
	 * In: one of the `NO_CONSUMER_` policies.
	 */
	uint32_t no_consumer;
	/**
	 * In: as in `Tap`.
	 */
	uint32_t snaplen;
	/**
	 * In: as in `Tap`.
	 */
	uint64_t max_bytes;
	/**
	 * In: as in `Tap`.
	 */
	uint64_t max_age_us;
	/**
	 * In: as in `Tap`.
	 */
	struct nettap_filter filter;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved[4];
};

/**
 * Shared locks of the session's region (patent paragraph 62); `lock` says how they are
 * taken and released without a request.
 *
 * - `ENXIO`: the session has not mapped, or is unmapped while it waits.
 * - `ENOENT`: it has not registered this lock.
 * - `ETIMEDOUT`, `EINTR`: as for `Pull`, with `LOCK_WAIT`.
 */
struct nettap_lock {
	/**
	 * In: one of the `LOCK_` operations.
	 */
	uint32_t op;
	/**
	 * In: number of the lock, below `LOCKS_MAX`.
	 */
	uint32_t number;
	/**
	 * In, with `LOCK_WAIT`: the word as it was seen, with its waiters' bit. Else zero.
	 */
	uint32_t seen;
	/**
	 * In: must be zero.
	 */
	uint32_t pad;
	/**
	 * In, with `LOCK_WAIT`: longest wait in microseconds, rounded up to ticks of the kernel's; 0 waits
	 * for ever. Else zero.
	 */
	uint64_t timeout_us;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved;
};

/**
 * How the kernel serves the session's rings, from now on and until the session is unmapped. Whatever they say,
 * packets keep their order.
 *
 * With `SERVE_BUSY` a thread of the kernel's looks at the rings again and again, so that a packet goes on as
 * soon as it is given back, without a call, a timer or a further packet; `need_wakeup` stays zero. That takes
 * a processor for as long as it lasts, also when there is nothing to do. The thread is called
 * `napi/nettapSESSION-NUMBER`, with the session's id.
 *
 * - `EPERM`: `SERVE_BUSY`, and no `CAP_NET_ADMIN` over the machine.
 * - `ENXIO`: nothing is mapped.
 * - `ENOMEM`, `EAGAIN`: no thread can be made. `EINTR`: the caller is being killed.
 *
 * `need_wakeup`: super::ring::Words::need_wakeup
 */
struct nettap_serve {
	/**
	 * In: `SERVE_BUSY`, or zero.
	 */
	uint32_t flags;
	/**
	 * Out: the thread, as the caller's pid namespace numbers it; 0 if there is none, or it is not in there.
	 */
	uint32_t thread;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved[3];
};

/**
 * One region, and those who use it.
 */
struct nettap_region_stats {
	/**
	 * Size of an mbuf.
	 */
	uint32_t mbuf_size;
	/**
	 * Mbufs in all; 0 while no session has mapped the default region.
	 */
	uint32_t mbufs;
	/**
	 * Free ones.
	 */
	uint32_t free;
	/**
	 * In alloc rings or with programs, for new packets.
	 */
	uint32_t allocated;
	/**
	 * With taps: in detour rings or with programs. Of packets that were taken back from programs, too, until those give
	 * the mbufs back.
	 */
	uint32_t detoured;
	/**
	 * In the kernel's hands: being filled, or part of a packet on its way out.
	 */
	uint32_t kernel;
	/**
	 * Sessions that have mapped.
	 */
	uint32_t sessions;
	/**
	 * Taps.
	 */
	uint32_t taps;
	/**
	 * Mbufs that were taken back from sessions that ended.
	 */
	uint64_t reclaimed;
	/**
	 * Id of the group; 0 is the default one.
	 */
	uint32_t id;
	/**
	 * Its access rule, one of the `ACCESS_` constants; of no meaning for the default one.
	 */
	uint32_t access;
	/**
	 * User whom it belongs to, as the initial namespace numbers users.
	 */
	uint32_t uid;
	/**
	 * Users' group that it belongs to, likewise.
	 */
	uint32_t gid;
	/**
	 * Its name, zero terminated.
	 */
	uint8_t group[NETTAP_GROUP_MAX];
	/**
	 * Bytes of the region that lie in huge pages of the machine (2 MiB on x86-64).
	 */
	uint64_t huge;
};

/**
 * Entries of dealloc and revert rings that named nothing the sender may give: each is counted here
 * and changes nothing, but that what had been taken back from the sender is free then.
 */
struct nettap_refused {
	/**
	 * The index is outside the region.
	 */
	uint64_t index;
	/**
	 * The mbuf is not with this session, or its packet was taken back before: then it is free now.
	 */
	uint64_t holder;
	/**
	 * The mbuf is with this session, but in another use of it: given twice, or stale.
	 */
	uint64_t generation;
	/**
	 * Unknown flag bits.
	 */
	uint64_t flags;
	/**
	 * The ring's own words or tags were overwritten.
	 */
	uint64_t scribbled;
};

/**
 * One session.
 */
struct nettap_session_stats {
	/**
	 * Id.
	 */
	uint32_t id;
	/**
	 * Process that opened it, as the asking process's pid namespace numbers it; 0 if it is not in there.
	 */
	uint32_t pid;
	/**
	 * That process's name.
	 */
	uint8_t comm[16];
	/**
	 * Whether it has mapped.
	 */
	uint32_t mapped;
	/**
	 * Its taps.
	 */
	uint32_t taps;
	/**
	 * Mbufs in its alloc ring or with it for new packets.
	 */
	uint32_t allocated;
	/**
	 * What its `mbuf_map` asked to keep in the alloc ring.
	 */
	uint32_t prealloc;
	/**
	 * Entries taken from its dealloc ring.
	 */
	uint64_t deallocated;
	/**
	 * Entries refused: see `Refused`.
	 */
	struct nettap_refused refused;
	/**
	 * Rounds of serving that its server made.
	 */
	uint64_t rounds;
	/**
	 * System calls that served it: pulls, pushes, doorbells, polls.
	 */
	uint64_t calls;
	/**
	 * Times that a sleeper of it was woken.
	 */
	uint64_t wakeups;
	/**
	 * Group whose region it has mapped; 0 is the default one.
	 */
	uint32_t group;
	/**
	 * Shared locks that it has registered.
	 */
	uint32_t locks;
	/**
	 * Not 0 while a thread of the kernel's serves it without rest, see `Serve`.
	 */
	uint32_t busy;
	/**
	 * That thread, as the asking process's pid namespace numbers it; 0 if it is not in there.
	 */
	uint32_t thread;
};

/**
 * One tap. Packets, unless it says otherwise.
 *
 * The balance: `detoured = reverted + changed + crossed + dropped_by_program + reinjected +
 * dropped_by_policy + handed_over + refused_shape + refused_offload + refused_change + refused_memory +
 * in_flight`.
 */
struct nettap_tap_stats {
	/**
	 * Id.
	 */
	uint32_t id;
	/**
	 * Session that opened it.
	 */
	uint32_t session;
	/**
	 * Process that opened it, as the asking process's pid namespace numbers it; 0 if it is not in there.
	 */
	uint32_t pid;
	/**
	 * One of the `TAP_` modes.
	 */
	uint32_t mode;
	/**
	 * Interface.
	 */
	uint32_t ifindex;
	/**
	 * Inode number of the interface's network namespace, as `/proc/PID/ns/net` shows it.
	 */
	uint32_t netns;
	/**
	 * Interface.
	 */
	uint8_t ifname[NETTAP_IFNAME_MAX];
	/**
	 * `on_full` policy.
	 */
	uint32_t on_full;
	/**
	 * `on_exit` policy.
	 */
	uint32_t on_exit;
	/**
	 * `gso` option.
	 */
	uint32_t gso;
	/**
	 * `snaplen` option.
	 */
	uint32_t snaplen;
	/**
	 * Cells of each ring.
	 */
	uint32_t ring_cells;
	/**
	 * Entries in the detour ring that no consumer has taken.
	 */
	uint32_t ring_used;
	/**
	 * `max_bytes` option.
	 */
	uint64_t max_bytes;
	/**
	 * Bytes held now, with the kernel's bookkeeping.
	 */
	uint64_t held_bytes;
	/**
	 * Given to the program.
	 */
	uint64_t detoured;
	/**
	 * Bytes of them, on the wire.
	 */
	uint64_t detoured_bytes;
	/**
	 * Super-packets among them.
	 */
	uint64_t detoured_gso;
	/**
	 * Sent on by this tap exactly as they were.
	 */
	uint64_t reverted;
	/**
	 * Sent on by this tap with changes; not part of `reverted`.
	 */
	uint64_t changed;
	/**
	 * Sent on by another tap.
	 */
	uint64_t crossed;
	/**
	 * Dropped by the program: dealloc.
	 */
	uint64_t dropped_by_program;
	/**
	 * Sent on by the `on_exit` policy.
	 */
	uint64_t reinjected;
	/**
	 * Dropped by the `on_exit` policy, or because the interface went away.
	 */
	uint64_t dropped_by_policy;
	/**
	 * Lost because offset, length or chain of the changed packet could not be.
	 */
	uint64_t refused_shape;
	/**
	 * Lost because checksum or segmentation state of the changed packet could not be.
	 */
	uint64_t refused_offload;
	/**
	 * Lost because the change did not fit the kept packet (a super-packet resized, a snapped tail
	 * changed) or the other interface could not take it.
	 */
	uint64_t refused_change;
	/**
	 * Lost for want of memory while the change was made.
	 */
	uint64_t refused_memory;
	/**
	 * Still out. Counted in the kernel's account and not computed from the others, unless packets came or ended
	 * while it was counted.
	 */
	uint64_t in_flight;
	/**
	 * Not detoured and sent on: the detour ring was full.
	 */
	uint64_t passed_ring;
	/**
	 * Not detoured and sent on: no mbuf was free.
	 */
	uint64_t passed_mbufs;
	/**
	 * Not detoured and sent on: `max_bytes`.
	 */
	uint64_t passed_bytes;
	/**
	 * Not detoured and sent on: a packet that no program can read (device memory), or no memory.
	 */
	uint64_t passed_other;
	/**
	 * Not detoured and dropped: the detour ring was full.
	 */
	uint64_t dropped_ring;
	/**
	 * Not detoured and dropped: no mbuf was free.
	 */
	uint64_t dropped_mbufs;
	/**
	 * Not detoured and dropped: `max_bytes`.
	 */
	uint64_t dropped_bytes;
	/**
	 * Not detoured and dropped: other reasons.
	 */
	uint64_t dropped_other;
	/**
	 * Packets of the host that a bypass tap turned away.
	 */
	uint64_t cut_off;
	/**
	 * Packets of other taps that this tap sent on.
	 */
	uint64_t crossed_in;
	/**
	 * New packets that this tap sent on.
	 */
	uint64_t injected;
	/**
	 * New packets refused: their offset, length, chain, checksum or segmentation state could not be,
	 * or there was no memory.
	 */
	uint64_t injected_refused;
	/**
	 * Entries of the revert ring refused: see `Refused`.
	 */
	struct nettap_refused refused;
	/**
	 * Times that a program's position in the detour ring could not be.
	 */
	uint64_t scribbled_detour;
	/**
	 * Packets that were not taken after the tap had sent them on: the interface is down, or its queue full.
	 * What the network layer drops after that it counts itself.
	 */
	uint64_t undelivered;
	/**
	 * Most cells of the detour ring that were ever in use; of fewer than nine, as far as anybody has looked.
	 */
	uint64_t ring_high_water;
	/**
	 * `no_consumer` policy.
	 */
	uint32_t no_consumer;
	/**
	 * `fanout` option.
	 */
	uint32_t fanout;
	/**
	 * `TAP_STANDBY`, `TAP_UNSTAMPED`, both, or zero.
	 */
	uint32_t flags;
	/**
	 * One of the `FILTER_` kinds.
	 */
	uint32_t filter;
	/**
	 * `max_age` policy in microseconds; 0: none.
	 */
	uint64_t max_age_us;
	/**
	 * Group of its region.
	 */
	uint32_t group;
	/**
	 * Not 0 while it lets packets pass because its program has held one longer than `max_age`.
	 */
	uint32_t failed_open;
	/**
	 * Times that this began.
	 */
	uint64_t fail_opens;
	/**
	 * Packets that followed `on_exit` because of `max_age`; part of `reinjected` and
	 * `dropped_by_policy`.
	 */
	uint64_t aged;
	/**
	 * Given to another tap of the fan-out, because this one is on standby or ended; part of the balance.
	 */
	uint64_t handed_over;
	/**
	 * Not detoured and sent on: it has failed open, or nobody consumes.
	 */
	uint64_t passed_stalled;
	/**
	 * Not detoured and sent on: the filter does not match.
	 */
	uint64_t passed_filter;
};

/**
 * Makes a session that has not mapped a listener: from now on `read` on it returns events, records of
 * `Event`, and `poll` is about them. A listener stays one until it is closed; it
 * cannot map, and a session that has mapped cannot listen. Wait for events only after this request.
 *
 * - `EPERM`: no `CAP_NET_ADMIN` over the machine.
 * - `EBUSY`: the session has mapped, or listens already.
 * - `EINVAL`: a bit in `kinds` names no kind, or `record_size` is below 8 or above 4096.
 * - `ENOSPC`: there are as many listeners as may be.
 * - `ENOMEM`: no memory for the queue.
 *
 * `read` returns as many whole records as there are and fit, at least one.
 *
 * - `EAGAIN`: there is none, and the descriptor is `O_NONBLOCK`.
 * - `EINTR`: a signal came first.
 * - `EINVAL`: no record fits, or the session does not listen.
 * - `EFAULT`: the memory is not writable. A record that could not be written counts as lost.
 */
struct nettap_monitor {
	/**
	 * In: kinds to be told of, `1 << EVENT_`; 0 for all, those of later versions too.
	 */
	uint64_t kinds;
	/**
	 * In: must be zero.
	 */
	uint32_t flags;
	/**
	 * In: size of a record in the program's view. What the module's record has beyond it is left out,
	 * what it lacks is zero.
	 */
	uint32_t record_size;
	/**
	 * Out: events that the queue holds.
	 */
	uint32_t queue;
	/**
	 * In: must be zero.
	 */
	uint32_t pad;
	/**
	 * In: must be zero.
	 */
	uint64_t reserved[2];
};

/**
 * One event. What does not belong to its kind is zero. Records grow at the end only.
 */
struct nettap_event {
	/**
	 * Number among the events of this listener, from 1; those that were lost count, too.
	 */
	uint64_t number;
	/**
	 * When, in nanoseconds of `CLOCK_REALTIME`.
	 */
	uint64_t time;
	/**
	 * Events between this one and the record before it that were lost.
	 */
	uint64_t lost;
	/**
	 * How many of what the kind says.
	 */
	uint64_t count;
	/**
	 * Packets that went on without the program.
	 */
	uint64_t passed;
	/**
	 * Packets that were dropped.
	 */
	uint64_t dropped;
	/**
	 * One of the `EVENT_` kinds.
	 */
	uint32_t kind;
	/**
	 * One of the `CAUSE_` causes.
	 */
	uint32_t cause;
	/**
	 * Session, or the one that opened the tap.
	 */
	uint32_t session;
	/**
	 * Tap.
	 */
	uint32_t tap;
	/**
	 * Process that opened session or tap, as the initial pid namespace numbers it.
	 */
	uint32_t pid;
	/**
	 * Process that asked for it, where it need not be the same; numbered likewise.
	 */
	uint32_t by;
	/**
	 * One of the `TAP_` modes.
	 */
	uint32_t mode;
	/**
	 * Interface.
	 */
	uint32_t ifindex;
	/**
	 * Inode number of the interface's network namespace.
	 */
	uint32_t netns;
	/**
	 * `SET_` bits of what was changed.
	 */
	uint32_t what;
	/**
	 * Group; 0 is the default one.
	 */
	uint32_t group;
	/**
	 * Zero.
	 */
	uint32_t pad;
	/**
	 * Name of the process that opened session or tap.
	 */
	uint8_t comm[16];
	/**
	 * Interface, zero terminated.
	 */
	uint8_t ifname[NETTAP_IFNAME_MAX];
	/**
	 * Group, zero terminated; with those kinds that are about groups.
	 */
	uint8_t group_name[NETTAP_GROUP_MAX];
	/**
	 * Zero.
	 */
	uint64_t reserved[4];
};

/**
 * One cell of a ring: 8 bytes, so that a cache line carries eight. Both words are shared with the
 * kernel: store `entry` first, then `tag` with release; load `tag` with acquire, then `entry`.
 */
struct nettap_cell {
	/**
	 * State, flags, lap and generation; written last. See NETTAP_STATE_FULL and what follows it.
	 */
	uint32_t tag;
	/**
	 * Index of the mbuf.
	 */
	uint32_t entry;
};

/**
 * The words before the cells of a ring's page. The read-only page has the kernel's, the writable
 * page the program's; each uses what it has. One cache line each.
 */
struct nettap_words {
	/**
	 * The position of the side that owns the page: the consumers' position where programs
	 * consume, the producers' where they produce, the kernel's copy of its own in the read-only
	 * page.
	 */
	uint32_t position;
	/**
	 * In the read-only page: not 0 when the kernel sleeps and wants the doorbell after a push.
	 */
	uint32_t need_wakeup;
	/**
	 * In the read-only page: cells of the ring.
	 */
	uint32_t size;
	/**
	 * Must be zero; room to grow.
	 */
	uint32_t reserved[13];
#if defined(__GNUC__)
} __attribute__((aligned(64)));
#else
};
#endif

/**
 * One shared lock, a cache line of its own. The word is changed by compare-and-exchange only, as
 * lock.rs says; nettap_lock_take() and nettap_lock_release() of libnettap.h do that.
 */
struct nettap_lock_words {
	/**
	 * The lock: NETTAP_LOCK_OWNER, NETTAP_LOCK_OWNER_DIED, NETTAP_LOCK_WAITERS.
	 */
	uint32_t word;
	/**
	 * What it guards, or a part of it: zero when the region is made, and touched by programs only.
	 */
	uint32_t data[15];
#if defined(__GNUC__)
} __attribute__((aligned(64)));
#else
};
#endif

#define NETTAP_IOC_INFO _IOWR(NETTAP_MAGIC, NETTAP_NR_INFO, struct nettap_info)
#define NETTAP_IOC_MAP _IOWR(NETTAP_MAGIC, NETTAP_NR_MAP, struct nettap_map)
#define NETTAP_IOC_UNMAP _IO(NETTAP_MAGIC, NETTAP_NR_UNMAP)
#define NETTAP_IOC_PULL _IOWR(NETTAP_MAGIC, NETTAP_NR_PULL, struct nettap_pull)
#define NETTAP_IOC_PUSH _IOWR(NETTAP_MAGIC, NETTAP_NR_PUSH, struct nettap_push)
#define NETTAP_IOC_TAP _IOWR(NETTAP_MAGIC, NETTAP_NR_TAP, struct nettap_tap)
#define NETTAP_IOC_UNTAP _IOWR(NETTAP_MAGIC, NETTAP_NR_UNTAP, struct nettap_untap)
#define NETTAP_IOC_QUERY _IOWR(NETTAP_MAGIC, NETTAP_NR_QUERY, struct nettap_query)
#define NETTAP_IOC_SET _IOWR(NETTAP_MAGIC, NETTAP_NR_SET, struct nettap_set)
#define NETTAP_IOC_MONITOR _IOWR(NETTAP_MAGIC, NETTAP_NR_MONITOR, struct nettap_monitor)
#define NETTAP_IOC_LOCK _IOWR(NETTAP_MAGIC, NETTAP_NR_LOCK, struct nettap_lock)
#define NETTAP_IOC_SERVE _IOWR(NETTAP_MAGIC, NETTAP_NR_SERVE, struct nettap_serve)

/* Offsets never change; a size grows only at its end, with a line in the history (lib.rs). */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define NETTAP_ASSERT(holds) static_assert(holds, #holds)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define NETTAP_ASSERT(holds) _Static_assert(holds, #holds)
#endif

#ifdef NETTAP_ASSERT
NETTAP_ASSERT(sizeof(struct nettap_header) == 64);
NETTAP_ASSERT(sizeof(struct nettap_cell) == 8);
NETTAP_ASSERT(sizeof(struct nettap_words) == 64);
NETTAP_ASSERT(sizeof(struct nettap_ring_map) == 32);
NETTAP_ASSERT(sizeof(struct nettap_info) == 72);
NETTAP_ASSERT(sizeof(struct nettap_map) == 168);
NETTAP_ASSERT(sizeof(struct nettap_pull) == 16);
NETTAP_ASSERT(sizeof(struct nettap_push) == 16);
NETTAP_ASSERT(sizeof(struct nettap_tap) == 200);
NETTAP_ASSERT(sizeof(struct nettap_untap) == 8);
NETTAP_ASSERT(sizeof(struct nettap_filter) == 16);
NETTAP_ASSERT(sizeof(struct nettap_set) == 88);
NETTAP_ASSERT(sizeof(struct nettap_lock) == 32);
NETTAP_ASSERT(sizeof(struct nettap_serve) == 32);
NETTAP_ASSERT(sizeof(struct nettap_lock_words) == 64);
NETTAP_ASSERT(sizeof(struct nettap_query) == 24);
NETTAP_ASSERT(sizeof(struct nettap_region_stats) == 96);
NETTAP_ASSERT(sizeof(struct nettap_session_stats) == 128);
NETTAP_ASSERT(sizeof(struct nettap_refused) == 40);
NETTAP_ASSERT(sizeof(struct nettap_tap_stats) == 424);
NETTAP_ASSERT(sizeof(struct nettap_monitor) == 40);
NETTAP_ASSERT(sizeof(struct nettap_event) == 192);
NETTAP_ASSERT(offsetof(struct nettap_header, next) == 12);
NETTAP_ASSERT(offsetof(struct nettap_header, offset) == 40);
NETTAP_ASSERT(offsetof(struct nettap_header, csum_start) == 48);
NETTAP_ASSERT(offsetof(struct nettap_header, gso_type) == 56);
NETTAP_ASSERT(offsetof(struct nettap_header, flags) == 59);
NETTAP_ASSERT(offsetof(struct nettap_header, reserved) == 62);
NETTAP_ASSERT(offsetof(struct nettap_cell, entry) == 4);
NETTAP_ASSERT(offsetof(struct nettap_words, need_wakeup) == 4);
NETTAP_ASSERT(offsetof(struct nettap_words, reserved) == 12);
NETTAP_ASSERT(offsetof(struct nettap_ring_map, ro_len) == 16);
NETTAP_ASSERT(offsetof(struct nettap_ring_map, cells) == 24);
NETTAP_ASSERT(offsetof(struct nettap_info, features) == 8);
NETTAP_ASSERT(offsetof(struct nettap_info, reserved) == 40);
NETTAP_ASSERT(offsetof(struct nettap_map, region_offset) == 24);
NETTAP_ASSERT(offsetof(struct nettap_map, alloc) == 40);
NETTAP_ASSERT(offsetof(struct nettap_map, dealloc) == 72);
NETTAP_ASSERT(offsetof(struct nettap_map, group) == 104);
NETTAP_ASSERT(offsetof(struct nettap_map, access) == 136);
NETTAP_ASSERT(offsetof(struct nettap_pull, timeout_us) == 8);
NETTAP_ASSERT(offsetof(struct nettap_push, timeout_us) == 8);
NETTAP_ASSERT(offsetof(struct nettap_tap, mode) == 16);
NETTAP_ASSERT(offsetof(struct nettap_tap, max_bytes) == 48);
NETTAP_ASSERT(offsetof(struct nettap_tap, fd) == 56);
NETTAP_ASSERT(offsetof(struct nettap_tap, detour) == 72);
NETTAP_ASSERT(offsetof(struct nettap_tap, revert) == 104);
NETTAP_ASSERT(offsetof(struct nettap_tap, no_consumer) == 136);
NETTAP_ASSERT(offsetof(struct nettap_query, records) == 16);
NETTAP_ASSERT(offsetof(struct nettap_region_stats, reclaimed) == 32);
NETTAP_ASSERT(offsetof(struct nettap_session_stats, comm) == 8);
NETTAP_ASSERT(offsetof(struct nettap_session_stats, refused) == 48);
NETTAP_ASSERT(offsetof(struct nettap_session_stats, wakeups) == 104);
NETTAP_ASSERT(offsetof(struct nettap_refused, scribbled) == 32);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, ifname) == 24);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, max_bytes) == 64);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, detoured) == 80);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, in_flight) == 184);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, refused) == 288);
NETTAP_ASSERT(offsetof(struct nettap_tap_stats, ring_high_water) == 344);
NETTAP_ASSERT(offsetof(struct nettap_event, kind) == 48);
NETTAP_ASSERT(offsetof(struct nettap_event, comm) == 96);
NETTAP_ASSERT(offsetof(struct nettap_event, group_name) == 128);
#endif

#undef NETTAP_ASSERT

#endif /* NETTAP_H */
