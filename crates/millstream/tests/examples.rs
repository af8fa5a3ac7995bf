//! The examples do what they say; each runs as the module it is.
#![cfg(feature = "tls")]

#[path = "../examples/cancel_safe.rs"]
mod cancel_safe;
#[path = "../examples/echo_client.rs"]
mod echo_client;
#[path = "../examples/echo_server.rs"]
mod echo_server;
#[allow(dead_code, reason = "`restart.rs` runs the whole of it")]
#[path = "../examples/graceful_server.rs"]
mod graceful_server;
#[path = "../examples/http_headers.rs"]
mod http_headers;
#[path = "../examples/line_chat.rs"]
mod line_chat;
#[path = "../examples/open_socket.rs"]
mod open_socket;
#[path = "../examples/proxy.rs"]
mod proxy;
#[path = "../examples/tls_upgrade.rs"]
mod tls_upgrade;

use millstream::{Error, Server, StreamReader, StreamWriter};

fn port_of(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

#[tokio::test]
async fn the_echo_client_gets_back_what_it_sent_to_the_echo_server() {
    let server = millstream::start_server("127.0.0.1", 0, echo_server::handle_echo).await.unwrap();
    let answer = echo_client::tcp_echo_client("127.0.0.1", port_of(&server), "Hello World!").await.unwrap();
    assert_eq!(answer, "Hello World!");
}

#[tokio::test]
async fn http_headers_come_without_their_line_ends_and_without_the_body() {
    async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
        let head = reader.read_until(b"\r\n\r\n").await?.expect("a request");
        assert!(head.starts_with(b"HEAD /path?query HTTP/1.0\r\nHost: 127.0.0.1:"));
        writer.write(b"HTTP/1.0 200 OK\r\nA: 1\r\n\r\nno: header\r\n")?;
        Ok(())
    }
    let server = millstream::start_server("127.0.0.1", 0, serve).await.unwrap();
    let url = format!("http://127.0.0.1:{}/path?query", port_of(&server));
    assert_eq!(http_headers::print_http_headers(&url, None).await.unwrap(), ["HTTP/1.0 200 OK", "A: 1"]);
    let error = http_headers::print_http_headers("ftp://127.0.0.1/", None).await.unwrap_err();
    assert!(error.to_string().contains("ftp"), "{error}");
}

#[tokio::test]
async fn a_conversation_goes_on_under_tls_after_its_upgrade() {
    assert_eq!(tls_upgrade::upgrade().await.unwrap(), "250 under TLS you said: nobody else hears this");
}

#[tokio::test]
async fn an_open_socket_waits_for_data() {
    assert_eq!(open_socket::wait_for_data().await.unwrap(), b"abc");
}

#[tokio::test(start_paused = true)]
async fn a_select_loop_loses_nothing() {
    let (received, cancelled) = cancel_safe::cancel_safe(20).await.unwrap();
    assert_eq!(received, 20);
    assert!(cancelled > 20, "{cancelled} cancelled reads show nothing");
}

#[tokio::test]
async fn a_line_in_the_chat_goes_to_everyone_else() {
    let server = line_chat::start_chat("127.0.0.1", 0).await.unwrap();
    let port = port_of(&server);
    let (mut one, one_says) = millstream::open_connection("127.0.0.1", port).await.unwrap();
    let (mut other, other_says) = millstream::open_connection("127.0.0.1", port).await.unwrap();
    // Who is greeted is there: the first to hear the second knows that both are in the room.
    while server.connections() < 2 {
        tokio::task::yield_now().await;
    }
    other_says.write(b"hello\n").unwrap();
    other_says.flush().unwrap();
    let heard = one.read_line().await.unwrap().expect("a line");
    assert!(heard.ends_with(b": hello\n"), "{heard:?}");
    one_says.write(b"hello yourself\n").unwrap();
    let heard = other.read_line().await.unwrap().expect("a line");
    assert!(heard.ends_with(b": hello yourself\n"), "{heard:?}");
}

#[tokio::test]
async fn the_graceful_server_cuts_its_work_short_and_still_answers() {
    let server = graceful_server::start("127.0.0.1", 0).await.unwrap();
    let (mut idle, idle_says) = millstream::open_connection("127.0.0.1", port_of(&server)).await.unwrap();
    let (mut busy, busy_says) = millstream::open_connection("127.0.0.1", port_of(&server)).await.unwrap();
    idle_says.write(b"hello\n").unwrap();
    assert_eq!(idle.read_line().await.unwrap().as_deref(), Some(&b"6\n"[..]));
    busy_says.write(b"hi\nslow work\n").unwrap();
    assert_eq!(busy.read_line().await.unwrap().as_deref(), Some(&b"3\n"[..]));
    let hear = async {
        assert_eq!(idle.read_line().await.unwrap(), None);
        assert_eq!(busy.read_to_end(100).await.unwrap(), "in short: 10\n");
        drop((idle, idle_says, busy, busy_says));
    };
    let (stopped, ()) = tokio::join!(server.stop(std::time::Duration::from_secs(10)), hear);
    assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 2, 0));
}

#[tokio::test]
async fn the_proxy_carries_the_echo_client_to_the_echo_server() {
    let server = millstream::start_server("127.0.0.1", 0, echo_server::handle_echo).await.unwrap();
    let proxy = proxy::start_proxy(("127.0.0.1", 0), ("127.0.0.1", port_of(&server))).await.unwrap();
    let answer = echo_client::tcp_echo_client("127.0.0.1", port_of(&proxy), "Hello World!").await.unwrap();
    assert_eq!(answer, "Hello World!");
    for server in [proxy, server] {
        server.close();
        server.wait_closed().await;
    }
}

#[test]
fn the_proxy_understands_addresses() {
    assert_eq!(proxy::parse("example.org:80"), Some(("example.org", 80)));
    assert_eq!(proxy::parse("[::1]:8080"), Some(("::1", 8080)));
    assert_eq!(proxy::parse("example.org"), None);
    assert_eq!(proxy::parse("example.org:http"), None);
}
