// SPDX-License-Identifier: GPL-2.0-only

//! The table of what is measured: paths, and the lines made of them.

use crate::generate::BATCH;
use crate::peers::{self, Make, Plain, Timed};
use anyhow::{bail, Result};
use nettap::Fanout;

/// Which way packets go, who makes them, and where they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// Frames of no protocol come in on a0, and there they end.
    Dropped,
    /// Frames of no protocol come in on a0 and leave by b0, for s0.
    Across,
    /// Datagrams come in on a0, for a socket of the host that is full.
    Stack,
    /// The same, but for another Ethernet address: the host takes them only where they come in again.
    Around,
    /// Datagrams come in on a0, and are for somebody behind b0.
    Routed,
    /// A socket of the host sends datagrams out of b0.
    Out,
    /// The program under test makes frames and sends them out of b0.
    Own,
}

/// A way of taking packets along a road.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) road: Road,
    /// The path whose cost is not this one's; none: the whole cost counts.
    pub(crate) floor: Option<&'static str>,
    /// The path of NetTap's that does the same for a program; none for NetTap's own and for floors.
    pub(crate) rival: Option<&'static str>,
    pub(crate) make: Make,
}

/// The options of a line beside its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Bytes of a frame, without its check sequence.
    pub(crate) size: usize,
    /// Packets in flight; of a program that sends its own, those of a turn.
    pub(crate) window: usize,
    /// Whether the program changes a byte of each packet.
    pub(crate) modify: bool,
    /// Bytes that the program asks to see; 0: all.
    pub(crate) snaplen: u32,
    /// Cells of rings; 0: as many as the peer takes by itself.
    pub(crate) cells: u32,
    /// Whether packets get a time stamp.
    pub(crate) stamped: bool,
    /// Idle taps beside.
    pub(crate) idle: usize,
    /// Idle sessions beside, each with a tap of its own.
    pub(crate) sessions: usize,
    /// Interfaces by which packets come, in turn.
    pub(crate) wires: usize,
    /// Programs that share the tap.
    pub(crate) crowd: Option<Crowd>,
    /// How the program waits for packets.
    pub(crate) wait: Wait,
}

/// Programs that share a tap: how, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) fanout: Fanout,
    pub(crate) programs: usize,
}

impl Crowd {
    fn name(self) -> String {
        let how = match self.fanout {
            Fanout::None => "alone",
            Fanout::Any => "any",
            Fanout::Flow => "flow",
            Fanout::Cpu => "cpu",
        };
        format!("{how}{}", self.programs)
    }
}

/// How a program waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It looks again, in the generator's own thread: nobody is ever woken.
    Poll,
    /// It sleeps whenever nothing is there, in a thread of its own.
    Sleep,
    /// It looks for a while before it sleeps, in a thread of its own.
    Adaptive,
    /// It sleeps, and does not want to run before a batch is there (`SCHED_BATCH`), in a thread of its own.
    Batch,
}

impl Spec {
    const BASIC: Self = Self {
        size: 60,
        window: 256,
        modify: false,
        snaplen: 0,
        cells: 0,
        stamped: false,
        idle: 0,
        sessions: 0,
        wires: 1,
        crowd: None,
        wait: Wait::Poll,
    };

    /// Packets that are sent at once.
    pub(crate) fn batch(&self) -> usize {
        self.window.min(BATCH)
    }
}

/// A path with options.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) path: &'static Path,
    pub(crate) spec: Spec,
}

impl Line {
    /// Path, size, and what is not as usual.
    pub(crate) fn name(&self) -> String {
        let Spec {
            size,
            window,
            modify,
            snaplen,
            cells,
            stamped,
            idle,
            sessions,
            wires,
            crowd,
            wait,
        } = self.spec;
        let mut name = format!("{}-{size}", self.path.name);
        if modify {
            name += "-modified";
        }
        if snaplen > 0 {
            name += &format!("-snap{snaplen}");
        }
        if cells > 0 {
            name += &format!("-cells{cells}");
        } else if window != Spec::BASIC.window {
            name += &format!("-flight{window}");
        }
        if stamped {
            name += "-stamped";
        }
        if idle > 0 {
            name += &format!("-idle{idle}");
        }
        if sessions > 0 {
            name += &format!("-sessions{sessions}");
        }
        if wires > 1 {
            name += &format!("-wires{wires}");
        }
        if let Some(crowd) = crowd {
            name += &format!("-{}", crowd.name());
        }
        match wait {
            Wait::Poll => {}
            Wait::Sleep => name += "-sleep",
            Wait::Adaptive => name += "-adaptive",
            Wait::Batch => name += "-batch",
        }
        name
    }

    /// Whether there is no program, and the kernel takes the packets alone.
    pub(crate) fn is_floor(&self) -> bool {
        self.path.name.starts_with("floor-")
    }

    /// The line whose cost is not this one's: the same size, as many packets in flight, by as many interfaces.
    pub(crate) fn floor(&self) -> Option<Line> {
        let name = self.path.floor?;
        let path = PATHS.iter().find(|path| path.name == name)?;
        let spec = Spec {
            size: self.spec.size,
            window: self.spec.window,
            wires: self.spec.wires,
            ..Spec::BASIC
        };
        Some(Line { path, spec })
    }
}

/// A maker of programs that look at packets, for either way of looking.
macro_rules! make {
    ($($maker:ident)::+) => {
        Make {
            plain: $($maker)::+::<Plain>,
            timed: $($maker)::+::<Timed>,
        }
    };
}

/// Every path. Floors stand before those who stand on them.
pub(crate) const PATHS: &[Path] = &[
    Path {
        name: "floor-drop",
        about: "the generator, a veth, and nobody who asks for the frame",
        road: Road::Dropped,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::nothing),
    },
    Path {
        name: "floor-stack",
        about: "into a UDP socket that is full",
        road: Road::Stack,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::nothing),
    },
    Path {
        name: "floor-out",
        about: "from a UDP socket out of the interface",
        road: Road::Out,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::nothing),
    },
    Path {
        name: "floor-mirred",
        about: "tc redirects from one interface to the other",
        road: Road::Across,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::mirred),
    },
    Path {
        name: "floor-route",
        about: "the host forwards",
        road: Road::Routed,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::route),
    },
    Path {
        name: "floor-redirect",
        about: "an XDP program in the driver redirects to the other interface",
        road: Road::Across,
        floor: None,
        rival: None,
        make: Make::blind(peers::floor::redirect),
    },
    Path {
        name: "input",
        about: "NetTap: received, to the program, back into the host",
        road: Road::Stack,
        floor: Some("floor-stack"),
        rival: None,
        make: make!(peers::nettap::input),
    },
    Path {
        name: "output",
        about: "NetTap: sent by the host, to the program, back out",
        road: Road::Out,
        floor: Some("floor-out"),
        rival: None,
        make: make!(peers::nettap::output),
    },
    Path {
        name: "bypass",
        about: "NetTap: received, to the program, out of the other interface",
        road: Road::Across,
        floor: Some("floor-drop"),
        rival: None,
        make: make!(peers::nettap::bypass),
    },
    Path {
        name: "consume",
        about: "NetTap: received, to the program, and nothing goes back",
        road: Road::Dropped,
        floor: Some("floor-drop"),
        rival: None,
        make: make!(peers::nettap::consume),
    },
    Path {
        name: "own",
        about: "NetTap: packets of the program's own",
        road: Road::Own,
        floor: None,
        rival: None,
        make: Make::blind(peers::nettap::own),
    },
    Path {
        name: "in-xdp",
        about: "AF_XDP (generic): into the host over a second veth",
        road: Road::Around,
        floor: Some("floor-stack"),
        rival: Some("input"),
        make: make!(peers::xdp::input),
    },
    Path {
        name: "in-packet",
        about: "AF_PACKET V3 and sendmmsg: into the host over a second veth",
        road: Road::Around,
        floor: Some("floor-stack"),
        rival: Some("input"),
        make: make!(peers::packet::input),
    },
    Path {
        name: "in-tap",
        about: "tap devices: read, and written back into the host",
        road: Road::Stack,
        floor: Some("floor-stack"),
        rival: Some("input"),
        make: make!(peers::tun::input),
    },
    Path {
        name: "in-nfqueue",
        about: "NFQUEUE in batches, hook input",
        road: Road::Stack,
        floor: Some("floor-stack"),
        rival: Some("input"),
        make: make!(peers::nfqueue::input),
    },
    Path {
        name: "in-nfqueue-one",
        about: "NFQUEUE one by one, hook input",
        road: Road::Stack,
        floor: Some("floor-stack"),
        rival: Some("input"),
        make: make!(peers::nfqueue::input_one),
    },
    Path {
        name: "out-nfqueue",
        about: "NFQUEUE in batches, hook output",
        road: Road::Out,
        floor: Some("floor-out"),
        rival: Some("output"),
        make: make!(peers::nfqueue::output),
    },
    Path {
        name: "out-nfqueue-one",
        about: "NFQUEUE one by one, hook output",
        road: Road::Out,
        floor: Some("floor-out"),
        rival: Some("output"),
        make: make!(peers::nfqueue::output_one),
    },
    Path {
        name: "fwd-xdp",
        about: "AF_XDP (generic): from one interface to the other",
        road: Road::Across,
        floor: Some("floor-drop"),
        rival: Some("bypass"),
        make: make!(peers::xdp::forward_generic),
    },
    Path {
        name: "fwd-xdp-native",
        about: "AF_XDP (in veth's driver, copying): from one interface to the other",
        road: Road::Across,
        floor: Some("floor-drop"),
        rival: Some("bypass"),
        make: make!(peers::xdp::forward_native),
    },
    Path {
        name: "fwd-packet",
        about: "AF_PACKET V3 and sendmmsg: from one interface to the other",
        road: Road::Across,
        floor: Some("floor-drop"),
        rival: Some("bypass"),
        make: make!(peers::packet::forward),
    },
    Path {
        name: "fwd-tap",
        about: "tap devices and tc: from one interface to the other",
        road: Road::Across,
        floor: Some("floor-drop"),
        rival: Some("bypass"),
        make: make!(peers::tun::forward),
    },
    Path {
        name: "capture-packet",
        about: "AF_PACKET V3",
        road: Road::Dropped,
        floor: Some("floor-drop"),
        rival: Some("consume"),
        make: make!(peers::packet::capture),
    },
    Path {
        name: "capture-xdp",
        about: "AF_XDP (generic)",
        road: Road::Dropped,
        floor: Some("floor-drop"),
        rival: Some("consume"),
        make: make!(peers::xdp::capture_generic),
    },
    Path {
        name: "capture-xdp-native",
        about: "AF_XDP (in veth's driver, copying)",
        road: Road::Dropped,
        floor: Some("floor-drop"),
        rival: Some("consume"),
        make: make!(peers::xdp::capture_native),
    },
    Path {
        name: "capture-pcap",
        about: "libpcap, immediate",
        road: Road::Dropped,
        floor: Some("floor-drop"),
        rival: Some("consume"),
        make: make!(peers::pcap::capture),
    },
    Path {
        name: "own-xdp",
        about: "AF_XDP: packets of the program's own",
        road: Road::Own,
        floor: None,
        rival: Some("own"),
        make: Make::blind(peers::xdp::own),
    },
    Path {
        name: "own-packet",
        about: "AF_PACKET sendmmsg: packets of the program's own",
        road: Road::Own,
        floor: None,
        rival: Some("own"),
        make: Make::blind(peers::packet::own),
    },
    Path {
        name: "own-packet-ring",
        about: "AF_PACKET TX_RING: packets of the program's own",
        road: Road::Own,
        floor: None,
        rival: Some("own"),
        make: Make::blind(peers::packet::own_ring),
    },
];

/// Frame sizes: the shortest and the longest of Ethernet, without the check sequence.
const SIZES: [usize; 2] = [60, 1514];
/// A long one, of an interface that takes 9000 bytes of payload.
const JUMBO: usize = 9014;

/// A path as it is measured first: both sizes.
fn basic(path: &'static Path) -> impl Iterator<Item = Line> {
    SIZES.into_iter().map(move |size| Line {
        path,
        spec: Spec {
            size,
            ..Spec::BASIC
        },
    })
}

/// What is tried beside the basic lines, of NetTap's paths and of those that send a program's own packets.
fn variants(path: &'static Path) -> Vec<Line> {
    let mut specs = Vec::new();
    for size in SIZES {
        let basic = Spec {
            size,
            ..Spec::BASIC
        };
        let takes = matches!(path.name, "input" | "output" | "bypass" | "consume");
        if takes {
            specs.extend([1, 64].map(|window| Spec { window, ..basic }));
            specs.extend(
                [Wait::Sleep, Wait::Adaptive, Wait::Batch].map(|wait| Spec { wait, ..basic }),
            );
        }
        if path.name.starts_with("own") {
            specs.push(Spec { window: 1, ..basic });
        }
        if matches!(path.name, "input" | "output" | "bypass") {
            specs.push(Spec {
                modify: true,
                ..basic
            });
        }
        if takes && size > 128 {
            specs.push(Spec {
                snaplen: 128,
                ..basic
            });
        }
        if path.name == "input" {
            // As many in flight as there are cells: more would not take the detour.
            specs.extend([16, 64, 256, 1024].map(|cells| Spec {
                cells,
                window: basic.window.min(cells as usize),
                ..basic
            }));
            specs.push(Spec {
                stamped: true,
                ..basic
            });
            specs.push(Spec { idle: 10, ..basic });
            specs.push(Spec {
                wait: Wait::Sleep,
                window: 64,
                ..basic
            });
        }
        if path.name == "input" && size == 60 {
            specs.extend(scaling(basic));
        }
    }
    if matches!(path.name, "own" | "own-packet") {
        specs.push(Spec {
            size: JUMBO,
            ..Spec::BASIC
        });
    }
    specs.into_iter().map(|spec| Line { path, spec }).collect()
}

/// More of everything, and what one more of it costs.
fn scaling(basic: Spec) -> Vec<Spec> {
    let sessions = [10].map(|sessions| Spec { sessions, ..basic });
    let wires = [2, 4].map(|wires| Spec { wires, ..basic });
    let shared = [Fanout::Any, Fanout::Flow, Fanout::Cpu].map(|fanout| {
        [2, 4, 8].map(|programs| Spec {
            crowd: Some(Crowd { fanout, programs }),
            ..basic
        })
    });
    let mut specs = [sessions.as_slice(), &wires].concat();
    specs.extend(shared.concat());
    specs
}

/// Every line there is.
pub(crate) fn all() -> Vec<Line> {
    let basic = PATHS.iter().flat_map(basic);
    basic.chain(PATHS.iter().flat_map(variants)).collect()
}

/// The lines that the words name: a path's name means its basic lines, a line's name itself, and with
/// `*` all whose names match. Each line's floor comes before it.
pub(crate) fn select(words: &[String]) -> Result<Vec<Line>> {
    let every = all();
    let mut chosen: Vec<Line> = Vec::new();
    for word in words {
        let matching: Vec<_> = every.iter().filter(|line| is_meant(line, word)).collect();
        if matching.is_empty() {
            bail!("no path and no line is called {word}; `ntbench list '*'` names them");
        }
        chosen.extend(matching);
    }
    if words.is_empty() {
        chosen = every;
    }
    let mut ordered: Vec<Line> = Vec::new();
    for line in chosen {
        for line in line.floor().into_iter().chain([line]) {
            if !ordered.iter().any(|known| known.name() == line.name()) {
                ordered.push(line);
            }
        }
    }
    Ok(ordered)
}

fn is_meant(line: &Line, word: &str) -> bool {
    let name = line.name();
    let is_basic = basic(line.path).any(|basic| basic.spec == line.spec);
    name == word
        || (is_basic && line.path.name == word)
        || (word.contains('*') && glob(word, &name))
}

/// Whether a pattern with `*` matches a name.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((front, rest)) => name.strip_prefix(front).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| glob(rest, tail)))
        }),
    }
}
