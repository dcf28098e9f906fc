//! Why a batch is not being polled at this moment, in a sentence, and when it
//! will be: the question an operator has before any other.

use crate::flows::batches::{BreakerPosition, LedgerView};
use crate::time::Timestamp;
use std::time::Duration;

/// What the decision looks at.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) ledger: &'a str,
    pub(super) service_id: &'a str,
    /// The `status` column.
    pub(super) status: &'a str,
    pub(super) outstanding: bool,
    pub(super) settled_at: Option<Timestamp>,
    pub(super) next_poll_at: Option<Timestamp>,
    /// Whether the ledger is in the configuration.
    pub(super) configured: bool,
    pub(super) draining: bool,
    /// The Scheduler's view of the ledger.
    pub(super) view: Option<&'a LedgerView>,
}

/// When a batch is polled next, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NextPoll {
    /// Not before this time; `None` when it is not polled any more, or nobody can say.
    pub(super) at: Option<Timestamp>,
    /// A sentence.
    pub(super) why: String,
}

/// Decides; what keeps the batch longest is told, outermost first: settled,
/// not configured, another server, the ledger, the service, its own time.
pub(super) fn why_not_now(situation: &Situation<'_>, now: Timestamp) -> NextPoll {
    let Situation {
        ledger, service_id, ..
    } = *situation;
    let never = |why: String| NextPoll { at: None, why };
    if !situation.outstanding {
        let when = situation
            .settled_at
            .map_or_else(String::new, |at| format!(" since {at}"));
        let hint = match situation.status {
            "lost" | "refused" => "; an operator can revive it",
            _ => ", which is final",
        };
        return never(format!("It is {}{when}{hint}.", situation.status));
    }
    if !situation.configured {
        return never(format!(
            "Ledger {ledger} is not in the configuration; its batches stay and are not polled."
        ));
    }
    let due_at = situation.next_poll_at.unwrap_or(now).max(now);
    let at = |at: Timestamp, why: String| NextPoll {
        at: Some(at.max(due_at)),
        why,
    };
    if situation.draining {
        return never("This server is stopping; it is polled after the next start.".to_owned());
    }
    let Some(view) = situation.view else {
        return at(
            due_at,
            format!("Ledger {ledger} has not been started yet by this server."),
        );
    };
    if !view.held {
        let why = match &view.holder {
            Some(holder) => format!("Ledger {ledger} is held by another server, {holder}."),
            None => format!("No server holds ledger {ledger} at the moment; one will take it."),
        };
        return at(due_at, why);
    }
    let error = view.last_error.as_deref().unwrap_or("no error was kept");
    match (view.breaker, view.retry_at) {
        (BreakerPosition::Open, Some(retry_at)) => {
            return at(
                retry_at,
                format!("Ledger {ledger} is failing; it is asked again at {retry_at}: {error}"),
            );
        }
        (BreakerPosition::Open, None) => {
            return at(
                due_at,
                format!("Ledger {ledger} is failing; it is asked again soon: {error}"),
            );
        }
        (BreakerPosition::HalfOpen, _) => {
            return at(
                due_at,
                format!(
                    "Ledger {ledger} was failing; one request is out to see whether it is back: \
                     {error}"
                ),
            );
        }
        (BreakerPosition::Closed, _) => {}
    }
    let trouble = view
        .failing_services
        .iter()
        .find(|trouble| trouble.service_id == service_id);
    let named = trouble.is_some();
    if let Some(trouble) = trouble.filter(|trouble| trouble.retry_at > now) {
        let what = if service_id.is_empty() {
            format!("Ledger {ledger}")
        } else {
            format!("Service {service_id}")
        };
        return at(
            trouble.retry_at,
            format!(
                "{what} is backed off until {} after {} in a row: {}",
                trouble.retry_at,
                plural(trouble.failures as usize, "failure"),
                trouble.last_error
            ),
        );
    }
    if due_at > now {
        return at(
            due_at,
            format!(
                "It is not due for another {}, at {due_at}.",
                humantime::format_duration(whole_seconds(due_at.since(now)))
            ),
        );
    }
    // The list is bounded: this service may be among those left out.
    let unnamed = view
        .failing_services_total
        .saturating_sub(view.failing_services.len());
    if unnamed > 0 && !named {
        return at(
            now,
            format!(
                "It is due and waits for its turn, or service {service_id} may be backed off: it \
                 may be one of {} of ledger {ledger} that are and are not listed.",
                plural(unnamed, "service")
            ),
        );
    }
    at(
        now,
        format!(
            "It is due and waits for its turn; ledger {ledger} has {} open and {} in the queue.",
            plural(view.in_flight, "request"),
            plural(view.queued, "batch")
        ),
    )
}

fn plural(count: usize, noun: &str) -> String {
    match (count, noun) {
        (1, noun) => format!("1 {noun}"),
        (count, "batch") => format!("{count} batches"),
        (count, noun) => format!("{count} {noun}s"),
    }
}

/// At least one second: "0s" helps nobody.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::ledgers::LedgerKind;

    const NOW: Timestamp = Timestamp::from_millis(1_795_245_931_000);

    fn situation(view: &LedgerView) -> Situation<'_> {
        Situation {
            ledger: "trace",
            service_id: "c::a",
            status: "pending",
            outstanding: true,
            settled_at: None,
            next_poll_at: None,
            configured: true,
            draining: false,
            view: Some(view),
        }
    }

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn what_keeps_it_longest_is_told() {
        let mut view = testing::ledger_view("trace", LedgerKind::Splinter);
        let told = |situation: &Situation<'_>| why_not_now(situation, NOW);

        let mut due = situation(&view);
        let next = told(&due);
        assert_eq!(next.at, Some(NOW));
        assert!(next.why.contains("waits for its turn"), "{}", next.why);

        due.next_poll_at = Some(after(90));
        let next = told(&due);
        assert_eq!(next.at, Some(after(90)));
        assert!(next.why.contains("another 1m 30s"), "{}", next.why);

        view.failing_services.push(testing::trouble("c::a"));
        view.failing_services[0].retry_at = after(30);
        let next = told(&situation(&view));
        assert_eq!(next.at, Some(after(30)));
        assert!(
            next.why.starts_with("Service c::a is backed off until"),
            "{}",
            next.why
        );

        let mut other = situation(&view);
        other.service_id = "c::b";
        assert!(told(&other).why.contains("its turn"));
        let mut cut = view.clone();
        cut.failing_services_total = 3;
        let mut unlisted = situation(&cut);
        unlisted.service_id = "c::b";
        let next = told(&unlisted);
        assert!(next.why.contains("c::b may be backed off"), "{}", next.why);
        assert!(next.why.contains("2 services"), "{}", next.why);
        assert!(told(&situation(&cut)).why.contains("is backed off until"));

        view.breaker = BreakerPosition::Open;
        view.retry_at = Some(after(60));
        view.last_error = Some("cannot connect: refused".into());
        let next = told(&situation(&view));
        assert_eq!(next.at, Some(after(60)));
        assert!(
            next.why.ends_with("cannot connect: refused"),
            "{}",
            next.why
        );

        view.breaker = BreakerPosition::HalfOpen;
        assert!(told(&situation(&view)).why.contains("one request is out"));

        view.held = false;
        assert!(told(&situation(&view)).why.contains("No server holds"));
        view.holder = Some("host-2".into());
        assert!(told(&situation(&view)).why.contains("host-2"));

        let mut stopping = situation(&view);
        stopping.draining = true;
        assert_eq!(told(&stopping).at, None);
        let mut gone = situation(&view);
        gone.configured = false;
        assert!(told(&gone).why.contains("not in the configuration"));
        let mut unseen = situation(&view);
        unseen.view = None;
        assert!(told(&unseen).why.contains("not been started"));
    }

    #[test]
    fn settled_batches_say_so() {
        let view = testing::ledger_view("trace", LedgerKind::Splinter);
        let mut settled = situation(&view);
        settled.outstanding = false;
        settled.settled_at = Some(NOW);
        for (status, words) in [
            ("committed", "which is final"),
            ("invalid", "which is final"),
            ("lost", "can revive"),
            ("refused", "can revive"),
        ] {
            settled.status = status;
            let next = why_not_now(&settled, NOW);
            assert_eq!(next.at, None);
            assert!(next.why.contains(words), "{}", next.why);
        }
    }
}
