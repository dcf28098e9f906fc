//! The command that has given-up sites visited again, as pages and warnings
//! name it.

/// For all sites that a job gave up.
pub(super) fn of_job(app: &str, job: &str) -> String {
    format!(
        "highwater sites revive --all --app {} --job {}",
        quoted(app),
        quoted(job)
    )
}

/// For one site that a job gave up. Applications write ids by SQL: one may
/// look like an option.
pub(super) fn of_site(site_id: &str, job: &str) -> String {
    let dashes = if site_id.starts_with('-') { "-- " } else { "" };
    format!(
        "highwater sites revive --job {} {dashes}{}",
        quoted(job),
        quoted(site_id)
    )
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:@+/".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_whatever_an_application_called_its_site() {
        assert_eq!(
            of_job("org.a", "sync"),
            "highwater sites revive --all --app org.a --job sync"
        );
        assert_eq!(
            of_site("a'; rm -rf ~", "sync"),
            r"highwater sites revive --job sync 'a'\''; rm -rf ~'"
        );
        assert_eq!(
            of_site("--all", "sync"),
            "highwater sites revive --job sync -- --all"
        );
    }
}
