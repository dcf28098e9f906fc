//! The gateway's own endpoints under `/sim`: no gateway has them. With them a
//! test or a script drives one that runs in another process.
//!
//! | request | does |
//! |---|---|
//! | `GET /sim/stats` | what was counted ([`GatewayStats`]) |
//! | `GET /sim/chain?from=0&to=99` | the same, the subscriptions, and the events of these blocks with how often each was sent and acknowledged; the last 100 blocks by default, 10000 events at most |
//! | `GET /sim/known?from=0&to=99` | by what relevant events are known, as `POST /v1/known` takes it |
//! | `POST /sim/knobs` | changes the fields given of the [`GatewayKnobs`](super::GatewayKnobs) |
//! | `POST /sim/grow?blocks=10` | adds blocks |
//! | `POST /sim/crash` | forgets all subscriptions |

use super::chain::SimEvent;
use super::handle::{GatewayStats, GatewaySubscription, known};
use super::server::GatewayShared;
use crate::sim::shared;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

/// Largest body of these endpoints, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Events told at once.
const MOST_EVENTS: usize = 10_000;
/// Blocks told where none are named.
const LAST_BLOCKS: i64 = 100;

/// Answers a request under `/sim`.
pub(super) async fn handle(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &GatewayShared,
) -> HttpResponse {
    let result = match (req.method(), req.path()) {
        (&Method::GET, "/sim/stats") => Ok(json!(GatewayStats::of(shared))),
        (&Method::GET, "/sim/chain") => range(req, shared).map(|range| chain(shared, range)),
        (&Method::GET, "/sim/known") => range(req, shared).map(|range| {
            let (tx_ids, keys) = known(events(shared, range));
            json!({ "tx_ids": tx_ids, "keys": keys })
        }),
        (&Method::POST, "/sim/knobs") => knobs(payload, shared).await,
        (&Method::POST, "/sim/grow") => number(req, "blocks").and_then(|blocks| {
            let blocks = u32::try_from(blocks.unwrap_or(1)).map_err(|_| "too many blocks")?;
            shared.grow(blocks);
            Ok(json!({ "blocks": *shared.blocks.borrow() }))
        }),
        (&Method::POST, "/sim/crash") => {
            shared.crash();
            Ok(json!({}))
        }
        _ => {
            let error = "no such endpoint; there are GET /sim/stats, /sim/chain, /sim/known and POST /sim/knobs, /sim/grow, /sim/crash";
            return HttpResponse::NotFound().json(json!({ "error": error }));
        }
    };
    match result {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => HttpResponse::BadRequest().json(json!({ "error": error })),
    }
}

fn chain(shared: &GatewayShared, range: (i64, i64)) -> Value {
    let subscriptions: Vec<Value> = {
        let state = shared.state();
        state
            .subscriptions
            .iter()
            .map(|(known, _)| told(known))
            .collect()
    };
    let events = events(shared, range);
    let state = shared.state();
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            let (sent, acknowledged) = state.record.counts(event.block, event.index);
            let mut told = json!(event);
            told["sent"] = sent.into();
            told["acknowledged"] = acknowledged.into();
            told
        })
        .collect();
    drop(state);
    json!({
        "seed": shared.options.seed,
        "stats": GatewayStats::of(shared),
        "subscriptions": subscriptions,
        "events": events,
    })
}

fn told(subscription: &GatewaySubscription) -> Value {
    // The last segment of the address is the hook's secret.
    let callback = subscription.callback.rsplit_once('/');
    json!({
        "id": subscription.id,
        "event_name": subscription.event_name,
        "from": subscription.from,
        "to": subscription.to,
        "callback": callback.map_or("", |(callback, _)| callback),
        "live": subscription.live,
    })
}

/// Events of the blocks that are there.
fn events(shared: &GatewayShared, (from, to): (i64, i64)) -> Vec<SimEvent> {
    let last = to.min(*shared.blocks.borrow() - 1);
    (from..=last)
        // Empty stretches count too, so that no question takes long.
        .take(10 * MOST_EVENTS)
        .flat_map(|block| shared.chain.events(block))
        .take(MOST_EVENTS)
        .collect()
}

fn range(req: &HttpRequest, shared: &GatewayShared) -> Result<(i64, i64), String> {
    let blocks = *shared.blocks.borrow();
    let to = number(req, "to")?.unwrap_or(blocks - 1);
    let from = number(req, "from")?.unwrap_or(to - LAST_BLOCKS + 1);
    Ok((from.max(0), to))
}

fn number(req: &HttpRequest, name: &str) -> Result<Option<i64>, String> {
    let Some((_, text)) = shared::query(req).find(|(key, _)| key == name) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number: &i64| *number >= 0);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(format!(
            "{name} \"{text}\" is no number; expected 0 or more"
        )),
    }
}

async fn knobs(payload: web::Payload, shared: &GatewayShared) -> Result<Value, String> {
    let body = shared::read_body(payload, MAX_BODY).await;
    let body = body.map_err(|_| format!("the body is longer than {MAX_BODY} bytes"))?;
    let changes: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let now = shared.knobs.borrow().clone();
    let mut knobs = serde_json::to_value(now).map_err(|error| error.to_string())?;
    for (name, value) in changes {
        knobs[name] = value;
    }
    let changed = serde_json::from_value(knobs.clone()).map_err(|error| error.to_string())?;
    shared.knobs.send_replace(changed);
    Ok(knobs)
}
