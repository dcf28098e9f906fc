//! Templates of handlers, read once when a handler is built.

use crate::flows::sites::Template;

/// Reads a template; that of a configuration is known to be one.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.join("; ")
    })
}
