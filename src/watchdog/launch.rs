//! How a service is started on its thread: built, watched at every turn, told
//! what the watchdog has to tell, and cut off when it must be.

use super::commands::{Command, Commands, Fault};
use super::exit::Fence;
use super::service::{Build, Progress, Publish, ServiceContext};
use super::stats::lock;
use super::thread::{Turns, Watched};
use actix::fut::{ActorStreamExt, wrap_future, wrap_stream};
use actix::{Actor, ActorContext, Addr, AsyncContext, Context};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::task::AbortHandle;

/// Cuts a running service off: its future is dropped as soon as its thread is
/// free of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(Arc<Mutex<CutState>>);

#[derive(Debug, Default)]
struct CutState {
    cut: bool,
    task: Option<AbortHandle>,
}

impl Cut {
    pub(super) fn cut(&self) {
        let mut state = lock(&self.0);
        state.cut = true;
        if let Some(task) = state.task.take() {
            task.abort();
        }
    }

    fn arm(&self, task: AbortHandle) {
        let mut state = lock(&self.0);
        if state.cut {
            task.abort();
        } else {
            state.task = Some(task);
        }
    }

    fn is_cut(&self) -> bool {
        lock(&self.0).cut
    }
}

/// Starts or disconnects a service; a start runs on the service's thread.
pub(super) type Launch = Arc<dyn Fn(LaunchOrder) + Send + Sync>;

pub(super) enum LaunchOrder {
    /// Build it and open its lines.
    Start(Box<Start>),
    /// Close its lines: this generation, and none before it, has a mailbox now.
    Disconnect {
        /// The generation that is over.
        generation: u64,
    },
}

pub(super) struct Start {
    /// What the service is handed.
    pub(super) context: ServiceContext,
    /// What the watchdog tells it.
    pub(super) commands: Commands,
    /// Cuts it off.
    pub(super) cut: Cut,
    /// Where its turns are shown, and as whose.
    pub(super) turns: Arc<Turns>,
    pub(super) id: u64,
}

pub(super) fn launcher<A: Actor<Context = Context<A>>>(
    build: Build<A>,
    publish: Vec<Publish<A>>,
    capacity: usize,
) -> Launch {
    // Generations up to this one are over: none of them opens its lines any more.
    let over = Mutex::new(0);
    Arc::new(move |order| match order {
        LaunchOrder::Disconnect { generation } => {
            let mut over = lock(&over);
            *over = generation.max(*over);
            for publish in &publish {
                publish(None);
            }
        }
        LaunchOrder::Start(start) => {
            let generation = start.context.generation();
            if let Some(addr) = begin(*start, &build, capacity) {
                let over = lock(&over);
                if generation > *over {
                    for publish in &publish {
                        publish(Some(&addr));
                    }
                }
            }
        }
    })
}

fn begin<A: Actor<Context = Context<A>>>(
    start: Start,
    build: &Build<A>,
    capacity: usize,
) -> Option<Addr<A>> {
    let Start {
        context,
        commands,
        cut,
        turns,
        id,
    } = start;
    if cut.is_cut() {
        // It was given up before its thread came to it.
        return None;
    }
    // Held here as well, so that a factory that fails can say why.
    let guard = context.guard.clone();
    let (progress, fence) = (context.progress.clone(), context.fence.clone());
    let turn = turns.begin(id);
    let built = build(context);
    drop(turn);
    let actor = match built {
        Ok(actor) => actor,
        Err(error) => {
            guard.ends_with(format!("it could not be built: {error}"));
            return None;
        }
    };
    let mut ctx = Context::new();
    ctx.set_mailbox_capacity(capacity);
    obey(&mut ctx, commands, progress, fence);
    let addr = ctx.address();
    let task = actix_rt::spawn(Watched {
        inner: ctx.into_future(actor),
        turns,
        service: id,
    });
    cut.arm(task.abort_handle());
    Some(addr)
}

/// Has the actor do what the watchdog says. One that was given up ends as soon
/// as it is here: what it is told was not meant for it any more.
fn obey<A: Actor<Context = Context<A>>>(
    ctx: &mut Context<A>,
    mut commands: Commands,
    progress: Arc<Progress>,
    fence: Fence,
) {
    let (mut first, mut over) = (true, false);
    let alive = progress.clone();
    let orders = futures_util::stream::poll_fn(move |cx| {
        if std::mem::take(&mut first) {
            // The actor's context is being polled: it lives.
            alive.mark();
        }
        if fence.is_up() {
            let once = !std::mem::replace(&mut over, true);
            return if once {
                Poll::Ready(Some(Command::Terminate))
            } else {
                Poll::Pending
            };
        }
        commands.poll(cx).map(Some)
    });
    let obey =
        wrap_stream::<_, A>(orders).map(move |command, _, ctx: &mut Context<A>| match command {
            Command::Stop => ctx.stop(),
            Command::Terminate => ctx.terminate(),
            Command::Probe(probe) => progress.answer_probe(probe),
            Command::Fault(fault) => misbehave(ctx, fault),
        });
    ctx.spawn(obey.finish());
}

#[expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "asked for, by a test of supervision"
)]
fn misbehave<A: Actor<Context = Context<A>>>(ctx: &mut Context<A>, fault: Fault) {
    match fault {
        Fault::Panic(message) => panic!("{message}"),
        Fault::Block(time) => std::thread::sleep(time),
        Fault::Hang => ctx.wait(wrap_future(std::future::pending::<()>())),
    }
}
