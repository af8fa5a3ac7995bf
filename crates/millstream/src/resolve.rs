//! Names to addresses, off the runtime's threads: checks the name, then asks the system's resolver.

use std::net::{IpAddr, SocketAddr};

use dns_lookup::{AddrInfoHints, LookupErrorKind, getaddrinfo};
use millstream_core::Failure;

use crate::error::HostError;

/// Which addresses of a name are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    fn matches(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// What is asked of the resolver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Query {
    pub(crate) family: Option<Family>,
    /// The `AI_*` flags of `getaddrinfo`.
    pub(crate) flags: i32,
    /// No host stands for every interface of this machine.
    pub(crate) passive: bool,
}

/// Checks a host name; no lookup happens.
pub(crate) fn check_host(host: &str) -> Result<(), HostError> {
    if host.is_empty() {
        return Err(HostError::Empty);
    }
    if let Some(at) = host.bytes().position(|byte| byte == 0) {
        return Err(HostError::Nul { at });
    }
    // A name may end in the root's dot, which does not count.
    let len = host.strip_suffix('.').unwrap_or(host).len();
    if len > 253 {
        return Err(HostError::TooLong { len });
    }
    Ok(())
}

/// The addresses of a checked name in the resolver's order (RFC 6724); none is an empty list. Dropping the future
/// returns at once; a lookup that hangs keeps only its own thread.
pub(crate) async fn resolve(host: Option<&str>, port: u16, query: Query) -> Result<Vec<SocketAddr>, Failure> {
    if let Some(ip) = host.and_then(|host| host.parse::<IpAddr>().ok()) {
        let wanted = query.family.is_none_or(|family| family.matches(ip));
        return Ok(if wanted { vec![SocketAddr::new(ip, port)] } else { Vec::new() });
    }
    let host = host.map(str::to_owned);
    let lookup = tokio::task::spawn_blocking(move || lookup(host.as_deref(), port, query));
    lookup.await.map_err(|error| Failure::from(std::io::Error::other(error)))?
}

fn lookup(host: Option<&str>, port: u16, query: Query) -> Result<Vec<SocketAddr>, Failure> {
    let hints = AddrInfoHints {
        socktype: libc::SOCK_STREAM,
        address: match query.family {
            None => libc::AF_UNSPEC,
            Some(Family::V4) => libc::AF_INET,
            Some(Family::V6) => libc::AF_INET6,
        },
        flags: query.flags | if query.passive { libc::AI_PASSIVE } else { 0 },
        ..AddrInfoHints::default()
    };
    let found = match getaddrinfo(host, Some(&port.to_string()), Some(hints)) {
        Ok(found) => found,
        // The name exists, but not with an address of this family.
        Err(error) if matches!(error.kind(), LookupErrorKind::NoData) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::from(std::io::Error::from(error))),
    };
    let mut addresses = Vec::new();
    for entry in found {
        let address = entry.map_err(Failure::from)?.sockaddr;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused_before_any_lookup() {
        assert_eq!(check_host(""), Err(HostError::Empty));
        assert_eq!(check_host("a\0b"), Err(HostError::Nul { at: 1 }));
        assert_eq!(check_host(&"a".repeat(254)), Err(HostError::TooLong { len: 254 }));
        assert_eq!(check_host(&format!("{}.", "a".repeat(253))), Ok(()));
    }

    #[tokio::test]
    async fn a_scoped_address_keeps_its_scope() {
        let addresses = resolve(Some("fe80::1%lo"), 80, Query::default()).await.unwrap();
        let [SocketAddr::V6(address)] = addresses[..] else { panic!("one IPv6 address, not {addresses:?}") };
        assert_ne!(address.scope_id(), 0);
    }
}
