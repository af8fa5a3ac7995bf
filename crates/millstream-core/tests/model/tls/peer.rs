//! The peer of a pipe under test: rustls itself, until it turns bad and seals whatever it likes with the keys it has.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConnection, Connection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConnection,
    SupportedCipherSuite,
};

use super::config::{Configs, name};

pub(crate) struct Peer {
    keeper: Keeper,
    /// Ciphertext for the pipe under test.
    pub(crate) wire: VecDeque<u8>,
    /// All the data it has sealed.
    pub(crate) written: Vec<u8>,
    pub(crate) has_closed: bool,
    /// How often it has renewed its keys since it last sent data.
    renewed: usize,
}

/// Who has the keys.
enum Keeper {
    Rustls(Box<Connection>),
    Nobody {
        seals: Box<dyn MessageEncrypter>,
        sequence: u64,
    },
    /// It was told a failure before.
    Gone,
}

impl Peer {
    pub(crate) fn new(configs: &Configs, is_client: bool) -> Self {
        let connection: Connection = if is_client {
            ClientConnection::new(Arc::clone(&configs.client), name()).expect("a valid configuration").into()
        } else {
            ServerConnection::new(Arc::clone(&configs.server)).expect("a valid configuration").into()
        };
        let keeper = Keeper::Rustls(Box::new(connection));
        let (wire, written) = (VecDeque::new(), Vec::new());
        let mut peer = Self { keeper, wire, written, has_closed: false, renewed: 0 };
        peer.send();
        peer
    }

    /// Takes what the pipe under test has sent. A peer that has turned bad reads nothing. False: it did not like it.
    pub(crate) fn receive(&mut self, mut ciphertext: &[u8]) -> bool {
        let Keeper::Rustls(connection) = &mut self.keeper else { return true };
        let mut content = true;
        while !ciphertext.is_empty() && content {
            match connection.read_tls(&mut ciphertext) {
                Ok(0) | Err(_) => break,
                Ok(_) => content = connection.process_new_packets().is_ok(),
            }
            // It takes no more until this is read.
            let _ = std::io::copy(&mut connection.reader(), &mut std::io::sink());
        }
        self.send();
        content
    }

    pub(crate) fn write(&mut self, len: usize) {
        if self.has_closed || !self.is_open() {
            return;
        }
        let data: Vec<u8> = (0..=250).cycle().skip(self.written.len() % 251).take(len).collect();
        match &mut self.keeper {
            Keeper::Rustls(connection) => {
                // It takes nothing after a failure.
                let taken = connection.writer().write(&data).unwrap_or(0);
                self.written.extend_from_slice(&data[..taken]);
                if taken > 0 {
                    self.renewed = 0;
                }
                self.send();
            }
            Keeper::Nobody { .. } => self.seal(APPLICATION_DATA, &data),
            Keeper::Gone => {}
        }
    }

    /// Not without end: rustls takes a peer that does nothing else for a hostile one.
    pub(crate) fn renew_keys(&mut self) {
        if let Keeper::Rustls(connection) = &mut self.keeper
            && !self.has_closed
            && self.renewed < 30
        {
            self.renewed += 1;
            // TLS 1.2 and a handshake refuse.
            let _ = connection.refresh_traffic_keys();
            self.send();
        }
    }

    pub(crate) fn close(&mut self) {
        match &mut self.keeper {
            Keeper::Rustls(connection) if !connection.is_handshaking() => {
                connection.send_close_notify();
                self.has_closed = true;
                self.send();
            }
            _ => {}
        }
    }

    fn is_open(&self) -> bool {
        !matches!(&self.keeper, Keeper::Rustls(connection) if connection.is_handshaking())
    }

    /// From here on it seals anything, in records of any kind. Only over TLS 1.3, and once the handshake is over.
    pub(crate) fn turn_bad(self) -> Self {
        let connection = match self.keeper {
            Keeper::Rustls(connection)
                if !connection.is_handshaking()
                    && connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) =>
            {
                connection
            }
            keeper => return Self { keeper, ..self },
        };
        let Some(SupportedCipherSuite::Tls13(suite)) = connection.negotiated_cipher_suite() else {
            unreachable!("a suite of TLS 1.3");
        };
        let Ok(secrets) = connection.dangerous_extract_secrets() else {
            return Self { keeper: Keeper::Gone, ..self };
        };
        let (sequence, secrets) = secrets.tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            unreachable!("a suite of another sort");
        };
        let keeper = Keeper::Nobody { seals: suite.aead_alg.encrypter(key, iv), sequence };
        Self { keeper, ..self }
    }

    /// Seals a record of any kind, if it has turned bad and is able to.
    pub(crate) fn seal(&mut self, kind: u8, body: &[u8]) {
        let Keeper::Nobody { seals, sequence } = &mut self.keeper else { return };
        let message = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(body),
        };
        let record = seals.encrypt(message, *sequence).expect("a fresh key").encode();
        *sequence += 1;
        self.wire.extend(record);
        if kind == APPLICATION_DATA {
            self.written.extend_from_slice(body);
        }
    }

    fn send(&mut self) {
        if let Keeper::Rustls(connection) = &mut self.keeper {
            while connection.wants_write() {
                connection.write_tls(&mut self.wire).expect("a vector takes all");
            }
        }
    }
}

const APPLICATION_DATA: u8 = 23;
