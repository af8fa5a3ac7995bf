//! When TLS fails, both sides get an error that a person understands and a program can match on: what is wrong, with whom,
//! and whose doing it was. A server tells it once.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::tls::{CertificateFault, TlsClient, TlsError, TlsFault, TlsServer, TlsVersion};
use millstream::{
    ConnectError, ConnectOptions, ErrorClass, ReadLineError, Server, ServerFailure, ServerOptions,
    StreamReader, StreamWriter, open_connection,
};
use support::certificates::{Authority, Identity, Validity};
use support::tls::{HOST, VERSIONS};
use support::{echo, ping, run, run_paused};

/// A server over TLS that keeps what it tells.
struct Telling {
    server: Server,
    port: u16,
    told: Arc<Mutex<Vec<ServerFailure>>>,
    calls: Arc<AtomicUsize>,
}

impl Telling {
    async fn start(tls: TlsServer) -> Self {
        let told: Arc<Mutex<Vec<ServerFailure>>> = Arc::default();
        let calls: Arc<AtomicUsize> = Arc::default();
        let (tell, call) = (Arc::clone(&told), Arc::clone(&calls));
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            call.fetch_add(1, Ordering::Relaxed);
            echo(reader, writer)
        };
        let options =
            ServerOptions::new().tls(tls).on_failure(move |failure| tell.lock().unwrap().push(failure));
        let server = options.start("127.0.0.1", 0, handler).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        Self { server, port, told, calls }
    }

    /// Ends the server; it has told one failed handshake by then and not called its handler. Says why it failed, and how.
    async fn end(self) -> (TlsFault, ErrorClass, String) {
        while self.told.lock().unwrap().is_empty() || self.server.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.server.close();
        self.server.wait_closed().await;
        assert_eq!(self.calls.load(Ordering::Relaxed), 0, "a handler without a handshake");
        let told = self.told.lock().unwrap();
        let [failure] = &told[..] else { panic!("told more than once: {told:?}") };
        let cause = failure.tls_handshake().expect("a handshake");
        let text = failure.to_string();
        assert!(text.contains(&failure.address().unwrap().to_string()), "{text}");
        (cause.tls().unwrap(), cause.class(), text)
    }
}

/// Asserts what a text says.
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// How a client and a server fail together, and what they say of it.
struct Case {
    name: &'static str,
    client: TlsClient,
    server: TlsServer,
    host: &'static str,
    fault: TlsFault,
    text: &'static [&'static str],
    server_fault: TlsFault,
    server_text: &'static [&'static str],
}

fn server(identity: &Identity) -> TlsServer {
    TlsServer::new(&identity.chain, &identity.key).unwrap()
}

fn cases() -> Vec<Case> {
    let authority = Authority::new("test root");
    let trusting = || TlsClient::builder().root_certificates(authority.root());
    let identity = authority.server(&[HOST]);
    let client = trusting().build().unwrap();
    let bad = TlsFault::BadCertificate;
    let alert = |alert| TlsFault::Refused { alert };
    let case = |name, client, server, fault, text, server_fault, server_text| Case {
        name,
        client,
        server,
        host: HOST,
        fault,
        text,
        server_fault,
        server_text,
    };
    let old_client = trusting().maximum_version(TlsVersion::V1_2).build().unwrap();
    let new_server = TlsServer::builder()
        .certificate(&identity.chain, &identity.key)
        .minimum_version(TlsVersion::V1_3)
        .build()
        .unwrap();
    let h2 = trusting().alpn(&["h2"]).build().unwrap();
    let http1 = TlsServer::builder().certificate(&identity.chain, &identity.key).alpn(&["http/1.1"]);
    let by_name = authority.server(&["shop.example"]);
    let only_shop =
        TlsServer::builder().certificate_for("shop.example", &by_name.chain, &by_name.key).build().unwrap();
    vec![
        case(
            "another name",
            client.clone(),
            server(&authority.server(&["www.example.org", "example.org"])),
            bad(CertificateFault::WrongName),
            &["\"localhost\"", "www.example.org", "example.org", "not for"],
            alert(42),
            &["BadCertificate", "(42)", "does not accept our certificate"],
        ),
        Case {
            host: "127.0.0.1",
            ..case(
                "a name where an address was asked for",
                client.clone(),
                server(&identity),
                bad(CertificateFault::WrongName),
                &["\"127.0.0.1\"", "localhost", "not for"],
                alert(42),
                &["(42)"],
            )
        },
        case(
            "an unknown issuer",
            client.clone(),
            server(&Authority::new("another root").server(&[HOST])),
            bad(CertificateFault::UnknownIssuer),
            &["\"localhost\"", "issuer is unknown", "self-signed"],
            alert(48),
            &["UnknownCA", "(48)", "does not know the issuer of our certificate"],
        ),
        case(
            "an expired certificate",
            client.clone(),
            server(&authority.server_at(&[HOST], Validity::Over)),
            bad(CertificateFault::Expired),
            &["\"localhost\"", "expired on 2021-05-06"],
            alert(45),
            &["(45)", "our certificate has expired"],
        ),
        case(
            "a certificate of the future",
            client.clone(),
            server(&authority.server_at(&[HOST], Validity::NotYet)),
            bad(CertificateFault::NotYetValid),
            &["\"localhost\"", "not valid before 2089-01-01"],
            alert(45),
            &["(45)"],
        ),
        case(
            "a client's certificate",
            client.clone(),
            server(&authority.client(HOST)),
            bad(CertificateFault::WrongPurpose),
            &["\"localhost\"", "not for this use"],
            alert(43),
            &["does not accept our certificate"],
        ),
        case(
            "no version in common",
            old_client,
            new_server,
            alert(70),
            &["\"localhost\"", "ProtocolVersion", "none of the TLS versions that we offered"],
            TlsFault::NoAgreement,
            &["too little of TLS in common", "1"],
        ),
        case(
            "no application protocol in common",
            h2,
            http1.build().unwrap(),
            alert(120),
            &["\"localhost\"", "(120)", "application protocols (ALPN)"],
            TlsFault::NoAgreement,
            &["no application protocol (ALPN) in common"],
        ),
        case(
            "no certificate for this name",
            client,
            only_shop,
            alert(49),
            &["\"localhost\"", "no certificate for the name we asked for"],
            TlsFault::Local,
            &["no server certificate"],
        ),
    ]
}

#[test]
fn each_reason_to_refuse_a_server_is_told_to_both_sides_by_its_name() {
    run(async {
        for Case { name, client, server, host, fault, text, server_fault, server_text } in cases() {
            let server = Telling::start(server).await;
            let error = ConnectOptions::new().tls(client).open(host, server.port).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::BrokenByPeer, "{name}: {error}");
            says(&error.to_string(), &["open_connection", "TLS with"]);
            says(&error.to_string(), text);
            let ConnectError::Tls(error) = error else { panic!("{name}: {error:?}") };
            assert_eq!(error.fault(), Some(fault), "{name}: {error}");
            let (told, class, told_text) = server.end().await;
            assert_eq!((told, class), (server_fault, server_fault.class()), "{name}: {told_text}");
            says(&told_text, &["TLS handshake"]);
            says(&told_text, server_text);
        }
    });
}

#[test]
fn a_server_that_wants_a_client_certificate_says_so_and_takes_one_that_its_roots_vouch_for() {
    run(async {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let identity = authority.server(&[HOST]);
        for version in VERSIONS {
            let good = clients.client("good");
            let stranger = Authority::new("strangers").client("bad");
            for (shown, fault, seen, alerts) in [
                (None, CertificateFault::Missing, "no certificate, and one is required", [116, 40]),
                (Some(stranger), CertificateFault::UnknownIssuer, "issuer is unknown", [48, 48]),
            ] {
                let tls = TlsServer::builder()
                    .certificate(&identity.chain, &identity.key)
                    .require_client_certificates(clients.root());
                let server = Telling::start(tls.build().unwrap()).await;
                let client =
                    TlsClient::builder().root_certificates(authority.root()).maximum_version(version);
                let client = match &shown {
                    Some(identity) => client.certificate(&identity.chain, &identity.key),
                    None => client,
                };
                let options = ConnectOptions::new().tls(client.build().unwrap());
                // In TLS 1.3 a client's handshake is over before the server has looked at its certificate.
                let (failure, text) = match options.open(HOST, server.port).await {
                    Ok((mut reader, _writer)) => match reader.read_line().await {
                        Err(ReadLineError::Failed(failure)) => (failure.tls(), failure.to_string()),
                        other => panic!("{other:?}"),
                    },
                    Err(ConnectError::Tls(error)) => (error.fault(), error.to_string()),
                    Err(error) => panic!("{error}"),
                };
                let Some(TlsFault::Refused { alert }) = failure else { panic!("{version}: {text}") };
                assert!(alerts.contains(&alert), "{version}: {text}");
                says(&text, &["certificate"]);
                let (told, class, told_text) = server.end().await;
                assert_eq!((told, class), (TlsFault::BadCertificate(fault), ErrorClass::BrokenByPeer));
                says(&told_text, &[seen]);
            }
            let tls = TlsServer::builder()
                .certificate(&identity.chain, &identity.key)
                .require_client_certificates(clients.root());
            let server =
                ServerOptions::new().tls(tls.build().unwrap()).start("127.0.0.1", 0, echo).await.unwrap();
            let client = TlsClient::builder()
                .root_certificates(authority.root())
                .certificate(&good.chain, &good.key)
                .maximum_version(version);
            let options = ConnectOptions::new().tls(client.build().unwrap());
            let port = server.sockets()[0].port().unwrap();
            let (mut reader, writer) = options.open(HOST, port).await.unwrap();
            ping(&mut reader, &writer).await;
            drop((reader, writer));
            server.close();
            server.wait_closed().await;
        }
    });
}

#[test]
fn plain_http_on_a_tls_port_is_called_by_its_name_from_both_sides() {
    run(async {
        let authority = Authority::new("test root");
        // A client without TLS.
        let server = Telling::start(server(&authority.server(&[HOST]))).await;
        let (mut reader, writer) = open_connection("127.0.0.1", server.port).await.unwrap();
        writer.write(b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = reader.read_to_end(1000).await.unwrap_or_default();
        assert!(answer.is_empty() || answer[0] == 21, "anything but an alert: {answer:?}");
        let (fault, class, text) = server.end().await;
        assert_eq!((fault, class), (TlsFault::NotTls, ErrorClass::BrokenByPeer));
        says(&text, &["plain HTTP", "GET /secret"]);

        // A server without TLS, which answers what it takes for a bad request, or closes.
        for (answer, parts) in [
            (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &["plain HTTP", "HTTP/1.1 400"][..]),
            (b"SSH-2.0-OpenSSH_9.2\r\n", &["does not speak TLS", "SSH-2.0"]),
            (b"220 mail.example ESMTP\r\n", &["does not speak TLS", "220 mail"]),
        ] {
            let handler = move |_: StreamReader, writer: StreamWriter| writer.write(answer);
            let server = ServerOptions::new().start("127.0.0.1", 0, handler).await.unwrap();
            let client = TlsClient::builder().root_certificates(authority.root()).build().unwrap();
            let port = server.sockets()[0].port().unwrap();
            let error = ConnectOptions::new().tls(client).open(HOST, port).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::BrokenByPeer);
            says(&error.to_string(), &["\"localhost\""]);
            says(&error.to_string(), parts);
            let ConnectError::Tls(error) = error else { panic!("{error:?}") };
            assert_eq!(error.fault(), Some(TlsFault::NotTls));
            server.close();
            server.wait_closed().await;
        }
    });
}

#[test]
fn a_handshake_that_takes_too_long_names_the_host_and_the_time() {
    run_paused(async {
        let authority = Authority::new("test root");
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TlsClient::builder().root_certificates(authority.root()).build().unwrap();
        let client = client.handshake_timeout(Duration::from_secs(3));
        let port = silent.local_addr().unwrap().port();
        let error = ConnectOptions::new().tls(client).open(HOST, port).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Deadline);
        assert_eq!(std::io::Error::from(error.clone()).kind(), std::io::ErrorKind::TimedOut);
        says(&error.to_string(), &["\"localhost\"", "3s"]);
        assert!(matches!(error, ConnectError::Tls(TlsError::TimedOut { .. })));
    });
}
