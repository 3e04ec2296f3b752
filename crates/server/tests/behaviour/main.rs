//! What applications and clients may rely on, shown with real connections.

#![allow(clippy::unwrap_used, clippy::type_complexity, reason = "tests: a failed expectation is the point")]

mod acks;
mod awaiting;
mod backpressure;
mod broadcast_acks;
mod bundle;
mod catch_all;
mod causes;
mod cheatsheet;
mod cluster;
mod compression;
mod connect;
mod disconnect;
mod dropping;
mod dynamic_namespaces;
mod eio3;
mod event_middlewares;
mod fetch;
mod handlers;
mod handshake;
mod hooks;
mod limits;
mod listeners;
mod listening;
mod long_mail;
mod membership;
mod mounts;
mod namespaces;
mod once;
mod order;
mod panics;
mod publishers;
mod reentrancy;
mod room_events;
mod rooms;
mod schedules;
mod shutdown;
mod slow;
mod socket_state;
mod spread;
mod starting;
mod workers;
