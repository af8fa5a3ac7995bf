//! The PROXY protocol, versions 1 and 2: the header by which a proxy says for whom it made a connection. Bytes in,
//! verdicts out; nothing here reads a socket or decides whom to trust.
//!
//! Written after HAProxy's specification, `doc/proxy-protocol.txt` of 2020/03/05. What that leaves to the receiver is
//! decided so:
//!
//! - **Nothing is guessed.** Bytes that begin as no header does are [`ProxyParse::NotAHeader`]; bytes that begin as one and
//!   are none are an error, for ever, whatever follows. No verdict but [`ProxyParse::NeedMore`] changes with more bytes.
//! - **Bounded.** A line of version 1 has at most [`V1_LIMIT`] bytes, a header of version 2 at most [`V2_LIMIT`].
//! - **As early as possible.** What can be refused by its first bytes is refused by them, so that the sender notices.
//! - A checksum (CRC32C) that a sender puts in is verified. TLVs of unknown types are kept and left alone; TLVs that are cut
//!   or run over the end are an error.
//! - `LOCAL`, `UNKNOWN` and unspecified families are headers without addresses: the connection's own ones count. Whatever
//!   else they hold is dropped unread, as the specification says, its checksum with it.

mod address;
mod checksum;
mod encode;
mod error;
mod header;
mod parse;
mod tlv;
mod v1;
mod v2;

pub use address::{ProxyEndpoints, ProxyTransport, ProxyUnixAddress};
pub use error::{ProxyEncodeError, ProxyHeaderError, ProxyV1Part};
pub use header::{ProxyHeader, ProxyVersion};
pub use parse::{ProxyParse, parse_proxy_header};
pub use tlv::{ProxySsl, ProxyTlv, ProxyTlvs, tlv_type};
pub use v1::V1_LIMIT;
pub use v2::{V2_LIMIT, V2_SIGNATURE};
