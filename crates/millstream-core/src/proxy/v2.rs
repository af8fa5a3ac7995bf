//! Version 2: sixteen fixed bytes, addresses, and a list of TLVs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{ProxyEndpoints, ProxyTransport, ProxyUnixAddress};
use super::checksum::crc32c;
use super::error::ProxyHeaderError;
use super::header::{ProxyHeader, ProxyVersion};
use super::parse::ProxyParse;
use super::tlv::{ProxyTlvs, TLV_HEAD_LEN, is_sound, tlv_type};

/// What a header begins with.
pub const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header that is accepted or written, in bytes. The specification means headers to fit into the smallest TCP
/// segment (536 bytes), and its length field allows 64 KiB; this leaves room for what proxies put into TLVs of their own, a
/// client's certificate say, and is all that a peer who never finishes can make us hold.
pub const V2_LIMIT: usize = 4096;

/// Judges bytes that begin with [`V2_SIGNATURE`], as far as they go.
pub(super) fn parse(bytes: &[u8]) -> Result<ProxyParse, ProxyHeaderError> {
    let Some(&version_and_command) = bytes.get(VERSION_AT) else { return wait(V2_LIMIT) };
    if version_and_command >> 4 != VERSION {
        return Err(ProxyHeaderError::V2Version { found: version_and_command >> 4 });
    }
    let command = version_and_command & 0x0F;
    if command > PROXY {
        return Err(ProxyHeaderError::V2Command { found: command });
    }
    let Some(&family_and_transport) = bytes.get(FAMILY_AT) else { return wait(V2_LIMIT) };
    // LOCAL discards all the rest, the family included.
    let shape =
        if command == LOCAL { Shape::None(ProxyEndpoints::Local) } else { shape(family_and_transport)? };
    let Some(&[high, low]) = bytes.get(LENGTH_AT..FIXED_LEN).and_then(|length| length.first_chunk()) else {
        return wait(V2_LIMIT);
    };
    let rest_len = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_LEN + rest_len;
    if len > V2_LIMIT {
        return Err(ProxyHeaderError::V2TooLong { len });
    }
    if shape.len() > rest_len {
        return Err(ProxyHeaderError::V2ShortAddresses { len: rest_len, needed: shape.len() });
    }
    let Some(whole) = bytes.get(..len) else { return wait(len) };
    let tlvs_at = FIXED_LEN + shape.len();
    let (endpoints, tlvs) = match shape.read(&whole[FIXED_LEN..tlvs_at]) {
        (endpoints, true) => (endpoints, check_tlvs(whole, tlvs_at)?.to_vec()),
        // Nobody can say where TLVs would begin.
        (endpoints, false) => (endpoints, Vec::new()),
    };
    let header = ProxyHeader { version: ProxyVersion::V2, endpoints, tlvs };
    Ok(ProxyParse::Header { header, len })
}

fn wait(limit: usize) -> Result<ProxyParse, ProxyHeaderError> {
    Ok(ProxyParse::NeedMore { limit })
}

/// How the addresses stand in the header.
enum Shape {
    None(ProxyEndpoints),
    V4(ProxyTransport),
    V6(ProxyTransport),
    Unix(ProxyTransport),
}

fn shape(family_and_transport: u8) -> Result<Shape, ProxyHeaderError> {
    let (family, transport) = (family_and_transport >> 4, family_and_transport & 0x0F);
    if family > UNIX {
        return Err(ProxyHeaderError::V2Family { found: family });
    }
    let transport = match transport {
        UNSPECIFIED => return Ok(Shape::None(ProxyEndpoints::Unknown)),
        STREAM => ProxyTransport::Stream,
        DATAGRAM => ProxyTransport::Datagram,
        found => return Err(ProxyHeaderError::V2Transport { found }),
    };
    Ok(match family {
        INET => Shape::V4(transport),
        INET6 => Shape::V6(transport),
        UNIX => Shape::Unix(transport),
        _ => Shape::None(ProxyEndpoints::Unknown),
    })
}

impl Shape {
    /// The length of both addresses and ports, in bytes.
    fn len(&self) -> usize {
        match self {
            Self::None(_) => 0,
            Self::V4(_) => 2 * (4 + 2),
            Self::V6(_) => 2 * (16 + 2),
            Self::Unix(_) => 2 * ProxyUnixAddress::LEN,
        }
    }

    /// Reads as many bytes as [`len`](Self::len) says, and tells whether TLVs may follow.
    fn read(self, block: &[u8]) -> (ProxyEndpoints, bool) {
        let ip = |ips: (std::net::IpAddr, std::net::IpAddr), ports: &[u8], transport| {
            let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
            let source = SocketAddr::new(ips.0, port(0));
            let destination = SocketAddr::new(ips.1, port(2));
            (ProxyEndpoints::Ip { source, destination, transport }, true)
        };
        match self {
            Self::None(endpoints) => (endpoints, false),
            Self::V4(transport) => {
                let at =
                    |from: usize| Ipv4Addr::from(*block[from..].first_chunk::<4>().expect("the length fits"));
                ip((at(0).into(), at(4).into()), &block[8..], transport)
            }
            Self::V6(transport) => {
                let at = |from: usize| {
                    Ipv6Addr::from(*block[from..].first_chunk::<16>().expect("the length fits"))
                };
                ip((at(0).into(), at(16).into()), &block[32..], transport)
            }
            Self::Unix(transport) => {
                let (source, destination) = block.split_at(ProxyUnixAddress::LEN);
                let (source, destination) =
                    (ProxyUnixAddress::from_padded(source), ProxyUnixAddress::from_padded(destination));
                (ProxyEndpoints::Unix { source, destination, transport }, true)
            }
        }
    }
}

/// The TLVs of a whole header, if all of them are sound and the checksum, if there is one, is right.
fn check_tlvs(whole: &[u8], from: usize) -> Result<&[u8], ProxyHeaderError> {
    let mut tlvs = ProxyTlvs::new(&whole[from..]);
    let mut checksum = None;
    let mut at = from;
    for tlv in tlvs.by_ref() {
        let is_second_checksum = tlv.kind == tlv_type::CRC32C && checksum.is_some();
        if !is_sound(tlv) || is_second_checksum {
            return Err(ProxyHeaderError::V2Tlv { at });
        }
        if tlv.kind == tlv_type::CRC32C {
            checksum = tlv.value.first_chunk().map(|&found| (at + TLV_HEAD_LEN, u32::from_be_bytes(found)));
        }
        at += TLV_HEAD_LEN + tlv.value.len();
    }
    if !tlvs.rest().is_empty() {
        return Err(ProxyHeaderError::V2Tlv { at });
    }
    if let Some((at, found)) = checksum {
        let computed = checksum_of(whole, at);
        if found != computed {
            return Err(ProxyHeaderError::V2Checksum { found, computed });
        }
    }
    Ok(&whole[from..])
}

/// The checksum of a whole header whose checksum stands at this offset.
pub(super) fn checksum_of(whole: &[u8], at: usize) -> u32 {
    crc32c(&[&whole[..at], &[0; 4], &whole[at + 4..]])
}

pub(super) const VERSION: u8 = 2;
/// Commands.
pub(super) const LOCAL: u8 = 0;
pub(super) const PROXY: u8 = 1;
/// Families and transport protocols.
pub(super) const UNSPECIFIED: u8 = 0;
pub(super) const INET: u8 = 1;
pub(super) const INET6: u8 = 2;
pub(super) const UNIX: u8 = 3;
pub(super) const STREAM: u8 = 1;
pub(super) const DATAGRAM: u8 = 2;

const VERSION_AT: usize = V2_SIGNATURE.len();
const FAMILY_AT: usize = VERSION_AT + 1;
const LENGTH_AT: usize = FAMILY_AT + 1;
/// The signature, version and command, family and transport, length.
pub(super) const FIXED_LEN: usize = LENGTH_AT + 2;
