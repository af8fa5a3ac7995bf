//! Cryptography without chance, so that the same input is the same conversation: what a fuzzer finds can be replayed.

use rustls::crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret};
use rustls::crypto::{SupportedKxGroup, ring};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// ring's, with constants for what should be random.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![&SameSecret], secure_random: &SameBytes, ..ring::default_provider() }
}

#[derive(Debug)]
struct SameBytes;

impl SecureRandom for SameBytes {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        buf.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        Ok(())
    }
}

/// Calls itself X25519, and always agrees on the same secret.
#[derive(Debug)]
struct SameSecret;

impl SupportedKxGroup for SameSecret {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for SameSecret {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, Error> {
        if peer_pub_key != PUBLIC {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&PUBLIC[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &PUBLIC
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

const PUBLIC: [u8; 32] = [9; 32];
