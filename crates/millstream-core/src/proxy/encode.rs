//! Writing headers, for proxies and for tests.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::address::{ProxyEndpoints, ProxyTransport, ProxyUnixAddress};
use super::error::ProxyEncodeError;
use super::header::{ProxyHeader, ProxyVersion};
use super::tlv::{ProxyTlvs, TLV_HEAD_LEN, is_sound, tlv_type};
use super::v2;

impl ProxyHeader {
    /// The bytes of this header in the form of its [`version`](Self::version), to be sent before anything else.
    ///
    /// # Errors
    /// As [`encode_v1`](Self::encode_v1) and [`encode_v2`](Self::encode_v2).
    pub fn encode(&self) -> Result<Vec<u8>, ProxyEncodeError> {
        match self.version {
            ProxyVersion::V1 => self.encode_v1(),
            ProxyVersion::V2 => self.encode_v2(),
        }
    }

    /// This header as a line of version 1.
    ///
    /// # Errors
    /// [`ProxyEncodeError::V1CannotSay`] for anything but [`ProxyEndpoints::Unknown`] and TCP without TLVs. (For a
    /// connection of the proxy's own, write the two addresses of its socket: some receivers refuse `UNKNOWN`.)
    pub fn encode_v1(&self) -> Result<Vec<u8>, ProxyEncodeError> {
        let cannot = |what| Err(ProxyEncodeError::V1CannotSay { what });
        if !self.tlvs.is_empty() {
            return cannot("TLVs");
        }
        match &self.endpoints {
            ProxyEndpoints::Unknown => Ok(b"PROXY UNKNOWN\r\n".to_vec()),
            ProxyEndpoints::Local => cannot("that the proxy speaks for itself"),
            ProxyEndpoints::Unix { .. } => cannot("addresses of Unix sockets"),
            ProxyEndpoints::Ip { transport: ProxyTransport::Datagram, .. } => cannot("that it is UDP"),
            ProxyEndpoints::Ip { source, destination, .. } => {
                let (source_ip, destination_ip) = same_family(source, destination);
                let protocol = if source_ip.is_ipv4() { "TCP4" } else { "TCP6" };
                let (source_port, destination_port) = (source.port(), destination.port());
                let line = format!(
                    "PROXY {protocol} {source_ip} {destination_ip} {source_port} {destination_port}\r\n"
                );
                Ok(line.into_bytes())
            }
        }
    }

    /// This header in the binary form of version 2. A checksum among the TLVs is computed anew.
    ///
    /// # Errors
    /// [`ProxyEncodeError::TooLong`] beyond [`V2_LIMIT`](super::V2_LIMIT); [`ProxyEncodeError::BadTlv`].
    pub fn encode_v2(&self) -> Result<Vec<u8>, ProxyEncodeError> {
        let mut addresses = Vec::new();
        let (command, family, transport) = match &self.endpoints {
            ProxyEndpoints::Local => (v2::LOCAL, v2::UNSPECIFIED, v2::UNSPECIFIED),
            ProxyEndpoints::Unknown => (v2::PROXY, v2::UNSPECIFIED, v2::UNSPECIFIED),
            ProxyEndpoints::Ip { source, destination, transport } => {
                let family = match same_family(source, destination) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        addresses.extend(source.octets());
                        addresses.extend(destination.octets());
                        v2::INET
                    }
                    (source, destination) => {
                        addresses.extend(as_v6(source).octets());
                        addresses.extend(as_v6(destination).octets());
                        v2::INET6
                    }
                };
                addresses.extend(source.port().to_be_bytes());
                addresses.extend(destination.port().to_be_bytes());
                (v2::PROXY, family, number(*transport))
            }
            ProxyEndpoints::Unix { source, destination, transport } => {
                for address in [source, destination] {
                    let mut block = [0; ProxyUnixAddress::LEN];
                    block[..address.as_bytes().len()].copy_from_slice(address.as_bytes());
                    addresses.extend(block);
                }
                (v2::PROXY, v2::UNIX, number(*transport))
            }
        };
        // A header without addresses has no place where TLVs would begin.
        let tlvs = if addresses.is_empty() { &[][..] } else { &self.tlvs[..] };
        let rest_len = addresses.len() + tlvs.len();
        let too_long = ProxyEncodeError::TooLong { len: v2::FIXED_LEN + rest_len };
        if v2::FIXED_LEN + rest_len > v2::V2_LIMIT {
            return Err(too_long);
        }
        let announced = u16::try_from(rest_len).map_err(|_| too_long)?;
        let mut bytes = Vec::with_capacity(v2::FIXED_LEN + rest_len);
        bytes.extend(v2::V2_SIGNATURE);
        bytes.extend([v2::VERSION << 4 | command, family << 4 | transport]);
        bytes.extend(announced.to_be_bytes());
        bytes.extend(addresses);
        let mut at = bytes.len();
        bytes.extend(tlvs);
        for tlv in ProxyTlvs::new(tlvs) {
            if !is_sound(tlv) {
                return Err(ProxyEncodeError::BadTlv { kind: tlv.kind });
            }
            let value_at = at + TLV_HEAD_LEN;
            if tlv.kind == tlv_type::CRC32C {
                let checksum = v2::checksum_of(&bytes, value_at);
                bytes[value_at..value_at + 4].copy_from_slice(&checksum.to_be_bytes());
            }
            at = value_at + tlv.value.len();
        }
        Ok(bytes)
    }
}

/// Both addresses in one family: as they are, or both as IPv6.
fn same_family(source: &SocketAddr, destination: &SocketAddr) -> (IpAddr, IpAddr) {
    let (source, destination) = (source.ip(), destination.ip());
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    (as_v6(source).into(), as_v6(destination).into())
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn number(transport: ProxyTransport) -> u8 {
    match transport {
        ProxyTransport::Stream => v2::STREAM,
        ProxyTransport::Datagram => v2::DATAGRAM,
    }
}
