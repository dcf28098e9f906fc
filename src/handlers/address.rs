//! Addresses of requests to a site.

use crate::flows::sites::{FailureKind, VisitError, check_site_url};

/// The site's address as it stands with a filled path behind it.
///
/// # Errors
/// `Denied`: one of them is no address of a site, or the path leads to another
/// host (`https://site.example` and `.evil.example`), where the job's
/// credentials would travel to.
pub(super) fn address(site_url: &str, path: &str) -> Result<String, VisitError> {
    let denied = |problem: &str| VisitError::new(FailureKind::Denied, problem);
    let site_url = site_url.trim();
    let site = check_site_url(site_url).map_err(|problem| denied(&problem.to_string()))?;
    let whole = format!("{site_url}{path}");
    let url = check_site_url(&whole).map_err(|problem| denied(&problem.to_string()))?;
    if url.origin() != site.origin() {
        return Err(denied(
            "with the job's path behind it the site's address leads to another host: \
             begin the path with \"/\" or \"?\"",
        ));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_on_its_site() {
        let joined = address(" https://a.example/x ", "/y?z=1").unwrap();
        assert_eq!(joined, "https://a.example/x/y?z=1");
        for (site, path) in [
            ("https://a.example", ".evil.example/"),
            ("https://a.example", "@evil.example/"),
            ("https://a.example", ":8443/"),
            ("https://a.example:8", "0/"),
            ("nowhere", "/"),
            ("https://a.example", "/#x"),
            ("https:", "//evil.example"),
        ] {
            let error = address(site, path).unwrap_err();
            assert_eq!(error.kind, FailureKind::Denied, "{site} {path}");
        }
    }
}
