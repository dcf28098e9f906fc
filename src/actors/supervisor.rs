//! The Supervisor: attends to the services' ends, and builds them again.
//!
//! In: the register's bell. Out: nothing; it launches services through the
//! register. On failure: the register keeps everything, and the root task
//! builds the Supervisor again.

use super::on_each;
use crate::watchdog::{Keeper, ServiceContext, WatchdogQuery};
use actix::{Actor, AsyncContext, Context, SpawnHandle};
use std::time::Instant;

/// The watchdog's actor.
#[derive(Debug)]
pub struct Supervisor {
    context: ServiceContext,
    query: WatchdogQuery,
    timer: Option<SpawnHandle>,
}

impl Supervisor {
    /// A Supervisor over the register it was itself built from.
    pub const fn new(context: ServiceContext, query: WatchdogQuery) -> Self {
        Self {
            query,
            context,
            timer: None,
        }
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        self.context.progress();
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.query.attend(Keeper::Supervisor) {
            let wait = at.saturating_duration_since(Instant::now());
            self.timer = Some(ctx.run_later(wait, |supervisor, ctx| {
                supervisor.timer = None;
                supervisor.turn(ctx);
            }));
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let query = self.query.clone();
        let ring = move || {
            let query = query.clone();
            async move { query.bell(Keeper::Supervisor).await }
        };
        on_each(ctx, ring, Self::turn);
        // What ended while there was no Supervisor.
        self.turn(ctx);
    }
}
