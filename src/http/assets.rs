//! The stylesheet, the script and the icon: embedded, and cached by browsers
//! for as long as their version in the link stays.

use actix_web::HttpResponse;
use actix_web::http::header;

const CSS: &str = include_str!("assets/highwater.css");
const SCRIPT: &str = include_str!("assets/highwater.js");
const ICON: &str = include_str!("assets/highwater.svg");

/// Changes with any asset; part of the links to them.
pub(super) const VERSION: u32 = {
    let hash = fnv(fnv(fnv(0x811c_9dc5, CSS), SCRIPT), ICON);
    hash & 0x7fff_ffff
};

const fn fnv(mut hash: u32, text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

fn asset(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "public, max-age=86400"))
        .insert_header((header::ETAG, format!("\"{VERSION:x}\"")))
        .body(text)
}

/// The stylesheet.
pub(super) async fn css() -> HttpResponse {
    asset("text/css; charset=utf-8", CSS)
}

/// The script that keeps pages live.
pub(super) async fn script() -> HttpResponse {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// The icon.
pub(super) async fn icon() -> HttpResponse {
    asset("image/svg+xml", ICON)
}
