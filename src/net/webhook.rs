//! Signatures as Standard Webhooks has them (standardwebhooks.com): HMAC-SHA256
//! over id, time and body.

use crate::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Header of the message's id, the same for every try.
pub(crate) const ID: &str = "webhook-id";
/// Header of the time of the try, in seconds since 1970.
pub(crate) const TIMESTAMP: &str = "webhook-timestamp";
/// Header of the signatures, several with spaces between them.
pub(crate) const SIGNATURE: &str = "webhook-signature";

/// What secrets that are base64 begin with.
const PREFIX: &str = "whsec_";
/// Version of the signatures.
const VERSION: &str = "v1,";
/// Most signatures of a message that are looked at.
const MOST_SIGNATURES: usize = 16;
/// How far a message's time may be from ours, in milliseconds.
const TOLERANCE: u64 = 5 * 60 * 1000;

/// A key of signatures.
pub(crate) struct WebhookKey(SecretString, Hmac<Sha256>);

impl WebhookKey {
    /// The key that a secret stands for: `whsec_…` is base64, anything else is
    /// taken as it is.
    pub(crate) fn of(secret: &SecretString) -> Result<Self, String> {
        let text = secret.expose_secret();
        let mac = match text.strip_prefix(PREFIX) {
            Some(base64) => Hmac::new_from_slice(&STANDARD.decode(base64).map_err(|_| {
                format!("the secret begins with {PREFIX}, and what follows is not base64")
            })?),
            None => Hmac::new_from_slice(text.as_bytes()),
        };
        let mac = mac.map_err(|_| "the secret cannot be a key".to_owned())?;
        Ok(Self(secret.clone(), mac))
    }

    /// The secret that it was made of.
    pub(crate) fn secret(&self) -> &SecretString {
        &self.0
    }

    fn mac(&self, id: &str, seconds: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.1.clone();
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// The value of the signature's header.
    pub(crate) fn sign(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        let code = self.mac(id, seconds, body).finalize().into_bytes();
        format!("{VERSION}{}", STANDARD.encode(code))
    }

    /// Whether one of the signatures is right, and the message of now. Takes as
    /// long whatever is wrong with a signature.
    pub(crate) fn verifies(
        &self,
        id: &str,
        seconds: &str,
        signatures: &str,
        body: &[u8],
        now: Timestamp,
    ) -> bool {
        let millis = seconds.parse::<i64>().ok();
        let near = millis
            .and_then(|seconds| seconds.checked_mul(1000))
            .is_some_and(|at| at.abs_diff(now.millis()) <= TOLERANCE);
        let mut right = false;
        for signature in signatures.split(' ').take(MOST_SIGNATURES) {
            let code = signature.strip_prefix(VERSION);
            let code = code.and_then(|code| STANDARD.decode(code).ok());
            let code = code.unwrap_or_default();
            right |= self.mac(id, seconds, body).verify_slice(&code).is_ok();
        }
        near && right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key(secret: &str) -> WebhookKey {
        WebhookKey::of(&SecretString::from(secret)).unwrap_or_else(|problem| panic!("{problem}"))
    }

    #[test]
    fn the_example_of_the_specification_is_signed_and_verified() {
        let key = key(SECRET);
        assert_eq!(key.sign(ID, "1614265330", BODY), SIGNED);
        let now = Timestamp::from_millis(1_614_265_330_000);
        let verifies = |id: &str, seconds: &str, signed: &str, body: &[u8], later: i64| {
            let now = Timestamp::from_millis(now.millis() + later * 1000);
            key.verifies(id, seconds, signed, body, now)
        };
        assert!(verifies(ID, "1614265330", SIGNED, BODY, 0));
        assert!(verifies(
            ID,
            "1614265330",
            &format!("v1,AAAA v1a,x {SIGNED}"),
            BODY,
            299
        ));
        assert!(verifies(ID, "1614265330", SIGNED, BODY, -299));
        for (id, seconds, signed, body, later) in [
            (ID, "1614265330", SIGNED, BODY, 301),
            (ID, "1614265330", SIGNED, BODY, -301),
            (ID, "1614265331", SIGNED, BODY, 0),
            (ID, "1614265330", SIGNED, b"{}".as_slice(), 0),
            ("other", "1614265330", SIGNED, BODY, 0),
            (ID, "now", SIGNED, BODY, 0),
            (ID, "9223372036854775807", SIGNED, BODY, 0),
            (ID, "1614265330", "", BODY, 0),
            (ID, "1614265330", "v1,", BODY, 0),
            (
                ID,
                "1614265330",
                "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                BODY,
                0,
            ),
        ] {
            assert!(
                !verifies(id, seconds, signed, body, later),
                "{id} {seconds} {signed}"
            );
        }
    }

    #[test]
    fn a_plain_secret_is_its_own_key_and_broken_base64_is_none() {
        let text = key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_ne!(text.sign(ID, "1614265330", BODY), SIGNED);
        assert!(WebhookKey::of(&SecretString::from("whsec_not base64")).is_err());
    }
}
