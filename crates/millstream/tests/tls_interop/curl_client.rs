//! Our server with curl, which speaks HTTP/1.1 to a handler written by hand.

use millstream::tls::{CertificateFault, TlsFault, TlsInfo, TlsVersion};
use millstream::{Error, ServerOptions, StreamReader, StreamWriter};

use crate::fixture::{BOTH_VERSIONS, MEGABYTE, OneVersion, Papers, Serving, pattern, with};
use crate::support::programs::Program;

#[test]
fn curl_posts_and_fetches_a_megabyte_over_one_kept_connection() {
    with(&["curl"], async {
        let papers = Papers::new();
        papers.put("up", pattern(MEGABYTE));
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).alpn(&["http/1.1"]).build().unwrap();
            let mut serving = Serving::start(tls, http).await;
            let url = url(serving.port);
            let flag = if version == TlsVersion::V1_3 { "--tlsv1.3" } else { "--tlsv1.2" };
            let mut client = curl(
                &papers,
                serving.port,
                &["--cacert", "root.pem", flag, "--data-binary", "@up", &url, "-o", "one", &url, "-o", "two"],
            );
            let (requests, info) = serving.outcome().await.unwrap();
            client.succeeds().await;
            for answer in ["one", "two"] {
                let mut answer = papers.read(answer);
                answer.reverse();
                assert!(answer == pattern(MEGABYTE), "{version}");
            }
            assert_eq!((requests, info.version), (2, version));
            assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            serving.close().await;
        }
    });
}

#[test]
fn curl_is_let_in_by_its_certificate_and_told_when_it_has_none() {
    with(&["curl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, http).await;
            let url = url(serving.port);
            let identity =
                ["--cacert", "root.pem", "--cert", "client.pem", "--key", "client.key", "-d", "me"];
            let mut client = curl(&papers, serving.port, &[&identity[..], &[&url]].concat());
            let (_, info) = serving.outcome().await.unwrap();
            assert!(!info.peer_certificates.is_empty());
            client.succeeds().await;
            assert_eq!(client.said(), "em");

            let mut client = curl(&papers, serving.port, &["--cacert", "root.pem", "-d", "me", &url]);
            let missing = TlsFault::BadCertificate(CertificateFault::Missing);
            assert_eq!(serving.refused().await, Some(missing));
            assert!(!client.ends().await.success());
            assert!(client.said().contains("certificate required"), "{version}: {}", client.said());
            serving.close().await;
        }
    });
}

#[test]
fn a_body_without_a_length_ends_with_our_close_and_not_with_our_abort() {
    with(&["curl"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, body_without_length).await;
            let url = url(serving.port);
            let mut client = curl(&papers, serving.port, &["--cacert", "root.pem", &url, "-o", "whole"]);
            serving.outcome().await.unwrap();
            client.succeeds().await;
            assert!(papers.read("whole") == pattern(MEGABYTE));
            let cut = format!("{url}cut");
            let mut client = curl(&papers, serving.port, &["--cacert", "root.pem", &cut, "-o", "part"]);
            serving.outcome().await.unwrap();
            assert!(!client.ends().await.success(), "{version}: a cut body was taken for a whole one");
            serving.close().await;
        }
    });
}

async fn body_without_length(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let head = reader.read_until(b"\r\n\r\n").await?.expect("a request");
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    writer.write_bytes(pattern(MEGABYTE))?;
    if head.starts_with(b"GET /cut ") {
        writer.drain().await?;
        writer.abort();
    } else {
        writer.close();
        writer.wait_closed().await?;
    }
    Ok(())
}

#[test]
fn what_curl_does_not_accept_reaches_us_as_an_alert() {
    with(&["curl"], async {
        let papers = Papers::new();
        let mut serving = Serving::start(papers.server().build().unwrap(), http).await;
        // 60 is curl's number for a certificate that it cannot verify; 48 is unknown_ca.
        let mut client = curl(&papers, serving.port, &["--cacert", "stranger.pem", &url(serving.port)]);
        assert_eq!(serving.refused().await, Some(TlsFault::Refused { alert: 48 }));
        assert_eq!(client.ends().await.code(), Some(60), "{}", client.said());
        serving.close().await;
    });
}

#[test]
fn plain_http_at_a_tls_port_is_told_apart_and_so_is_tls_at_a_plain_one() {
    with(&["curl"], async {
        let papers = Papers::new();
        let mut serving = Serving::start(papers.server().build().unwrap(), http).await;
        let plain = url(serving.port).replace("https", "http");
        let mut client = curl(&papers, serving.port, &[&plain]);
        assert_eq!(serving.refused().await, Some(TlsFault::NotTls));
        assert!(!client.ends().await.success());
        serving.close().await;

        let mut serving =
            Serving::start_with(ServerOptions::new(), |mut reader: StreamReader, writer| async move {
                let first = reader.read(1).await?;
                drop::<StreamWriter>(writer);
                Ok(first)
            })
            .await;
        let mut client = curl(&papers, serving.port, &["--cacert", "root.pem", &url(serving.port)]);
        assert_eq!(serving.outcome().await.unwrap(), b"\x16"[..], "the record of a ClientHello");
        assert!(!client.ends().await.success());
        serving.close().await;
    });
}

/// Answers each request with its body in reverse. Tells how many there were.
async fn http(mut reader: StreamReader, writer: StreamWriter) -> Result<(usize, TlsInfo), Error> {
    let mut requests = 0;
    while let Some(head) = reader.read_until(b"\r\n\r\n").await? {
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if head.contains("expect: 100-continue") {
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = length.map_or(0, |length| length.trim().parse().expect("a number"));
        let mut body = reader.read_exactly(length).await?.to_vec();
        body.reverse();
        writer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
        writer.write_bytes(body)?;
        writer.drain().await?;
        requests += 1;
    }
    Ok((requests, writer.tls_info().expect("the handshake is over")))
}

/// Starts it without its user's settings, for the name localhost.
fn curl(papers: &Papers, port: u16, more: &[&str]) -> Program {
    let resolve = format!("localhost:{port}:127.0.0.1");
    let mut arguments = vec!["-q", "--silent", "--show-error", "--noproxy", "*", "--resolve", &resolve];
    arguments.extend(more);
    papers.start("curl", &arguments)
}

fn url(port: u16) -> String {
    format!("https://localhost:{port}/")
}
