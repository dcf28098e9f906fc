//! The settings of the event flow: `[events]`, `[[gateways]]` and
//! `[[subscriptions]]`.

use crate::flows::events::SubscriptionName;
use secrecy::{ExposeSecret as _, SecretString};
use std::ops::RangeInclusive;
use std::time::Duration;
use url::Url;

/// `[events]`: the event flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsSettings {
    /// The Updater commits records and decisions after so long at the latest. Default 2ms.
    pub commit_interval: Duration,
    /// The Updater commits when it holds so many, and no more at a time. Default 2000.
    pub commit_rows: usize,
    /// How often events that another server recorded are looked for. Default 1s.
    pub sweep_interval: Duration,
    /// Events that one hook call may carry. Default 1000.
    pub max_events_per_call: usize,
    /// Largest event, in bytes. Default 1 MiB.
    pub max_event_bytes: usize,
}

/// `[[gateways]]`: an endpoint at which events are subscribed to and which
/// calls back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Its name; distinct.
    pub name: String,
    /// Which protocol it speaks; `rest` is the only one.
    pub kind: GatewayKind,
    /// Where subscriptions are posted.
    pub url: Url,
    /// Where the gateway reaches this server: the hook's path is appended.
    pub callback_base: Url,
    /// `Authorization: Bearer …` of the subscription's request. Default none.
    pub token: Option<SecretOf>,
    /// Time limit of the subscription's request. Default 10s.
    pub timeout: Duration,
}

/// Protocols of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayKind {
    /// A form is posted (seed `ordered-block-events.md`).
    Rest,
}

/// `[[subscriptions]]`: an ordered stream of one contract's events.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionSettings {
    /// Its name; distinct.
    pub name: SubscriptionName,
    /// Where its events come from.
    pub source: SourceSettings,
    /// Events of these blocks are recorded and skipped. Default none.
    pub skip_blocks: Vec<RangeInclusive<i64>>,
    /// The secret of its hook. Only for gateways, and for hooks that others call.
    pub hook_secret: Option<SecretOf>,
    /// Where the parts of an event stand.
    pub fields: Fields,
    /// What makes an event relevant.
    pub relevance: Relevance,
    /// Order within a block.
    pub order: Order,
    /// What becomes of an event that belongs before what has been processed.
    pub late: Late,
    /// Nothing heard for so long: subscribe again. Default 10m.
    pub silence: Duration,
    /// Retries of the handler before the subscription halts.
    pub retry: HandlerRetry,
    /// What is done with a relevant event.
    pub handler: EventHandlerSettings,
}

/// Where a subscription's events come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSettings {
    /// A gateway that calls the hook.
    Gateway(GatewaySource),
    /// A ledger's stream of state deltas.
    Ledger(LedgerSource),
    /// Whoever calls the hook; nothing is asked for.
    Hook,
}

/// What is asked of a gateway; the names are those of the seed's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySource {
    /// Name of the gateway.
    pub gateway: String,
    /// `channelName`
    pub channel: String,
    /// `chaincodeName`
    pub chaincode: String,
    /// `eventCategory`. Default `Contract`.
    pub event_category: String,
    /// `eventName`
    pub event_name: String,
    /// `eventType`. Default `full`.
    pub event_type: String,
    /// `startblock` of the first subscription. Default 0.
    pub start_block: i64,
    /// Blocks asked for at a time: `endblock` is `startblock + window - 1`,
    /// renewed in time. Default none: no `endblock`.
    pub window: Option<i64>,
}

/// A ledger whose state deltas are the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSource {
    /// Name of the ledger.
    pub ledger: String,
    /// Its service (Splinter: `circuit::service`); empty where it has none.
    pub service: String,
    /// Addresses of the state that are told of, by prefix. Default all.
    pub address_prefixes: Vec<String>,
    /// First block, where nothing is known. Default 0.
    pub start_block: i64,
}

/// JSON pointers (RFC 6901) of the parts of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Block: a number, or a text that is one. Default `/blockNumber`.
    pub block: String,
    /// Transaction id. Default `/transactionId`. Where nothing stands there, the
    /// event is of the block.
    pub tx_id: String,
    /// Key by which it is judged. Default none.
    pub key: Option<String>,
    /// Ordinal within the block. Default none: a hash of the event tells it apart.
    pub ordinal: Option<String>,
    /// Name of the event. Default none: the subscription's.
    pub event_name: Option<String>,
    /// When it happened: RFC 3339, or seconds or milliseconds since 1970. Default none.
    pub timestamp: Option<String>,
}

/// `relevance`: what makes an event relevant.
#[derive(Clone, Debug, PartialEq)]
pub enum Relevance {
    /// Everything.
    All,
    /// A known transaction id or key.
    Known(RelevanceWait),
}

/// How an unknown event is waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct RelevanceWait {
    /// Times it is looked up, the first included. Default 3.
    pub attempts: u32,
    /// Time between them. Default 1s.
    pub delay: Duration,
    /// What the delay grows by at each. Default 1 (it does not).
    pub backoff: f64,
    /// Events that wait at once. Default 256.
    pub window: usize,
    /// The operator's own lookup in the same database instead of the tables
    /// `known_transactions` and `known_keys`: a SELECT with the parameters `$1`
    /// (transaction id) and `$2` (key, may be empty) that answers a row when the
    /// event is relevant.
    pub sql: Option<String>,
}

/// `order`: order within a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they come. Nothing waits.
    Arrival,
    /// By ordinal, once nothing came for the block for so long (`settle`,
    /// default 2s).
    Ordinal {
        /// Quiet after which a block is taken as complete.
        settle: Duration,
    },
}

/// `late`: what becomes of a new event that belongs before what has been
/// processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The subscription halts on it.
    Halt,
    /// It is processed when it comes, marked.
    Process,
}

/// `retry`: retries of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerRetry {
    /// Tries before the subscription halts. Default 5.
    pub attempts: u32,
    /// Pause after the first failure; doubles. Default 1s.
    pub delay: Duration,
    /// Longest pause. Default 30s.
    pub max_delay: Duration,
}

/// `[subscriptions.handler]`: what is done with a relevant event; one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum EventHandlerSettings {
    /// `[subscriptions.handler.http]`
    Http(EventHttp),
    /// `[subscriptions.handler.command]`
    Command(EventCommand),
    /// `handler = "table"`: the consumer reads `events`. The default.
    Table,
    /// `[subscriptions.handler.code]`: Rust code registered for the subscription.
    Code(EventCode),
}

/// `[subscriptions.handler.http]`: a CloudEvents 1.0 POST (structured JSON
/// mode), signed as Standard Webhooks where there is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHttp {
    /// Where it is posted.
    pub url: Url,
    /// Secret of the signature. Default none: not signed.
    pub secret: Option<SecretOf>,
    /// `Authorization: Bearer …`. Default none.
    pub token: Option<SecretOf>,
    /// Time limit of a try, connecting included. Default 10s.
    pub timeout: Duration,
}

/// `[subscriptions.handler.command]`: the event comes on standard input as the
/// same CloudEvent; exit code 0 is success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCommand {
    /// Program and arguments, no shell.
    pub args: Vec<String>,
    /// Time limit, after which it is killed with its children. Default 60s.
    pub timeout: Duration,
}

/// `[subscriptions.handler.code]`: Rust code registered for the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCode {
    /// Time limit. Default 60s.
    pub timeout: Duration,
}

/// A secret; equal by what it holds, never shown.
#[derive(Clone, Debug)]
pub struct SecretOf(pub SecretString);

impl PartialEq for SecretOf {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for SecretOf {}

impl Default for EventsSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(2),
            commit_rows: 2000,
            sweep_interval: Duration::from_secs(1),
            max_events_per_call: 1000,
            max_event_bytes: 1024 * 1024,
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            block: "/blockNumber".to_owned(),
            tx_id: "/transactionId".to_owned(),
            key: None,
            ordinal: None,
            event_name: None,
            timestamp: None,
        }
    }
}

impl Default for RelevanceWait {
    fn default() -> Self {
        Self {
            attempts: 3,
            delay: Duration::from_secs(1),
            backoff: 1.0,
            window: 256,
            sql: None,
        }
    }
}

impl Default for HandlerRetry {
    fn default() -> Self {
        Self {
            attempts: 5,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
        }
    }
}

impl SubscriptionSettings {
    /// A subscription with the defaults.
    pub fn new(name: SubscriptionName, source: SourceSettings) -> Self {
        Self {
            name,
            source,
            skip_blocks: Vec::new(),
            hook_secret: None,
            fields: Fields::default(),
            relevance: Relevance::Known(RelevanceWait::default()),
            order: Order::Arrival,
            late: Late::Halt,
            silence: Duration::from_secs(600),
            retry: HandlerRetry::default(),
            handler: EventHandlerSettings::Table,
        }
    }

    /// Whether events of a block are skipped.
    pub fn skips(&self, block: i64) -> bool {
        self.skip_blocks.iter().any(|range| range.contains(&block))
    }
}
