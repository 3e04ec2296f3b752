//! A TCP forwarder between a client and the server, to be cut.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::peer::Done;

pub struct Cable {
    pub url: String,
    /// Counts the cuts.
    cuts: watch::Sender<u32>,
}

impl Cable {
    /// A way to the server at `url`.
    pub async fn to(url: &str) -> Done<Self> {
        let far = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let cuts = watch::Sender::new(0);
        let cut = cuts.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (far, mut cut) = (far.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(near, &far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { url: format!("http://127.0.0.1:{port}"), cuts })
    }

    /// Ends every connection at once, without a goodbye.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn forward(mut near: TcpStream, far: &str) {
    if let Ok(mut far) = TcpStream::connect(far).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}
