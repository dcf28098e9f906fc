//! Paths as they may be shown: in logs, in the audit, in problems.

use std::borrow::Cow;

/// Where hooks are; what follows a subscription's name there is its secret.
const HOOKS: &str = "/hooks/";

/// A path without the secret of a hook. Wherever something that looks like a
/// hook's path stands in it, right or not, what follows the name is hidden.
pub(super) fn shown_path(path: &str) -> Cow<'_, str> {
    let found = path.to_ascii_lowercase().find(HOOKS);
    let rest = found.and_then(|at| Some((at + HOOKS.len(), path.get(at + HOOKS.len()..)?)));
    let Some((begin, (name, secret))) =
        rest.and_then(|(begin, rest)| Some((begin, rest.split_once('/')?)))
    else {
        return Cow::Borrowed(path);
    };
    if secret.is_empty() {
        return Cow::Borrowed(path);
    }
    let start = path.get(..begin).unwrap_or_default();
    Cow::Owned(format!("{start}{name}/***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_hook_is_hidden_and_nothing_else() {
        for (path, shown) in [
            ("/v1/hooks/claims/s3cret", "/v1/hooks/claims/***"),
            ("/v1/hooks/claims/s3/cr/et", "/v1/hooks/claims/***"),
            ("//V1/Hooks/claims/s3cret", "//V1/Hooks/claims/***"),
            ("/v2/hooks//s3cret", "/v2/hooks//***"),
            ("/v1/hooks/claims", "/v1/hooks/claims"),
            ("/v1/hooks/claims/", "/v1/hooks/claims/"),
            ("/v1/sites/hooks", "/v1/sites/hooks"),
            ("/", "/"),
        ] {
            assert_eq!(shown_path(path), shown, "{path}");
        }
    }
}
