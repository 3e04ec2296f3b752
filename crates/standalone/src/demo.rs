//! The chat at `/demo`: a page, its style and its script, from the binary.

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

/// Only what the page itself brings, and its connection home.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The demo, and the way to it from `/`.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/demo") }))
        .route("/demo", get(|| async { file("text/html; charset=utf-8", include_bytes!("../assets/demo/index.html")) }))
        .route(
            "/demo/demo.css",
            get(|| async { file("text/css; charset=utf-8", include_bytes!("../assets/demo/demo.css")) }),
        )
        .route(
            "/demo/demo.js",
            get(|| async { file("text/javascript; charset=utf-8", include_bytes!("../assets/demo/demo.js")) }),
        )
}

fn file(content_type: &'static str, bytes: &'static [u8]) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The files change with the binary, and their names do not.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}
