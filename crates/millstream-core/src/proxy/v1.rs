//! Version 1: one line of text, strictly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::address::{ProxyEndpoints, ProxyTransport};
use super::error::{ProxyHeaderError, ProxyV1Part};
use super::header::{ProxyHeader, ProxyVersion};
use super::parse::ProxyParse;

/// The longest line, its CRLF included: the specification's worst case.
pub const V1_LIMIT: usize = 107;

/// What a line begins with. Bytes that do are a header of version 1 or an error.
pub(super) const NAME: &[u8] = b"PROXY";

/// Judges bytes that begin with [`NAME`].
pub(super) fn parse(bytes: &[u8]) -> Result<ProxyParse, ProxyHeaderError> {
    let line = &bytes[..bytes.len().min(V1_LIMIT)];
    let wait = if line.len() < V1_LIMIT {
        Ok(ProxyParse::NeedMore { limit: V1_LIMIT })
    } else {
        Err(ProxyHeaderError::V1TooLong)
    };
    match line.get(NAME.len()) {
        None => return wait,
        Some(b' ') => {}
        Some(_) => return Err(malformed(ProxyV1Part::Space, NAME.len())),
    }
    let body = &line[PROTOCOL_AT..];
    let Some(protocol) = PROTOCOLS
        .into_iter()
        .find(|protocol| body.iter().zip(protocol.word()).all(|(byte, of_word)| byte == of_word))
    else {
        return Err(malformed(ProxyV1Part::Protocol, PROTOCOL_AT));
    };
    let fields_at = PROTOCOL_AT + protocol.word().len();
    // A word that is not whole yet may still become another one.
    let Some(fields) = line.get(fields_at..).filter(|fields| !fields.is_empty()) else { return wait };
    let end = match protocol {
        Protocol::Unknown => unknown_end(fields),
        Protocol::Tcp4 | Protocol::Tcp6 => fields_end(fields),
    };
    let Some(end) = end.map_err(|(part, at)| malformed(part, fields_at + at))? else { return wait };
    let endpoints = match protocol {
        Protocol::Unknown => ProxyEndpoints::Unknown,
        Protocol::Tcp4 => endpoints::<Ipv4Addr>(&fields[1..end], fields_at + 1)?,
        Protocol::Tcp6 => endpoints::<Ipv6Addr>(&fields[1..end], fields_at + 1)?,
    };
    let header = ProxyHeader { version: ProxyVersion::V1, endpoints, tlvs: Vec::new() };
    Ok(ProxyParse::Header { header, len: fields_at + end + CRLF.len() })
}

/// Where the protocol's name begins.
const PROTOCOL_AT: usize = NAME.len() + 1;
const CRLF: &[u8] = b"\r\n";
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp4, Protocol::Tcp6, Protocol::Unknown];

#[derive(Clone, Copy)]
enum Protocol {
    Tcp4,
    Tcp6,
    Unknown,
}

impl Protocol {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Tcp4 => b"TCP4",
            Self::Tcp6 => b"TCP6",
            Self::Unknown => b"UNKNOWN",
        }
    }
}

/// What is wrong, and how far behind the protocol's name.
type Wrong = (ProxyV1Part, usize);

/// Where the CRLF behind `UNKNOWN` is; whatever stands before it is ignored. `None` if it has not come.
fn unknown_end(fields: &[u8]) -> Result<Option<usize>, Wrong> {
    match fields {
        [b' ', ..] => Ok(memchr::memmem::find(fields, CRLF)),
        [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(0)),
        [b'\r', ..] => Err((ProxyV1Part::LineEnd, 0)),
        _ => Err((ProxyV1Part::Space, 0)),
    }
}

/// Where the CRLF behind the addresses and ports is, as soon as what stands before it can be addresses and ports. `None` if
/// it has not come.
fn fields_end(fields: &[u8]) -> Result<Option<usize>, Wrong> {
    if fields.first() != Some(&b' ') {
        return Err((ProxyV1Part::Space, 0));
    }
    let mut part = ProxyV1Part::SourceAddress;
    for (at, &byte) in fields.iter().enumerate().skip(1) {
        match byte {
            b' ' if fields[at - 1] == b' ' => return Err((part, at)),
            b' ' => {
                part = match part {
                    ProxyV1Part::SourceAddress => ProxyV1Part::DestinationAddress,
                    ProxyV1Part::DestinationAddress => ProxyV1Part::SourcePort,
                    ProxyV1Part::SourcePort => ProxyV1Part::DestinationPort,
                    _ => return Err((ProxyV1Part::LineEnd, at)),
                }
            }
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':' | b'.' => {}
            b'\r' if part == ProxyV1Part::DestinationPort => {
                return match fields.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some(at)),
                    Some(_) => Err((ProxyV1Part::LineEnd, at)),
                };
            }
            b'\r' | b'\n' => return Err((ProxyV1Part::LineEnd, at)),
            _ => return Err((part, at)),
        }
    }
    Ok(None)
}

/// Reads two addresses and two ports, `at` bytes into the line. There are three spaces.
fn endpoints<A: FromStr + Into<IpAddr>>(
    fields: &[u8],
    mut at: usize,
) -> Result<ProxyEndpoints, ProxyHeaderError> {
    let mut words = fields.split(|&byte| byte == b' ');
    let mut next = |part| {
        let word = words.next().and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default();
        let from = at;
        at += word.len() + 1;
        (word, malformed(part, from))
    };
    let mut address = |part| {
        let (word, wrong) = next(part);
        word.parse::<A>().map(Into::into).map_err(|_| wrong)
    };
    let source_ip: IpAddr = address(ProxyV1Part::SourceAddress)?;
    let destination_ip: IpAddr = address(ProxyV1Part::DestinationAddress)?;
    let mut port = |part| {
        let (word, wrong) = next(part);
        port(word).ok_or(wrong)
    };
    let source_port = port(ProxyV1Part::SourcePort)?;
    let destination_port = port(ProxyV1Part::DestinationPort)?;
    Ok(ProxyEndpoints::Ip {
        source: SocketAddr::new(source_ip, source_port),
        destination: SocketAddr::new(destination_ip, destination_port),
        transport: ProxyTransport::Stream,
    })
}

/// A port in decimal, without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let canonical = word == "0" || !word.starts_with('0');
    (canonical && word.bytes().all(|byte| byte.is_ascii_digit())).then(|| word.parse().ok())?
}

fn malformed(part: ProxyV1Part, at: usize) -> ProxyHeaderError {
    ProxyHeaderError::V1Malformed { part, at }
}
