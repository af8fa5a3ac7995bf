//! The PROXY protocol: behind a proxy, a server learns whom a connection is from, and a client tells the next one.
//!
//! A server asks for the header with [`ServerOptions::proxy_protocol`](crate::ServerOptions::proxy_protocol), before TLS
//! and before its handler; [`StreamWriter::peer_address`](crate::StreamWriter::peer_address) is then the client's. A
//! client sends one with [`ConnectOptions::send_proxy_header`](crate::ConnectOptions::send_proxy_header).
//!
//! Whoever may send a header may claim to be anybody. So **only peers in networks that were named are asked for one**; what
//! others send is never taken for a header.

mod await_header;
mod info;
mod options;
mod protocol;
mod refusal;

pub use millstream_core::proxy::{
    ProxyEncodeError, ProxyEndpoints, ProxyHeader, ProxyHeaderError, ProxyParse, ProxySsl, ProxyTlv,
    ProxyTlvs, ProxyTransport, ProxyUnixAddress, ProxyV1Part, ProxyVersion, V1_LIMIT, V2_LIMIT,
    parse_proxy_header, tlv_type,
};
pub use protocol::{BadNetwork, DEFAULT_HEADER_TIMEOUT, ProxyProtocol};
pub use refusal::ProxyRefusal;

pub(crate) use await_header::{AwaitHeader, NotAdmitted, hand_over};
pub(crate) use info::Proxied;
