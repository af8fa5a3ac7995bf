//! What a header of version 2 tells beyond addresses: a list of types, lengths and values.

/// The registered types of TLVs.
pub mod tlv_type {
    /// The application protocol of TLS (RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, UTF-8.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// The proxy's name for the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the proxy knows of the client's TLS; holds further TLVs.
    pub const SSL: u8 = 0x20;
    /// In `SSL`: the version, such as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// In `SSL`: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// In `SSL`: the cipher suite.
    pub const SSL_CIPHER: u8 = 0x23;
    /// In `SSL`: how the proxy's certificate was signed.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// In `SSL`: the key of the proxy's certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The name of a network name space.
    pub const NETNS: u8 = 0x30;
}

/// One type with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProxyTlv<'a> {
    /// See [`tlv_type`].
    pub kind: u8,
    /// Its bytes, as the proxy sent them.
    pub value: &'a [u8],
}

/// The TLVs of a header, one by one; nothing is copied.
#[derive(Clone, Debug)]
pub struct ProxyTlvs<'a> {
    rest: &'a [u8],
}

impl<'a> ProxyTlvs<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not handed out: at the end nothing, or a TLV that is cut.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for ProxyTlvs<'a> {
    type Item = ProxyTlv<'a>;

    fn next(&mut self) -> Option<ProxyTlv<'a>> {
        let (&[kind, high, low], rest) = self.rest.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        self.rest = rest;
        Some(ProxyTlv { kind, value })
    }
}

/// What a proxy tells of the TLS between the client and itself.
#[derive(Clone, Debug)]
pub struct ProxySsl<'a> {
    flags: u8,
    verify: u32,
    tlvs: ProxyTlvs<'a>,
}

impl<'a> ProxySsl<'a> {
    pub(super) fn of(value: &'a [u8]) -> Option<Self> {
        let (&[flags, a, b, c, d], rest) = value.split_first_chunk()?;
        Some(Self { flags, verify: u32::from_be_bytes([a, b, c, d]), tlvs: ProxyTlvs::new(rest) })
    }

    /// Whether the client connected over TLS.
    pub fn is_secure(&self) -> bool {
        self.flags & 0x01 != 0
    }

    /// Whether the client showed a certificate on this connection.
    pub fn certificate_on_connection(&self) -> bool {
        self.flags & 0x02 != 0
    }

    /// Whether the client showed a certificate at least once in its TLS session.
    pub fn certificate_in_session(&self) -> bool {
        self.flags & 0x04 != 0
    }

    /// Whether the client showed a certificate and the proxy verified it.
    pub fn is_verified(&self) -> bool {
        self.verify == 0 && self.flags & 0x06 != 0
    }

    /// The proxy's own number for what verifying the certificate gave; zero if it is good, or if there was none.
    pub fn verify(&self) -> u32 {
        self.verify
    }

    /// The TLVs within.
    pub fn tlvs(&self) -> ProxyTlvs<'a> {
        self.tlvs.clone()
    }

    /// The first one of this type, if it is UTF-8, as all registered ones are.
    pub fn text(&self, kind: u8) -> Option<&'a str> {
        let tlv = self.tlvs().find(|tlv| tlv.kind == kind)?;
        std::str::from_utf8(tlv.value).ok()
    }
}

/// Appends one. A value that is too long for its length is told by whoever writes the header, for it makes that too long.
pub(super) fn push(tlvs: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    tlvs.push(kind);
    tlvs.extend(len.to_be_bytes());
    tlvs.extend(value);
}

/// The length of what comes before the value.
pub(super) const TLV_HEAD_LEN: usize = 3;
/// The most bytes of a unique id.
pub(super) const UNIQUE_ID_LIMIT: usize = 128;

/// Whether a value has a length that its type allows. What stands inside is for those who ask for it.
pub(super) fn is_sound(tlv: ProxyTlv<'_>) -> bool {
    match tlv.kind {
        tlv_type::CRC32C => tlv.value.len() == 4,
        tlv_type::UNIQUE_ID => tlv.value.len() <= UNIQUE_ID_LIMIT,
        tlv_type::SSL => ProxySsl::of(tlv.value).is_some_and(|ssl| {
            let mut tlvs = ssl.tlvs();
            tlvs.by_ref().for_each(drop);
            tlvs.rest().is_empty()
        }),
        _ => true,
    }
}
