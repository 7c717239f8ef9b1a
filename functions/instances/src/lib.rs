//! The HTTP API of element instances, their events and deliveries, with the paths, keys and statuses of Cloud
//! Elements; and the console, a page that uses it.
//!
//! This crate turns requests into calls of `flow` and their outcomes into answers. It decides nothing about polling
//! or delivery, and it never answers with a credential other than an instance's own token.

mod account;
mod analytics;
mod catalog;
mod concurrency_limit;
mod console;
mod deliveries;
mod drafts;
mod element_docs;
mod error;
mod event_view;
mod hub;
mod input;
mod instance;
mod openapi;
mod pagination;
mod polls;
mod redelivery;
mod rehearsal;
mod request_id;
mod resource;
mod route;
mod view;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use flow::service::Service;

pub use concurrency_limit::ConcurrencyLimit;
use error::ApiError;
pub use openapi::document;
use route::Routes;

/// The path that the API is mounted at, as in Cloud Elements.
pub const BASE: &str = "/elements/api-v2";

/// The state that all handlers share.
#[derive(Clone)]
pub struct ApiState {
    /// The steps and their ports.
    pub service: Service,
}

/// Every route, as Lambda runs it, which hands over one call at a time.
pub fn router(state: ApiState) -> Router {
    assembled(state, api())
}

/// Every route for a process that serves all callers: its API takes no more calls at once than the limit allows.
pub fn router_within(state: ApiState, limit: ConcurrencyLimit) -> Router {
    assembled(state, api().layer(middleware::from_fn_with_state(limit, concurrency_limit::admit)))
}

fn api() -> Router<ApiState> {
    routes().router.fallback(hub::read_without_hub)
}

fn assembled(state: ApiState, api: Router<ApiState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .nest(BASE, api)
        .merge(console::routes())
        .fallback(async || ApiError::nothing_here())
        .layer(middleware::from_fn_with_state(state.clone(), request_id::wrap))
        .with_state(state)
}

/// Every call of the API with its description. Each module declares its own.
fn routes() -> Routes {
    Routes::new()
        .merge(instance::routes())
        .merge(polls::routes())
        .merge(rehearsal::routes())
        .merge(resource::routes())
        .merge(account::routes())
        .merge(drafts::routes())
        .merge(deliveries::routes())
        .merge(redelivery::routes())
        .merge(analytics::routes())
        .merge(catalog::routes())
        .merge(element_docs::routes())
        .merge(hub::routes())
        .merge(openapi::routes())
}
