//! Our client with `openssl s_server`.

use millstream::WriteError;
use millstream::tls::{CertificateFault, TlsClient, TlsFault, TlsVersion};

use crate::fixture::{
    BOTH_VERSIONS, MEGABYTE, OneVersion, Papers, close, fault, is_cut, open, open_as, pattern, with,
};
use crate::support::programs::Program;

#[test]
fn a_line_comes_back_over_each_version() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (mut server, port) = s_server(&papers, &["-rev"]).await;
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).build().unwrap();
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            writer.write(b"stressed\n").unwrap();
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"desserts\n"[..]));
            let info = writer.tls_info().unwrap();
            assert_eq!((info.version, info.resumed, info.alpn), (version, false, None));
            server.says(&format!("Ciphersuite: {}", openssl_name(&info.cipher_suite))).await;
            close(&writer).await;
            server.says("CONNECTION CLOSED").await;
        }
    });
}

#[test]
fn a_file_arrives_whole_and_ends_cleanly() {
    with(&["openssl"], async {
        let papers = Papers::new();
        papers.put("file", pattern(MEGABYTE));
        let (_server, port) = s_server(&papers, &["-WWW"]).await;
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).build().unwrap();
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            writer.write(b"GET /file HTTP/1.0\r\n\r\n").unwrap();
            reader.read_until(b"\r\n\r\n").await.unwrap().unwrap();
            assert!(reader.read_to_end(MEGABYTE).await.unwrap() == pattern(MEGABYTE));
            close(&writer).await;
        }
    });
}

#[test]
fn a_client_certificate_is_shown_where_one_is_required() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (mut server, port) = s_server(&papers, &STRICT).await;
        for version in BOTH_VERSIONS {
            let tls = papers.known_client().only(version).build().unwrap();
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            writer.write(b"me\n").unwrap();
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"em\n"[..]));
            server.says("Peer certificate: CN = visitor").await;
            close(&writer).await;
        }
    });
}

#[test]
fn a_client_without_the_required_certificate_is_told_so() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (_server, port) = s_server(&papers, &STRICT).await;
        // 40 is handshake_failure. Over 1.3 the handshake is over for the client before the server has
        // judged.
        let tls = papers.client().only(TlsVersion::V1_2).build().unwrap();
        assert_eq!(fault(open(port, &tls).await.unwrap_err()), Some(TlsFault::Refused { alert: 40 }));
        let tls = papers.client().only(TlsVersion::V1_3).build().unwrap();
        let (mut reader, writer) = open(port, &tls).await.unwrap();
        let refused = Some(TlsFault::Refused { alert: 116 });
        assert_eq!(fault(reader.read_line().await.unwrap_err()), refused);
        assert_eq!(fault(writer.write(b"too late\n").unwrap_err()), refused);
        assert_eq!(fault(writer.wait_closed().await.unwrap_err()), refused);
    });
}

#[test]
fn the_protocol_both_speak_is_agreed_on_and_none_is_an_error() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (_server, port) = s_server(&papers, &["-rev", "-alpn", "h2,http/1.1"]).await;
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).alpn(&["http/1.1", "http/1.0"]).build().unwrap();
            let (_reader, writer) = open(port, &tls).await.unwrap();
            assert_eq!(writer.tls_info().unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
            close(&writer).await;
            let tls = papers.client().only(version).alpn(&["gopher"]).build().unwrap();
            assert_eq!(fault(open(port, &tls).await.unwrap_err()), Some(TlsFault::Refused { alert: 120 }));
        }
    });
}

#[test]
fn the_name_we_ask_for_chooses_the_certificate() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let other = ["-rev", "-servername", "other.test", "-cert2", "other.pem", "-key2", "other.key"];
        let (_server, port) = s_server(&papers, &other).await;
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).build().unwrap();
            let mut certificates = Vec::new();
            for name in ["localhost", "other.test"] {
                let (_reader, writer) = open_as(name, port, &tls).await.unwrap();
                let info = writer.tls_info().unwrap();
                assert_eq!(info.server_name.as_deref(), Some(name));
                certificates.push(info.peer_certificates);
                close(&writer).await;
            }
            assert_ne!(certificates[0], certificates[1]);
        }
    });
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (mut server, port) = s_server(&papers, &STRICT).await;
        for version in BOTH_VERSIONS {
            let tls = papers.known_client().only(version).build().unwrap();
            for resumed in [false, true, true] {
                let (mut reader, writer) = open(port, &tls).await.unwrap();
                writer.write(b"live\n").unwrap();
                assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"evil\n"[..]));
                let info = writer.tls_info().unwrap();
                assert_eq!((info.resumed, info.peer_certificates.is_empty()), (resumed, false), "{version}");
                close(&writer).await;
            }
        }
        server.says("CONNECTION CLOSED").await;
    });
}

#[test]
fn an_answer_still_arrives_after_our_end() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (_server, port) = s_server(&papers, &["-rev"]).await;
        let tls = papers.client().only(TlsVersion::V1_3).build().unwrap();
        let (mut reader, writer) = open(port, &tls).await.unwrap();
        writer.write(b"no more from us\n").unwrap();
        assert!(writer.can_write_eof());
        writer.write_eof().unwrap();
        assert_eq!(reader.read_to_end(100).await.unwrap(), "su morf erom on\n");
        close(&writer).await;
    });
}

#[test]
fn over_tls_1_2_a_half_close_is_refused_and_the_stream_goes_on() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let (_server, port) = s_server(&papers, &["-rev"]).await;
        let tls = papers.client().only(TlsVersion::V1_2).build().unwrap();
        let (mut reader, writer) = open(port, &tls).await.unwrap();
        assert!(!writer.can_write_eof());
        assert_eq!(writer.write_eof(), Err(WriteError::NoHalfClose));
        writer.write(b"still here\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"ereh llits\n"[..]));
        close(&writer).await;
    });
}

#[test]
fn each_side_sees_the_other_close() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).build().unwrap();
            // What it calls DONE is an end with close_notify; without one it says ERROR.
            let (mut server, port) = s_server(&papers, &[]).await;
            let (_reader, writer) = open(port, &tls).await.unwrap();
            close(&writer).await;
            server.says("DONE").await;
            assert!(!server.said().contains("ERROR"), "{}", server.said());
            let (_reader, writer) = open(port, &tls).await.unwrap();
            writer.abort();
            server.says("ERROR").await;
            // This word makes it close.
            let (_server, port) = s_server(&papers, &["-rev"]).await;
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            writer.write(b"CLOSE\n").unwrap();
            assert_eq!(reader.read_line().await.unwrap(), None);
            assert!(reader.at_eof());
            close(&writer).await;
        }
    });
}

#[test]
fn a_server_that_is_killed_in_the_middle_is_no_clean_end() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let (mut server, port) = s_server(&papers, &[]).await;
            let tls = papers.client().only(version).build().unwrap();
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            server.say("the first half\n");
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"the first half\n"[..]));
            server.kill();
            let error = reader.read_line().await.unwrap_err();
            assert!(is_cut(error.clone()), "{version}: {error:?}");
            assert_eq!(reader.read_line().await.unwrap_err(), error, "it is sticky");
            writer.close();
            let _ = writer.wait_closed().await;
        }
    });
}

#[test]
fn a_certificate_we_do_not_accept_ends_both_sides_with_its_reason() {
    with(&["openssl"], async {
        let papers = Papers::new();
        let stranger = papers.read("stranger.pem");
        for version in BOTH_VERSIONS {
            let (mut server, port) = s_server(&papers, &[]).await;
            let tls = papers.client().only(version).build().unwrap();
            let refused = open_as("wrong.test", port, &tls).await.unwrap_err();
            assert_eq!(fault(refused), Some(TlsFault::BadCertificate(CertificateFault::WrongName)));
            server.says("alert bad certificate").await;
            let tls = TlsClient::builder().root_certificates(&stranger).only(version);
            let refused = open(port, &tls.build().unwrap()).await.unwrap_err();
            assert_eq!(fault(refused), Some(TlsFault::BadCertificate(CertificateFault::UnknownIssuer)));
            server.says("alert unknown ca").await;
        }
    });
}

#[test]
fn versions_without_overlap_are_refused() {
    with(&["openssl"], async {
        let papers = Papers::new();
        for (version, only) in [(TlsVersion::V1_3, "-tls1_2"), (TlsVersion::V1_2, "-tls1_3")] {
            let (_server, port) = s_server(&papers, &["-rev", only]).await;
            let tls = papers.client().only(version).build().unwrap();
            // 70 is protocol_version.
            let refused = open(port, &tls).await.unwrap_err();
            assert_eq!(fault(refused), Some(TlsFault::Refused { alert: 70 }), "{version} with {only}");
        }
    });
}

/// Starts it, and returns its port.
async fn s_server(papers: &Papers, more: &[&str]) -> (Program, u16) {
    let mut arguments =
        vec!["s_server", "-accept", "127.0.0.1:0", "-cert", "server.pem", "-key", "server.key"];
    arguments.extend(more);
    let mut server = papers.start("openssl", &arguments);
    let port = server.port_after("ACCEPT ").await;
    (server, port)
}

/// OpenSSL has names of its own for the suites of TLS 1.2: `ECDHE-ECDSA-AES256-GCM-SHA384`.
fn openssl_name(iana_name: &str) -> String {
    if !iana_name.contains("_WITH_") {
        return iana_name.to_owned();
    }
    let short = iana_name.trim_start_matches("TLS_").replace("_WITH_", "_").replace("AES_", "AES");
    short.trim_end_matches("_CHACHA20_POLY1305_SHA256").replace('_', "-")
}

/// Answers each line in reverse, but only clients that have a certificate.
const STRICT: [&str; 6] = ["-rev", "-Verify", "2", "-verify_return_error", "-CAfile", "root.pem"];
