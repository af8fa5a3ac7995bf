//! What rustls says went wrong, as a fault and a text that a person understands.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::fault::{CertificateFault, TlsFault};
use crate::failure::Failure;

/// Translates an error of rustls.
pub(super) fn failure_of(error: &Error) -> Failure {
    let (fault, text) = match error {
        Error::InvalidCertificate(error) => {
            let (fault, text) = certificate(error);
            (TlsFault::BadCertificate(fault), format!("the peer's certificate was not accepted: {text}"))
        }
        Error::NoCertificatesPresented => (
            TlsFault::BadCertificate(CertificateFault::Missing),
            "the peer sent no certificate, and one is required".to_owned(),
        ),
        Error::AlertReceived(alert) => alert_text(*alert),
        Error::PeerIncompatible(what) => {
            (TlsFault::NoAgreement, format!("the two sides have too little of TLS in common: {what:?}"))
        }
        Error::NoApplicationProtocol => {
            (TlsFault::NoAgreement, "the two sides have no application protocol (ALPN) in common".to_owned())
        }
        Error::DecryptError => (
            TlsFault::BadRecord,
            "a record was changed on its way, or is not what the peer sealed".to_owned(),
        ),
        Error::PeerSentOversizedRecord => {
            (TlsFault::BadRecord, "the peer sent a record longer than TLS allows".to_owned())
        }
        Error::InvalidMessage(
            what @ (InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload),
        ) => (TlsFault::BadRecord, format!("the peer sent bytes that are no TLS record: {what:?}")),
        Error::InvalidMessage(what) => {
            (TlsFault::Misbehaved, format!("the peer sent a damaged TLS message: {what:?}"))
        }
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::InvalidEncryptedClientHello(_) => {
            (TlsFault::Misbehaved, format!("the peer broke the TLS protocol: {error}"))
        }
        other => (TlsFault::Local, other.to_string()),
    };
    fault.failure(text)
}

fn certificate(error: &CertificateError) -> (CertificateFault, String) {
    use CertificateError as E;
    match error {
        E::ExpiredContext { not_after, .. } => {
            (CertificateFault::Expired, format!("it expired on {}", date(*not_after)))
        }
        E::Expired => (CertificateFault::Expired, "it has expired".to_owned()),
        E::NotValidYetContext { not_before, .. } => {
            (CertificateFault::NotYetValid, format!("it is not valid before {}", date(*not_before)))
        }
        E::NotValidYet => (CertificateFault::NotYetValid, "it is not valid yet".to_owned()),
        E::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let text = if presented.is_empty() {
                format!("it names no host, so it is not for {expected:?}")
            } else {
                format!("it is for {}, not for {expected:?}", presented.join(", "))
            };
            (CertificateFault::WrongName, text)
        }
        E::NotValidForName => (CertificateFault::WrongName, "it is for another name".to_owned()),
        E::UnknownIssuer => (
            CertificateFault::UnknownIssuer,
            "its issuer is unknown: no trusted root vouches for it (self-signed, or a root is missing)"
                .to_owned(),
        ),
        E::BadSignature => (
            CertificateFault::Invalid,
            "the issuer it names did not sign it (a root of the same name is trusted, or someone forged it)"
                .to_owned(),
        ),
        E::Revoked => (CertificateFault::Revoked, "its issuer has revoked it".to_owned()),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (CertificateFault::WrongPurpose, format!("it is not for this use: {error}"))
        }
        other => (CertificateFault::Invalid, other.to_string()),
    }
}

/// What a peer means by a fatal alert (RFC 8446, section 6.2).
fn alert_text(alert: AlertDescription) -> (TlsFault, String) {
    use AlertDescription as A;
    if alert == A::CloseNotify {
        let text = "the peer sent a close_notify before the TLS handshake was over";
        return (TlsFault::EndedInHandshake, text.to_owned());
    }
    let meaning = match alert {
        A::UnknownCA => "it does not know the issuer of our certificate",
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => {
            "it does not accept our certificate"
        }
        A::CertificateExpired => "our certificate has expired, or its clock is wrong",
        A::CertificateRevoked => "our certificate was revoked",
        A::CertificateRequired => "it requires a client certificate and got none",
        A::AccessDenied => "it does not let us in, or has no certificate for the name we asked for",
        A::ProtocolVersion => "it speaks none of the TLS versions that we offered",
        A::HandshakeFailure | A::InsufficientSecurity => {
            "it found no cipher suite or parameter in common, or requires a client certificate"
        }
        A::UnrecognisedName => "it does not serve the name we asked for",
        A::NoApplicationProtocol => "it speaks none of the application protocols (ALPN) that we offered",
        A::BadRecordMac | A::DecryptError => "a record of ours was changed on its way",
        A::InternalError => "it has a problem of its own",
        _ => "see RFC 8446, section 6",
    };
    let number = u8::from(alert);
    (TlsFault::Refused { alert: number }, format!("the peer sent the alert {alert:?} ({number}): {meaning}"))
}

/// A time as people write it, in UTC. Howard Hinnant's `civil_from_days`, for times after 1970.
fn date(time: UnixTime) -> String {
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| date(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(at(4_102_444_799), "2099-12-31 23:59 UTC");
    }

    #[test]
    fn texts_say_what_is_wrong_and_whose_doing_it_is() {
        let failure = failure_of(&Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(failure.tls(), Some(TlsFault::BadCertificate(CertificateFault::UnknownIssuer)));
        assert!(failure.to_string().contains("issuer"), "{failure}");
        let failure = failure_of(&Error::AlertReceived(AlertDescription::CertificateRequired));
        assert_eq!(failure.tls(), Some(TlsFault::Refused { alert: 116 }));
        assert!(failure.to_string().contains("client certificate"), "{failure}");
    }
}
