//! What is the same wherever HTTP is spoken: bounded reading, what lies behind
//! an error, how long a peer asks to be left alone, words without secrets.

mod answer;
pub(crate) mod webhook;
mod words;

pub(crate) use answer::{causes, ended_early, read_within, retry_after, sources};
pub(crate) use words::{Secrets, one_line};
