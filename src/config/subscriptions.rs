//! The keys of `[[subscriptions]]`, but for what is done with an event.

use super::control::EVENTS;
use super::event_forms::{
    HIGHEST_BLOCK, Names, address_prefix, blocks, factor, form_part, lookup, place, service,
    signing_secret,
};
use super::event_handlers::event_handler;
use super::event_settings::{
    Fields, GatewaySettings, GatewaySource, HandlerRetry, Late, LedgerSource, Order, Relevance,
    RelevanceWait, SecretOf, SourceSettings, SubscriptionSettings,
};
use super::forms::{DAY, Parsed, count, duration, word};
use super::reader::{Reader, own_name};
use super::scalar::Scalar;
use super::section::Section;
use super::settings::LedgerSettings;
use crate::flows::events::SubscriptionName;
use crate::ledgers::LedgerKind;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use toml_edit::TableLike;

const SECOND: Duration = Duration::from_secs(1);

/// Bounds of pauses before something is tried again.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;

/// Keys that belong to a subscription of a gateway alone.
const OF_GATEWAYS: [&str; 6] = [
    "channel",
    "chaincode",
    "event_category",
    "event_name",
    "event_type",
    "window",
];

/// Keys that belong to a subscription of a ledger alone.
const OF_LEDGERS: [&str; 2] = ["service", "address_prefixes"];

/// Keys of events that come by the hook.
const OF_HOOKS: [&str; 3] = ["hook_secret_file", "fields", "settle"];

/// Gateways and ledgers there are, where those are right.
struct Peers<'p> {
    gateways: Option<&'p [GatewaySettings]>,
    ledgers: Option<&'p [LedgerSettings]>,
}

/// Reads all subscriptions; `None` when something is wrong. `gateways` and
/// `ledgers` are those configured, where they are right.
pub(super) fn subscriptions<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
    gateways: Option<&[GatewaySettings]>,
    ledgers: Option<&[LedgerSettings]>,
) -> Option<Vec<SubscriptionSettings>> {
    let mut names = Names::default();
    let peers = Peers { gateways, ledgers };
    let subscriptions = reader.list(root, "subscriptions", own_name, |section| {
        subscription(section, base, &mut names, &peers)
    });
    subscriptions.into_iter().collect()
}

fn subscription(
    s: &mut Section<'_, '_>,
    base: &Path,
    names: &mut Names,
    peers: &Peers<'_>,
) -> Option<SubscriptionSettings> {
    let name = names.read(s, "subscriptions", "a name, e.g. name = \"claims\"");
    let source = source(s, peers);
    let example = "a list of blocks and ranges, e.g. [\"17\", \"100-120\"]";
    let skipped = s.texts("skip_blocks", EVENTS, example, |text| {
        blocks(text).map(|_| ())
    });
    let by_hook = match &source {
        Some(source) => !matches!(source, SourceSettings::Ledger(_)),
        None => !s.is_written("ledger"),
    };
    let (hook_secret, fields) = if by_hook {
        (hook_secret(s, base, source.as_ref()), fields(s))
    } else {
        let why = "this is for events that come by the hook, and those of a ledger come by its stream; leave it out, or leave the ledger out";
        s.out_of_place(&OF_HOOKS, why);
        (None, Some(Fields::default()))
    };
    let relevance = relevance(s);
    let order = order(s, fields.as_ref(), by_hook);
    let late = s.get(
        "late",
        "halt",
        word([("halt", Late::Halt), ("process", Late::Process)]),
    );
    let silence = s.get("silence", "10m", duration(SECOND..=DAY * 30));
    let retry = retry(s);
    let handler = event_handler(s, base);
    let skipped = skipped?.unwrap_or_default();
    Some(SubscriptionSettings {
        name: SubscriptionName::parse(&name?).ok()?,
        source: source?,
        skip_blocks: skipped
            .iter()
            .filter_map(|text| blocks(text).ok())
            .collect(),
        hook_secret,
        fields: fields?,
        relevance: relevance?,
        order: order?,
        late: late?,
        silence: silence?,
        retry: retry?,
        handler: handler?,
    })
}

/// Where the events come from: a gateway, a ledger, or whoever calls the hook.
fn source(s: &mut Section<'_, '_>, peers: &Peers<'_>) -> Option<SourceSettings> {
    for key in ["gateway", "ledger", "start_block"]
        .iter()
        .chain(&OF_GATEWAYS)
    {
        if *key != "window" {
            s.not_by_control(key, EVENTS);
        }
    }
    s.not_by_control("service", EVENTS);
    let gateway = s.optional("gateway", form_part);
    let ledger = s.optional("ledger", form_part);
    match (gateway?, ledger?) {
        (Some(_), Some(_)) => {
            let message = "a gateway and a ledger are named, and a subscription has one source, whose order it keeps; keep one of them";
            s.fault(&["ledger", "gateway"], message.to_owned());
            None
        }
        (Some(gateway), None) => {
            if let Some(gateways) = peers.gateways {
                let names = gateways.iter().map(|gateway| gateway.name.as_str());
                known(s, "gateway", &gateway, names);
            }
            let why =
                "this is for subscriptions of a ledger, and this one has a gateway; leave it out";
            s.out_of_place(&OF_LEDGERS, why);
            gateway_source(s, gateway).map(SourceSettings::Gateway)
        }
        (None, Some(ledger)) => {
            let kind = peers.ledgers.and_then(|ledgers| {
                known(
                    s,
                    "ledger",
                    &ledger,
                    ledgers.iter().map(|l| l.name.as_str()),
                );
                let found = ledgers.iter().find(|known| known.name == ledger);
                found.map(|ledger| ledger.kind)
            });
            let why =
                "this is for subscriptions of a gateway, and this one has a ledger; leave it out";
            s.out_of_place(&OF_GATEWAYS, why);
            ledger_source(s, ledger, kind).map(SourceSettings::Ledger)
        }
        (None, None) => {
            let why = "this is for subscriptions of a gateway, and none is named; set gateway, or leave this out";
            s.out_of_place(&OF_GATEWAYS, why);
            let why = "this is for subscriptions of a ledger, and none is named; set ledger, or leave this out";
            s.out_of_place(&OF_LEDGERS, why);
            let why = "nothing is asked for where whoever has the secret calls the hook; set gateway or ledger, or leave this out";
            s.out_of_place(&["start_block"], why);
            Some(SourceSettings::Hook)
        }
    }
}

/// Checks that what is named is configured.
fn known<'n>(
    s: &mut Section<'_, '_>,
    key: &'static str,
    name: &str,
    names: impl Iterator<Item = &'n str>,
) {
    let names: Vec<&str> = names.collect();
    if names.contains(&name) {
        return;
    }
    let there = match names.as_slice() {
        [] => format!("none is configured: add [[{key}s]] with name = \"{name}\""),
        names => format!("those configured are {}", names.join(", ")),
    };
    s.fault(
        &[key],
        format!("no [[{key}s]] has the name \"{name}\"; {there}"),
    );
}

fn gateway_source(s: &mut Section<'_, '_>, gateway: String) -> Option<GatewaySource> {
    let example = "the channel (channelName), e.g. channel = \"dhlecomchannel\"";
    let channel = s.required("channel", example, form_part);
    let example = "the contract (chaincodeName), e.g. chaincode = \"businesscontract\"";
    let chaincode = s.required("chaincode", example, form_part);
    let event_category = s.get("event_category", "Contract", form_part);
    let example = "the event (eventName), e.g. event_name = \"CLAIM_STATUS_CHANGE\"";
    let event_name = s.required("event_name", example, form_part);
    let event_type = s.get("event_type", "full", form_part);
    let start_block = s.get("start_block", 0, block());
    let window = s.optional("window", count(1..=HIGHEST_BLOCK, ""));
    Some(GatewaySource {
        gateway,
        channel: channel?,
        chaincode: chaincode?,
        event_category: event_category?,
        event_name: event_name?,
        event_type: event_type?,
        start_block: start_block?,
        window: window?,
    })
}

fn ledger_source(
    s: &mut Section<'_, '_>,
    ledger: String,
    kind: Option<LedgerKind>,
) -> Option<LedgerSource> {
    let named = s.optional("service", service);
    match (kind, &named) {
        (Some(LedgerKind::Splinter), Some(None)) => {
            let message = format!(
                "missing; the ledger \"{ledger}\" is Splinter, whose events are a service's: expected e.g. service = \"01234-ABCDE::gsAA\""
            );
            s.fault(&["service"], message);
        }
        (Some(LedgerKind::Sawtooth), Some(Some(service))) => {
            let message = format!(
                "\"{service}\" is named, and the ledger \"{ledger}\" is Sawtooth, which has no services; leave it out"
            );
            s.fault(&["service"], message);
        }
        _ => {}
    }
    let example = "a list of the beginnings of addresses, e.g. [\"5b7349\"]";
    let prefixes = s.texts("address_prefixes", EVENTS, example, address_prefix);
    let start_block = s.get("start_block", 0, block());
    Some(LedgerSource {
        ledger,
        service: named?.unwrap_or_default(),
        address_prefixes: prefixes?.unwrap_or_default(),
        start_block: start_block?,
    })
}

fn block() -> impl Fn(&Scalar) -> Parsed<i64> {
    count(0..=HIGHEST_BLOCK, "")
}

/// The secret of the hook, without which nobody may call it.
fn hook_secret(
    s: &mut Section<'_, '_>,
    base: &Path,
    source: Option<&SourceSettings>,
) -> Option<SecretOf> {
    let secret = signing_secret(s, "hook_secret", "hook_secret_file", base);
    if !secret.given && source.is_some() {
        let message = "missing; events come by the hook, which takes them from who has its secret: expected a file with at least 16 characters, e.g. hook_secret_file = \"claims.secret\"";
        s.fault(&["hook_secret_file"], message.to_owned());
    }
    secret.secret
}

fn fields(s: &mut Section<'_, '_>) -> Option<Fields> {
    let example = "{ block = \"/blockNumber\", tx_id = \"/transactionId\" }";
    s.group("fields", example, |s| {
        for key in [
            "block",
            "tx_id",
            "key",
            "ordinal",
            "event_name",
            "timestamp",
        ] {
            s.not_by_control(key, EVENTS);
        }
        let block = s.get("block", "/blockNumber", place);
        let tx_id = s.get("tx_id", "/transactionId", place);
        let key = s.optional("key", place);
        let ordinal = s.optional("ordinal", place);
        let event_name = s.optional("event_name", place);
        let timestamp = s.optional("timestamp", place);
        Some(Fields {
            block: block?,
            tx_id: tx_id?,
            key: key?,
            ordinal: ordinal?,
            event_name: event_name?,
            timestamp: timestamp?,
        })
    })
}

fn relevance(s: &mut Section<'_, '_>) -> Option<Relevance> {
    let example = "{ attempts = 3, delay = \"1s\", window = 256 }";
    let all = word([("all", ())]);
    let read = s.word_or_table("relevance", None, EVENTS, |written| {
        all(written)
            .map_err(|_| format!("{written} is not a relevance; expected \"all\" or {example}"))
    });
    if read?.is_some() {
        return Some(Relevance::All);
    }
    s.group("relevance", example, |s| {
        let attempts = s.get("attempts", 3, count(1..=1000, ""));
        let delay = s.get("delay", "1s", duration(PAUSE));
        let backoff = s.get("backoff", 1.0, factor);
        let window = s.get("window", 256, count(1..=100_000, ""));
        s.not_by_control("sql", EVENTS);
        let sql = s.optional("sql", lookup);
        Some(Relevance::Known(RelevanceWait {
            attempts: attempts?,
            delay: delay?,
            backoff: backoff?,
            window: window?,
            sql: sql?,
        }))
    })
}

fn order(s: &mut Section<'_, '_>, fields: Option<&Fields>, by_hook: bool) -> Option<Order> {
    s.not_by_control("order", EVENTS);
    let by_ordinal = s.get(
        "order",
        "arrival",
        word([("arrival", false), ("ordinal", true)]),
    )?;
    if !by_ordinal {
        if by_hook {
            let why = "this is the quiet after which a block is taken as complete, for which only order = \"ordinal\" waits; set that, or leave this out";
            s.out_of_place(&["settle"], why);
        }
        return Some(Order::Arrival);
    }
    if !by_hook {
        let message = "\"ordinal\" is for events that come by the hook; those of a ledger's stream come in order: expected \"arrival\"";
        s.fault(&["order"], message.to_owned());
        return None;
    }
    let settle = s.get("settle", "2s", duration(Duration::from_millis(10)..=DAY));
    if fields.is_some_and(|fields| fields.ordinal.is_none()) {
        let message = "\"ordinal\" needs to know where an event's ordinal stands; set fields.ordinal, e.g. fields = { ordinal = \"/eventIndex\" }";
        s.fault(&["order"], message.to_owned());
    }
    Some(Order::Ordinal { settle: settle? })
}

fn retry(s: &mut Section<'_, '_>) -> Option<HandlerRetry> {
    let example = "{ attempts = 5, delay = \"1s\", max_delay = \"30s\" }";
    s.group("retry", example, |s| {
        let attempts = s.get("attempts", 5, count(1..=1000, ""));
        let delay = s.get("delay", "1s", duration(PAUSE));
        let max_delay = s.get("max_delay", "30s", duration(PAUSE));
        if let (Some(delay), Some(max)) = (delay, max_delay)
            && max < delay
        {
            let message = format!(
                "max_delay ({}) is below delay ({}); expected it to be at least that",
                humantime::format_duration(max),
                humantime::format_duration(delay)
            );
            s.fault(&["max_delay", "delay"], message);
        }
        Some(HandlerRetry {
            attempts: attempts?,
            delay: delay?,
            max_delay: max_delay?,
        })
    })
}
