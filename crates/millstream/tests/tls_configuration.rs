//! A TLS configuration that can never work is refused when it is made, with an error that says which part of it is wrong.
#![cfg(feature = "tls")]

mod support;

use millstream::ErrorClass;
use millstream::tls::{TlsClient, TlsConfigError, TlsServer, TlsVersion};
use support::certificates::Authority;
use support::tls::HOST;

#[test]
fn a_configuration_that_can_never_work_is_refused_when_it_is_made() {
    let authority = Authority::new("test root");
    let (identity, other) = (authority.server(&[HOST]), authority.server(&[HOST]));
    let key = &identity.key;
    let table: [(Result<(), TlsConfigError>, &[&str]); 12] = [
        (TlsServer::new("", key).map(drop), &["server certificate", "no certificate"]),
        (TlsServer::new("no PEM at all", key).map(drop), &["server certificate", "no certificate"]),
        (TlsServer::new(key, key).map(drop), &["server certificate", "no certificate"]),
        (TlsServer::new(identity.chain.replace("END", "BEGIN"), key).map(drop), &["server certificate"]),
        (TlsServer::new(&identity.chain, "").map(drop), &["private key"]),
        (TlsServer::new(&identity.chain, &identity.chain).map(drop), &["private key"]),
        (TlsServer::new(&identity.chain, &other.key).map(drop), &["private key", "match"]),
        (TlsServer::builder().build().map(drop), &["needs a certificate"]),
        (
            TlsServer::builder()
                .certificate(&identity.chain, key)
                .minimum_version(TlsVersion::V1_3)
                .maximum_version(TlsVersion::V1_2)
                .build()
                .map(drop),
            &["at least TLS 1.3", "at most TLS 1.2"],
        ),
        (
            TlsClient::builder().root_certificates("").build().map(drop),
            &["root certificates", "no certificate"],
        ),
        (
            TlsClient::builder()
                .root_certificates(authority.root())
                .certificate(&identity.chain, &other.key)
                .build()
                .map(drop),
            &["private key", "match"],
        ),
        (
            TlsClient::builder()
                .root_certificates(authority.root())
                .build()
                .unwrap()
                .server_name("not a name!")
                .map(drop),
            &["\"not a name!\"", "neither a DNS name nor an IP address"],
        ),
    ];
    for (result, parts) in table {
        let error = result.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadCall);
        let text = error.to_string();
        for part in [&["TLS configuration"], parts].concat() {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(!text.contains("PRIVATE KEY-"), "a key in an error: {text}");
    }
}

#[test]
fn printing_a_configuration_shows_nothing_of_its_keys() {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    let authority = Authority::new("test root");
    let (server, client) = (authority.server(&[HOST]), authority.client("somebody"));
    let builder = TlsServer::builder().certificate(&server.chain, &server.key);
    let mut printed = format!("{builder:?}");
    let built = builder.build().unwrap();
    let options = millstream::ServerOptions::new().tls(built.clone());
    printed += &format!("{built:?}{options:?}{:?}", options.per_core());
    let builder =
        TlsClient::builder().root_certificates(authority.root()).certificate(&client.chain, &client.key);
    printed += &format!("{builder:?}");
    let built = builder.build().unwrap();
    let options = millstream::ConnectOptions::new().tls(built.clone());
    printed += &format!("{built:?}{options:?}");
    assert!(printed.contains("TlsServerBuilder") && printed.contains("TlsClient"), "{printed}");

    for key in [&server.key, &client.key] {
        // As text, and its bytes as numbers. The first third is the same in every such key.
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let der = der.secret_der();
        for secret in body.as_bytes()[body.len() / 3..].chunks_exact(8) {
            assert!(!printed.contains(std::str::from_utf8(secret).unwrap()), "{printed}");
        }
        for secret in der[der.len() / 3..].chunks_exact(6) {
            let as_numbers = format!("{secret:?}");
            assert!(!printed.contains(as_numbers.trim_matches(['[', ']'])), "{printed}");
        }
    }
}
