//! What a review found at the edges of TLS: each defect as a sentence about how it is instead.
#![cfg(feature = "tls")]

mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use millstream::testing::{Pair, pair, pair_with_capacity};
use millstream::tls::{TlsClient, TlsError, TlsFault, TlsServer, TlsVersion};
use millstream::{ConnectError, ConnectOptions, ErrorClass, ServerOptions, WriteError};
use support::run;
use support::tls::{BarePeer, Realm, Side, duplex_pairs, tcp_pairs};
use tokio::io::AsyncWriteExt;

#[test]
fn after_a_shutdown_over_tls_1_2_a_dropped_writer_leaves_the_answer_to_be_read() {
    run(async {
        let realm = Realm::new();
        let ((mut reader, mut writer), mut bare) =
            realm.connected(Side::Client, TlsVersion::V1_2, tcp_pairs()).await;
        let answer = bare.seal(b"answer");
        bare.send(&answer);
        tokio::time::sleep(Duration::from_millis(50)).await;
        AsyncWriteExt::shutdown(&mut writer).await.unwrap();
        drop(writer);
        let bye = bare.goodbye();
        bare.send(&bye);
        bare.writer.close();
        assert_eq!(reader.read_to_end(1000).await.unwrap(), "answer");
    });
}

/// What the server sees of a client that refuses its certificate and drops everything at once.
async fn alert_of_a_dropped_pair(pairs: (Pair, Pair)) -> Option<rustls::Error> {
    let (realm, stranger) = (Realm::new(), Realm::new());
    let ((mut reader, writer), raw) = pairs;
    let mut bare = realm.bare_server(TlsVersion::V1_3, raw);
    let client = async move {
        writer.start_tls(&mut reader, &stranger.client(TlsVersion::V1_3)).await.expect_err("a stranger");
        drop((reader, writer));
    };
    let server = async move {
        loop {
            bare.send_pending();
            match bare.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    tokio::join!(client, server).1
}

#[test]
fn a_pair_that_is_dropped_after_a_failed_upgrade_still_sends_its_alert() {
    run(async {
        let (one, other) = tokio::io::duplex(100_000);
        let buffered = (millstream::from_io(tokio::io::BufStream::new(one)), millstream::from_io(other));
        for pairs in [tcp_pairs(), duplex_pairs(), buffered] {
            assert!(matches!(alert_of_a_dropped_pair(pairs).await, Some(rustls::Error::AlertReceived(_))));
        }
    });
}

#[test]
fn early_data_is_refused_rather_than_lost() {
    run(async {
        let realm = Realm::new();
        let mut config = realm.server_config(TlsVersion::V1_3);
        config.max_early_data_size = 1000;
        config.send_tls13_tickets = 2;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
        let tls = TlsServer::from_config(config);
        let mut config = realm.client_config(TlsVersion::V1_3);
        config.resumption = rustls::client::Resumption::in_memory_sessions(32);
        config.enable_early_data = true;
        let config = Arc::new(config);
        for _ in 0..2 {
            let ((mut reader, writer), raw) = pair();
            let name = "localhost".try_into().unwrap();
            let mut client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            if let Some(mut early) = client.early_data() {
                early.write_all(b"EARLY ").unwrap();
            }
            let mut bare = BarePeer::new(client, raw);
            let peer = async {
                bare.handshake().await;
                let late = bare.seal(b"LATE");
                bare.send(&late);
                // The tickets, for the next round.
                let _ = tokio::time::timeout(Duration::from_millis(50), bare.receive()).await;
                let rustls::Connection::Client(client) = &bare.tls else { unreachable!() };
                assert!(!client.is_early_data_accepted());
                let bye = bare.goodbye();
                bare.send(&bye);
            };
            let server = async {
                writer.start_tls(&mut reader, &tls).await.unwrap();
                assert_eq!(reader.read_to_end(100).await.unwrap(), "LATE");
            };
            tokio::join!(peer, server);
        }
    });
}

#[test]
fn a_shutdown_is_over_only_when_the_close_notify_has_left() {
    run(async {
        let realm = Realm::new();
        let ((_reader, mut writer), mut bare) =
            realm.connected(Side::Client, TlsVersion::V1_3, pair_with_capacity(7)).await;
        // Nobody reads at the peer now, and a close_notify has 24 bytes.
        let shutdown = AsyncWriteExt::shutdown(&mut writer);
        assert!(tokio::time::timeout(Duration::from_millis(100), shutdown).await.is_err());
        let shutdown = AsyncWriteExt::shutdown(&mut writer);
        let (done, _) =
            tokio::join!(shutdown, tokio::time::timeout(Duration::from_secs(1), bare.receive_all()));
        done.unwrap();
        writer.abort();
    });
}

#[test]
fn printing_a_half_shows_none_of_its_bytes() {
    run(async {
        let realm = Realm::new();
        let ((mut reader, writer), mut bare) = realm.connected(Side::Client, TlsVersion::V1_3, pair()).await;
        let secret = bare.seal(b"hunter2");
        bare.send(&secret);
        reader.peek().await.unwrap();
        writer.write(b"passwd").unwrap();
        let printed = format!("{reader:?}{writer:?}");
        for secret in [&b"hunter2"[..], b"passwd"] {
            let as_numbers = format!("{secret:?}");
            assert!(!printed.contains(as_numbers.trim_matches(['[', ']'])), "{printed}");
            assert!(!printed.contains(&secret.escape_ascii().to_string()), "{printed}");
        }
    });
}

#[test]
fn a_configuration_that_rustls_refuses_is_the_callers_mistake_and_leaves_the_connection_as_it_was() {
    run(async {
        let realm = Realm::new();
        let ((mut reader, writer), (mut peer, _peers_writer)) = tcp_pairs();
        let mut config = realm.client_config(TlsVersion::V1_3);
        config.max_fragment_size = Some(10);
        let tls = TlsClient::from_config(config).server_name("localhost").unwrap();
        let error = writer.start_tls(&mut reader, &tls).await.unwrap_err();
        assert!(matches!(error, TlsError::BadConfiguration { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::BadCall);
        writer.write(b"as before\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(peer.read_line().await.unwrap().as_deref(), Some(&b"as before\n"[..]));
    });
}

#[test]
fn an_upgrade_after_write_eof_is_refused_as_our_own_doing() {
    run(async {
        for pairs in [tcp_pairs(), pair(), duplex_pairs()] {
            let realm = Realm::new();
            let ((mut reader, writer), _peer) = pairs;
            writer.write_eof().unwrap();
            let error = writer.start_tls(&mut reader, &realm.client(TlsVersion::V1_3)).await.unwrap_err();
            assert_eq!((error.class(), error), (ErrorClass::ClosedByUs, TlsError::Ended));
            assert_eq!(writer.write(b"x"), Err(WriteError::AfterEof));
        }
    });
}

#[test]
fn a_broken_record_from_a_peer_that_is_gone_has_one_cause_for_all_who_ask() {
    run(async {
        let realm = Realm::new();
        let ((mut reader, writer), bare) = realm.connected(Side::Client, TlsVersion::V1_3, pair()).await;
        bare.send(b"no record at all");
        drop(bare);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let millstream::ReadError::Failed(read) = reader.read(10).await.unwrap_err() else { unreachable!() };
        assert_eq!(read.tls(), Some(TlsFault::BadRecord));
        assert_eq!(writer.write(b"x"), Err(WriteError::Failed(read.clone())));
        assert_eq!(writer.wait_closed().await, Err(millstream::CloseError::Failed(read)));
    });
}

#[test]
fn a_name_that_no_certificate_could_be_for_is_refused_before_anything_is_opened() {
    run(async {
        let realm = Realm::new();
        let tls = TlsClient::builder().root_certificates(realm.authority.root()).build().unwrap();
        let options = ConnectOptions::new().tls(tls);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let error = options.open("127.1", listener.local_addr().unwrap().port()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Tls(TlsError::BadServerName { .. })), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        unix.set_nonblocking(true).unwrap();
        let error = options.open_unix(&path).await.unwrap_err();
        assert_eq!(error, ConnectError::Tls(TlsError::NoServerName));
        assert!(listener.accept().is_err() && unix.accept().is_err(), "somebody connected");
    });
}

#[test]
fn a_certificate_resolver_that_panics_is_a_failed_handshake_and_the_server_lives() {
    #[derive(Debug)]
    struct Panics;
    impl rustls::server::ResolvesServerCert for Panics {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            panic!("no certificate today")
        }
    }
    run(async {
        let realm = Realm::new();
        let mut config = realm.server_config(TlsVersion::V1_3);
        config.cert_resolver = Arc::new(Panics);
        let (told, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let server = ServerOptions::new()
            .tls(TlsServer::from_config(config))
            .on_failure(move |failure| drop(told.send(failure)))
            .start("localhost", 0, |_, _| -> () { unreachable!("the handshake failed") })
            .await
            .unwrap();
        let port = server.sockets()[0].port().unwrap();
        for _ in 0..2 {
            let options = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
            assert!(options.open("localhost", port).await.is_err());
            let report = reports.recv().await.unwrap();
            assert_eq!(report.tls_handshake().and_then(millstream::Failure::tls), Some(TlsFault::Local));
            assert!(report.to_string().contains("no certificate today"), "{report}");
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn ending_towards_a_peer_that_has_ended_and_gone_is_no_failure() {
    run(async {
        for half_close in [true, false] {
            let realm = Realm::new();
            let ((mut reader, writer), mut bare) =
                realm.connected(Side::Client, TlsVersion::V1_3, tcp_pairs()).await;
            let last = [bare.seal(b"answer"), bare.goodbye()].concat();
            bare.send(&last);
            assert_eq!(reader.read_to_end(10).await.unwrap(), "answer");
            bare.writer.abort();
            tokio::time::sleep(Duration::from_millis(20)).await;
            if half_close {
                writer.write_eof().unwrap();
            }
            writer.close();
            writer.wait_closed().await.unwrap();
        }
    });
}
