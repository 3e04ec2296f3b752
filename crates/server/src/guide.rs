//! Pages to read: they compile, and their code is tested.
//!
//! - [`ten_minutes`]: Socket.IO for Rust in ten minutes.
//! - [`from_node`]: from Node to Posthaste, both codes side by side.
//! - [`emit_cheatsheet`]: every way to emit.

#[doc = include_str!("../guide/ten-minutes.md")]
pub mod ten_minutes {}

#[doc = include_str!("../guide/from-node.md")]
pub mod from_node {}

#[doc = include_str!("../guide/emit-cheatsheet.md")]
#[doc = "\n```rust"]
#[doc = include_str!("../guide/emit_cheatsheet.rs")]
#[doc = "```\n"]
#[doc = "`socket.to(socket.id())` reaches nobody: it is the room of the sender, without the sender."]
pub mod emit_cheatsheet {}
