//! Pages for people: server-rendered, kept live by a small script, whole
//! without it.

mod app_title;
mod batch;
mod batches;
mod chart;
mod event;
mod event_chart;
mod format;
mod indent;
mod job;
mod job_card;
mod job_status;
mod jobs;
mod layout;
mod login;
mod not_found;
mod resources;
mod services;
mod site;
mod sites;
mod states;
mod status;
mod subscription;
mod subscription_card;
mod subscription_status;
mod subscriptions;
mod unvisited;

pub(super) use batch::batch;
pub(super) use batches::batches;
pub(super) use event::event;
pub(super) use job::job;
pub(super) use jobs::jobs;
pub(super) use login::{login, login_form, to_login};
pub(super) use not_found::not_found;
pub(super) use services::services;
pub(super) use site::site;
pub(super) use sites::sites;
pub(super) use status::status;
pub(super) use subscription::subscription;
pub(super) use subscriptions::subscriptions;
