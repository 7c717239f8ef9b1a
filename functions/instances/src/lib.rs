//! The HTTP API: element instances and what became of their events, with the original's paths, keys and statuses;
//! and the console, a page that uses it.
//!
//! This crate turns requests into calls of `flow` and their outcomes into answers. It decides nothing about polling
//! or delivery, and it never answers with a credential other than an instance's own token.

mod account;
mod analytics;
mod catalog;
mod console;
mod deliveries;
mod delivery_ops;
mod element_docs;
mod event_view;
mod exchange;
mod forms;
mod hub;
mod input;
mod instance;
mod openapi;
mod page;
mod polls;
mod refusal;
mod rehearsal;
mod resource;
mod room;
mod route;
mod view;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use flow::service::Service;

pub use openapi::document;
use refusal::Refusal;
pub use room::Room;
use route::Routes;

/// Where the API is mounted, as in the original.
pub const BASE: &str = "/elements/api-v2";

/// What the handlers share.
#[derive(Clone)]
pub struct ApiState {
    /// The steps and their ports.
    pub service: Service,
}

/// Every route, as Lambda runs it, which hands over one call at a time.
pub fn router(state: ApiState) -> Router {
    assembled(state, api())
}

/// The same for a process that serves whoever comes: its API takes no more calls at once than there is room for.
pub fn router_within(state: ApiState, room: Room) -> Router {
    assembled(state, api().layer(middleware::from_fn_with_state(room, room::admit)))
}

fn api() -> Router<ApiState> {
    routes().router.fallback(hub::read_without_hub)
}

fn assembled(state: ApiState, api: Router<ApiState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .nest(BASE, api)
        .merge(console::routes())
        .fallback(async || Refusal::nothing_here())
        .layer(middleware::from_fn_with_state(state.clone(), exchange::wrap))
        .with_state(state)
}

/// Every call of the API with its description. A module's own stand in the module.
fn routes() -> Routes {
    Routes::new()
        .merge(instance::routes())
        .merge(polls::routes())
        .merge(rehearsal::routes())
        .merge(resource::routes())
        .merge(account::routes())
        .merge(forms::routes())
        .merge(deliveries::routes())
        .merge(delivery_ops::routes())
        .merge(analytics::routes())
        .merge(catalog::routes())
        .merge(element_docs::routes())
        .merge(hub::routes())
        .merge(openapi::routes())
}
