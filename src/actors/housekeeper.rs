//! The Housekeeper: prunes what is past its retention, in small steps.
//!
//! In: a timer. Out: the store. On failure: tried again at the next turn.

use crate::config::RetentionSettings;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::watchdog::{LookupError, ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context};
use std::time::Duration;

/// Rows deleted in one transaction.
const STEP: i64 = 500;
/// Pause between steps while there is more to prune.
const BUSY: Duration = Duration::from_millis(200);
/// One step, with the pause before it, takes no longer, whatever the database does.
const STEP_TIME: Duration = Duration::from_secs(600);
/// How long outcomes of jobs, counted by stretches of time, are kept: longer
/// than anything shows them.
const OUTCOMES_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Pause when there is nothing to prune.
const IDLE: Duration = Duration::from_secs(60);

/// What a Housekeeper is built from.
#[derive(Clone, Debug)]
pub struct HousekeeperParts {
    /// What is pruned.
    pub store: Store,
}

/// Prunes old rows.
#[derive(Debug)]
pub struct Housekeeper {
    context: ServiceContext,
    parts: HousekeeperParts,
    settings: SettingsReader<RetentionSettings>,
}

impl Housekeeper {
    /// A housekeeper of this store.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: HousekeeperParts) -> Result<Self, LookupError> {
        Ok(Self {
            settings: context.settings()?,
            context,
            parts,
        })
    }

    fn arm(ctx: &mut Context<Self>, pause: Duration) {
        ctx.run_later(pause, |keeper, ctx| {
            keeper.context.expect_progress_within(Some(STEP_TIME));
            let kept = keeper.settings.current();
            let store = keeper.parts.store.clone();
            let task = keeper.context.runtime().spawn(prune(store, kept));
            ctx.spawn(wrap_future::<_, Self>(task).map(|result, _, ctx| {
                let pause = match result {
                    Ok(Ok(pruned)) if pruned == Pruned::default() => IDLE,
                    Ok(Ok(Pruned {
                        batches,
                        audit,
                        sites,
                        events,
                        datasets,
                    })) => {
                        tracing::debug!(
                            batches.pruned = batches,
                            audit.pruned = audit,
                            sites.pruned = sites,
                            events.pruned = events,
                            datasets.pruned = datasets,
                            "rows past their retention were pruned"
                        );
                        BUSY
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(error = %error, "pruning failed; tried again");
                        IDLE
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "pruning ended early; tried again");
                        IDLE
                    }
                };
                Self::arm(ctx, pause);
            }));
        });
    }
}

/// How many rows are gone: settled batches, of the audit, of what the site flow
/// keeps beside its sites, events, and of contents of datasets and replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pruned {
    batches: usize,
    audit: usize,
    sites: usize,
    events: usize,
    datasets: usize,
}

/// One step of each.
async fn prune(store: Store, kept: RetentionSettings) -> Result<Pruned, StoreError> {
    let RetentionSettings {
        settled_batches,
        audit,
        events,
        // Applied by the Updater, which writes them.
        polls_per_site: _,
        histories,
    } = kept;
    let now = Timestamp::now();
    let batches = store
        .prune_batches(now.minus(settled_batches), STEP)
        .await?;
    let audit = store.prune_audit(now.minus(audit), STEP).await?;
    let sites = store
        .prune_sites(now, now.minus(OUTCOMES_KEPT), STEP)
        .await?;
    let events = store.prune_events(now.minus(events), STEP).await?;
    let datasets = store.prune_datasets(now, &histories, STEP).await?;
    Ok(Pruned {
        batches,
        audit,
        sites,
        events,
        datasets,
    })
}

impl Actor for Housekeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        Self::arm(ctx, BUSY);
    }
}
