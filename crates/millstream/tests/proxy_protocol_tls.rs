//! Rows R9 and T2 of the fault table together: a ClientHello behind a PROXY header reaches TLS whole, however the two are
//! glued or cut.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::time::Duration;

use millstream::proxy::{
    DEFAULT_HEADER_TIMEOUT, ProxyHeader, ProxyProtocol, ProxyRefusal, ProxyVersion, tlv_type,
};
use millstream::tls::{DEFAULT_HANDSHAKE_TIMEOUT, TlsFault, TlsVersion};
use millstream::{ConnectOptions, ServerOptions, StreamReader, StreamWriter};
use support::proxy::{CLIENT, Serving, ip, send, tcp_header, tick};
use support::run_paused;
use support::tls::{BarePeer, Realm, VERSIONS};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

fn options(realm: &Realm, version: TlsVersion) -> ServerOptions {
    let protocol = ProxyProtocol::required().trust("127.0.0.1").unwrap();
    ServerOptions::new().proxy_protocol(protocol).tls(realm.server(version))
}

fn headers() -> [ProxyHeader; 2] {
    [
        tcp_header().with_version(ProxyVersion::V1),
        tcp_header().with_tlv(tlv_type::AUTHORITY, "localhost").with_checksum(),
    ]
}

/// A bare client, and its header with its ClientHello behind.
fn client(
    realm: &Realm,
    version: TlsVersion,
    serving: &Serving,
    header: &ProxyHeader,
) -> (BarePeer, Vec<u8>) {
    let pair = ConnectOptions::new().adopt_tcp(serving.connect()).unwrap();
    let mut bare = realm.bare_client(version, pair);
    let bytes = [header.encode().unwrap(), bare.ciphertext()].concat();
    (bare, bytes)
}

/// Does the rest of the handshake, says something, and looks at what the server saw of it.
async fn talks(mut bare: BarePeer, serving: &mut Serving, header: &ProxyHeader, context: &str) {
    bare.handshake().await;
    let message = [bare.seal(b"secret"), bare.goodbye()].concat();
    bare.send(&message);
    // The answer may have come with the end of the handshake.
    let (_, error) = bare.receive_all().await;
    assert_eq!(error, None, "{context}");
    let seen = serving.seen().await;
    assert_eq!((seen.peer, seen.data), (ip(CLIENT), b"secret".to_vec()), "{context}");
    assert_eq!(seen.header.unwrap().authority(), header.authority(), "{context}");
}

#[test]
fn t2_a_client_hello_glued_to_a_header_completes_its_handshake_wherever_the_two_are_cut() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let mut serving = Serving::start(options(&realm, version)).await;
            for header in headers() {
                let (bare, bytes) = client(&realm, version, &serving, &header);
                let len = bytes.len();
                assert!(len > header.encode().unwrap().len() + 100, "there is a ClientHello");
                bare.send(&bytes);
                talks(bare, &mut serving, &header, "one segment").await;
                // Every byte once; for the other forms, those around the end of the header, and some of the others.
                let header_len = header.encode().unwrap().len();
                let every = version == TlsVersion::V1_3 && header.version() == ProxyVersion::V2;
                let near = |cut: &usize| every || cut.abs_diff(header_len) < 8 || cut.is_multiple_of(29);
                for cut in (1..len).filter(near) {
                    let (bare, bytes) = client(&realm, version, &serving, &header);
                    bare.send(&bytes[..cut]);
                    tick().await;
                    bare.send(&bytes[cut..]);
                    talks(bare, &mut serving, &header, &format!("{version}, cut at {cut}")).await;
                }
            }
            serving.end().await;
        }
    });
}

#[test]
fn t2_a_header_and_a_client_hello_that_come_byte_by_byte_complete_the_handshake() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let mut serving = Serving::start(options(&realm, version)).await;
            for header in headers() {
                let (bare, bytes) = client(&realm, version, &serving, &header);
                for byte in bytes {
                    bare.send(&[byte]);
                    tick().await;
                }
                talks(bare, &mut serving, &header, "byte by byte").await;
            }
            serving.end().await;
        }
    });
}

#[test]
fn our_client_sends_its_header_in_plaintext_before_its_hello_and_everything_else_encrypted() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let mut serving = Serving::start(options(&realm, version)).await;
            for header in headers() {
                let client =
                    ConnectOptions::new().tls(realm.client(version)).send_proxy_header(header.clone());
                let (mut reader, writer) = client.open("127.0.0.1", serving.port).await.unwrap();
                writer.write(b"data").unwrap();
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "in\n");
                writer.close();
                let seen = serving.seen().await;
                assert_eq!((seen.peer, seen.data), (ip(CLIENT), b"data".to_vec()));
                writer.wait_closed().await.unwrap();
            }
            serving.end().await;
        }
    });
}

#[test]
fn r9_a_hello_without_a_header_is_refused_where_one_is_required_and_served_where_it_is_optional() {
    run_paused(async {
        let realm = Realm::new();
        let client = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
        let mut serving = Serving::start(options(&realm, TlsVersion::V1_3)).await;
        client.open("127.0.0.1", serving.port).await.unwrap_err();
        assert_eq!(serving.refused().await.0, ProxyRefusal::Missing);
        serving.end().await;
        let optional = ProxyProtocol::optional().trust("127.0.0.1").unwrap();
        let mut serving = Serving::start(options(&realm, TlsVersion::V1_3).proxy_protocol(optional)).await;
        for header in [None, Some(tcp_header())] {
            let client = header.iter().cloned().fold(client.clone(), ConnectOptions::send_proxy_header);
            let (_reader, writer) = client.open("127.0.0.1", serving.port).await.unwrap();
            let local = writer.local_address();
            writer.close();
            writer.wait_closed().await.unwrap();
            let seen = serving.seen().await;
            assert_eq!(seen.peer, if header.is_some() { ip(CLIENT) } else { local });
            assert_eq!(seen.header, header);
        }
        serving.end().await;
    });
}

#[test]
fn r9_a_header_from_who_is_not_trusted_is_no_client_hello() {
    run_paused(async {
        let realm = Realm::new();
        let optional = ProxyProtocol::optional().trust("127.0.0.3").unwrap();
        let mut serving = Serving::start(options(&realm, TlsVersion::V1_3).proxy_protocol(optional)).await;
        let (bare, bytes) = client(&realm, TlsVersion::V1_3, &serving, &headers()[0]);
        bare.send(&bytes);
        let failure = serving.failure().await;
        assert_eq!(failure.tls_handshake().unwrap().tls(), Some(TlsFault::NotTls), "{failure}");
        assert_eq!(failure.address().cloned(), bare.writer.local_address(), "not the address that it claims");
        drop(bare);
        serving.end().await;
    });
}

#[test]
fn a_handshake_behind_a_header_has_its_own_deadline_and_its_failure_names_the_client() {
    run_paused(async {
        let realm = Realm::new();
        let mut serving = Serving::start(options(&realm, TlsVersion::V1_3)).await;
        let slow = serving.connect();
        let late = DEFAULT_HEADER_TIMEOUT - Duration::from_millis(100);
        tokio::time::sleep(late).await;
        send(&slow, &tcp_header().encode().unwrap());
        let begin = Instant::now();
        let failure = serving.failure().await;
        let took = begin.elapsed();
        assert_eq!(failure.tls_handshake().unwrap().tls(), Some(TlsFault::TimedOut), "{failure}");
        assert_eq!(failure.address().cloned(), ip(CLIENT));
        assert!(
            took >= DEFAULT_HANDSHAKE_TIMEOUT - Duration::from_millis(10)
                && took < DEFAULT_HANDSHAKE_TIMEOUT + late / 2,
            "{took:?}"
        );
        drop(slow);
        serving.end().await;
    });
}

#[test]
fn an_idle_connection_keeps_no_more_memory_for_the_header_that_it_began_with() {
    const CONNECTIONS: usize = 40;
    // Bytes that the server's thread holds for a connection whose handler waits.
    let held = |header: Option<ProxyHeader>| {
        let realm = Realm::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (tell, mut waiting) = unbounded_channel();
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(());
                let _ = reader.read(1).await;
                drop(writer);
            }
        };
        let protocol = if header.is_some() { ProxyProtocol::required() } else { ProxyProtocol::off() };
        let options = options(&realm, TlsVersion::V1_3).proxy_protocol(protocol.trust("127.0.0.1").unwrap());
        let server = runtime.block_on(options.start("127.0.0.1", 0, handler)).unwrap();
        let port = server.sockets()[0].port().unwrap();
        let client = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
        let client = header.into_iter().fold(client, ConnectOptions::send_proxy_header);
        let (hang_up, hung_up) = tokio::sync::oneshot::channel::<()>();
        // The clients have a thread of their own, which is not counted.
        let clients = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut open = Vec::new();
                for _ in 0..CONNECTIONS {
                    open.push(client.open("127.0.0.1", port).await.unwrap());
                }
                let _ = hung_up.await;
            });
        });
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..CONNECTIONS {
                    waiting.recv().await.unwrap();
                }
            });
        });
        hang_up.send(()).unwrap();
        server.close();
        runtime.block_on(server.wait_closed());
        clients.join().unwrap();
        counted.bytes_current / i64::try_from(CONNECTIONS).unwrap()
    };
    // What a thread allocates once is there after the first.
    held(None);
    let (without, with) = (held(None), held(Some(tcp_header())));
    assert!(without > 1000 && with < without + 3000, "{with} bytes, and {without} without a header");
}

#[test]
fn a_handler_that_panics_at_once_behind_a_handshake_is_reported_as_one_that_panicked() {
    fn fails(_: StreamReader, _: StreamWriter) {
        panic!("a plain function, called in the turn in which the handshake ended");
    }
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for header in [None, Some(tcp_header())] {
                let protocol = match header {
                    None => ProxyProtocol::off(),
                    Some(_) => ProxyProtocol::required().trust("127.0.0.1").unwrap(),
                };
                let (report, mut failures) = unbounded_channel();
                let options = options(&realm, version).proxy_protocol(protocol);
                let options = options.on_failure(move |failure| drop(report.send(failure)));
                let server = options.start("127.0.0.1", 0, fails).await.unwrap();
                let port = server.sockets()[0].port().unwrap();
                let client = ConnectOptions::new().tls(realm.client(version));
                let client = header.into_iter().fold(client, ConnectOptions::send_proxy_header);
                let _pair = client.open("127.0.0.1", port).await;
                let failure = failures.recv().await.unwrap();
                assert!(failure.is_panic() && failure.tls_handshake().is_none(), "{failure}");
                drop(_pair);
                server.close();
                server.wait_closed().await;
            }
        }
    });
}
