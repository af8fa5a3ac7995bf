//! Row R9 of the fault table over sockets: a server that wants PROXY headers takes exactly those that are none other, from
//! exactly those that it trusts, in time, and loses no byte behind them. What a header is, the core's tests say; TLS is in
//! `proxy_protocol_tls.rs`.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::time::Duration;

use millstream::proxy::{
    DEFAULT_HEADER_TIMEOUT, ProxyEndpoints, ProxyHeader, ProxyHeaderError, ProxyProtocol, ProxyRefusal,
    ProxyTransport, ProxyUnixAddress, ProxyV1Part, ProxyVersion, V1_LIMIT, tlv_type,
};
use millstream::{Address, ConnectError, ConnectOptions, ErrorClass, ServerOptions};
use support::proxy::{
    CLIENT, FRONT, Serving, answer, end_of_input, ip, local_address, send, tcp_header, tick,
};
use support::{run, run_paused};
use tokio::time::Instant;

fn required() -> ServerOptions {
    ServerOptions::new().proxy_protocol(ProxyProtocol::required().trust("127.0.0.1").unwrap())
}

fn optional() -> ServerOptions {
    ServerOptions::new().proxy_protocol(ProxyProtocol::optional().trust("127.0.0.1").unwrap())
}

/// The same client in every form, each with what it says behind the header.
fn headers() -> Vec<(ProxyHeader, Vec<u8>)> {
    let full =
        tcp_header().with_tlv(tlv_type::AUTHORITY, "example.org").with_tlv(0xE0, [0; 30]).with_checksum();
    [tcp_header().with_version(ProxyVersion::V1), tcp_header(), full]
        .into_iter()
        .map(|header| (header.clone(), header.encode().unwrap()))
        .collect()
}

#[test]
fn r9_the_peer_is_the_client_that_the_header_names_and_the_proxy_stays_known() {
    run_paused(async {
        let mut serving = Serving::start(required()).await;
        for (header, bytes) in headers() {
            let client = serving.connect();
            send(&client, &[&bytes[..], b"request"].concat());
            end_of_input(&client);
            let seen = serving.seen().await;
            assert_eq!((seen.peer, seen.socket_peer), (ip(CLIENT), local_address(&client)));
            let told = seen.header.expect("it was taken");
            assert_eq!((told.destination(), told.version()), (FRONT.parse().ok(), header.version()));
            assert_eq!((told.authority(), seen.data), (header.authority(), b"request".to_vec()));
            assert_eq!(answer(client).await, b"in\n");
        }
        serving.end().await;
    });
}

#[test]
fn r9_bytes_behind_the_header_are_intact_wherever_the_stream_is_cut() {
    run_paused(async {
        for options in [required(), optional()] {
            let mut serving = Serving::start(options).await;
            let behind = b"\r\nPROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n\r\n\r\n\0\r\nQUIT\n";
            for (_, header) in headers() {
                let bytes = [&header[..], behind].concat();
                for cut in 0..=bytes.len() {
                    let client = serving.connect();
                    send(&client, &bytes[..cut]);
                    tick().await;
                    send(&client, &bytes[cut..]);
                    end_of_input(&client);
                    let seen = serving.seen().await;
                    assert_eq!((seen.peer, &seen.data[..]), (ip(CLIENT), &behind[..]), "cut at {cut}");
                    assert_eq!(answer(client).await, b"in\n");
                }
                let client = serving.connect();
                for byte in &bytes {
                    send(&client, &[*byte]);
                    tick().await;
                }
                end_of_input(&client);
                let seen = serving.seen().await;
                assert_eq!((seen.peer, &seen.data[..]), (ip(CLIENT), &behind[..]), "byte by byte");
            }
            serving.end().await;
        }
    });
}

#[test]
fn r9_the_handler_is_called_with_the_last_byte_of_the_header_and_not_before() {
    run_paused(async {
        let mut serving = Serving::start(required()).await;
        for (_, header) in headers() {
            let client = serving.connect();
            send(&client, &header[..header.len() - 1]);
            tick().await;
            client.set_nonblocking(true).unwrap();
            let early = client.peek(&mut [0; 10]).unwrap_err();
            assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock, "nobody has answered");
            send(&client, &header[header.len() - 1..]);
            tick().await;
            // A handler that speaks first need not wait for more.
            assert_eq!(client.peek(&mut [0; 10]).unwrap(), 3);
            end_of_input(&client);
            assert_eq!(serving.seen().await.data, b"");
        }
        serving.end().await;
    });
}

#[test]
fn r9_a_megabyte_glued_to_the_header_arrives_whole() {
    run(async {
        let mut serving = Serving::start(required()).await;
        let behind: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        for (_, mut bytes) in headers() {
            bytes.extend(&behind);
            let client = serving.connect();
            let sender = tokio::task::spawn_blocking(move || {
                send(&client, &bytes);
                end_of_input(&client);
                client
            });
            let seen = serving.seen().await;
            assert!(seen.peer == ip(CLIENT) && seen.data == behind, "{} bytes", seen.data.len());
            drop(sender.await.unwrap());
        }
        serving.end().await;
    });
}

#[test]
fn r9_a_broken_or_missing_header_is_refused_with_its_cause_told_once_in_both_modes() {
    let v2 = tcp_header().encode_v2().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = v2.clone();
        bytes[at] = byte;
        bytes
    };
    let malformed = |part, at| ProxyHeaderError::V1Malformed { part, at };
    let mut checked = tcp_header().with_checksum().encode_v2().unwrap();
    *checked.last_mut().unwrap() ^= 1;
    let table: [(Vec<u8>, Option<ProxyHeaderError>); 12] = [
        // Told at byte 107 whatever comes; and a length is refused before anything of it comes.
        ([b"PROXY UNKNOWN ", &[b'x'; 93][..]].concat(), Some(ProxyHeaderError::V1TooLong)),
        ([b"PROXY UNKNOWN ", &[b'x'; 100_000][..]].concat(), Some(ProxyHeaderError::V1TooLong)),
        ([&v2[..14], &[0xFF, 0xFF]].concat(), Some(ProxyHeaderError::V2TooLong { len: 65551 })),
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\n".to_vec(), Some(malformed(ProxyV1Part::LineEnd, 42))),
        (b"PROXY  TCP4".to_vec(), Some(malformed(ProxyV1Part::Protocol, 6))),
        (b"PROXY TCP4 192.0.2.1 ::1 1 1\r\n".to_vec(), Some(malformed(ProxyV1Part::DestinationAddress, 21))),
        (with(12, 0x11), Some(ProxyHeaderError::V2Version { found: 1 })),
        (with(12, 0x23), Some(ProxyHeaderError::V2Command { found: 3 })),
        (with(13, 0x41), Some(ProxyHeaderError::V2Family { found: 4 })),
        (with(13, 0x21), Some(ProxyHeaderError::V2ShortAddresses { len: 12, needed: 36 })),
        (with(15, 13), None),
        (checked, None),
    ];
    run_paused(async {
        for options in [required(), optional()] {
            let mut serving = Serving::start(options).await;
            for (bytes, cause) in &table {
                let client = serving.connect();
                let proxy = local_address(&client);
                // The length says one byte more than the addresses have: one that is no TLV.
                let behind = if cause.is_none() { &b"GET /"[..] } else { b"" };
                send(&client, bytes);
                send(&client, behind);
                let (refusal, address) = serving.refused().await;
                assert_eq!(address, proxy);
                match (refusal, cause) {
                    (ProxyRefusal::Broken(told), Some(cause)) => assert_eq!(told, *cause),
                    (
                        ProxyRefusal::Broken(
                            ProxyHeaderError::V2Tlv { at: 28 } | ProxyHeaderError::V2Checksum { .. },
                        ),
                        None,
                    ) => {}
                    (told, cause) => panic!("{told}, not {cause:?}"),
                }
                assert_eq!(answer(client).await, b"");
            }
            serving.end().await;
        }
        let mut serving = Serving::start(required()).await;
        for bytes in
            ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "X", "PROx", "\r\n\r\n\0\r\nQUIT\r"]
        {
            let client = serving.connect();
            send(&client, bytes.as_bytes());
            let (refusal, address) = serving.refused().await;
            assert_eq!((&refusal, address), (&ProxyRefusal::Missing, local_address(&client)));
            assert_eq!(refusal.class(), ErrorClass::BrokenByPeer);
            assert_eq!(answer(client).await, b"");
        }
        serving.end().await;
    });
}

#[test]
fn r9_a_header_that_ends_at_any_byte_is_refused() {
    run_paused(async {
        for (options, from) in [(required(), 0), (optional(), 1)] {
            let mut serving = Serving::start(options).await;
            for (_, header) in headers() {
                for cut in from..header.len() {
                    let client = serving.connect();
                    send(&client, &header[..cut]);
                    end_of_input(&client);
                    assert_eq!(serving.refused().await.0, ProxyRefusal::Ended { received: cut });
                    assert_eq!(answer(client).await, b"");
                    let client = serving.connect();
                    send(&client, &header[..cut]);
                    tick().await;
                    support::reset(client);
                    let (refusal, _) = serving.refused().await;
                    assert!(
                        matches!(refusal, ProxyRefusal::Failed { received, .. } if received == cut),
                        "reset after {cut}: {refusal}"
                    );
                }
            }
            serving.end().await;
        }
    });
}

#[test]
fn r9_a_header_that_falls_silent_at_any_byte_is_refused_at_its_deadline() {
    run_paused(async {
        for options in [required(), optional()] {
            let mut serving = Serving::start(options).await;
            for (_, header) in headers() {
                for cut in 0..header.len() {
                    let begin = Instant::now();
                    let client = serving.connect();
                    send(&client, &header[..cut]);
                    let (refusal, _) = serving.refused().await;
                    let timeout = DEFAULT_HEADER_TIMEOUT;
                    assert_eq!(refusal, ProxyRefusal::TimedOut { timeout, received: cut });
                    assert_eq!(refusal.class(), ErrorClass::Deadline);
                    let took = begin.elapsed();
                    assert!(took >= timeout && took < timeout + Duration::from_millis(100), "{took:?}");
                    tick().await;
                    assert_eq!(serving.server.connections(), 0, "who was refused holds nothing");
                    assert_eq!(answer(client).await, b"");
                }
            }
            serving.end().await;
        }
    });
}

#[test]
fn r9_a_slow_drip_does_not_move_the_deadline() {
    run_paused(async {
        let protocol = ProxyProtocol::required().trust("127.0.0.1").unwrap().timeout(Duration::from_secs(20));
        let mut serving = Serving::start(ServerOptions::new().proxy_protocol(protocol)).await;
        let begin = Instant::now();
        let client = serving.connect();
        let drip = async {
            for byte in b"PROXY UNKNOWN ".iter().chain(std::iter::repeat(&b'x')) {
                send(&client, &[*byte]);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let refused = tokio::select! { () = drip => unreachable!("it drips for ever"), refused = serving.refused() => refused };
        let ProxyRefusal::TimedOut { timeout, received } = refused.0 else { panic!("{}", refused.0) };
        assert!((19..=21).contains(&received) && timeout == Duration::from_secs(20), "{received} bytes");
        assert!(begin.elapsed() < Duration::from_secs(21), "{:?}", begin.elapsed());
        assert_eq!(answer(client).await, b"");
        assert!(
            begin.elapsed() < Duration::from_secs(22),
            "a refused peer holds nothing: {:?}",
            begin.elapsed()
        );
        serving.end().await;
    });
}

#[test]
fn r9_silent_peers_hold_up_nobody() {
    run_paused(async {
        let mut serving = Serving::start(required().backlog(500)).await;
        let silent: Vec<_> = (0..200).map(|_| serving.connect()).collect();
        tick().await;
        for (_, bytes) in headers() {
            let client = serving.connect();
            send(&client, &bytes);
            end_of_input(&client);
            assert_eq!(serving.seen().await.peer, ip(CLIENT));
        }
        for _ in &silent {
            let (refusal, _) = serving.refused().await;
            assert_eq!(refusal, ProxyRefusal::TimedOut { timeout: DEFAULT_HEADER_TIMEOUT, received: 0 });
        }
        serving.end().await;
    });
}

#[test]
fn r9_who_is_not_trusted_is_refused_where_headers_are_required() {
    run_paused(async {
        let mut serving = Serving::start(required()).await;
        for (_, header) in headers() {
            for bytes in [&header[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
                let client = serving.connect_from("127.0.0.2");
                send(&client, bytes);
                assert_eq!(serving.refused().await, (ProxyRefusal::Untrusted, local_address(&client)));
                assert_eq!(answer(client).await, b"");
            }
        }
        let nobody = ServerOptions::new().proxy_protocol(ProxyProtocol::required());
        let mut trusting_nobody = Serving::start(nobody).await;
        let client = trusting_nobody.connect();
        assert_eq!(trusting_nobody.refused().await.0, ProxyRefusal::Untrusted);
        drop(client);
        trusting_nobody.end().await;
        serving.end().await;
    });
}

#[test]
fn r9_a_header_from_who_is_not_trusted_is_data_and_never_believed() {
    run_paused(async {
        let off = ServerOptions::new();
        let named_off =
            ServerOptions::new().proxy_protocol(ProxyProtocol::off().trust("127.0.0.0/8").unwrap());
        for options in [optional(), off, named_off] {
            let mut serving = Serving::start(options).await;
            for (_, header) in headers() {
                // Whole, broken, cut, nothing, and glued to a request.
                let broken = [&header[..14], &[0xFF; 3]].concat();
                for bytes in [&header[..], &broken, &header[..9], b"", &[&header[..], b"request"].concat()] {
                    let client = serving.connect_from("127.0.0.2");
                    send(&client, bytes);
                    tokio::time::sleep(2 * DEFAULT_HEADER_TIMEOUT).await;
                    end_of_input(&client);
                    let seen = serving.seen().await;
                    assert_eq!(
                        (seen.peer, seen.socket_peer),
                        (local_address(&client), local_address(&client))
                    );
                    assert_eq!((seen.header, &seen.data[..]), (None, bytes), "not a byte is taken");
                }
            }
            serving.end().await;
        }
    });
}

#[test]
fn r9_where_it_is_optional_a_trusted_peer_without_a_header_is_served_as_it_is() {
    run_paused(async {
        let mut serving = Serving::start(optional()).await;
        let plain: [&[u8]; 7] =
            [b"GET / HTTP/1.1\r\n\r\n", b"X", b"PROx", b"PR\0", b"\r\n\r\n\0\r\nQUIT\r", b"\rX", b""];
        for bytes in plain {
            for cut in 0..=bytes.len() {
                let client = serving.connect();
                send(&client, &bytes[..cut]);
                tick().await;
                send(&client, &bytes[cut..]);
                end_of_input(&client);
                let seen = serving.seen().await;
                assert_eq!((seen.peer, seen.header), (local_address(&client), None));
                assert_eq!(seen.data, bytes, "cut at {cut}");
                assert_eq!(answer(client).await, b"in\n");
            }
        }
        // A first byte that cannot begin a header is enough.
        let client = serving.connect();
        send(&client, b"H");
        tick().await;
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.peek(&mut [0; 10]).unwrap(), 3);
        end_of_input(&client);
        assert_eq!(serving.seen().await.data, b"H");
        serving.end().await;
    });
}

#[test]
fn r9_a_header_without_addresses_leaves_the_sockets_own() {
    run_paused(async {
        let mut serving = Serving::start(required()).await;
        let unknown = ProxyHeader::new(ProxyEndpoints::Unknown);
        let all = [ProxyHeader::local(), unknown.clone(), unknown.with_version(ProxyVersion::V1)];
        for header in all {
            let client = serving.connect();
            send(&client, &[&header.encode().unwrap()[..], b"ping"].concat());
            end_of_input(&client);
            let seen = serving.seen().await;
            assert_eq!((seen.peer, seen.socket_peer), (local_address(&client), local_address(&client)));
            assert_eq!((seen.header, seen.data), (Some(header), b"ping".to_vec()));
        }
        serving.end().await;
    });
}

#[test]
fn peers_on_unix_sockets_are_asked_only_if_that_was_switched_on() {
    run_paused(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = |text: &str| ProxyUnixAddress::new(text).unwrap();
        let header = |source: &str| {
            let (source, destination) = (unix(source), unix("/run/front"));
            ProxyHeader::new(ProxyEndpoints::Unix { source, destination, transport: ProxyTransport::Stream })
        };
        let named = [
            (tcp_header(), ip(CLIENT)),
            (header("/run/client"), Some(Address::Path("/run/client".into()))),
            (header("\0client"), Some(Address::Abstract(b"client".to_vec()))),
            (header(""), Some(Address::Unnamed)),
        ];
        for protocol in [ProxyProtocol::required(), ProxyProtocol::optional()] {
            let trusting = ServerOptions::new().proxy_protocol(protocol.trust_unix(true));
            let mut serving = Serving::start_unix(trusting, &path);
            for (header, peer) in &named {
                let options = ConnectOptions::new().send_proxy_header(header.clone());
                let (_reader, writer) = options.open_unix(&path).await.unwrap();
                writer.write(b"data").unwrap();
                writer.close();
                let seen = serving.seen().await;
                assert_eq!((&seen.peer, seen.socket_peer), (peer, Some(Address::Unnamed)));
                assert_eq!((seen.header.as_ref(), seen.data), (Some(header), b"data".to_vec()));
            }
            serving.end().await;
        }
        let networks = |protocol: ProxyProtocol| protocol.trust("0.0.0.0/0").unwrap().trust("::/0").unwrap();
        let distrusting = ServerOptions::new().proxy_protocol(networks(ProxyProtocol::required()));
        let mut serving = Serving::start_unix(distrusting, &path);
        let sent = millstream::open_unix_connection(&path).await.unwrap();
        assert_eq!(serving.refused().await.0, ProxyRefusal::Untrusted);
        drop(sent);
        serving.end().await;
        let indifferent = ServerOptions::new().proxy_protocol(networks(ProxyProtocol::optional()));
        let mut serving = Serving::start_unix(indifferent, &path);
        let options = ConnectOptions::new().send_proxy_header(tcp_header());
        drop(options.open_unix(&path).await.unwrap());
        let seen = serving.seen().await;
        assert_eq!((seen.peer, seen.data), (Some(Address::Unnamed), tcp_header().encode().unwrap()));
        serving.end().await;
    });
}

#[test]
fn a_server_that_closes_its_clients_does_not_report_those_whose_header_it_waits_for() {
    run_paused(async {
        for abort in [false, true] {
            for options in [required(), optional()] {
                let serving = Serving::start(options).await;
                let clients = [&b""[..], b"PROXY "].map(|bytes| {
                    let client = serving.connect();
                    send(&client, bytes);
                    client
                });
                tick().await;
                assert_eq!(serving.server.connections(), 2);
                serving.server.close();
                if abort {
                    serving.server.abort_clients()
                } else {
                    serving.server.close_clients()
                }
                for client in clients {
                    assert_eq!(answer(client).await, b"");
                }
                serving.end().await;
            }
        }
    });
}

#[test]
fn a_client_sends_its_header_before_anything_else() {
    run_paused(async {
        for (header, bytes) in headers() {
            let mut serving = Serving::start(ServerOptions::new()).await;
            let options = ConnectOptions::new().send_proxy_header(header);
            let tight = options.clone().watermarks(millstream::Watermarks::new(0, 0).unwrap()).hard_cap(4);
            for (options, message) in [(&options, &b"message"[..]), (&tight, b"m"), (&options, b"")] {
                let (mut reader, writer) = options.open("127.0.0.1", serving.port).await.unwrap();
                if message == b"m" {
                    assert!(writer.write(b"too much").is_err(), "the hard cap is in force again");
                    tick().await;
                }
                writer.write(message).unwrap();
                writer.drain().await.unwrap();
                // It waits for the server, which the header has reached.
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "in\n");
                assert_eq!(writer.stats().writes, if message == b"m" { 2 } else { 1 });
                writer.close();
                assert_eq!(serving.seen().await.data, [&bytes[..], message].concat());
            }
            serving.end().await;
        }
    });
}

#[test]
fn a_header_that_cannot_be_written_opens_nothing() {
    run_paused(async {
        let serving = Serving::start(ServerOptions::new()).await;
        let headers = [
            ProxyHeader::local().with_version(ProxyVersion::V1),
            tcp_header().with_tlv(0xE0, [0; 5000]),
            tcp_header().with_tlv(tlv_type::UNIQUE_ID, [0; 129]),
        ];
        for header in headers {
            let options = ConnectOptions::new().send_proxy_header(header);
            let error = options.open("127.0.0.1", serving.port).await.unwrap_err();
            assert!(matches!(error, ConnectError::ProxyHeader(_)), "{error}");
            assert_eq!(error.class(), ErrorClass::BadCall);
            assert!(matches!(options.open_unix("/nowhere").await.unwrap_err(), ConnectError::ProxyHeader(_)));
            let error = options.adopt_tcp(serving.connect()).unwrap_err();
            assert!(matches!(error, ConnectError::ProxyHeader(_)), "{error}");
        }
        // Those to be adopted were there, and said nothing.
        let mut serving = serving;
        for _ in 0..3 {
            assert_eq!(serving.seen().await.data, b"");
        }
        serving.end().await;
    });
}

#[test]
fn a_refusal_says_who_and_why() {
    run_paused(async {
        let mut serving = Serving::start(required()).await;
        let client = serving.connect();
        send(&client, &[b"PROXY UNKNOWN ", &[b'x'; V1_LIMIT][..]].concat());
        let text = serving.failure().await.to_string();
        let proxy = client.local_addr().unwrap().to_string();
        for part in ["PROXY", &proxy, "CRLF", "107"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        serving.end().await;
    });
}
