//! PROXY headers against a naive reading of the specification: everything that the parser must be true to, whatever bytes
//! come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use millstream_core::proxy::{
    ProxyEndpoints, ProxyHeader, ProxyHeaderError, ProxyParse, ProxyTransport, ProxyUnixAddress,
    ProxyVersion, V2_SIGNATURE, parse_proxy_header, tlv_type,
};

/// The longest line of version 1, says the specification; and the longest header that this library takes.
const V1_LIMIT: usize = 107;
const V2_LIMIT: usize = 4096;

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    NeedMore,
    Header(ProxyVersion),
    NotAHeader,
    Broken(ProxyHeaderError),
}

type Tlvs = Vec<(u8, Vec<u8>)>;

/// What the specification says of some bytes, as far as it leaves no choice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Naive {
    /// It is not all there. A receiver may wait, or know already that it will be wrong.
    Cut,
    Header(ProxyEndpoints, Tlvs, usize),
    NotAHeader,
    Broken,
}

/// Reads fuzz input: how to read the rest, and the rest.
pub(crate) fn run(data: &[u8]) -> Outcome {
    let Some((&setup, rest)) = data.split_first() else { return check(data) };
    match setup % 4 {
        // Bytes as they are.
        0 => check(rest),
        // Behind the name of version 1.
        1 => check(&[b"PROXY ", rest].concat()),
        // Behind the signature of version 2, with the length of what is there.
        2 => check(&framed(rest)),
        // The same with a checksum, so that what stands behind one is reached.
        _ => check(&sealed(rest)),
    }
}

/// Version, command, family and transport, then all the rest as announced.
fn framed(rest: &[u8]) -> Vec<u8> {
    let (fixed, body) = rest.split_at(rest.len().min(2));
    let mut bytes = [&V2_SIGNATURE[..], fixed].concat();
    if fixed.len() == 2 {
        bytes.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(body);
    }
    bytes
}

fn sealed(rest: &[u8]) -> Vec<u8> {
    let mut bytes = framed(&[rest, &[tlv_type::CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let at = bytes.len() - 4;
    let checksum = bitwise_crc32c(&bytes);
    bytes[at..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Asks of every beginning of the bytes, and asserts what must hold.
pub(crate) fn check(bytes: &[u8]) -> Outcome {
    let verdict = parse_proxy_header(bytes);
    let mut decided = None;
    for len in 0..=bytes.len().min(2 * V2_LIMIT) {
        let early = parse_proxy_header(&bytes[..len]);
        match (&decided, &early) {
            (None, Ok(ProxyParse::NeedMore { limit })) => {
                assert!(len < *limit && *limit <= V2_LIMIT, "waits at {len} for at most {limit} bytes");
            }
            (None, _) => {
                if let Ok(ProxyParse::Header { len: header_len, .. }) = &early {
                    assert_eq!(*header_len, len, "a header is known by its last byte");
                }
                decided = Some(early);
            }
            (Some(decided), _) => assert_eq!(early, *decided, "after {len} bytes"),
        }
    }
    if let Some(decided) = decided {
        assert_eq!(verdict, decided);
    }
    let outcome = match &verdict {
        Ok(ProxyParse::NeedMore { .. }) => Outcome::NeedMore,
        Ok(ProxyParse::Header { header, .. }) => Outcome::Header(header.version()),
        Ok(_) => Outcome::NotAHeader,
        Err(error) => Outcome::Broken(*error),
    };
    match (&verdict, naive(bytes)) {
        (Ok(ProxyParse::Header { header, len }), Naive::Header(endpoints, tlvs, naive_len)) => {
            assert_eq!((header.endpoints(), *len), (&endpoints, naive_len));
            let held: Vec<_> = header.tlvs().map(|tlv| (tlv.kind, tlv.value.to_vec())).collect();
            assert_eq!(held, tlvs);
            comes_back(header);
        }
        (Ok(ProxyParse::NotAHeader), Naive::NotAHeader)
        | (Ok(ProxyParse::NeedMore { .. }) | Err(_), Naive::Cut)
        | (Err(_), Naive::Broken) => {}
        (verdict, naive) => panic!("{verdict:?}, but the specification says {naive:?}"),
    }
    outcome
}

/// Written again, it is the same.
fn comes_back(header: &ProxyHeader) {
    let mut bytes = header.encode().expect("what was read can be written");
    let len = bytes.len();
    bytes.extend(b"what follows");
    let Ok(ProxyParse::Header { header: again, len: len_again }) = parse_proxy_header(&bytes) else {
        panic!("what was written cannot be read: {header:?}");
    };
    assert_eq!((again.version(), again.endpoints(), len_again), (header.version(), header.endpoints(), len));
    // But for its checksum: what stood behind the end of a path is written as zeros.
    let values = |header: &ProxyHeader| -> Vec<_> {
        let tlvs = header.tlvs().filter(|tlv| tlv.kind != tlv_type::CRC32C);
        tlvs.map(|tlv| (tlv.kind, tlv.value.to_vec())).collect()
    };
    assert_eq!(values(&again), values(header));
    // Whatever else reads the values must bear all that is let through.
    let _ = (header.alpn(), header.authority(), header.unique_id(), header.source(), header.destination());
    if let Some(ssl) = header.ssl() {
        assert!(
            ssl.tlvs().map(|tlv| 3 + tlv.value.len()).sum::<usize>() + 5
                == header.tlv(0x20).unwrap_or_default().len()
        );
    }
}

fn naive(bytes: &[u8]) -> Naive {
    let shorter = bytes.len().min(5);
    if bytes[..shorter] == b"PROXY"[..shorter] {
        let line_len = (0..bytes.len().min(V1_LIMIT)).find(|&at| bytes[..=at].ends_with(b"\r\n"));
        return match line_len {
            Some(last) => naive_line(&bytes[5..last - 1])
                .map_or(Naive::Broken, |endpoints| Naive::Header(endpoints, Vec::new(), last + 1)),
            None if bytes.len() < V1_LIMIT => Naive::Cut,
            None => Naive::Broken,
        };
    }
    let shorter = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..shorter] != V2_SIGNATURE[..shorter] {
        return Naive::NotAHeader;
    }
    if bytes.len() < 16 {
        return Naive::Cut;
    }
    let len = 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    if len > V2_LIMIT {
        return Naive::Broken;
    }
    if bytes.len() < len {
        return Naive::Cut;
    }
    naive_binary(&bytes[..len]).map_or(Naive::Broken, |(endpoints, tlvs)| Naive::Header(endpoints, tlvs, len))
}

/// What stands between `PROXY` and CRLF.
fn naive_line(line: &[u8]) -> Option<ProxyEndpoints> {
    if line == b" UNKNOWN" || line.starts_with(b" UNKNOWN ") {
        return Some(ProxyEndpoints::Unknown);
    }
    let line = std::str::from_utf8(line).ok()?;
    let ["", protocol, source, destination, source_port, destination_port] =
        line.split(' ').collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let ip = |text: &str| -> Option<IpAddr> {
        match protocol {
            "TCP4" => naive_v4(text).map(IpAddr::V4),
            "TCP6" => naive_v6(text).map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |text: &str| (0..=u16::MAX).find(|port| port.to_string() == text);
    Some(ProxyEndpoints::Ip {
        source: SocketAddr::new(ip(source)?, port(source_port)?),
        destination: SocketAddr::new(ip(destination)?, port(destination_port)?),
        transport: ProxyTransport::Stream,
    })
}

fn naive_v4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u8> =
        text.split('.').map(|word| (0..=u8::MAX).find(|n| n.to_string() == word)).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(numbers).ok().map(Ipv4Addr::from)
}

fn naive_v6(text: &str) -> Option<Ipv6Addr> {
    let sides: Vec<&str> = text.split("::").collect();
    let mut sides: Vec<Vec<u16>> = match sides[..] {
        [all] => vec![naive_groups(all, true)?],
        [front, back] => vec![naive_groups(front, false)?, naive_groups(back, true)?],
        _ => return None,
    };
    if let [front, back] = &mut sides[..] {
        // The gap stands for one group at least.
        let missing = 8usize.checked_sub(front.len() + back.len()).filter(|&missing| missing > 0)?;
        front.extend(std::iter::repeat_n(0, missing));
    }
    <[u16; 8]>::try_from(sides.concat()).ok().map(Ipv6Addr::from)
}

/// Groups between colons; the last may be an IPv4 address.
fn naive_groups(text: &str, last: bool) -> Option<Vec<u16>> {
    let mut groups = Vec::new();
    if text.is_empty() {
        return Some(groups);
    }
    let words: Vec<&str> = text.split(':').collect();
    for (at, word) in words.iter().enumerate() {
        if last && at + 1 == words.len() && word.contains('.') {
            let [a, b, c, d] = naive_v4(word)?.octets();
            groups.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
        } else {
            let sound = (1..=4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            groups.push(sound.then(|| u16::from_str_radix(word, 16).ok())??);
        }
    }
    Some(groups)
}

fn naive_binary(whole: &[u8]) -> Option<(ProxyEndpoints, Tlvs)> {
    let (family, transport) = (whole[13] / 16, whole[13] % 16);
    match whole[12] {
        0x20 => return Some((ProxyEndpoints::Local, Vec::new())),
        0x21 if family > 3 || transport > 2 => return None,
        0x21 if family == 0 || transport == 0 => return Some((ProxyEndpoints::Unknown, Vec::new())),
        0x21 => {}
        _ => return None,
    }
    let transport = if transport == 1 { ProxyTransport::Stream } else { ProxyTransport::Datagram };
    let address_len = [4, 16, 108][usize::from(family) - 1];
    let port_len = if family == 3 { 0 } else { 2 };
    let mut at = 16;
    let mut take = |len: usize| {
        at += len;
        whole.get(at - len..at)
    };
    let (source, destination) = (take(address_len)?, take(address_len)?);
    let (source_port, destination_port) = (take(port_len)?, take(port_len)?);
    let ip = |ip: &[u8], port: &[u8]| {
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).expect("4")),
            _ => IpAddr::from(<[u8; 16]>::try_from(ip).expect("16")),
        };
        SocketAddr::new(ip, u16::from(port[0]) * 256 + u16::from(port[1]))
    };
    let endpoints = if family == 3 {
        let unix = |block| ProxyUnixAddress::new(block).expect("108 bytes");
        ProxyEndpoints::Unix { source: unix(source), destination: unix(destination), transport }
    } else {
        let (source, destination) = (ip(source, source_port), ip(destination, destination_port));
        ProxyEndpoints::Ip { source, destination, transport }
    };
    let mut tlvs = Vec::new();
    let mut checksums = 0;
    while at < whole.len() {
        let [kind, high, low] = *whole.get(at..at + 3)? else { return None };
        let len = usize::from(high) * 256 + usize::from(low);
        let value = whole.get(at + 3..at + 3 + len)?;
        match kind {
            0x03 => {
                checksums += 1;
                let mut without = whole.to_vec();
                without.get_mut(at + 3..at + 7)?.fill(0);
                if len != 4 || checksums > 1 || value != bitwise_crc32c(&without).to_be_bytes() {
                    return None;
                }
            }
            0x05 if len > 128 => return None,
            0x20 => {
                let mut rest = value.get(5..)?;
                while !rest.is_empty() {
                    let len = usize::from(*rest.get(1)?) * 256 + usize::from(*rest.get(2)?);
                    rest = rest.get(3 + len..)?;
                }
            }
            _ => {}
        }
        tlvs.push((kind, value.to_vec()));
        at += 3 + len;
    }
    Some((endpoints, tlvs))
}

fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}
