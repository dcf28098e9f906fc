//! The LeaseKeeper: holds this server's share of the work, by heartbeat.
//!
//! In: a timer. Out: [`Holdings`], on a watch that the Scheduler follows. On
//! failure to reach the database for as long as a lease lasts: nothing is held
//! any more. Writing is fenced by the leases' epochs in any case.

use super::follow_settings;
use crate::leases::{Holdings, LeasePlan, SERVER_PREFIX, share_out};
use crate::messages::InFlight;
use crate::store::{Store, StoreError};
use crate::watchdog::{LookupError, ServiceContext, SettingsReader};
use actix::fut::wrap_future;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, SpawnHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Once in so many heartbeats, servers whose lease has expired are forgotten.
const FORGET_EVERY: u32 = 100;

/// What is to be held, and for how long at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Names of the leases.
    pub wanted: Vec<String>,
    /// How long a lease lasts without a heartbeat.
    pub ttl: Duration,
}

/// What a LeaseKeeper is built from.
#[derive(Clone, Debug)]
pub struct LeaseKeeperParts {
    /// Where leases are kept.
    pub store: Store,
    /// Name of this server.
    pub holder: Arc<str>,
    /// Whether no other server can be alive (SQLite).
    pub alone: bool,
    /// Where the holdings are told.
    pub holdings: Arc<watch::Sender<Arc<Holdings>>>,
    /// Where it is told until when the leases are surely held.
    pub held_until: Arc<watch::Sender<Option<Instant>>>,
    /// Where it is told why no lease can be held.
    pub trouble: Arc<watch::Sender<Option<String>>>,
    /// Work in flight: what is done under a lease is waited for before the lease
    /// is given away, so that nobody else does the same meanwhile.
    pub in_flight: InFlight,
    /// Held for the time of a heartbeat: one that outlives its time limit, or
    /// its keeper, is waited for.
    pub beating: Arc<tokio::sync::Mutex<Beating>>,
}

/// Whether heartbeats go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beating {
    /// They do.
    #[default]
    On,
    /// The leases are being given back: none is taken any more.
    Ended,
}

/// Holds leases by heartbeat.
#[derive(Debug)]
pub struct LeaseKeeper {
    context: ServiceContext,
    parts: LeaseKeeperParts,
    settings: SettingsReader<LeaseSettings>,
    renewed_at: Option<Instant>,
    timer: Option<SpawnHandle>,
    busy: bool,
    turns: u32,
}

/// What a heartbeat brought.
struct Beat {
    holdings: Holdings,
    /// When another server's lease expires, at the earliest.
    next_expiry: Option<Duration>,
}

impl LeaseKeeper {
    /// A keeper of these leases.
    ///
    /// # Errors
    /// The watchdog does not know what it asks for.
    pub fn new(context: ServiceContext, parts: LeaseKeeperParts) -> Result<Self, LookupError> {
        Ok(Self {
            settings: context.settings()?,
            context,
            parts,
            renewed_at: None,
            timer: None,
            busy: false,
            turns: 0,
        })
    }

    fn arm(&mut self, ctx: &mut Context<Self>, after: Duration) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(after, |keeper, ctx| {
            keeper.timer = None;
            keeper.turn(ctx);
        }));
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        self.busy = true;
        // A heartbeat is bounded by the lease's time, and so is the pause after it.
        let ttl = self.settings.current().ttl;
        self.context.expect_progress_within(Some(ttl * 4));
        self.turns = self.turns.wrapping_add(1);
        let begun = Instant::now();
        let parts = self.parts.clone();
        let settings = self.settings.current();
        let ttl = settings.ttl;
        let forget = self.turns.is_multiple_of(FORGET_EVERY);
        let task = self.context.runtime().spawn(async move {
            // A beat that takes longer than the lease is a failed one.
            tokio::time::timeout(ttl, tokio::spawn(beat(parts, settings, forget))).await
        });
        ctx.spawn(
            wrap_future::<_, Self>(task).map(move |result, keeper, ctx| {
                keeper.busy = false;
                let mut pause = ttl / 4;
                match result {
                    Ok(Ok(Ok(Ok(beat)))) => {
                        keeper.renewed_at = Some(begun);
                        keeper.parts.held_until.send_replace(Some(begun + ttl));
                        keeper.parts.trouble.send_replace(None);
                        keeper.tell(beat.holdings);
                        if let Some(expiry) = beat.next_expiry {
                            pause = pause.min(expiry + Duration::from_millis(20));
                        }
                    }
                    failure => {
                        let problem = match failure {
                            Ok(Ok(Ok(Err(error)))) => error.to_string(),
                            Ok(Err(_)) => format!("no answer within {ttl:?}"),
                            Ok(Ok(Err(error))) | Err(error) => error.to_string(),
                            Ok(Ok(Ok(Ok(_)))) => String::new(),
                        };
                        tracing::warn!(error = %problem, "leases were not renewed; tried again");
                        if keeper.renewed_at.is_none_or(|at| at.elapsed() >= ttl) {
                            keeper.tell(Holdings::default());
                        }
                        pause = (ttl / 10).min(Duration::from_secs(1));
                    }
                }
                keeper.arm(ctx, pause);
            }),
        );
    }

    fn tell(&self, holdings: Holdings) {
        if self.context.fence().is_up() {
            // What it knows is old: another LeaseKeeper tells now.
            return;
        }
        self.parts.holdings.send_if_modified(|known| {
            let differs = **known != holdings;
            if differs {
                tracing::info!(
                    leases.held = holdings.held.len(),
                    leases.of_others = holdings.others.len(),
                    "leases changed"
                );
                *known = Arc::new(holdings);
            }
            differs
        });
    }
}

async fn beat(
    parts: LeaseKeeperParts,
    settings: LeaseSettings,
    forget: bool,
) -> Result<Beat, StoreError> {
    let Ok(beating) = parts.beating.try_lock() else {
        let late = "the former heartbeat has not ended".to_owned();
        return Err(StoreError::Unreachable(late));
    };
    if *beating == Beating::Ended {
        return Ok(Beat {
            holdings: Holdings::default(),
            next_expiry: None,
        });
    }
    let rows = parts.store.leases().await?;
    let LeasePlan {
        mut hold,
        release: leaving,
    } = share_out(&parts.holder, &settings.wanted, &rows, parts.alone);
    if !leaving.is_empty() {
        // First stop working on what is given away.
        parts.holdings.send_if_modified(|known| {
            let mut fewer = (**known).clone();
            fewer.held.retain(|name, _| !leaving.contains(name));
            let differs = fewer != **known;
            *known = Arc::new(fewer);
            differs
        });
        // What is still worked on is kept until that is over.
        let (busy, idle): (Vec<String>, Vec<String>) = leaving
            .iter()
            .cloned()
            .partition(|name| parts.in_flight.is_under(name));
        parts.store.release_leases(&parts.holder, &idle).await?;
        hold.extend(busy);
    }
    let stakes = parts
        .store
        .hold_leases(&parts.holder, &hold, settings.ttl, parts.alone)
        .await?;
    if forget {
        parts.store.forget_servers(SERVER_PREFIX).await?;
    }
    let held: std::collections::BTreeMap<_, _> = stakes
        .into_iter()
        .filter(|stake| !stake.name.starts_with(SERVER_PREFIX) && !leaving.contains(&stake.name))
        .map(|stake| (stake.name.clone(), stake))
        .collect();
    let of_others = rows.iter().filter(|row| {
        row.remaining_ms > 0 && !row.holder.is_empty() && *row.holder != *parts.holder
    });
    let others = of_others
        .clone()
        .filter(|row| settings.wanted.contains(&row.name) && !held.contains_key(&row.name))
        .map(|row| (row.name.clone(), row.holder.clone()))
        .collect();
    let next_expiry = of_others
        .map(|row| Duration::from_millis(u64::try_from(row.remaining_ms).unwrap_or(0)))
        .min();
    Ok(Beat {
        holdings: Holdings { held, others },
        next_expiry,
    })
}

impl Actor for LeaseKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let reader = self.settings.clone();
        follow_settings(ctx, &reader, |keeper: &mut Self, _, ctx| {
            keeper.arm(ctx, Duration::ZERO);
        });
        self.turn(ctx);
    }
}
