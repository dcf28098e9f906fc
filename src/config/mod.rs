//! Configuration: raw TOML → validated settings.

mod settings;

pub use settings::{
    BatchesSettings, DatabaseLocation, DatabaseSettings, GiveUpAfter, HttpSettings, LedgerRole,
    LedgerSettings, LogFormat, LogSettings, PostgresUrl, Range, RetentionSettings, ServerSettings,
    Settings, Synchronous,
};
