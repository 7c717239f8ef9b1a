//! The HTTP API: element instances and what became of their events, with the original's paths, keys and statuses;
//! and the console, a page that uses it.
//!
//! This crate turns requests into calls of `flow` and their outcomes into answers. It decides nothing about polling
//! or delivery, and it never answers with a credential other than an instance's own token.

mod catalog;
mod console;
mod deliveries;
mod delivery_ops;
mod exchange;
mod forms;
mod hub;
mod input;
mod instance;
mod ledger;
mod page;
mod polls;
mod refusal;
mod view;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post, put};
use flow::service::Service;

pub use input::LARGEST_BODY;
use refusal::Refusal;

/// Where the API is mounted, as in the original.
pub const BASE: &str = "/elements/api-v2";

/// What the handlers share.
#[derive(Clone)]
pub struct ApiState {
    /// The steps and their ports.
    pub service: Service,
}

/// Every route. The same value is run by Lambda and served on a socket.
pub fn router(state: ApiState) -> Router {
    let api = Router::new()
        .route("/instances", get(instance::get_or_list).post(instance::create).merge(instance::by_token()))
        .route("/instances/{id}", get(instance::get).merge(instance::by_token()))
        .route("/instances/enabled", put(instance::enable).delete(instance::disable))
        .route("/instances/{id}/enabled", put(instance::enable).delete(instance::disable))
        .route("/instances/poll", post(polls::now))
        .route("/instances/{id}/poll", post(polls::now))
        .route("/instances/configuration", get(instance::configuration))
        .route("/instances/{id}/configuration", get(instance::configuration))
        .route(
            "/instances/{id}/configuration/{item}",
            get(instance::configuration_item).patch(instance::change_configuration_item),
        )
        .route("/instances/coverage", get(polls::coverage))
        .route("/instances/{id}/coverage", get(polls::coverage))
        .route("/instances/event-poller-records", get(polls::poller_records))
        .route("/instances/{id}/event-poller-records", get(polls::poller_records))
        .route("/instances/events", get(deliveries::events_of_all))
        .route("/instances/{id}/events", get(deliveries::events))
        .route("/instances/events/{event}", get(deliveries::event))
        .route("/instances/{id}/events/{event}", get(deliveries::event))
        .route("/instances/deliveries", get(deliveries::list).put(deliveries::resume))
        .route("/instances/{id}/deliveries", get(deliveries::list).put(deliveries::resume))
        .route("/instances/{id}/deliveries/test", post(deliveries::test))
        .route("/instances/{id}/deliveries/{delivery}", get(deliveries::get).put(deliveries::resend))
        .route("/instances/{id}/deliveries/redeliver", post(delivery_ops::redeliver))
        .route("/instances/{id}/deliveries/{delivery}/attempts", get(delivery_ops::attempts))
        .route("/instances/{id}/signing-secret/rotate", post(delivery_ops::rotate))
        .route("/instances/signing-secret/rotate", post(delivery_ops::rotate))
        .route("/notifications/{notification}/subscriptions/{id}/deliveries", get(delivery_ops::of_notification))
        .route("/instances/{id}/callback", get(deliveries::callback))
        .route("/notifications/subscriptions", get(deliveries::subscriptions))
        .route("/notifications/subscriptions/deliveries", get(deliveries::find_deliveries).put(deliveries::redeliver))
        .route("/notifications/subscriptions/{id}", get(deliveries::subscription_of))
        .route("/elements", get(catalog::list))
        .route("/elements/keys", get(catalog::keys))
        .route("/elements/{element}", get(catalog::get))
        .route("/elements/{element}/configuration", get(catalog::configuration))
        .route("/elements/{element}/metadata", get(catalog::metadata))
        .route("/elements/{element}/oauth/url", get(catalog::oauth_url).post(catalog::oauth_url_of_body))
        .route("/elements/{element}/instances", get(instance::list_of_element).post(instance::create_of_element))
        .merge(ledger::routes())
        .merge(forms::routes())
        .route("/ping", get(polls::ping))
        .route("/objects", get(polls::objects))
        .route("/hubs", get(catalog::hubs))
        .route("/hubs/keys", get(catalog::hub_keys))
        .route("/hubs/{hub}/elements", get(catalog::elements_of_hub))
        .route("/hubs/{hub}/{*path}", get(hub::read));
    Router::new()
        .route("/healthz", get(async || "ok"))
        .nest(BASE, api)
        .merge(console::routes())
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "There is nothing at this path."))
        .layer(middleware::from_fn_with_state(state.clone(), exchange::wrap))
        .with_state(state)
}
