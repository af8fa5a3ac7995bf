//! The peers of R9: what each sends in the place of a PROXY header, and what has to come of it.

use std::time::Duration;

use millstream::proxy::{ProxyHeader, ProxyVersion, tlv_type};

use crate::random::Random;

/// What one peer does, and what has to come of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Sent one after the other, each once the one before has been read, most likely.
    pub(super) parts: Vec<Vec<u8>>,
    /// Another address, which is not trusted.
    pub(super) is_stranger: bool,
    pub(super) pace: Duration,
    /// It does not say its end behind the last part.
    pub(super) keeps_open: bool,
    pub(super) fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Served under this name, or its own without one, with these bytes.
    Served(Option<&'static str>, Vec<u8>),
    /// Refused for a cause whose name begins so.
    Refused(&'static str),
    /// Refused where headers are required. Where they are optional it is served as it is.
    NoHeader(&'static str),
    /// Served under an address that the header holds, or refused; where headers are optional, as it is as well.
    Either,
}

/// What peers do to one server, whatever its mode.
pub(super) struct Cases {
    pub(super) all: Vec<Case>,
    random: Random,
}

impl Cases {
    pub(super) fn new(random: Random) -> Self {
        Self { all: Vec::new(), random }
    }

    fn add(&mut self, parts: &[&[u8]], fate: Fate) {
        let parts = parts.iter().map(|part| part.to_vec()).collect();
        let case = Case { parts, is_stranger: false, pace: PAUSE, keeps_open: false, fate };
        self.all.push(case);
    }

    /// Every good header with bytes glued to it, cut in two at every byte, and byte by byte.
    pub(super) fn good(&mut self) {
        for (client, header) in headers() {
            let bytes = [&header[..], BEHIND].concat();
            let served = || Fate::Served(client, BEHIND.to_vec());
            for cut in 0..=bytes.len() {
                self.add(&[&bytes[..cut], &bytes[cut..]], served());
            }
            self.add(&bytes.chunks(1).collect::<Vec<_>>(), served());
            // A stranger's header is refused, or data: nobody believes it.
            self.add(&[&bytes], Fate::NoHeader("Untrusted"));
            if let Some(case) = self.all.last_mut() {
                case.is_stranger = true;
            }
        }
    }

    /// What a header must not be, and what is none.
    pub(super) fn broken(&mut self) {
        let v2 = of_version(ProxyVersion::V2, V4).unwrap_or_default();
        let with = |at: usize, byte: u8| [&v2[..at], &[byte], &v2[at + 1..]].concat();
        let long = |n| [b"PROXY UNKNOWN ", &vec![b'x'; n][..]].concat();
        let broken: Vec<(Vec<u8>, &'static str)> = vec![
            // 107 bytes and no end; and a flood without one.
            (long(93), "Broken(V1TooLong"),
            (long(100_000), "Broken(V1TooLong"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 ::1 ::1 5000 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP6 192.0.2.1 198.51.100.1 5000 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY  TCP4 192.0.2.1 198.51.100.1 5000 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY UDP4 192.0.2.1 198.51.100.1 5000 443\r\n".to_vec(), "Broken(V1Malformed"),
            (b"PROXY TCP4 192.0.2.1\r\n".to_vec(), "Broken(V1Malformed"),
            ([&v2[..14], &[0xff, 0xff]].concat(), "Broken(V2TooLong"),
            (with(12, 0x11), "Broken(V2Version"),
            (with(12, 0x2f), "Broken(V2Command"),
            (with(13, 0x41), "Broken(V2Family"),
            (with(13, 0x13), "Broken(V2Transport"),
            (with(13, 0x21), "Broken(V2ShortAddresses"),
            ([&with(15, 13), &b"G"[..]].concat(), "Broken(V2Tlv"),
        ];
        for (bytes, cause) in broken {
            self.add(&[&bytes], Fate::Refused(cause));
            // The verdict is the same however it comes.
            for cut in 1..bytes.len().min(120) {
                self.add(&[&bytes[..cut], &bytes[cut..]], Fate::Refused(cause));
            }
        }
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01",
            b"X",
            b"PROx",
            b"\r\n\r\n\0\r\nQUIT\r",
        ] {
            self.add(&[bytes], Fate::NoHeader("Missing"));
        }
        self.add(&[], Fate::NoHeader("Ended { received: 0"));
    }

    /// An end at every byte of a good header.
    pub(super) fn cut_short(&mut self) {
        for (_, header) in headers() {
            for cut in 1..header.len() {
                self.add(&[&header[..cut]], Fate::Refused("Ended"));
            }
        }
    }

    /// Good headers with some bytes changed, left out or put in.
    pub(super) fn changed(&mut self, count: usize) {
        let headers = headers();
        for number in 0..count {
            let mut bytes = headers[number % headers.len()].1.clone();
            for _ in 0..=self.random.below(3) {
                let at = self.random.below(bytes.len());
                match self.random.below(4) {
                    0 => bytes[at] ^= 1 << self.random.below(8),
                    1 => bytes[at] = self.random.byte(),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b" \r\n.:01"[self.random.below(7)]),
                }
            }
            bytes.extend(BEHIND);
            let cut = self.random.below(bytes.len());
            self.add(&[&bytes[..cut], &bytes[cut..]], Fate::Either);
        }
    }

    /// Good headers that fall silent at some byte, and some that drip so slowly that they cannot be in time.
    pub(super) fn slow(&mut self) -> Vec<Case> {
        let mut slow = Vec::new();
        for (_, header) in headers() {
            let drip = header.chunks(1).map(<[u8]>::to_vec).collect();
            let silent = (1..header.len()).step_by(5).map(|cut| (vec![header[..cut].to_vec()], PAUSE));
            for (parts, pace) in silent.chain([(drip, DEADLINE / 8)]) {
                let fate = Fate::Refused("TimedOut");
                slow.push(Case { parts, is_stranger: false, pace, keeps_open: true, fate });
            }
        }
        slow
    }
}

/// Good ones of every form, each with the client that it names.
fn headers() -> Vec<(Option<&'static str>, Vec<u8>)> {
    let mut all = Vec::new();
    for client in [V4, V6] {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            all.push((Some(client), of_version(version, client).unwrap_or_default()));
        }
    }
    let full = header(V4).map(|header| {
        header.with_tlv(tlv_type::AUTHORITY, HOST).with_tlv(0xe0, [7; 30]).with_checksum().encode_v2()
    });
    all.push((Some(V4), full.and_then(std::result::Result::ok).unwrap_or_default()));
    all.push((None, ProxyHeader::local().encode_v2().unwrap_or_default()));
    all.push((None, b"PROXY UNKNOWN\r\n".to_vec()));
    all.push((None, b"PROXY UNKNOWN as it likes\r\n".to_vec()));
    all
}

fn header(client: &str) -> Option<ProxyHeader> {
    let front = if client == V4 { FRONT_V4 } else { FRONT_V6 };
    Some(ProxyHeader::tcp(client.parse().ok()?, front.parse().ok()?))
}

fn of_version(version: ProxyVersion, client: &str) -> Option<Vec<u8>> {
    header(client)?.with_version(version).encode().ok()
}

const V4: &str = "192.0.2.1:5000";
const V6: &str = "[2001:db8::1]:5000";
const FRONT_V4: &str = "198.51.100.1:443";
const FRONT_V6: &str = "[2001:db8::2]:443";
const HOST: &str = "example.org";
/// What looks most like a header, an end of one, or an end of the bytes.
const BEHIND: &[u8] = b"\r\nPROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n\r\n\r\n\0\r\nQUIT\n";
/// `PROXY UNKNOWN` and its end, or a version 2 header without addresses.
pub(super) const SHORTEST: usize = 15;
/// Between two parts: enough for the server to read the first.
const PAUSE: Duration = Duration::from_millis(2);
/// Of the header. What drips sends a part in every eighth of it.
pub(super) const DEADLINE: Duration = Duration::from_millis(400);
