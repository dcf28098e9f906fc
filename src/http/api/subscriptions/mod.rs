//! `/v1/subscriptions`: how they stand, their events, and operators' orders.

mod orders;
mod read;

pub(in crate::http) use orders::{
    __path_pause, __path_replay, __path_resume, __path_retry, __path_skip, pause, replay, resume,
    retry, skip,
};
pub(in crate::http) use read::{
    __path_list_events, __path_list_subscriptions, __path_show_event, __path_show_subscription,
    EventsQuery, FoundEvents, find_event, find_events, find_subscription, list_events,
    list_subscriptions, show_event, show_subscription,
};

use crate::http::problem::Problem;
use actix_web::http::StatusCode;

fn subscription_not_found(name: &str) -> Box<Problem> {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "subscription-not-found",
        "There is no such subscription",
        format!("subscription \"{shown}\" is not known: /v1/subscriptions lists those there are"),
    )
}

fn event_not_found(name: &str, arrival: i64) -> Box<Problem> {
    Problem::new(
        StatusCode::NOT_FOUND,
        "event-not-found",
        "There is no such event",
        format!(
            "subscription \"{name}\" has no event of arrival {arrival}; it may be past its retention"
        ),
    )
}
