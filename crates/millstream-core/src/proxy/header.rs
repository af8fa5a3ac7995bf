//! One header: whom it speaks for, and what else it tells.

use std::net::SocketAddr;

use super::address::{ProxyEndpoints, ProxyTransport};
use super::tlv::{ProxySsl, ProxyTlv, ProxyTlvs, tlv_type};

/// A PROXY header, received or to be sent.
///
/// ```
/// use millstream_core::proxy::{ProxyHeader, ProxyParse, parse_proxy_header, tlv_type};
/// let header = ProxyHeader::tcp("192.0.2.1:5000".parse()?, "198.51.100.1:443".parse()?);
/// assert_eq!(header.encode_v1()?, b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\n");
///
/// let header = header.with_tlv(tlv_type::AUTHORITY, "example.org").with_checksum();
/// let mut bytes = header.encode_v2()?;
/// let header_len = bytes.len();
/// bytes.extend(b"what the client says");
/// let ProxyParse::Header { header, len } = parse_proxy_header(&bytes)? else { panic!("a whole header") };
/// assert_eq!((len, header.authority()), (header_len, Some("example.org")));
/// assert_eq!(header.source(), Some("192.0.2.1:5000".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    pub(super) version: ProxyVersion,
    pub(super) endpoints: ProxyEndpoints,
    /// All TLVs as they stand in the header, whole ones only.
    pub(super) tlvs: Vec<u8>,
}

/// The two forms of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyHeader {
    /// A header of version 2 for a TCP connection from `source`, the client, to `destination`, where the proxy accepted it.
    /// If the two are of different families, the IPv4 address is written as IPv6 writes it (`::ffff:192.0.2.1`).
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(ProxyEndpoints::Ip { source, destination, transport: ProxyTransport::Stream })
    }

    /// A header of version 2 for a connection that the proxy makes for itself.
    pub fn local() -> Self {
        Self::new(ProxyEndpoints::Local)
    }

    /// A header of version 2 for any two ends.
    pub fn new(endpoints: ProxyEndpoints) -> Self {
        Self { version: ProxyVersion::V2, endpoints, tlvs: Vec::new() }
    }

    /// The same in another form, for [`encode`](Self::encode).
    #[must_use]
    pub fn with_version(mut self, version: ProxyVersion) -> Self {
        self.version = version;
        self
    }

    /// With another TLV behind those that it has. What is too long for a header is told by [`encode_v2`](Self::encode_v2).
    /// A header without addresses is written without TLVs: its receiver would have to drop them unread.
    #[must_use]
    pub fn with_tlv(mut self, kind: u8, value: impl AsRef<[u8]>) -> Self {
        super::tlv::push(&mut self.tlvs, kind, value.as_ref());
        self
    }

    /// With a checksum, which is computed when the header is written. For version 2 only.
    #[must_use]
    pub fn with_checksum(self) -> Self {
        if self.tlvs().any(|tlv| tlv.kind == tlv_type::CRC32C) {
            return self;
        }
        self.with_tlv(tlv_type::CRC32C, [0; 4])
    }

    /// In which form it came, or is written by [`encode`](Self::encode).
    pub fn version(&self) -> ProxyVersion {
        self.version
    }

    /// Between whom the connection is.
    pub fn endpoints(&self) -> &ProxyEndpoints {
        &self.endpoints
    }

    /// The client's address, over IP.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.endpoints {
            ProxyEndpoints::Ip { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The address that the client connected to, over IP.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.endpoints {
            ProxyEndpoints::Ip { destination, .. } => Some(destination),
            _ => None,
        }
    }

    /// All TLVs in their order, those of unknown types too.
    pub fn tlvs(&self) -> ProxyTlvs<'_> {
        ProxyTlvs::new(&self.tlvs)
    }

    /// The value of the first TLV of this type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|tlv: &ProxyTlv<'_>| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// The application protocol that the client and the proxy agreed on (ALPN), such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(tlv_type::ALPN)
    }

    /// The host name that the client asked for: that of TLS's server name, if the proxy saw one. `None` as well if it is no
    /// UTF-8; [`tlv`](Self::tlv) has the bytes. The client chose it: it says nothing about who it is.
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.tlv(tlv_type::AUTHORITY)?).ok()
    }

    /// What the proxy calls this connection, at most 128 bytes.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(tlv_type::UNIQUE_ID)
    }

    /// What the proxy tells of the client's TLS.
    pub fn ssl(&self) -> Option<ProxySsl<'_>> {
        ProxySsl::of(self.tlv(tlv_type::SSL)?)
    }
}
