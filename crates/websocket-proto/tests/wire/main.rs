//! The crate as a connection uses it: bytes of a client in, events out, by its public interface only.

mod client;
mod deflate;
mod examples;
mod fragments;
mod laws;
mod reader;
mod refusals;
