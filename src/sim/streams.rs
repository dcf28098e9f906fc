//! The websockets of a simulated ledger, with the habits of the recorded ones.

use super::chain::Chain;
use super::shared::Shared;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, Closed, Message, MessageStream, Session};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often a Splinter node pings.
const SPLINTER_PING: Duration = Duration::from_secs(30);

/// What the open streams of a simulator share.
pub(super) struct Streams {
    chain: Mutex<Chain>,
    /// Grows when something was committed.
    commits: watch::Sender<u64>,
    /// Grows when all connections are to end.
    drops: watch::Sender<u64>,
    open: AtomicUsize,
    opened: AtomicUsize,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chain: Mutex::new(Chain::new(seed)),
            commits: watch::Sender::new(0),
            drops: watch::Sender::new(0),
            open: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        }
    }

    /// The model, locked.
    pub(super) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets streams look at what was committed.
    pub(super) fn committed(&self) {
        self.commits.send_modify(|count| *count += 1);
    }

    /// Ends all connections without a close frame.
    pub(super) fn drop_all(&self) {
        self.drops.send_modify(|count| *count += 1);
    }

    /// Streams that are subscribed now, and that ever were.
    pub(super) fn counts(&self) -> (usize, usize) {
        (
            self.open.load(Ordering::Relaxed),
            self.opened.load(Ordering::Relaxed),
        )
    }

    fn open(&self) -> Open<'_> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }
}

/// Counts a subscribed stream until it is dropped.
struct Open<'a>(&'a Streams);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the stream of a Splinter service.
pub(super) fn splinter(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
    service_id: String,
    last_seen: Option<String>,
) -> HttpResponse {
    let (response, session, messages) = match actix_ws::handle(req, payload) {
        Ok(opened) => opened,
        Err(error) => return error.error_response(),
    };
    let shared = shared.clone();
    actix_web::rt::spawn(async move {
        // However it ends, the connection ends with it.
        drop(
            serve_splinter(
                session,
                messages,
                &shared,
                &service_id,
                last_seen.as_deref(),
            )
            .await,
        );
    });
    response
}

async fn serve_splinter(
    mut session: Session,
    mut messages: MessageStream,
    shared: &Shared,
    service_id: &str,
    last_seen: Option<&str>,
) -> Result<(), Closed> {
    let streams = &shared.streams;
    let mut commits = streams.commits.subscribe();
    let mut drops = streams.drops.subscribe();
    let (history, mut place) = {
        let chain = streams.chain();
        let count = chain.events(service_id);
        (chain.history(service_id, count, last_seen), count)
    };
    for event in history {
        session.text(event.text).await?;
    }
    let _open = streams.open();
    let mut pings = tokio::time::interval(SPLINTER_PING);
    pings.tick().await;
    loop {
        tokio::select! {
            biased;
            // What is committed after it is not sent.
            _ = drops.changed() => return Ok(()),
            message = messages.recv() => match message {
                Some(Ok(Message::Text(text))) => session.text(text).await?,
                Some(Ok(Message::Ping(data))) => {
                    session.ping(&data).await?;
                    session.pong(&data).await?;
                }
                Some(Ok(Message::Close(_))) => {
                    return session.close(Some(CloseCode::Normal.into())).await;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            _ = commits.changed() => {
                let events = streams.chain().events_behind(service_id, place);
                place += events.len();
                if !shared.behaviour(Some(service_id)).lose_events {
                    for event in events {
                        session.text(event.text).await?;
                    }
                }
            }
            _ = pings.tick() => session.ping(b"").await?,
        }
    }
}

/// Opens Sawtooth's stream.
pub(super) fn sawtooth(
    req: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
) -> HttpResponse {
    let (response, session, messages) = match actix_ws::handle(req, payload) {
        Ok(opened) => opened,
        Err(error) => return error.error_response(),
    };
    let shared = shared.clone();
    actix_web::rt::spawn(async move {
        let served = serve_sawtooth(session, messages, &shared);
        drop(served.await);
    });
    response
}

/// What a client of Sawtooth's subscribed to.
struct Subscribed<'a> {
    prefixes: Vec<String>,
    /// How many announcements it has had.
    place: usize,
    /// Number of the block that it was sent last.
    last: Option<usize>,
    _open: Open<'a>,
}

async fn serve_sawtooth(
    mut session: Session,
    mut messages: MessageStream,
    shared: &Shared,
) -> Result<(), Closed> {
    let streams = &shared.streams;
    let mut commits = streams.commits.subscribe();
    let mut drops = streams.drops.subscribe();
    let mut gone = shared.gone.subscribe();
    let mut subscribed: Option<Subscribed<'_>> = None;
    loop {
        tokio::select! {
            biased;
            // What is committed after it is not sent.
            _ = drops.changed() => return Ok(()),
            message = messages.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    match answer(shared, &text, &mut subscribed) {
                        Said::Text(text) => session.text(text).await?,
                        Said::Nothing => {}
                        // Recorded: the connection ends without a close frame.
                        Said::End => return Ok(()),
                    }
                }
                Some(Ok(Message::Ping(data))) => session.pong(&data).await?,
                Some(Ok(Message::Close(_))) => {
                    return session.close(Some(CloseCode::Normal.into())).await;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            _ = commits.changed() => {
                for text in announcements(shared, subscribed.as_mut()) {
                    session.text(text).await?;
                }
            }
            _ = gone.changed() => {
                let away = *gone.borrow_and_update();
                if away && subscribed.is_some() {
                    session.text(r#"{"warning": "Validator unavailable"}"#).await?;
                }
            }
        }
    }
}

/// What is sent to a client of blocks that were committed.
fn announcements(shared: &Shared, subscribed: Option<&mut Subscribed<'_>>) -> Vec<String> {
    let Some(subscribed) = subscribed else {
        return Vec::new();
    };
    let chain = shared.streams.chain();
    let ids = chain.announced_behind(subscribed.place);
    subscribed.place += ids.len();
    ids.iter()
        .filter_map(|id| send(shared, &chain, id, subscribed))
        .collect()
}

fn send(
    shared: &Shared,
    chain: &Chain,
    id: &str,
    subscribed: &mut Subscribed<'_>,
) -> Option<String> {
    let flagged = shared.behaviour(None).false_forks;
    let after = subscribed.last.filter(|_| flagged);
    subscribed.last = chain.number(id);
    chain
        .message(id, &subscribed.prefixes, after)
        .map(|message| message.to_string())
}

enum Said {
    Text(String),
    Nothing,
    End,
}

fn answer<'a>(shared: &'a Shared, text: &str, subscribed: &mut Option<Subscribed<'a>>) -> Said {
    let error = |words: String| Said::Text(json!({ "error": words }).to_string());
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return error(format!("Invalid input: \"{text}\""));
    };
    let prefixes: Vec<String> = message["address_prefixes"]
        .as_array()
        .map(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    match message["action"].as_str().unwrap_or_default() {
        "subscribe" => {
            let behaviour = shared.behaviour(None);
            let chain = shared.streams.chain();
            let mut new = Subscribed {
                prefixes,
                place: chain.announced(),
                last: None,
                _open: shared.streams.open(),
            };
            let newest = chain.ids().last().filter(|_| behaviour.repeat_latest);
            let sent = newest.and_then(|id| send(shared, &chain, id, &mut new));
            *subscribed = Some(new);
            sent.map_or(Said::Nothing, Said::Text)
        }
        "unsubscribe" => {
            *subscribed = None;
            Said::Nothing
        }
        "get_block_deltas" => match message["block_id"].as_str() {
            None => error("Must specify a block id".to_owned()),
            Some(_) if *shared.gone.borrow() => {
                Said::Text(r#"{"warning": "Validator unavailable"}"#.to_owned())
            }
            Some(id) => {
                let found = shared.streams.chain().message(id, &prefixes, None);
                found.map_or(Said::End, |message| Said::Text(message.to_string()))
            }
        },
        other => error(format!("Unknown action \"{other}\"")),
    }
}
