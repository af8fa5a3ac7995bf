//! STARTTLS, both sides: a conversation that begins in plaintext and goes on encrypted, on the same two halves.
//!
//! `cargo run --example tls_upgrade` makes a certificate of its own, serves one client with it, and is that client.

use millstream::tls::{TlsClient, TlsServer};
use millstream::{BoxError, ConnectOptions, Error, ServerOptions, StreamReader, StreamWriter};

/// The server's side: one command in plaintext, the rest encrypted.
pub(crate) async fn serve(
    mut reader: StreamReader,
    writer: StreamWriter,
    tls: TlsServer,
) -> Result<(), Error> {
    writer.write(b"220 ready\r\n")?;
    if reader.read_line().await?.as_deref() != Some(b"STARTTLS\r\n") {
        writer.write(b"530 must issue STARTTLS first\r\n")?;
        return Ok(());
    }
    writer.write(b"220 go ahead\r\n")?;
    // What a client has sent behind its STARTTLS is ciphertext from here on: no one can slip a command in.
    writer.start_tls(&mut reader, &tls).await?;

    while let Some(line) = reader.read_line().await? {
        writer.write(b"250 under TLS you said: ")?;
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// The client's side. Gives up rather than go on in plaintext.
pub(crate) async fn converse(host: &str, port: u16, tls: &TlsClient, line: &str) -> Result<String, BoxError> {
    let (mut reader, writer) = ConnectOptions::new().open(host, port).await?;
    println!("Server: {}", text(reader.read_line().await?));
    writer.write(b"STARTTLS\r\n")?;
    let answer = text(reader.read_line().await?);
    println!("Server: {answer}");
    if !answer.starts_with("220 ") {
        return Err(format!("the server refuses TLS: {answer}").into());
    }
    writer.start_tls(&mut reader, tls).await?;
    let info = writer.tls_info().ok_or("no TLS")?;
    println!("Now {} with {}", info.version, info.cipher_suite);

    writer.write(format!("{line}\r\n").as_bytes())?;
    let answer = text(reader.read_line().await?);
    println!("Server: {answer}");
    writer.close();
    writer.wait_closed().await?;
    Ok(answer)
}

fn text(line: Option<impl AsRef<[u8]>>) -> String {
    line.map_or_else(String::new, |line| String::from_utf8_lossy(line.as_ref().trim_ascii_end()).into_owned())
}

/// A certificate for `localhost` that vouches for itself, and its key, both PEM.
pub(crate) fn certificate() -> Result<(String, String), BoxError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

pub(crate) async fn upgrade() -> Result<String, BoxError> {
    let (certificate, key) = certificate()?;
    let server_tls = TlsServer::new(&certificate, &key)?;
    let client_tls = TlsClient::builder().root_certificates(&certificate).build()?;

    let handler = move |reader, writer| serve(reader, writer, server_tls.clone());
    let server = ServerOptions::new().start("localhost", 0, handler).await?;
    let port = server.sockets().first().and_then(millstream::Address::port).ok_or("no port")?;
    let answer = converse("localhost", port, &client_tls, "nobody else hears this").await?;
    server.close();
    server.wait_closed().await;
    Ok(answer)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), BoxError> {
    upgrade().await.map(drop)
}
