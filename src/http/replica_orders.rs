//! The commands about replicas, as pages name them.

/// Compares a replica with its upstream now.
pub(super) fn verify(name: &str) -> String {
    command("verify", name)
}

/// Begins a new bootstrap.
pub(super) fn bootstrap(name: &str) -> String {
    command("bootstrap", name)
}

/// Names are of letters, digits and `._-`: one may look like an option.
fn command(order: &str, name: &str) -> String {
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("highwater replicas {order} --reason 'WHY' {dashes}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_an_option_is_none() {
        assert_eq!(
            verify("prices"),
            "highwater replicas verify --reason 'WHY' prices"
        );
        assert_eq!(
            bootstrap("-x"),
            "highwater replicas bootstrap --reason 'WHY' -- -x"
        );
    }
}
