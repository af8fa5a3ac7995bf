//! The whole story on loopback in one go; `make demo` runs it. It starts what it talks to, and stops by itself.

mod cancel_safe;
mod echo_client;
mod echo_server;
mod http_headers;
mod open_socket;
mod tls_upgrade;

use millstream::tls::{TlsClient, TlsServer};
use millstream::{
    BoxError, ConnectOptions, Error, ReadLineError, Server, ServerOptions, StreamReader, StreamWriter,
};

type Outcome = Result<(), BoxError>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    title("An echo server, over TCP");
    let server = millstream::start_server("127.0.0.1", 0, echo_server::handle_echo).await?;
    let answer = echo_client::tcp_echo_client("127.0.0.1", port_of(&server), "Hello World!").await?;
    assert_eq!(answer, "Hello World!");
    stop(server).await;

    title("The same loop over a Unix socket, and in memory");
    over_unix().await?;
    in_memory().await?;

    title("HTTP headers");
    let server = millstream::start_server("127.0.0.1", 0, small_http_server).await?;
    let url = format!("http://127.0.0.1:{}/", port_of(&server));
    assert_eq!(http_headers::print_http_headers(&url, None).await?.len(), 3);
    stop(server).await;

    title("HTTP headers over HTTPS, from a server here with a certificate made just now");
    over_https().await?;

    title("STARTTLS: plaintext becomes TLS on the same two halves");
    tls_upgrade::upgrade().await?;

    title("An open socket, registered to wait for data");
    open_socket::wait_for_data().await?;

    title("A line beyond the limit: one error, nothing lost");
    limit_recovered().await?;

    title("Reads that are cancelled all the time");
    cancel_safe::cancel_safe(20).await?;

    title("10,000 lines, pipelined");
    let server = millstream::start_server("127.0.0.1", 0, echo_lines).await?;
    pipeline(&server, 10_000).await?;

    title("A graceful stop");
    let (mut reader, writer) = millstream::open_connection("127.0.0.1", port_of(&server)).await?;
    writer.write(b"said before the stop\n")?;
    writer.flush()?;
    assert!(reader.read_line().await?.is_some());
    stop(server).await;
    assert_eq!(reader.read_line().await?, None);
    println!("The server has stopped; its last client has all its answers and a clean end.");
    Ok(())
}

/// The plain loop: no flush, no buffer to size, nothing to care for.
async fn echo_lines(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(line) = reader.read_line_borrowed().await? {
        writer.write(line)?;
        writer.drain().await?;
    }
    let stats = writer.stats();
    println!("Server: {} receives and {} sends for {} bytes", stats.reads, stats.writes, stats.bytes_written);
    Ok(())
}

async fn small_http_server(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    if reader.read_until(b"\r\n\r\n").await?.is_some() {
        writer.write(b"HTTP/1.0 200 OK\r\n")?;
        writer.write(b"Server: millstream-demo\r\n")?;
        writer.write(b"Content-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

async fn over_https() -> Outcome {
    let (certificate, key) = tls_upgrade::certificate()?;
    let options = ServerOptions::new().tls(TlsServer::new(&certificate, &key)?);
    let server = options.on_failure(|_| {}).start("localhost", 0, small_http_server).await?;
    let url = format!("https://localhost:{}/", port_of(&server));
    let tls = TlsClient::builder().root_certificates(&certificate).build()?;
    assert_eq!(http_headers::print_http_headers(&url, Some(tls)).await?.len(), 3);

    // Without that root, the certificate is worth nothing.
    let other = TlsClient::builder().root_certificates(tls_upgrade::certificate()?.0).build()?;
    match http_headers::print_http_headers(&url, Some(other)).await {
        Err(error) => println!("Error: {error}"),
        Ok(_) => return Err("a stranger's certificate was accepted".into()),
    }
    stop(server).await;
    Ok(())
}

async fn over_unix() -> Outcome {
    let path = std::env::temp_dir().join(format!("millstream-demo-{}.sock", std::process::id()));
    let server = millstream::start_unix_server(&path, echo_lines).await?;
    let (mut reader, writer) = millstream::open_unix_connection(&path).await?;
    writer.write(b"over a Unix socket\n")?;
    let line = reader.read_line().await?.ok_or("the server hung up")?;
    println!("Client: got back {:?}", String::from_utf8_lossy(&line));
    println!("Client: the peer is process {:?}", writer.peer_credentials()?.pid);
    drop((reader, writer));
    stop(server).await;
    Ok(())
}

async fn in_memory() -> Outcome {
    let ((mut reader, writer), (their_reader, their_writer)) = millstream::testing::pair();
    let server = tokio::spawn(echo_lines(their_reader, their_writer));
    writer.write(b"in memory\n")?;
    let line = reader.read_line().await?.ok_or("the server hung up")?;
    println!("Client: got back {:?}", String::from_utf8_lossy(&line));
    writer.write_eof()?;
    Ok(server.await??)
}

async fn limit_recovered() -> Outcome {
    let ((_reader, peer), (mut reader, _writer)) = millstream::testing::pair();
    peer.write_lines(&[&[b'x'; 5000][..], b"\n", b"short\n"])?;
    match reader.limited(1000).read_line().await {
        Err(error @ ReadLineError::LimitOverrun { .. }) => println!("Error: {error}"),
        other => return Err(format!("expected a limit error, not {other:?}").into()),
    }
    println!("Skipped {} bytes", reader.skip_until(b"\n").await?);
    let line = reader.read_line().await?.ok_or("the peer hung up")?;
    println!("Next line: {:?}", String::from_utf8_lossy(&line));
    Ok(())
}

async fn pipeline(server: &Server, lines: usize) -> Outcome {
    let (mut reader, writer) = ConnectOptions::new().open("127.0.0.1", port_of(server)).await?;
    for number in 0..lines {
        writer.write(format!("line {number}\n").as_bytes())?;
    }
    for number in 0..lines {
        let line = reader.read_line_borrowed().await?.ok_or("the server hung up")?;
        assert_eq!(line, format!("line {number}\n").as_bytes());
    }
    let stats = writer.stats();
    println!("Client: {lines} lines there and back in {} sends and {} receives", stats.writes, stats.reads);
    writer.close();
    Ok(writer.wait_closed().await?)
}

async fn stop(server: Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

fn port_of(server: &Server) -> u16 {
    server.sockets().first().and_then(millstream::Address::port).expect("a TCP server that is not closed")
}

fn title(text: &str) {
    println!("\n== {text}");
}
