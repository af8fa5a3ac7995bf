//! Row R9 of the fault table, the part without a socket: what is a PROXY header, what is none, and what is broken. Every
//! case is cut at every byte, and compared with a naive reading of the specification.

#[allow(dead_code, reason = "each test uses its part")]
mod model;

use std::net::SocketAddr;

use millstream_core::ErrorClass;
use millstream_core::proxy::{
    ProxyEncodeError, ProxyEndpoints, ProxyHeader, ProxyHeaderError, ProxyParse, ProxyTransport,
    ProxyUnixAddress, ProxyV1Part, ProxyVersion, V1_LIMIT, V2_LIMIT, V2_SIGNATURE, parse_proxy_header,
    tlv_type,
};
use model::proxy::{Outcome, check, run};
use proptest::prelude::*;

#[test]
fn r9_lines_that_are_headers_say_whom_they_are_for() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535";
    let mapped = "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 5000 443";
    let table = [
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443", "192.168.0.1:56324", "192.168.0.11:443"),
        ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535", "0.0.0.0:0", "255.255.255.255:65535"),
        ("PROXY TCP6 2001:db8::1 ::1 1 2", "[2001:db8::1]:1", "[::1]:2"),
        ("PROXY TCP6 2001:DB8:0:0:0:0:0:a :: 1 2", "[2001:db8::a]:1", "[::]:2"),
        (
            longest,
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        (mapped, "[::ffff:192.0.2.1]:5000", "[::ffff:198.51.100.1]:443"),
    ];
    for (line, source, destination) in table {
        let line = format!("{line}\r\n");
        for behind in ["", "\r\n", "GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"] {
            let bytes = format!("{line}{behind}");
            assert_eq!(check(bytes.as_bytes()), Outcome::Header(ProxyVersion::V1), "{bytes:?}");
            let (header, len) = header(bytes.as_bytes());
            assert_eq!((header.source(), header.destination()), (address(source), address(destination)));
            assert_eq!(len, line.len());
        }
    }
    assert_eq!(longest.len() + 2, 104, "the longest line with addresses, says the specification");
}

#[test]
fn r9_what_stands_behind_unknown_is_ignored_up_to_the_line_end() {
    let worst = format!("PROXY UNKNOWN {}", "f".repeat(V1_LIMIT - 16));
    assert_eq!(worst.len() + 2, V1_LIMIT);
    let lines = [
        "PROXY UNKNOWN",
        "PROXY UNKNOWN ",
        "PROXY UNKNOWN \r\0\n anything",
        "PROXY UNKNOWN TCP4 1 2",
        &worst,
    ];
    for line in lines {
        let bytes = format!("{line}\r\nbehind");
        assert_eq!(check(bytes.as_bytes()), Outcome::Header(ProxyVersion::V1), "{line:?}");
        let (header, len) = header(bytes.as_bytes());
        assert_eq!((header.endpoints(), len), (&ProxyEndpoints::Unknown, line.len() + 2));
    }
    let one_more = format!("{worst}f\r\n");
    assert_eq!(check(one_more.as_bytes()), Outcome::Broken(ProxyHeaderError::V1TooLong));
}

#[test]
fn r9_a_line_that_is_not_exact_is_broken_as_soon_as_that_shows() {
    use ProxyV1Part::{
        DestinationAddress, DestinationPort, LineEnd, Protocol, SourceAddress, SourcePort, Space,
    };
    // The line; what is wrong with it; after how many bytes that is known.
    let table: [(&str, ProxyV1Part, usize); 38] = [
        ("PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n", Space, 6),
        ("PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n", Space, 6),
        ("PROXY\r\n", Space, 6),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Protocol, 7),
        ("PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", Protocol, 7),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Protocol, 8),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Protocol, 10),
        ("PROXY TCP\r\n", Protocol, 10),
        ("PROXY UNKNOWN\n", Space, 14),
        ("PROXY UNKNOWN\r\r\n", LineEnd, 15),
        ("PROXY UNKNOWNS\r\n", Space, 14),
        ("PROXY TCP4\r\n", Space, 11),
        ("PROXY TCP41.1.1.1 2.2.2.2 1 2\r\n", Space, 11),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", SourceAddress, 12),
        ("PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n", DestinationAddress, 20),
        ("PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n", SourceAddress, 19),
        ("PROXY TCP4 1.1.1.1\r\n", LineEnd, 19),
        ("PROXY TCP4 1.1.1.1 2.2.2.2\r\n", LineEnd, 27),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", LineEnd, 29),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", LineEnd, 31),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r \n", LineEnd, 32),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", LineEnd, 31),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", LineEnd, 31),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", SourceAddress, 33),
        ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", SourceAddress, 34),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", SourceAddress, 30),
        ("PROXY TCP4 1.1.1.1 2.2.2.2.2 1 2\r\n", DestinationAddress, 34),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", SourceAddress, 24),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", SourceAddress, 32),
        ("PROXY TCP6 ::1%1 ::1 1 2\r\n", SourceAddress, 15),
        ("PROXY TCP6 ::1 [::1] 1 2\r\n", DestinationAddress, 16),
        ("PROXY TCP6 1::2::3 ::1 1 2\r\n", SourceAddress, 28),
        ("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", SourceAddress, 34),
        ("PROXY TCP6 00001::1 ::1 1 2\r\n", SourceAddress, 29),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", SourcePort, 33),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", SourcePort, 36),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", DestinationPort, 31),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 +2\r\n", DestinationPort, 30),
    ];
    for (line, part, known) in table {
        let error = ProxyHeaderError::V1Malformed { part, at: 0 };
        let Outcome::Broken(ProxyHeaderError::V1Malformed { part: found, at }) = check(line.as_bytes())
        else {
            panic!("{line:?}: {:?}, not {error}", parse_proxy_header(line.as_bytes()));
        };
        assert_eq!((found, known), (part, broken_after(line.as_bytes())), "{line:?}");
        assert!((5..known).contains(&at), "{line:?}: byte {at}");
    }
}

#[test]
fn r9_a_line_without_an_end_is_broken_at_its_limit() {
    let endless =
        ["PROXY UNKNOWN ".to_owned() + &"x".repeat(1000), "PROXY TCP6 ".to_owned() + &"f".repeat(1000)];
    for line in &endless {
        assert_eq!(check(line.as_bytes()), Outcome::Broken(ProxyHeaderError::V1TooLong), "{line:?}");
        assert_eq!(broken_after(line.as_bytes()), V1_LIMIT);
    }
    // The line feed would be byte 108.
    let late = format!("{}\r\n", &endless[0][..V1_LIMIT - 1]);
    assert_eq!(check(late.as_bytes()), Outcome::Broken(ProxyHeaderError::V1TooLong));
    assert_eq!(ProxyHeaderError::V1TooLong.class(), ErrorClass::Limit);
}

#[test]
fn r9_what_begins_as_no_header_is_none_from_the_first_byte_that_differs() {
    let plain = [
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01\x02\x00",
        "PRO\r\n",
        "PROXx",
        "proxy TCP4",
        "\r\n\r\n\0\r\nQUIT\r",
        "\0",
    ];
    for bytes in plain {
        assert_eq!(check(bytes.as_bytes()), Outcome::NotAHeader, "{bytes:?}");
    }
    for bytes in ["", "P", "PROXY", "PROXY ", "PROXY TCP", "\r", "\r\n\r\n\0\r\nQUIT\n"] {
        assert_eq!(check(bytes.as_bytes()), Outcome::NeedMore, "{bytes:?}");
    }
}

#[test]
fn r9_binary_headers_say_whom_they_are_for() {
    let (v4, other_v4) = (address("192.0.2.1:258").unwrap(), address("198.51.100.1:443").unwrap());
    let (v6, other_v6) = (address("[2001:db8::1]:258").unwrap(), address("[2001:db8::2]:443").unwrap());
    let ip = |source, destination, transport| ProxyEndpoints::Ip { source, destination, transport };
    let v4_block = [&[192, 0, 2, 1, 198, 51, 100, 1, 1, 2][..], &443u16.to_be_bytes()].concat();
    let mut v6_block = vec![0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    v6_block.extend([0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 187]);
    let mut unix_block = vec![0; 216];
    unix_block[..6].copy_from_slice(b"/run/a");
    unix_block[108..112].copy_from_slice(b"\0abc");
    let unix = |transport| ProxyEndpoints::Unix {
        source: ProxyUnixAddress::new("/run/a").unwrap(),
        destination: ProxyUnixAddress::new("\0abc").unwrap(),
        transport,
    };
    let (stream, datagram) = (ProxyTransport::Stream, ProxyTransport::Datagram);
    let table = [
        (0x21, 0x11, &v4_block[..], ip(v4, other_v4, stream)),
        (0x21, 0x12, &v4_block, ip(v4, other_v4, datagram)),
        (0x21, 0x21, &v6_block, ip(v6, other_v6, stream)),
        (0x21, 0x22, &v6_block, ip(v6, other_v6, datagram)),
        (0x21, 0x31, &unix_block, unix(stream)),
        (0x21, 0x32, &unix_block, unix(datagram)),
        (0x21, 0x00, &[], ProxyEndpoints::Unknown),
        (0x21, 0x00, &v4_block, ProxyEndpoints::Unknown),
        (0x21, 0x01, &[9], ProxyEndpoints::Unknown),
        (0x21, 0x10, &[], ProxyEndpoints::Unknown),
        (0x20, 0x00, &[], ProxyEndpoints::Local),
        (0x20, 0x11, &v4_block, ProxyEndpoints::Local),
        // LOCAL discards even a family that is none.
        (0x20, 0xFF, &[1, 2, 3], ProxyEndpoints::Local),
    ];
    for (command, family, block, endpoints) in table {
        for behind in ["", "behind"] {
            let bytes = [&binary(command, family, block)[..], behind.as_bytes()].concat();
            assert_eq!(check(&bytes), Outcome::Header(ProxyVersion::V2), "{endpoints:?}");
            let (header, len) = header(&bytes);
            assert_eq!((header.endpoints(), len), (&endpoints, bytes.len() - behind.len()));
        }
    }
}

#[test]
fn r9_a_binary_header_that_is_wrong_is_broken_as_soon_as_that_shows() {
    let with_length = |fixed: [u8; 4]| [&V2_SIGNATURE[..], &fixed].concat();
    let tlv = |tlv: &[u8]| binary(0x21, 0x11, &[&[0; 12], tlv].concat());
    let wrong_checksum = tlv(&[tlv_type::CRC32C, 0, 4, 1, 2, 3, 4]);
    let mut twice =
        ProxyHeader::tcp(address("1.1.1.1:1").unwrap(), address("1.1.1.1:1").unwrap()).with_checksum();
    twice = twice.with_tlv(tlv_type::CRC32C, [0; 4]);
    let ssl = |rest: &[u8]| tlv(&[&[tlv_type::SSL, 0, u8::try_from(rest.len()).unwrap()], rest].concat());
    let table = [
        (with_length([0x11, 0x11, 0, 12]), ProxyHeaderError::V2Version { found: 1 }, 13),
        (with_length([0x00, 0x11, 0, 12]), ProxyHeaderError::V2Version { found: 0 }, 13),
        (with_length([0x31, 0x11, 0, 12]), ProxyHeaderError::V2Version { found: 3 }, 13),
        (with_length([0x22, 0x11, 0, 12]), ProxyHeaderError::V2Command { found: 2 }, 13),
        (with_length([0x2F, 0x11, 0, 12]), ProxyHeaderError::V2Command { found: 15 }, 13),
        (with_length([0x21, 0x41, 0, 12]), ProxyHeaderError::V2Family { found: 4 }, 14),
        (with_length([0x21, 0xF0, 0, 0]), ProxyHeaderError::V2Family { found: 15 }, 14),
        (with_length([0x21, 0x13, 0, 12]), ProxyHeaderError::V2Transport { found: 3 }, 14),
        (with_length([0x21, 0x0F, 0, 0]), ProxyHeaderError::V2Transport { found: 15 }, 14),
        (with_length([0x21, 0x11, 0, 11]), ProxyHeaderError::V2ShortAddresses { len: 11, needed: 12 }, 16),
        (with_length([0x21, 0x22, 0, 35]), ProxyHeaderError::V2ShortAddresses { len: 35, needed: 36 }, 16),
        (with_length([0x21, 0x31, 0, 215]), ProxyHeaderError::V2ShortAddresses { len: 215, needed: 216 }, 16),
        (with_length([0x21, 0x11, 0, 0]), ProxyHeaderError::V2ShortAddresses { len: 0, needed: 12 }, 16),
        (with_length([0x21, 0x11, 0x0F, 0xF1]), ProxyHeaderError::V2TooLong { len: V2_LIMIT + 1 }, 16),
        (with_length([0x20, 0x00, 0xFF, 0xFF]), ProxyHeaderError::V2TooLong { len: 65551 }, 16),
        (tlv(&[9]), ProxyHeaderError::V2Tlv { at: 28 }, 29),
        (tlv(&[9, 0]), ProxyHeaderError::V2Tlv { at: 28 }, 30),
        (tlv(&[9, 0, 1]), ProxyHeaderError::V2Tlv { at: 28 }, 31),
        (tlv(&[9, 0, 0, 9, 0xFF, 0xFF, 1]), ProxyHeaderError::V2Tlv { at: 31 }, 35),
        (tlv(&[tlv_type::CRC32C, 0, 3, 0, 0, 0]), ProxyHeaderError::V2Tlv { at: 28 }, 34),
        (
            tlv(&[&[tlv_type::UNIQUE_ID, 0, 129][..], &[b'i'; 129]].concat()),
            ProxyHeaderError::V2Tlv { at: 28 },
            160,
        ),
        (ssl(&[1, 0, 0, 0]), ProxyHeaderError::V2Tlv { at: 28 }, 35),
        (ssl(&[1, 0, 0, 0, 0, 0x21, 0, 9]), ProxyHeaderError::V2Tlv { at: 28 }, 39),
        (twice.encode_v2().unwrap(), ProxyHeaderError::V2Tlv { at: 35 }, 42),
        (
            wrong_checksum.clone(),
            {
                let Err(error) = parse_proxy_header(&wrong_checksum) else {
                    panic!("a wrong checksum is accepted")
                };
                assert!(matches!(error, ProxyHeaderError::V2Checksum { found: 0x0102_0304, .. }), "{error}");
                error
            },
            35,
        ),
    ];
    for (bytes, error, known) in table {
        assert_eq!(check(&bytes), Outcome::Broken(error), "{error}");
        assert_eq!(broken_after(&bytes), known, "{error}");
    }
}

#[test]
fn r9_a_checksum_finds_every_flipped_bit() {
    let header = ProxyHeader::tcp(address("192.0.2.1:5000").unwrap(), address("198.51.100.1:443").unwrap())
        .with_tlv(tlv_type::AUTHORITY, "example.org")
        .with_checksum()
        .with_tlv(0xE0, "behind the checksum");
    let bytes = header.encode_v2().unwrap();
    assert_eq!(check(&bytes), Outcome::Header(ProxyVersion::V2));
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        match check(&flipped) {
            // Of LOCAL and of an unspecified family nothing is read; and what is no checksum any more checks nothing.
            Outcome::Header(_) => assert!([12, 13, 42].contains(&(at / 8)), "bit {at}"),
            Outcome::NeedMore => assert!((14 * 8..16 * 8).contains(&at), "bit {at}"),
            Outcome::NotAHeader | Outcome::Broken(_) => {}
        }
    }
}

#[test]
fn the_longest_header_is_accepted_and_one_byte_more_is_not() {
    let room = V2_LIMIT - 16 - 12 - 3;
    let header = ProxyHeader::tcp(address("192.0.2.1:5000").unwrap(), address("198.51.100.1:443").unwrap());
    let bytes = header.clone().with_tlv(0xE0, vec![b'x'; room]).encode_v2().unwrap();
    assert_eq!((bytes.len(), check(&bytes)), (V2_LIMIT, Outcome::Header(ProxyVersion::V2)));
    for more in [1, 100_000] {
        let error = header.clone().with_tlv(0xE0, vec![b'x'; room + more]).encode_v2().unwrap_err();
        assert_eq!(error, ProxyEncodeError::TooLong { len: V2_LIMIT + more });
        assert_eq!(error.class(), ErrorClass::BadCall);
    }
}

#[test]
fn tlvs_are_told_by_name_and_unknown_ones_are_kept() {
    let mut ssl = vec![0x03, 0, 0, 0, 0, tlv_type::SSL_VERSION, 0, 7];
    ssl.extend(b"TLSv1.3");
    let header = ProxyHeader::tcp(address("[::1]:1").unwrap(), address("[::2]:2").unwrap())
        .with_tlv(tlv_type::ALPN, "h2")
        .with_tlv(tlv_type::AUTHORITY, "münster.example")
        .with_tlv(tlv_type::NOOP, [0; 5])
        .with_tlv(tlv_type::UNIQUE_ID, [7; 128])
        .with_tlv(tlv_type::SSL, ssl)
        .with_tlv(0xEA, "of an application")
        .with_tlv(tlv_type::AUTHORITY, "second");
    let bytes = header.encode_v2().unwrap();
    assert_eq!(check(&bytes), Outcome::Header(ProxyVersion::V2));
    let (parsed, _) = self::header(&bytes);
    assert_eq!(parsed, header);
    assert_eq!((parsed.alpn(), parsed.authority()), (Some(&b"h2"[..]), Some("münster.example")));
    assert_eq!(
        (parsed.unique_id(), parsed.tlv(0xEA)),
        (Some(&[7; 128][..]), Some(&b"of an application"[..]))
    );
    assert_eq!((parsed.tlv(0xEB), parsed.tlvs().count()), (None, 7));
    let ssl = parsed.ssl().expect("it tells of TLS");
    assert!(
        ssl.is_secure()
            && ssl.certificate_on_connection()
            && !ssl.certificate_in_session()
            && ssl.is_verified()
    );
    assert_eq!((ssl.text(tlv_type::SSL_VERSION), ssl.text(tlv_type::SSL_CN)), (Some("TLSv1.3"), None));
    let unreadable = header.clone().with_tlv(0xE1, [0xFF]);
    assert_eq!(ProxyHeader::local().with_tlv(tlv_type::AUTHORITY, [0xFF]).authority(), None);
    assert_eq!(unreadable.tlv(0xE1), Some(&[0xFF][..]));
    let nobody = ProxyHeader::local().with_tlv(tlv_type::SSL, [1, 0, 0, 0, 0]);
    assert!(!nobody.ssl().expect("it tells of TLS").is_verified(), "no certificate was shown");
}

#[test]
fn what_a_version_cannot_say_is_an_error_and_not_left_out() {
    let tcp = ProxyHeader::tcp(address("192.0.2.1:5000").unwrap(), address("198.51.100.1:443").unwrap());
    let ProxyEndpoints::Ip { source, destination, .. } = *tcp.endpoints() else { panic!("over IP") };
    let udp = ProxyEndpoints::Ip { source, destination, transport: ProxyTransport::Datagram };
    let unix = ProxyUnixAddress::new("/run/a").unwrap();
    let unix =
        ProxyEndpoints::Unix { source: unix.clone(), destination: unix, transport: ProxyTransport::Stream };
    let silent = [
        tcp.clone().with_tlv(tlv_type::ALPN, "h2"),
        ProxyHeader::local(),
        ProxyHeader::new(udp),
        ProxyHeader::new(unix),
    ];
    for header in silent {
        assert!(matches!(header.encode_v1(), Err(ProxyEncodeError::V1CannotSay { .. })), "{header:?}");
        assert_eq!(header.clone().with_version(ProxyVersion::V1).encode(), header.encode_v1());
        assert!(header.encode_v2().is_ok(), "{header:?}");
    }
    let bad = [(tlv_type::UNIQUE_ID, vec![0; 129]), (tlv_type::CRC32C, vec![]), (tlv_type::SSL, vec![1])];
    for (kind, value) in bad {
        assert_eq!(tcp.clone().with_tlv(kind, value).encode_v2(), Err(ProxyEncodeError::BadTlv { kind }));
    }
    assert_eq!(ProxyHeader::new(ProxyEndpoints::Unknown).encode_v1().unwrap(), b"PROXY UNKNOWN\r\n");
}

#[test]
fn addresses_of_two_families_are_both_written_as_ipv6() {
    let mixed = ProxyHeader::tcp(address("192.0.2.1:5000").unwrap(), address("[2001:db8::1]:443").unwrap());
    let line = mixed.encode_v1().unwrap();
    assert_eq!(line, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 5000 443\r\n");
    for bytes in [line, mixed.encode_v2().unwrap()] {
        let (header, _) = header(&bytes);
        assert_eq!(
            (header.source(), header.destination()),
            (address("[::ffff:192.0.2.1]:5000"), mixed.destination())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_header_comes_back_as_it_was_however_it_is_cut(header in any_header(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = header.encode().unwrap();
        let len = bytes.len();
        bytes.extend(&behind);
        prop_assert_eq!(check(&bytes), Outcome::Header(header.version()));
        prop_assert_eq!(parse_proxy_header(&bytes), Ok(ProxyParse::Header { header, len }));
    }

    #[test]
    fn a_damaged_header_is_what_the_specification_says(header in any_header(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = header.encode().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
    }

    #[test]
    fn any_bytes_are_what_the_specification_says(setup in any::<u8>(), bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..6, Just(0x21), Just(0x11)], 0..300)) {
        run(&[&[setup][..], &bytes].concat());
    }

    #[test]
    fn any_words_are_what_the_specification_says(words in prop::collection::vec(word(), 0..8), end in prop_oneof![Just("\r\n"), Just("\n"), Just("")]) {
        check(format!("PROXY {}{end}", words.join(" ")).as_bytes());
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("TCP4".to_owned()),
        Just("TCP6".to_owned()),
        Just("UNKNOWN".to_owned()),
        Just(String::new()),
        any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
        prop::collection::vec(0u16..3, 1..9).prop_map(|groups| {
            groups
                .iter()
                .map(|group| if *group == 0 { String::new() } else { group.to_string() })
                .collect::<Vec<_>>()
                .join(":")
        }),
        (0u32..70000).prop_map(|port| port.to_string()),
        "[0-9a-f:.]{1,20}",
    ]
}

fn any_header() -> impl Strategy<Value = ProxyHeader> {
    let ips = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ];
    let ip = (ips, any::<(u16, u16)>())
        .prop_map(|((a, b), (p, q))| (SocketAddr::new(a, p), SocketAddr::new(b, q)));
    let transport = prop_oneof![Just(ProxyTransport::Stream), Just(ProxyTransport::Datagram)];
    let unix = || {
        prop::collection::vec(0u8..4, 0..=108)
            .prop_map(|bytes| ProxyUnixAddress::new(bytes).expect("it fits"))
    };
    let endpoints = prop_oneof![
        (ip.clone(), transport.clone()).prop_map(|((source, destination), transport)| {
            ProxyEndpoints::Ip { source, destination, transport }
        }),
        (unix(), unix(), transport).prop_map(|(source, destination, transport)| ProxyEndpoints::Unix {
            source,
            destination,
            transport
        }),
    ];
    let tlvs = prop::collection::vec((6u8..32, prop::collection::vec(any::<u8>(), 0..40)), 0..6);
    let binary = (endpoints, tlvs).prop_map(|(endpoints, tlvs)| {
        let header = ProxyHeader::new(endpoints);
        tlvs.iter().fold(header, |header, (kind, value)| header.with_tlv(*kind, value))
    });
    let line = ip.prop_map(|(source, destination)| {
        ProxyHeader::tcp(source, destination).with_version(ProxyVersion::V1)
    });
    let bare = prop_oneof![
        Just(ProxyHeader::local()),
        Just(ProxyHeader::new(ProxyEndpoints::Unknown)),
        Just(ProxyHeader::new(ProxyEndpoints::Unknown).with_version(ProxyVersion::V1)),
    ];
    prop_oneof![4 => binary, 4 => line, 1 => bare]
}

/// A header of version 2 with the length of its block.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("it fits").to_be_bytes();
    [&V2_SIGNATURE[..], &[command, family], &len, block].concat()
}

/// After how many bytes it is known that they are broken.
fn broken_after(bytes: &[u8]) -> usize {
    (0..=bytes.len()).find(|&len| parse_proxy_header(&bytes[..len]).is_err()).expect("it is broken")
}

fn header(bytes: &[u8]) -> (ProxyHeader, usize) {
    match parse_proxy_header(bytes) {
        Ok(ProxyParse::Header { header, len }) => (header, len),
        other => panic!("{other:?}"),
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("an address"))
}
