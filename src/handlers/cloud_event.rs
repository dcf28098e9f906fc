//! Events as others are told them: CloudEvents 1.0 in structured JSON mode.

use crate::flows::events::{OpenEvent, SubscriptionName};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

/// Media type of the document.
pub(super) const CLOUD_EVENT: &str = "application/cloudevents+json";

/// What does not stand in a part of an event's id as it is: it has to pass
/// through headers, and parts end at a slash.
const PART: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b' ');

/// The id of an event, the same for every try and every replay:
/// `SUBSCRIPTION/BLOCK/TRANSACTION/EVENT`, with `-` for an event of a block.
pub(super) fn event_id(subscription: &SubscriptionName, event: &OpenEvent) -> String {
    let tx_id = match event.tx_id.as_str() {
        "" => "-".to_owned(),
        // Else it would be the event of a block.
        "-" => "%2D".to_owned(),
        tx_id => utf8_percent_encode(tx_id, PART).to_string(),
    };
    format!(
        "{subscription}/{}/{tx_id}/{}",
        event.place.block,
        utf8_percent_encode(&event.event_id, PART)
    )
}

/// The document of an event. `data` is the event as it came, byte by byte.
/// Block and arrival are texts, since integers of CloudEvents have 32 bits.
pub(super) fn document(subscription: &SubscriptionName, event: &OpenEvent, attempt: u32) -> String {
    let kind = match event.event_name.as_str() {
        "" => subscription.as_str(),
        name => name,
    };
    let mut envelope = json!({
        "specversion": "1.0",
        "id": event_id(subscription, event),
        "source": format!("/highwater/{subscription}"),
        "type": kind,
        "datacontenttype": "application/json",
        "hwblock": event.place.block.to_string(),
        "hwarrival": event.place.arrival.to_string(),
        "hwattempt": attempt,
    });
    if let Some(time) = event.occurred_at {
        envelope["time"] = json!(time);
    }
    let mut document = envelope.to_string();
    document.pop();
    document.push_str(",\"data\":");
    document.push_str(&event.payload);
    document.push('}');
    document
}
