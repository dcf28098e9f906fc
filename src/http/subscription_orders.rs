//! The commands by which a subscription goes on, as pages and warnings name
//! them.

/// Has a halted one try its event anew.
pub(super) fn retry(name: &str) -> String {
    command("retry", name, "")
}

/// Skips the event on which it is halted.
pub(super) fn skip(name: &str, arrival: i64) -> String {
    command("skip", name, &format!(" {arrival}"))
}

/// Has a paused one go on.
pub(super) fn resume(name: &str) -> String {
    command("resume", name, "")
}

/// Names are of letters, digits and `._-`: one may look like an option.
fn command(order: &str, name: &str, more: &str) -> String {
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("highwater events {order} --reason 'WHY' {dashes}{name}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_an_option_is_none() {
        assert_eq!(
            skip("claims", 12),
            "highwater events skip --reason 'WHY' claims 12"
        );
        assert_eq!(retry("-x"), "highwater events retry --reason 'WHY' -- -x");
    }
}
