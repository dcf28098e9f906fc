//! Gauges and counters of what is shared out.

use super::Exposition;
use crate::watchdog::{OwnerStatus, ResourceStatus};

type State = (&'static str, fn(&OwnerStatus) -> usize);

/// What becomes of slots; `lent` ones are among the `used`.
const STATES: [State; 3] = [
    ("used", |owner| owner.used),
    ("waiting", |owner| owner.waiting),
    ("lent", |owner| owner.lent),
];

impl Exposition {
    pub(super) fn resources(&mut self, resources: &[ResourceStatus]) {
        let slots = "highwater_resource_slots";
        self.family(
            "highwater_resource_capacity",
            "gauge",
            "Slots of the resource.",
        );
        for resource in resources {
            let labels = [("resource", resource.name.as_str())];
            self.sample("highwater_resource_capacity", &labels, resource.capacity);
        }
        self.family(
            slots,
            "gauge",
            "Slots that the owner uses, waits for, or uses of what others are entitled to.",
        );
        self.per_owner(resources, |out, labels, owner| {
            for (state, value) in STATES {
                let labels = [labels[0], labels[1], ("state", state)];
                out.sample(slots, &labels, value(owner));
            }
        });
        let taken = "highwater_resource_taken_total";
        self.family(taken, "counter", "Slots that the owner took.");
        self.per_owner(resources, |out, labels, owner| {
            out.sample(taken, &labels, owner.taken_total);
        });
        let wait = "highwater_resource_wait_seconds_total";
        self.family(wait, "counter", "Time that the owner waited for slots.");
        self.per_owner(resources, |out, labels, owner| {
            out.sample(wait, &labels, owner.wait_seconds_total);
        });
    }

    fn per_owner(
        &mut self,
        resources: &[ResourceStatus],
        write: impl Fn(&mut Self, [(&str, &str); 2], &OwnerStatus),
    ) {
        for resource in resources {
            for owner in &resource.owners {
                let labels = [
                    ("resource", resource.name.as_str()),
                    ("owner", owner.owner.as_str()),
                ];
                write(self, labels, owner);
            }
        }
    }
}
