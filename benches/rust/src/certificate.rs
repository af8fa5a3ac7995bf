//! The certificate of one run: made by whoever starts the servers, and handed to them in the environment.

use std::env;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};

use crate::Result;

/// A self-signed certificate for `localhost` with an ECDSA key on P-256, and that key, both PEM.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

const CHAIN: &str = "MILLSTREAM_BENCH_CHAIN";
const KEY: &str = "MILLSTREAM_BENCH_KEY";

impl Certificate {
    /// A new one.
    pub(crate) fn make() -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        Ok(Self { chain: certificate.pem(), key: key.serialize_pem() })
    }

    /// The one that this process was handed; a new one for a server that was started by hand.
    pub(crate) fn of_this_run() -> std::io::Result<Self> {
        match (env::var(CHAIN), env::var(KEY)) {
            (Ok(chain), Ok(key)) => Ok(Self { chain, key }),
            _ => Self::make().map_err(|error| std::io::Error::other(error.to_string())),
        }
    }

    /// Hands it to a process that is about to be started.
    pub(crate) fn hand_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(CHAIN, &self.chain).env(KEY, &self.key)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}
