//! Both sides of TLS conversations without sockets: configurations, a driver without I/O, and a peer that can turn bad.
//!
//! Tests and the fuzz target include this folder by path, so nothing here names a test framework.

pub(crate) mod bytes;
pub(crate) mod config;
pub(crate) mod peer;
pub(crate) mod repeatable;
pub(crate) mod side;
