//! Everything that crosses crates: the deployed shape, the binaries, the stories a user would tell.
//! One test binary, because linking costs more than running.

mod access_tokens;
mod accounts;
mod analytics;
mod api;
mod architecture_rules;
mod cloud_adapters;
mod contract;
mod delivery;
mod delivery_api;
mod delivery_load;
mod delivery_verify;
mod elements;
mod fuzz;
mod hub_calls;
mod lambda;
mod local;
mod observability;
mod openapi;
mod outbound_http;
mod polling;
mod polling_auth;
mod polling_edges;
mod polling_histories;
mod polling_overlap;
mod polling_pages;
mod polling_zones;
mod pre_save_checks;
mod rehearsal;
mod restore;
mod secret_leaks;
mod seed_bodies;
mod simulator;
mod template;
mod tenant_isolation;
mod upgrade;
