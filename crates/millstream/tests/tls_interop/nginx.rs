//! nginx as an HTTPS server for our client, and as an HTTPS client, a reverse proxy, of our server.

use std::net::TcpListener;

use millstream::tls::TlsInfo;
use millstream::{ConnectOptions, Error, StreamReader, StreamWriter};

use crate::fixture::{BOTH_VERSIONS, MEGABYTE, OneVersion, Papers, Serving, close, open, pattern, with};
use crate::support::programs::Program;

#[test]
fn a_megabyte_is_fetched_again_and_again_over_one_kept_connection() {
    with(&["nginx"], async {
        let papers = Papers::new();
        papers.put("file", pattern(MEGABYTE));
        let (_server, port) = nginx(&papers, "ssl", "root .;").await;
        for version in BOTH_VERSIONS {
            let tls = papers.client().only(version).alpn(&["http/1.1"]).build().unwrap();
            let (mut reader, writer) = open(port, &tls).await.unwrap();
            let info = writer.tls_info().unwrap();
            assert_eq!((info.version, info.alpn.as_deref()), (version, Some(&b"http/1.1"[..])));
            for _ in 0..5 {
                writer.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                assert!(body(&mut reader).await == pattern(MEGABYTE), "{version}");
            }
            writer.write(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let last = reader.read_to_end(10_000).await.expect("it ends with a close_notify");
            assert!(last.starts_with(b"HTTP/1.1 404 "), "{last:?}");
            close(&writer).await;
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with(&["nginx"], async {
        let papers = Papers::new();
        for n in 0..10 {
            papers.put(&format!("file{n}"), pattern(n * 10_000));
        }
        let (_server, port) = nginx(&papers, "ssl", "root .;").await;
        let (mut reader, writer) = open(port, &papers.client().build().unwrap()).await.unwrap();
        for n in 0..10 {
            writer.write(format!("GET /file{n} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        }
        for n in 0..10 {
            assert!(body(&mut reader).await == pattern(n * 10_000), "file {n}");
        }
        close(&writer).await;
    });
}

#[test]
fn a_client_certificate_and_a_resumed_session_reach_nginx() {
    with(&["nginx"], async {
        let papers = Papers::new();
        let settings = "ssl_verify_client on; ssl_client_certificate root.pem;
            return 200 \"$ssl_client_s_dn $ssl_session_reused\\n\";";
        let (_server, port) = nginx(&papers, "ssl", settings).await;
        for version in BOTH_VERSIONS {
            let tls = papers.known_client().only(version).build().unwrap();
            for (resumed, answer) in [(false, "CN=visitor .\n"), (true, "CN=visitor r\n")] {
                let (mut reader, writer) = open(port, &tls).await.unwrap();
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                assert_eq!(body(&mut reader).await, answer.as_bytes(), "{version}");
                assert_eq!(writer.tls_info().unwrap().resumed, resumed);
                close(&writer).await;
            }
        }
    });
}

#[test]
fn nginx_passes_requests_on_to_our_server_which_it_verifies() {
    with(&["nginx"], async {
        let papers = Papers::new();
        for version in BOTH_VERSIONS {
            let tls = papers.strict_server().only(version).build().unwrap();
            let mut serving = Serving::start(tls, answer_once).await;
            let settings = format!(
                "location / {{ proxy_pass https://127.0.0.1:{}; }}
                proxy_ssl_protocols TLSv1.2 TLSv1.3;
                proxy_ssl_verify on; proxy_ssl_trusted_certificate root.pem;
                proxy_ssl_name other.test; proxy_ssl_server_name on;
                proxy_ssl_certificate client.pem; proxy_ssl_certificate_key client.key;",
                serving.port
            );
            let (_proxy, port) = nginx(&papers, "", &settings).await;
            let (mut reader, writer) = ConnectOptions::new().open("127.0.0.1", port).await.unwrap();
            // OpenSSL forgets a session of TLS 1.2 once it was resumed and renewed.
            for resumed in [false, true] {
                writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                assert!(body(&mut reader).await == pattern(MEGABYTE), "{version}");
                let info = serving.outcome().await.unwrap();
                assert_eq!(info.server_name.as_deref(), Some("other.test"));
                assert_eq!((info.version, info.resumed), (version, resumed));
                assert!(!info.peer_certificates.is_empty());
            }
            close(&writer).await;
            serving.close().await;
        }
    });
}

/// Answers a request with a MiB and closes, as an HTTP/1.0 server does.
async fn answer_once(mut reader: StreamReader, writer: StreamWriter) -> Result<TlsInfo, Error> {
    reader.read_until(b"\r\n\r\n").await?.expect("a request");
    let info = writer.tls_info().expect("the handshake is over");
    writer.write(format!("HTTP/1.0 200 OK\r\nContent-Length: {MEGABYTE}\r\n\r\n").as_bytes())?;
    writer.write_bytes(pattern(MEGABYTE))?;
    writer.close();
    writer.wait_closed().await?;
    Ok(info)
}

/// Reads one answer and returns its body.
async fn body(reader: &mut StreamReader) -> Vec<u8> {
    let head = reader.read_until(b"\r\n\r\n").await.expect("open").expect("an answer");
    let head = String::from_utf8_lossy(&head);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    reader.read_exactly(length.parse().expect("a number")).await.expect("a whole body").to_vec()
}

/// Starts it with a folder, a port and a server of its own, in one process.
async fn nginx(papers: &Papers, listen: &str, settings: &str) -> (Program, u16) {
    // It cannot say which port the system chose, so it gets one that was free a moment ago. Someone else may
    // be faster.
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let free = free.expect("a free port").port();
        papers.put("nginx.conf", configuration(free, listen, settings));
        let _ = std::fs::remove_file(papers.folder().join("nginx.pid"));
        let folder = papers.folder().to_str().expect("UTF-8");
        let mut server = papers.start("nginx", &["-p", folder, "-c", "nginx.conf", "-e", "stderr"]);
        // It writes this file once it listens.
        while server.is_over().is_none() {
            if papers.folder().join("nginx.pid").exists() {
                return (server, free);
            }
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        assert!(server.said().contains("Address already in use"), "{}", server.said());
    }
    panic!("ten times in a row someone else took the free port");
}

fn configuration(port: u16, listen: &str, settings: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {{
                listen 127.0.0.1:{port} {listen};
                ssl_certificate server.pem; ssl_certificate_key server.key; ssl_protocols TLSv1.2 TLSv1.3;
                ssl_session_cache builtin;
                {settings}
            }}
        }}"
    )
}
