//! PROXY headers between this library and others: nginx, HAProxy and curl as senders, HAProxy and nginx as receivers of ours.
//! Each test says that it skips where its program is missing.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use millstream::proxy::{ProxyHeader, ProxyProtocol, ProxyVersion, tlv_type};
use millstream::tls::TlsClient;
use millstream::{ConnectOptions, Error, Server, ServerOptions, StreamReader, StreamWriter};
use support::certificates::Authority;
use support::programs::{Program, have};
use support::proxy::{CLIENT, FRONT, tcp_header};
use support::run;
use tempfile::TempDir;

#[test]
fn nginx_tells_us_its_clients_over_ipv4_and_ipv6() {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(MODULE).exists() {
        eprintln!("skipped: this machine has no {MODULE}");
        return;
    }
    with(&["nginx"], async {
        let (server, ours) = describing_server().await;
        let v6 = TcpListener::bind("[::1]:0").is_ok();
        let folder = tempfile::tempdir().unwrap();
        let (_nginx, port) = program("nginx", &folder, |port| {
            let listen_v6 = if v6 { format!("listen [::]:{port} ipv6only=on;") } else { String::new() };
            format!(
                "load_module {MODULE}; daemon off; master_process off; pid nginx.pid; error_log stderr;
                events {{ worker_connections 64; }}
                stream {{ server {{
                    listen 127.0.0.1:{port}; {listen_v6}
                    proxy_pass 127.0.0.1:{ours}; proxy_protocol on;
                }} }}"
            )
        })
        .await;
        for ip in if v6 { &["127.0.0.1", "::1"][..] } else { &["127.0.0.1"] } {
            let (told, local) = ask(&ConnectOptions::new(), ip, port).await;
            assert_eq!(told["peer"], local.to_string());
            assert_eq!(told["destination"], SocketAddr::new(ip.parse().unwrap(), port).to_string());
            assert_eq!(told["version"], "V1");
            assert!(told["socket"] != told["peer"] && told["socket"].starts_with("127.0.0.1:"), "{told:?}");
        }
        end(server).await;
    });
}

#[test]
fn haproxy_tells_us_its_clients_in_both_versions_with_all_that_it_can_say() {
    with(&["haproxy"], async {
        let (server, ours) = describing_server().await;
        let authority = Authority::new("interoperation root");
        let identity = authority.server(&["localhost"]);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("front.pem"), identity.chain + &identity.key).unwrap();
        let listeners = [
            ("", "send-proxy"),
            ("", "send-proxy-v2"),
            ("", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
            (
                "ssl crt front.pem alpn h9",
                "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c",
            ),
        ];
        for (bind, send) in listeners {
            let (_haproxy, port) = program("haproxy", &folder, |port| {
                haproxy_conf(port, bind, &format!("127.0.0.1:{ours} {send}"))
            })
            .await;
            let mut options = ConnectOptions::new();
            if !bind.is_empty() {
                let tls =
                    TlsClient::builder().root_certificates(authority.root()).alpn(&["h9"]).build().unwrap();
                options = options.tls(tls.server_name("localhost").unwrap());
            }
            let (told, local) = ask(&options, "127.0.0.1", port).await;
            assert_eq!(told["peer"], local.to_string(), "{send}");
            assert_eq!(told["destination"], format!("127.0.0.1:{port}"));
            assert_eq!(told["version"], if send == "send-proxy" { "V1" } else { "V2" });
            assert_eq!(told["checksum"], send.contains("crc32c").to_string(), "{send}");
            assert_eq!(told["unique"], if send.contains("unique-id") { "the-id" } else { "" });
            let secure = if bind.is_empty() { "" } else { "TLSv1.3" };
            assert_eq!(told["tls"], secure, "{send}");
            assert_eq!(told["authority"], if bind.is_empty() { "" } else { "localhost" });
            assert_eq!(told["alpn"], if bind.is_empty() { "" } else { "h9" });
        }
        end(server).await;
    });
}

#[test]
fn haproxy_believes_our_headers_and_passes_on_what_they_say() {
    with(&["haproxy"], async {
        let (server, ours) = describing_server().await;
        let folder = tempfile::tempdir().unwrap();
        let (_haproxy, port) = program("haproxy", &folder, |port| {
            haproxy_conf(
                port,
                "accept-proxy",
                &format!("127.0.0.1:{ours} send-proxy-v2 proxy-v2-options unique-id,crc32c,authority"),
            )
        })
        .await;
        let v6 =
            ProxyHeader::tcp("[2001:db8::1]:5000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        let named = tcp_header().with_tlv(tlv_type::AUTHORITY, "named.example").with_checksum();
        let headers = [
            tcp_header().with_version(ProxyVersion::V1),
            tcp_header(),
            named.clone(),
            v6.clone(),
            v6.with_version(ProxyVersion::V1),
        ];
        for header in headers {
            let options = ConnectOptions::new().send_proxy_header(header.clone());
            let (told, _) = ask(&options, "127.0.0.1", port).await;
            assert_eq!(told["peer"], header.source().unwrap().to_string());
            assert_eq!(told["destination"], header.destination().unwrap().to_string());
            assert_eq!(told["authority"], header.authority().unwrap_or_default());
        }
        let (told, local) =
            ask(&ConnectOptions::new().send_proxy_header(ProxyHeader::local()), "127.0.0.1", port).await;
        assert_eq!(told["peer"], local.to_string(), "LOCAL leaves the socket's own");
        // It verifies our checksum: with a wrong one it hangs up.
        let mut wrong = named.encode().unwrap();
        *wrong.last_mut().unwrap() ^= 1;
        let (mut reader, writer) = ConnectOptions::new().open("127.0.0.1", port).await.unwrap();
        writer.write(&[&wrong[..], REQUEST].concat()).unwrap();
        let answer = reader.read_to_end(10_000).await;
        assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.is_empty()), "{answer:?}");
        drop((reader, writer));
        end(server).await;
    });
}

#[test]
fn nginx_believes_our_headers() {
    with(&["nginx"], async {
        let folder = tempfile::tempdir().unwrap();
        let (_nginx, port) = program("nginx", &folder, |port| {
            format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr;
                events {{ worker_connections 64; }}
                http {{
                    access_log off;
                    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                    server {{
                        listen 127.0.0.1:{port} proxy_protocol;
                        return 200 \"$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port\";
                    }}
                }}"
            )
        })
        .await;
        for header in
            [tcp_header().with_version(ProxyVersion::V1), tcp_header(), tcp_header().with_checksum()]
        {
            let options = ConnectOptions::new().send_proxy_header(header);
            let (mut reader, writer) = options.open("127.0.0.1", port).await.unwrap();
            writer.write(REQUEST).unwrap();
            assert_eq!(body(&mut reader).await, format!("{CLIENT} {FRONT}"));
        }
    });
}

#[test]
fn curl_tells_us_who_it_is() {
    with(&["curl"], async {
        let (server, port) = describing_server().await;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://127.0.0.1:{port}/");
        let arguments = ["--silent", "--noproxy", "*", "--max-time", "30", "--haproxy-protocol", &url];
        let mut curl = Program::start("curl", &arguments, folder.path());
        curl.succeeds().await;
        let told = fields(&curl.said());
        assert_eq!((&told["version"][..], &told["peer"]), ("V1", &told["socket"]));
        assert_eq!(told["destination"], format!("127.0.0.1:{port}"));
        end(server).await;
    });
}

fn haproxy_conf(port: u16, bind: &str, server: &str) -> String {
    format!(
        "global
            maxconn 100
        defaults
            mode tcp
            timeout connect 30s
            timeout client 30s
            timeout server 30s
        listen tested
            bind 127.0.0.1:{port} {bind}
            unique-id-format the-id
            server ours {server}
"
    )
}

/// Answers one request with what it knows of its peer, and closes.
async fn describe(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    reader.read_until(b"\r\n\r\n").await?.expect("a request");
    let header = writer.proxy_header().expect("it is required");
    let ssl = header.ssl().and_then(|ssl| ssl.text(tlv_type::SSL_VERSION)).unwrap_or_default();
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let known = [
        ("peer", writer.peer_address().expect("accepted").to_string()),
        ("socket", writer.socket_peer_address().expect("accepted").to_string()),
        ("destination", header.destination().map(|to| to.to_string()).unwrap_or_default()),
        ("version", format!("{:?}", header.version())),
        ("checksum", header.tlv(tlv_type::CRC32C).is_some().to_string()),
        ("unique", text(header.unique_id())),
        ("authority", header.authority().unwrap_or_default().to_owned()),
        ("alpn", text(header.alpn())),
        ("tls", ssl.to_owned()),
    ];
    let body: String = known.map(|(name, value)| format!("{name}={value}\n")).concat();
    writer.write(format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    writer.close();
    Ok(writer.wait_closed().await?)
}

async fn describing_server() -> (Server, u16) {
    let protocol = ProxyProtocol::required().trust("127.0.0.1").unwrap();
    let server = ServerOptions::new().proxy_protocol(protocol).start("127.0.0.1", 0, describe).await.unwrap();
    let port = server.sockets()[0].port().unwrap();
    (server, port)
}

async fn end(server: Server) {
    server.close();
    server.wait_closed().await;
}

type Fields = std::collections::HashMap<String, String>;

fn fields(body: &str) -> Fields {
    body.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What the server behind a proxy knows of us, and our own address.
async fn ask(options: &ConnectOptions, ip: &str, port: u16) -> (Fields, SocketAddr) {
    let (mut reader, writer) = options.open(ip, port).await.unwrap();
    let local = writer.local_address().and_then(|local| local.ip()).unwrap();
    writer.write(REQUEST).unwrap();
    (fields(&body(&mut reader).await), local)
}

async fn body(reader: &mut StreamReader) -> String {
    let head = reader.read_until(b"\r\n\r\n").await.unwrap().expect("an answer");
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let body = reader.read_exactly(length.parse().unwrap()).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Runs a test with these programs, or says that it skipped.
fn with(programs: &[&str], test: impl Future<Output = ()>) {
    if have(programs) {
        run(async { tokio::time::timeout(Duration::from_secs(90), test).await.expect("no end in sight") });
    }
}

/// Starts it with a configuration for a port of its own.
async fn program(name: &str, folder: &TempDir, configuration: impl Fn(u16) -> String) -> (Program, u16) {
    // It cannot say which port the system chose, so it gets one that was free a moment ago. Someone else may be faster.
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.expect("a free port").port();
        let file = format!("{name}.conf");
        std::fs::write(folder.path().join(&file), configuration(port)).unwrap();
        let path = folder.path().to_str().expect("UTF-8");
        let arguments = match name {
            "nginx" => vec!["-p", path, "-c", &file, "-e", "stderr"],
            _ => vec!["-db", "-f", &file],
        };
        let mut program = Program::start(name, &arguments, folder.path());
        while program.is_over().is_none() {
            if listens(port) {
                return (program, port);
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let said = program.said();
        assert!(said.contains("in use") || said.contains("cannot bind"), "{said}");
    }
    panic!("ten times in a row someone else took the free port");
}

/// Whether someone listens there, without a connection that the server behind would see.
fn listens(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
    let local = format!("0100007F:{port:04X} 00000000:0000 0A");
    sockets.lines().any(|line| line.contains(&local))
}
