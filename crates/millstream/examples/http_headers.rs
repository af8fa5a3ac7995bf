//! Get HTTP headers: the third example of Python's asyncio Streams, over HTTP and HTTPS.
//!
//! `cargo run --example http_headers -- https://www.rust-lang.org/learn`
//!
//! HTTPS trusts what this system trusts; `SSL_CERT_FILE=roots.pem` names other roots.

use millstream::tls::TlsClient;
use millstream::{BoxError, ConnectOptions};

/// `tls` is for HTTPS; without it, the system's trusted roots.
pub(crate) async fn print_http_headers(url: &str, tls: Option<TlsClient>) -> Result<Vec<String>, BoxError> {
    let (scheme, rest) = url.split_once("://").ok_or("a URL begins with http:// or https://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let mut options = ConnectOptions::new().limit(8 * 1024);
    let default_port = match scheme {
        "http" => "80",
        "https" => {
            options = options.tls(tls.map_or_else(TlsClient::new, Ok)?);
            "443"
        }
        other => return Err(format!("{other}: is neither http nor https").into()),
    };
    // The address in http://[::1]:8080/ has colons of its own.
    let end_of_host = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[end_of_host..].rfind(':') {
        Some(colon) => (&authority[..end_of_host + colon], &authority[end_of_host + colon + 1..]),
        None => (authority, default_port),
    };

    let (mut reader, writer) = options.open(host.trim_matches(['[', ']']), port.parse()?).await?;
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
    print_http_headers(&url, None).await.map(drop)
}
