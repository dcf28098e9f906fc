//! The reason of an operator's order.

/// Most characters of a reason.
pub const LONGEST_REASON: usize = 1000;

/// Reads the reason of an order: 1 to 1000 characters that say why.
///
/// # Errors
/// It is empty, too long or holds NUL: what is expected.
pub fn read_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    let length = reason.chars().count();
    if !(1..=LONGEST_REASON).contains(&length) || reason.contains('\0') {
        return Err(format!(
            "{length} characters; expected 1 to {LONGEST_REASON} that say why, without NUL"
        ));
    }
    Ok(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_trimmed_and_has_to_say_something() {
        assert_eq!(read_reason(" why \n").unwrap(), "why");
        let long = "x".repeat(LONGEST_REASON);
        assert_eq!(read_reason(&long).unwrap(), long);
        for wrong in ["", " \t", "a\0b", &format!("{long}x")] {
            let told = read_reason(wrong).unwrap_err();
            assert!(told.contains("expected 1 to 1000"), "{told}");
        }
    }
}
