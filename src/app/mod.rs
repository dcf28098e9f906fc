//! The composition root: builds, wires and drains everything. The only place
//! that names concrete parts.

mod datasets;
mod drain;
mod error;
mod follow_once;
mod followers;
mod holder;
mod hooks;
mod live;
mod lock;
mod notify;
mod reload;
mod replicas;
mod resources;
mod seed_servers;
mod services;
mod signals;
mod sources;
mod states;
mod streams;
mod subscriptions;
mod wiring;

pub use error::AppError;
pub use follow_once::{FollowOnce, NotFollowed, Once};
pub use followers::followers;
pub use holder::holder_name;
pub use resources::Resources;
pub use signals::StopHandle;
pub use wiring::Ready;

use crate::config::{ConfigErrors, Loaded};
use crate::handlers::{Listeners, MOST_LOOKUPS};
use crate::telemetry;
use crate::watchdog::watch_panics;

/// Reads the configuration again, for a reload.
pub type Reloader = Box<dyn Fn() -> Result<Loaded, ConfigErrors> + Send + Sync>;

/// What a server is started from.
pub struct Launch {
    /// The configuration.
    pub config: Loaded,
    /// How it is read again on SIGHUP or by control; without, that is refused.
    pub reload: Option<Reloader>,
    /// Called once, when the server is ready.
    pub on_ready: Option<Box<dyn FnOnce(Ready) + Send>>,
    /// Rust code that is called when sites are visited.
    pub listeners: Listeners,
}

/// Runs the server until it is stopped by a signal or its [`StopHandle`].
///
/// # Errors
/// The server could not start, or could not drain in time.
pub fn run(launch: Launch) -> Result<(), AppError> {
    telemetry::install_metrics();
    watch_panics();
    let settings = &launch.config.settings;
    // What blocks: SQLite's connections, and the looking up of names: of sites'
    // hosts, and of batches' services.
    let blocking =
        16 + settings.database.connections + settings.batches.max_in_flight + MOST_LOOKUPS;
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking)
        .thread_name("highwater-io")
        .enable_all()
        .build()
        .map_err(AppError::Runtime)?;
    let handle = runtime.handle().clone();
    telemetry::init_logging(&settings.log, &handle)?;
    let system = actix::System::with_tokio_rt(move || runtime);
    system.block_on(async {
        let result = wiring::serve(launch, handle).await;
        // Also after a start that failed.
        telemetry::finish_logging().await;
        result
    })
}
