//! What can go wrong in TLS, as a short list that a program can match on; the texts say the rest.

use std::io;

use crate::failure::{ErrorClass, Failure};

/// What a TLS failure was; see [`Failure::tls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// The peer does not speak TLS here: plain HTTP on a TLS port, or the other way round.
    NotTls,
    /// The two sides have no version, cipher suite or application protocol in common.
    NoAgreement,
    /// The peer's certificate was not accepted.
    BadCertificate(CertificateFault),
    /// The peer sent this fatal alert (RFC 8446, section 6).
    Refused {
        /// The alert's number.
        alert: u8,
    },
    /// The peer ended or reset the connection before the handshake was over.
    EndedInHandshake,
    /// The peer ended the connection without a close_notify: what arrived may have been cut by someone else.
    Truncated,
    /// A record that was changed on its way, or is none.
    BadRecord,
    /// The peer broke another rule of the protocol.
    Misbehaved,
    /// The handshake took longer than its deadline.
    TimedOut,
    /// The server dropped this handshake, its oldest, because too many ran at once.
    Overloaded,
    /// The future that did the handshake was dropped before its end.
    Cancelled,
    /// The keys were used as often as TLS 1.2 allows.
    KeysUsedUp,
    /// This side could not do its part.
    Local,
}

/// Why a certificate was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It is for another name.
    WrongName,
    /// No trusted root vouches for it.
    UnknownIssuer,
    /// Its issuer has taken it back.
    Revoked,
    /// It is not for this use.
    WrongPurpose,
    /// The peer sent none though one is required.
    Missing,
    /// It is damaged, badly signed, or refused for another reason.
    Invalid,
}

impl TlsFault {
    /// Whose doing it was.
    pub fn class(self) -> ErrorClass {
        match self {
            Self::TimedOut => ErrorClass::Deadline,
            Self::Overloaded | Self::KeysUsedUp => ErrorClass::Limit,
            Self::Cancelled | Self::Local => ErrorClass::ClosedByUs,
            _ => ErrorClass::BrokenByPeer,
        }
    }

    fn kind(self) -> io::ErrorKind {
        match self {
            Self::Truncated | Self::EndedInHandshake => io::ErrorKind::UnexpectedEof,
            Self::Refused { .. } | Self::Cancelled | Self::Overloaded => io::ErrorKind::ConnectionAborted,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::KeysUsedUp | Self::Local => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        }
    }

    /// A failure of this sort with its text.
    pub fn failure(self, detail: impl Into<std::sync::Arc<str>>) -> Failure {
        Failure::new(self.kind(), detail, self.class()).with_tls(self)
    }
}
