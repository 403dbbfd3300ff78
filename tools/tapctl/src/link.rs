// SPDX-License-Identifier: GPL-2.0-only

//! The interfaces of a network namespace, as the kernel lists them over netlink.
//!
//! Not `/sys/class/net`: what is seen there is the namespace in which /sys was mounted, which after
//! `--netns` is another than the one asked for.

use crate::failure::Failure;
use netlink_packet_core::{
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NLM_F_DUMP, NLM_F_REQUEST,
};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{protocols::NETLINK_ROUTE, Socket, SocketAddr};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What made it: `veth`, `bridge`, `vlan` …; `loopback`, or `device` for what a driver made.
    pub kind: String,
    /// Longest packet above the link layer, in bytes.
    pub mtu: u32,
    /// Operational state as `ip link` says it, in lower case.
    pub state: String,
    /// Whether the administrator has set it up.
    pub up: bool,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Whether its packets begin with an Ethernet header.
    pub ethernet: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
}

/// All interfaces of the namespace that this thread is in.
pub fn links() -> Result<Vec<Link>, Failure> {
    let refused = |error: std::io::Error| Failure::io("list interfaces", &error);
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(refused)?;
    socket.bind_auto().map_err(refused)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(refused)?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(ask));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(refused)?;

    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(refused)?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| Failure::new(format!("list interfaces: {error}")))?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(refused(error.to_io()));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links.push(Link::from(link));
                }
                _ => {}
            }
            // Messages are aligned to four bytes; a length of nothing would never end.
            let step = (message.header.length as usize).max(1).next_multiple_of(4);
            rest = rest.get(step..).unwrap_or_default();
        }
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let layer = message.header.link_layer_type;
        let loopback = layer == LinkLayerType::Loopback;
        let mut link = Self {
            index: message.header.index,
            kind: String::from(if loopback { "loopback" } else { "device" }),
            state: String::from("unknown"),
            up: message.header.flags.contains(LinkFlags::Up),
            // The loopback interface's packets carry an Ethernet header of zeroes.
            ethernet: loopback || layer == LinkLayerType::Ether,
            loopback,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::OperState(state) => link.state = said(state),
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            link.kind = kind_said(kind);
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

fn kind_said(kind: InfoKind) -> String {
    kind.to_string().to_lowercase()
}

fn said(state: State) -> String {
    let words = match state {
        State::NotPresent => "not present",
        State::Down => "down",
        State::LowerLayerDown => "lower layer down",
        State::Testing => "testing",
        State::Dormant => "dormant",
        State::Up => "up",
        _ => "unknown",
    };
    String::from(words)
}
