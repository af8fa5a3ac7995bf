//! How many connections each peer has, and what counts as one peer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};

/// Connections of each peer that has any; nobody else is in it.
#[derive(Debug, Default)]
pub(super) struct Peers(HashMap<IpAddr, usize>);

impl Peers {
    /// One more connection of this peer, unless it has `most` already.
    pub(super) fn take(&mut self, peer: IpAddr, most: usize) -> bool {
        let count = self.0.get(&peer).copied().unwrap_or(0);
        if count >= most {
            return false;
        }
        self.0.insert(peer, count + 1);
        true
    }

    /// One less.
    pub(super) fn give_back(&mut self, peer: IpAddr) {
        if let Entry::Occupied(mut entry) = self.0.entry(peer) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whom a connection is counted for. A host with IPv6 has a whole /64 to choose its addresses from.
pub(super) fn peer_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_ipv4_address_however_written_or_an_ipv6_network_of_64_bits() {
        let key = |text: &str| peer_key(text.parse().unwrap());
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::"));
        assert_ne!(key("2001:db8:1:3::"), key("2001:db8:1:2::"));
    }
}
