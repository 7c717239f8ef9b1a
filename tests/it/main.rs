//! Everything that crosses crates: the deployed shape, the binaries, the stories a user would tell.
//! One test binary, because linking costs more than running.

mod accounts;
mod api;
mod cloud;
mod contract;
mod delivery;
mod delivery_api;
mod delivery_load;
mod delivery_verify;
mod elements;
mod figures;
mod forms;
mod fuzz;
mod guard;
mod hubs;
mod lambda;
mod leaks;
mod local;
mod observability;
mod openapi;
mod polling;
mod polling_auth;
mod polling_edges;
mod polling_histories;
mod polling_overlap;
mod polling_pages;
mod polling_zones;
mod rehearsal;
mod restore;
mod seeds;
mod simulator;
mod template;
mod tidy;
mod tokens;
mod upgrade;
mod walls;
