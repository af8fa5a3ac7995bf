//! Get HTTP headers: the third example of Python's asyncio Streams, over plain HTTP (HTTPS comes with TLS).
//!
//! `cargo run --example http_headers -- http://127.0.0.1:8080/some/path`

use millstream::{BoxError, ConnectOptions};

pub(crate) async fn print_http_headers(url: &str) -> Result<Vec<String>, BoxError> {
    let rest = url.strip_prefix("http://").ok_or("only http:// URLs: https:// needs TLS")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));

    let (mut reader, writer) = ConnectOptions::new().limit(8 * 1024).open(host, port.parse()?).await?;
    writer.write(format!("HEAD {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n").as_bytes())?;

    let mut headers = Vec::new();
    while let Some(line) = reader.read_line().await? {
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        if line.is_empty() {
            break;
        }
        println!("HTTP header> {line}");
        headers.push(line);
    }

    // Ignore the body, close the socket.
    writer.close();
    writer.wait_closed().await?;
    Ok(headers)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), BoxError> {
    let url = std::env::args().nth(1).ok_or("usage: http_headers URL")?;
    print_http_headers(&url).await.map(drop)
}
