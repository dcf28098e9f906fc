//! Configuration: TOML and environment → validated settings, or every
//! mistake at once with its place; and what a reload changes.

mod apps;
mod changes;
mod control;
#[cfg(test)]
mod control_tests;
mod credentials;
mod dataset_settings;
#[cfg(test)]
mod dataset_tests;
mod datasets;
mod diff;
mod dump;
mod environment;
mod event_forms;
mod event_handlers;
mod event_settings;
#[cfg(test)]
mod event_tests;
mod findings;
mod forms;
mod gateways;
mod handlers;
mod hint;
mod jobs;
mod ledgers;
mod load;
mod log;
mod reader;
mod replicas;
mod resources;
mod scalar;
mod section;
mod sections;
mod settings;
mod site_forms;
mod site_settings;
mod structured;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tokens;

pub use changes::changed_keys;
pub use dataset_settings::{
    DatasetSettings, DatasetSource, HistorySettings, ReplicaProtocol, ReplicaSettings,
    ReplicationSettings,
};
pub use diff::{SettingsDiff, diff};
pub use dump::dump;
pub use environment::environment;
pub use event_settings::{
    EventCode, EventCommand, EventHandlerSettings, EventHttp, EventsSettings, Fields, GatewayKind,
    GatewaySettings, GatewaySource, HandlerRetry, Late, LedgerSource, Order, Relevance,
    RelevanceWait, SecretOf, SourceSettings, SubscriptionSettings,
};
pub use findings::{ConfigError, ConfigErrors, Finding, Origin, Warning};
pub use load::{LoadOptions, Loaded, load, parse};
pub use reader::Entry;
pub use resources::{OwnerShare, ResourcesSettings, owners};
pub use settings::{
    BatchesSettings, DatabaseLocation, DatabaseSettings, GiveUpAfter, HttpSettings, LedgerRole,
    LedgerSettings, LogFileSettings, LogFormat, LogRotation, LogSettings, PostgresUrl, Range,
    RetentionSettings, ServerSettings, Settings, Synchronous, TraceSettings, WatchdogSettings,
};
pub use site_settings::{
    AppSettings, CivicrmHandler, CivicrmVersion, CodeHandler, CommandHandler, Credential, Expect,
    HandlerSettings, HttpHandler, JobSettings, SitesSettings,
};
pub use tokens::{check as check_token, token_file};
