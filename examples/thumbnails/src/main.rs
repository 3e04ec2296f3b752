//! How do I keep heavy work out of my handlers, and have a program in another language do it? By a queue, with workers in the same process or
//! wherever else. Run it, open <http://localhost:3000> and choose a few pictures: they are worked on here.
//!
//! With `cargo run -p posthaste-example-thumbnails -- --worker python` nobody works here, and pictures wait for `examples/thumbnails/worker.py`.
//! Start it before or after choosing some, start several, stop one in the middle of its work.

use std::sync::Arc;
use std::time::Duration;

use axum::{Router, response::Html, routing::get};
use bytes::Bytes;
use posthaste::queue::{Config, MemoryQueues};
use posthaste::{Data, Delivery, Job, JobError, QueueError, QueueVerb, Server, SocketId, WorkQueues};
use serde::{Deserialize, Serialize};

/// Pixels, four bytes each, row by row.
#[derive(Serialize, Deserialize)]
struct Image {
    width: usize,
    height: usize,
    pixels: Bytes,
}

/// What is put into the queue.
#[derive(Serialize, Deserialize)]
struct Task {
    /// Who hears how far it is.
    socket: String,
    image: Image,
}

/// The longer side of a thumbnail.
const SIDE: usize = 96;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In memory: `posthaste-backend-embedded` has queues on the disk, which outlive the process.
    let store = Arc::new(MemoryQueues::new(MemoryQueues::limits(), 1));
    // Other programs may take pictures, and nothing else. Which of them are workers, a middleware of `/queues` would say.
    let queues = WorkQueues::new(store).permit(|_, verb, queue| verb == QueueVerb::Consume && queue == "thumbnails");
    let io = Server::builder().queues(queues).max_payload(20_000_000).build()?;
    let thumbnails = io.queue("thumbnails");
    // Whoever comes when a hundred pictures wait is told so at once.
    thumbnails.configure(Config { max_messages: 100, attempts: 3, ..Config::default() }).await?;
    match std::env::args().skip(1).collect::<Vec<_>>().join(" ").as_str() {
        "" => drop(thumbnails.worker(2, shrink).start()),
        "--worker python" => println!("now start python examples/thumbnails/worker.py"),
        _ => return Err("usage: posthaste-example-thumbnails [--worker python]".into()),
    }
    io.on("picture", picture);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::future::pending().await
}

/// A client sends a picture, and waits: what its worker returns is the answer, and an error is one, too.
async fn picture(io: Server, id: SocketId, Data(image): Data<Image>) -> Result<Image, QueueError> {
    let task = Task { socket: id.to_string(), image };
    io.queue("thumbnails").put(&task).call(Duration::from_secs(60)).await
}

/// One picture. Two are worked on at a time, however many were sent.
async fn shrink(io: Server, job: Job<Task>, delivery: Delivery) -> Result<Image, JobError> {
    let Task { socket, image } = job.data;
    if image.width == 0 || image.height == 0 || image.pixels.len() != image.width * image.height * 4 {
        // Trying again would not help.
        return Err(JobError::dead("that is no picture"));
    }
    let step = image.width.max(image.height).div_ceil(SIDE);
    let (width, height) = (image.width.div_ceil(step), image.height.div_ceil(step));
    let image = Arc::new(image);
    let mut small = Vec::with_capacity(width * height * 4);
    for row in 0..height {
        let whole = image.clone();
        // Work that takes a processor does so elsewhere: this thread has clients to serve.
        small.extend(tokio::task::spawn_blocking(move || shrink_row(&whole, row, step)).await?);
        if row % 8 == 7 {
            // The lease goes on, and whoever watches the queue hears of it; so does the one who sent it.
            let percent = 100 * (row + 1) / height;
            delivery.progress(&percent).await?;
            io.to(&*socket).emit("progress", &percent).await?;
        }
    }
    Ok(Image { width, height, pixels: small.into() })
}

/// A row of a thumbnail: each pixel is the mean of a square of `step` by `step`.
fn shrink_row(image: &Image, row: usize, step: usize) -> Vec<u8> {
    let rows = row * step..image.height.min((row + 1) * step);
    let mean = |column: usize, part: usize| {
        let columns = column..image.width.min(column + step);
        let places = rows.clone().flat_map(|y| columns.clone().map(move |x| (y * image.width + x) * 4 + part));
        let (sum, count) = places.fold((0, 0), |(sum, count), at| (sum + usize::from(image.pixels[at]), count + 1));
        u8::try_from(sum / count).unwrap_or(u8::MAX)
    };
    (0..image.width)
        .step_by(step)
        .flat_map(|column| (0..4).map(move |part| (column, part)))
        .map(|(c, p)| mean(c, p))
        .collect()
}
