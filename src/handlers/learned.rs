//! What of an answer is kept as the site's result.

use crate::flows::sites::Visit;
use crate::net::Secrets;
use serde_json::Value;

/// A value as it is kept: without secrets, within the bound. What is not kept
/// costs the visit nothing, and is said in the log.
pub(super) fn kept(
    value: Option<&Value>,
    secrets: &Secrets,
    most: usize,
    visit: &Visit,
) -> Option<String> {
    let nothing = |why: &str| {
        tracing::debug!(job.key = %visit.job, site.id = visit.site.site_id, "nothing is kept of the answer: {why}");
        None
    };
    let Some(value) = value else {
        return nothing("it has nothing where the result is looked for");
    };
    let text = value.to_string();
    let hidden = secrets.hide(&text);
    if hidden.len() > most {
        let length = hidden.len();
        return nothing(&format!(
            "{length} bytes, of which sites.max_result_bytes = {most} allows less"
        ));
    }
    // A secret that stood outside of a text leaves no JSON behind.
    if hidden != text && serde_json::from_str::<Value>(&hidden).is_err() {
        return nothing("it repeats a secret");
    }
    Some(hidden.into_owned())
}
