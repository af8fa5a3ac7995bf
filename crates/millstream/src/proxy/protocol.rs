//! Whether a server wants a header, from whom, and for how long it waits.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use millstream_core::ErrorClass;
use thiserror::Error;

use super::refusal::ProxyRefusal;
use crate::address::Address;

/// How a server deals with PROXY headers: off, [`optional`](Self::optional) or [`required`](Self::required), from the
/// networks that are trusted. Nobody is trusted by default.
///
/// | the peer | off | optional | required |
/// |---|---|---|---|
/// | trusted, sends a header | it is data | taken | taken |
/// | trusted, sends something else | served as it is | served as it is | refused |
/// | trusted, sends what begins as a header and is none | it is data | refused | refused |
/// | trusted, sends nothing until the deadline | served as it is | refused | refused |
/// | not trusted | served as it is | served as it is, a header is data | refused at once |
///
/// See [`ServerOptions::proxy_protocol`](crate::ServerOptions::proxy_protocol) for an example.
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    mode: Mode,
    networks: Vec<IpNet>,
    trusts_unix: bool,
    pub(super) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Off,
    Optional,
    Required,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self::off()
    }
}

impl ProxyProtocol {
    /// No header is looked for. The default of a server.
    pub fn off() -> Self {
        Self { mode: Mode::Off, networks: Vec::new(), trusts_unix: false, timeout: DEFAULT_HEADER_TIMEOUT }
    }

    /// Every connection begins with a header: for a server that is reached by proxies alone, the usual case.
    pub fn required() -> Self {
        Self { mode: Mode::Required, ..Self::off() }
    }

    /// A connection from a trusted network may begin with a header: for the time in which proxies are switched over, and
    /// for servers that neighbours reach without one.
    ///
    /// The first bytes decide, so a peer has to send some. **A trusted peer that is silent until the deadline is refused**,
    /// for its header may only be late, and to go on without it would be to take one client for another. Where the server
    /// speaks first (SMTP, FTP, SSH), plain clients therefore need a listener of their own. And whatever begins with the
    /// five letters `PROXY` is a header or refused.
    pub fn optional() -> Self {
        Self { mode: Mode::Optional, ..Self::off() }
    }

    /// Trusts the peers of this network: `10.0.0.0/8`, `2001:db8::/32`, or a single address. Call it again for more.
    ///
    /// An IPv4 peer is an IPv4 address here even where the system shows it as `::ffff:10.0.0.1`, as it does on a socket
    /// that listens for both families. Whoever can send from such an address can claim any client's.
    ///
    /// # Errors
    /// [`BadNetwork`] for anything else.
    pub fn trust(mut self, network: &str) -> Result<Self, BadNetwork> {
        let address = |text: &str| text.parse::<IpAddr>().ok().map(IpNet::from);
        let parsed = network.parse().ok().or_else(|| address(network));
        self.networks.push(parsed.ok_or_else(|| BadNetwork { text: network.to_owned() })?);
        Ok(self)
    }

    /// Whether peers on Unix sockets are trusted (off by default). Who may connect is up to the rights of the path then.
    #[must_use]
    pub fn trust_unix(mut self, trusted: bool) -> Self {
        self.trusts_unix = trusted;
        self
    }

    /// How long the header may take, from the accepted connection to its last byte (5 s by default; the specification asks
    /// for at least 3 s). A TLS handshake has its own time, which begins behind the header.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether this peer is asked for a header.
    pub(crate) fn asks(&self, peer: &Address) -> Result<bool, ProxyRefusal> {
        match self.mode {
            Mode::Off => Ok(false),
            _ if self.trusts(peer) => Ok(true),
            Mode::Optional => Ok(false),
            Mode::Required => Err(ProxyRefusal::Untrusted),
        }
    }

    pub(super) fn is_required(&self) -> bool {
        self.mode == Mode::Required
    }

    fn trusts(&self, peer: &Address) -> bool {
        match peer {
            Address::Ip(peer) => {
                let peer = peer.ip().to_canonical();
                self.networks.iter().any(|network| network.contains(&peer))
            }
            Address::Path(_) | Address::Abstract(_) | Address::Unnamed => self.trusts_unix,
            Address::Memory => false,
        }
    }
}

/// The specification asks for at least 3 s, so that a lost first segment can be repeated; proxies are near, and send the
/// header with the connection.
pub const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What should have been a network is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("proxy_protocol: {text:?} is neither an IP address nor a network such as 10.0.0.0/8")]
#[non_exhaustive]
pub struct BadNetwork {
    /// What it was.
    pub text: String,
}

impl BadNetwork {
    /// Whose doing it was: always the caller's.
    pub fn class(&self) -> ErrorClass {
        ErrorClass::BadCall
    }
}

impl From<BadNetwork> for io::Error {
    fn from(error: BadNetwork) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_trusted_by_its_network_however_the_system_shows_it() {
        let trusting = |networks: &[&str]| {
            let required = ProxyProtocol::required();
            networks.iter().fold(required, |protocol, network| protocol.trust(network).unwrap())
        };
        let table: [(&[&str], &str, bool); 12] = [
            (&[], "127.0.0.1:1", false),
            (&["127.0.0.1"], "127.0.0.1:1", true),
            (&["127.0.0.1"], "127.0.0.2:1", false),
            (&["10.0.0.0/8"], "10.255.255.255:1", true),
            (&["10.0.0.0/8"], "11.0.0.0:1", false),
            (&["10.1.2.3/8"], "10.9.9.9:1", true),
            (&["10.0.0.0/8"], "[::ffff:10.0.0.1]:1", true),
            (&["::/0"], "10.0.0.1:1", false),
            (&["::/0"], "[::ffff:10.0.0.1]:1", false),
            (&["0.0.0.0/0"], "[::1]:1", false),
            (&["192.0.2.0/24", "2001:db8::/32"], "[2001:db8:1::1]:1", true),
            (&["2001:db8::1"], "[2001:db8::2]:1", false),
        ];
        for (networks, peer, trusted) in table {
            let peer = Address::Ip(peer.parse().unwrap());
            let asks = trusting(networks).asks(&peer);
            assert_eq!(
                asks,
                if trusted { Ok(true) } else { Err(ProxyRefusal::Untrusted) },
                "{networks:?} {peer}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused_at_the_call() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0/8",
            "::1/129",
            "10.0.0.1:80",
            " 10.0.0.1",
            "fe80::1%1",
        ] {
            assert_eq!(
                ProxyProtocol::optional().trust(text).unwrap_err(),
                BadNetwork { text: text.to_owned() }
            );
        }
    }
}
