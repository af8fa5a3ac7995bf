//! TLS with peers that no one here wrote: OpenSSL's tools, Python's `ssl` and asyncio, nginx and curl, each
//! as a client and as a server where it is both. A test whose peer this machine does not have says that it
//! skipped.
#![cfg(feature = "tls")]

#[path = "tls_interop/curl_client.rs"]
mod curl_client;
#[path = "tls_interop/fixture.rs"]
mod fixture;
#[path = "tls_interop/nginx.rs"]
mod nginx;
#[path = "tls_interop/openssl_client.rs"]
mod openssl_client;
#[path = "tls_interop/openssl_server.rs"]
mod openssl_server;
#[path = "tls_interop/python_asyncio.rs"]
mod python_asyncio;
#[path = "tls_interop/python_ssl.rs"]
mod python_ssl;
mod support;
