//! The keys of `[[gateways]]`.

use super::control::HOOKS_TRAVEL;
use super::credentials::{Missing, token};
use super::event_forms::{Names, callback_base, gateway_url};
use super::event_settings::{GatewayKind, GatewaySettings, SecretOf};
use super::forms::{duration, word};
use super::reader::{Reader, own_name};
use super::section::Section;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;

/// Longest that the request of a subscription may take.
const LONGEST_REQUEST: Duration = Duration::from_secs(600);

/// Reads all gateways; `None` when something is wrong.
pub(super) fn gateways<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
) -> Option<Vec<GatewaySettings>> {
    let mut names = Names::default();
    let gateways = reader.list(root, "gateways", own_name, |section| {
        gateway(section, base, &mut names)
    });
    gateways.into_iter().collect()
}

fn gateway(s: &mut Section<'_, '_>, base: &Path, names: &mut Names) -> Option<GatewaySettings> {
    let name = names.read(s, "gateways", "a name, e.g. name = \"customs\"");
    for key in ["kind", "url", "callback_base"] {
        s.not_by_control(key, HOOKS_TRAVEL);
    }
    let kind = s.required("kind", "\"rest\"", word([("rest", GatewayKind::Rest)]));
    let example = "where subscriptions are posted, e.g. url = \"http://127.0.0.1:9100/subscribe\"";
    let url = s.required("url", example, gateway_url);
    let example = "this server's address as the gateway reaches it, e.g. callback_base = \"http://127.0.0.1:8780\"";
    let callback_base = s.required("callback_base", example, callback_base);
    let token = token(s, "token", "token_file", base, Missing::Refused);
    let limits = Duration::from_millis(100)..=LONGEST_REQUEST;
    let timeout = s.get("timeout", "10s", duration(limits));
    Some(GatewaySettings {
        name: name?,
        kind: kind?,
        url: url?,
        callback_base: callback_base?,
        token: token.token.map(SecretOf),
        timeout: timeout?,
    })
}
