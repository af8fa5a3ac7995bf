//! `start_tls` called where it can never work leaves the connection as it was, and a client knows whom to verify.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::time::Duration;

use millstream::testing::pair;
use millstream::tls::{CertificateFault, TlsClient, TlsError, TlsFault, TlsVersion};
use millstream::{ErrorClass, ServerOptions, StreamReader, StreamWriter, open_connection};
use support::tls::{HOST, Realm, all_of, end, every_side, transports};
use support::{echo, ping, run};

#[test]
fn a_call_that_can_never_work_leaves_the_connection_as_it_was() {
    run(async {
        let realm = Realm::new();
        let nameless = TlsClient::builder().root_certificates(realm.authority.root()).build().unwrap();
        for (name, (mut reader, writer), (mut peer_reader, peer_writer)) in transports() {
            let ((mut other_reader, _other_writer), _other_end) = pair();
            peer_writer.write(b"buffered\nbefore\n").unwrap();
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "buffered\n");
            writer.write(b"corked ").unwrap();
            let bad_calls = [
                (writer.start_tls(&mut other_reader, &nameless).await, TlsError::NotOnePair),
                (writer.start_tls(&mut reader, &nameless).await, TlsError::NoServerName),
            ];
            for (result, error) in bad_calls {
                assert_eq!((error.class(), error.fault()), (ErrorClass::BadCall, None));
                assert_eq!(result, Err(error), "{name}");
            }
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "before\n", "{name}");
            writer.write(b"plaintext\n").unwrap();
            assert_eq!(peer_reader.read_line().await.unwrap().unwrap(), "corked plaintext\n", "{name}");

            // And on a connection that has TLS already.
            let (client, server) = (realm.client(TlsVersion::V1_3), realm.server(TlsVersion::V1_3));
            let (one, other) = tokio::join!(
                writer.start_tls(&mut reader, &client),
                peer_writer.start_tls(&mut peer_reader, &server)
            );
            assert_eq!((one, other), (Ok(()), Ok(())), "{name}");
            writer.write(b"sealed ").unwrap();
            assert_eq!(writer.start_tls(&mut reader, &client).await, Err(TlsError::AlreadySecure));
            assert_eq!(writer.start_tls(&mut reader, &server).await, Err(TlsError::AlreadySecure));
            writer.write(b"line\n").unwrap();
            assert_eq!(peer_reader.read_line().await.unwrap().unwrap(), "sealed line\n", "{name}");
            end((reader, writer), (peer_reader, peer_writer)).await;
        }
    });
}

#[test]
fn a_connection_verifies_the_host_it_was_opened_by() {
    run(async {
        let realm = Realm::new();
        let tls = realm.server(TlsVersion::V1_3);
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let tls = tls.clone();
            async move {
                reader.read_line().await?;
                writer.start_tls(&mut reader, &tls).await?;
                echo(reader, writer).await
            }
        };
        let server = ServerOptions::new().on_failure(drop).start("127.0.0.1", 0, handler).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let tls = TlsClient::builder().root_certificates(realm.authority.root()).build().unwrap();
        for (host, fault) in
            [(HOST, None), ("127.0.0.1", Some(TlsFault::BadCertificate(CertificateFault::WrongName)))]
        {
            let (mut reader, writer) = open_connection(host, port).await.unwrap();
            writer.write(b"STARTTLS\n").unwrap();
            let result = writer.start_tls(&mut reader, &tls).await;
            assert_eq!(result.as_ref().err().and_then(TlsError::fault), fault);
            if fault.is_none() {
                assert_eq!(writer.tls_info().unwrap().server_name.as_deref(), Some(HOST));
                ping(&mut reader, &writer).await;
            }
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn an_upgrade_of_a_connection_that_is_over_fails_and_sends_nothing() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for over in [StreamWriter::close as fn(&_), StreamWriter::abort] {
                let ((mut reader, writer), (raw_reader, _raw_writer)) = pair();
                over(&writer);
                let error = realm.start(side, version, &mut reader, &writer).await.unwrap_err();
                assert_eq!(error.class(), ErrorClass::ClosedByUs, "{error}");
                assert_eq!(all_of(raw_reader).await, b"", "{side:?}, {version}");
            }
        }
    });
}

#[test]
fn drain_waits_above_the_high_mark_while_a_handshake_goes_on() {
    run(async {
        let realm = Realm::new();
        for (name, (mut reader, writer), (mut peer_reader, _peer_writer)) in transports() {
            // The driver is there, and rests.
            writer.write(b"plain\n").unwrap();
            assert_eq!(peer_reader.read_line().await.unwrap().unwrap(), "plain\n");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let client = realm.client(TlsVersion::V1_3);
            let writes = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let high = writer.watermarks().high();
                while tokio::time::timeout(Duration::from_millis(50), writer.drain()).await.is_ok() {
                    let queued = writer.stats().queued;
                    assert!(queued <= high, "{name}: drain did not wait with {queued} bytes queued");
                    writer.write(&[0; 4000]).unwrap();
                }
            };
            tokio::select! {
                result = writer.start_tls(&mut reader, &client) => panic!("{name}: a silent peer, and {result:?}"),
                () = writes => {}
            }
        }
    });
}
