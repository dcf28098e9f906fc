//! What is said of answers that cannot be used.

use super::*;

#[test]
fn encoding_and_its_length_agree() {
    for text in ["", "abc-._~09", "a,b c%", "é/?#&=+", "\0\u{1F980}"] {
        assert_eq!(encoded(text).to_string().len(), encoded_len(text), "{text}");
    }
    assert_eq!(encoded("a,b").to_string(), "a%2Cb");
}

#[test]
fn tokens_are_taken_with_and_without_their_prefix() {
    for written in [
        "abc.def",
        " abc.def\n",
        "Cylinder:abc.def",
        "Bearer Cylinder:abc.def",
    ] {
        let bare = bare_token(&SecretString::from(written), "Cylinder:");
        assert_eq!(bare.expose_secret(), "abc.def", "{written}");
    }
}

#[test]
fn a_wait_is_never_zero() {
    assert_eq!(wait_seconds(None), None);
    assert_eq!(wait_seconds(Some(Duration::ZERO)), None);
    assert_eq!(wait_seconds(Some(Duration::from_millis(200))), Some(1));
    assert_eq!(wait_seconds(Some(Duration::from_millis(2_900))), Some(2));
}
