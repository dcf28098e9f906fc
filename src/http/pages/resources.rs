//! What is shared out: a section of `/services`.

use super::format::{short_span, thousands};
use crate::watchdog::{OwnerStatus, ResourceStatus};
use maud::{Markup, html};

/// Each resource and its owners.
pub(super) fn section(resources: &[ResourceStatus]) -> Markup {
    html! {
        h2 { "Resources" }
        p.lead {
            "Slots that are shared out: an owner gets its minimum as soon as it asks, and the rest by "
            "priority and weight. What an owner does not use is lent to others until it asks."
        }
        @for resource in resources {
            h3 { (title(&resource.name)) " " span.note {
                (thousands(resource.used)) " of " (thousands(resource.capacity)) " in use"
            } }
            (table(&resource.owners, resource.capacity))
        }
    }
}

fn title(name: &str) -> String {
    match name {
        "fetch" => "Requests to ledgers".to_owned(),
        "database" => "Database connections".to_owned(),
        "database_writer" => "Database connection for writing".to_owned(),
        other => other.to_owned(),
    }
}

fn table(owners: &[OwnerStatus], capacity: usize) -> Markup {
    // Fewer slots than owners: nobody can count on one at a given time.
    let in_turn = capacity < owners.len();
    html! {
        div.scroll { table.cards {
            thead { tr {
                th scope="col" { "Owner" } th.num scope="col" { "In use" }
                th.num scope="col" { "Lent" } th.num scope="col" { "Waiting" }
                th.num scope="col" { "May count on" }
                th scope="col" { "Share" } th.num scope="col" { "Taken" }
                th.num scope="col" { "Mean wait" } th.num scope="col" { "Longest wait" }
            } }
            tbody { @for owner in owners { tr {
                th scope="row" { (owner.owner) }
                td.num data-label="In use" { (thousands(owner.used)) }
                td.num data-label="Lent" { (thousands(owner.lent)) }
                td.num data-label="Waiting" { span.hot[owner.waiting > 0] { (thousands(owner.waiting)) } }
                td.num data-label="May count on" {
                    @if in_turn { span.note { "in turn" } } @else { (thousands(owner.entitlement)) }
                }
                td data-label="Share" { span.note {
                    "minimum " (owner.minimum) ", weight " (owner.weight) ", priority " (owner.priority)
                } }
                td.num data-label="Taken" { (thousands(owner.taken_total)) }
                td.num data-label="Mean wait" { (short_span(owner.wait_mean_seconds)) }
                td.num data-label="Longest wait" { (short_span(owner.wait_longest_seconds)) }
            } } }
        } }
    }
}
