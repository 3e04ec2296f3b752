//! Limits on connections where they begin, and what memory has to say about it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use posthaste_engine_proto::RequestError;
use posthaste_engine_proto::limits::Pressure;

use super::Inner;
use crate::gate::{Gate, Ticket};
use crate::listener::RemoteAddr;
use crate::memory;
use crate::worker::{AppIndex, Workers};

/// Time between two looks at the memory of the process.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a handshake may go on. Asked before anything is kept, and before the application is asked anything.
pub(super) fn admit(engine: &Inner, parts: &Parts) -> Result<Option<Ticket>, RequestError> {
    let address = parts.extensions.get::<RemoteAddr>().map(|RemoteAddr(addr)| addr.ip());
    engine.gate.admit(Instant::now(), address).map_err(RequestError::Busy)
}

/// Tells whoever was refused for lack of room when to come again.
pub(super) fn add_retry_after(engine: &Inner, error: &RequestError, headers: &mut HeaderMap) {
    if matches!(error, RequestError::Busy(_)) {
        headers.insert(RETRY_AFTER, HeaderValue::from(engine.gate.retry_after()));
    }
}

/// Looks at the memory of the process from now on, for as long as the engine is there, if it has a watermark.
pub(super) fn watch_memory(workers: &Workers, app: AppIndex, gate: &Arc<Gate>) {
    let Some(watermark) = gate.watermark().copied() else { return };
    let (Some(limit), Some(_)) = (watermark.limit.or_else(memory::available), memory::used()) else {
        return tracing::warn!("the memory of this process cannot be measured here: the watermark has no effect");
    };
    let Some(first) = workers.handles().first() else { return };
    let handles: Arc<[_]> = workers.handles().into();
    let gate: Weak<Gate> = Arc::downgrade(gate);
    // Workers that have ended have no connections to look after.
    let _ = first.post(move |worker| {
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            while !worker.local().has_ended(app) {
                {
                    let Some(gate) = gate.upgrade() else { return };
                    let pressure = watermark.pressure(memory::used().unwrap_or(0), limit);
                    gate.set_pressure(pressure);
                    if let Pressure::Shed { excess } = pressure {
                        let share = excess.div_ceil(handles.len() as u64);
                        for handle in handles.iter() {
                            let _ = handle.post(move |worker| worker.local().shed(app, share));
                        }
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
    });
}
