//! The browser client under the server's path.

use posthaste::{Cors, Server};
use posthaste_testkit::{Http, Request, serve};

const NAMES: [&str; 8] = [
    "socket.io.js",
    "socket.io.min.js",
    "socket.io.esm.min.js",
    "socket.io.msgpack.min.js",
    "socket.io.js.map",
    "socket.io.min.js.map",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js.map",
];

#[tokio::test]
async fn each_of_the_eight_files_is_served_once_and_then_known() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut http = Http::connect(running.addr).await;
    for name in NAMES {
        let target = format!("/socket.io/{name}?v=1");
        let file = http.send(&Request::get(&target)).await.unwrap();
        assert_eq!(file.status, 200, "{name}");
        let kind = if name.ends_with(".map") { "application/json" } else { "application/javascript" };
        assert_eq!(file.header("content-type"), Some(format!("{kind}; charset=utf-8").as_str()));
        assert_eq!(file.header("cache-control"), Some("public, max-age=0"));
        assert!(file.body.len() > 30_000, "{name} has {} bytes", file.body.len());
        let etag = file.header("etag").unwrap();
        for known in [etag.to_owned(), format!("W/{etag}")] {
            let unchanged = http.send(&Request::get(&target).header("If-None-Match", &known)).await.unwrap();
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{name}");
            assert_eq!((unchanged.header("etag"), unchanged.header("cache-control")), (None, None));
        }
        let other = http.send(&Request::get(&target).header("If-None-Match", "\"other\"")).await.unwrap();
        assert_eq!((other.status, other.body == file.body), (200, true));
        for coding in ["gzip", "br"] {
            let coded = http.send(&Request::get(&target).header("Accept-Encoding", coding)).await.unwrap();
            assert_eq!(coded.header("content-encoding"), Some(coding));
            assert!(coded.body.len() < file.body.len() / 2, "{name} in {coding}");
        }
    }
}

#[tokio::test]
async fn the_helper_is_served_as_the_client_is() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut http = Http::connect(running.addr).await;
    let target = "/socket.io/posthaste-recovery.js";
    let file = http.send(&Request::get(target)).await.unwrap();
    assert_eq!((file.status, file.header("cache-control")), (200, Some("public, max-age=0")));
    assert_eq!(file.header("content-type"), Some("application/javascript; charset=utf-8"));
    assert!(file.text().contains("posthasteRecovery"));
    let etag = file.header("etag").unwrap();
    let client = http.send(&Request::get("/socket.io/socket.io.js")).await.unwrap();
    assert_ne!(client.header("etag"), Some(etag), "they change apart");
    for (known, status) in [(etag, 304), (client.header("etag").unwrap(), 200)] {
        let answer = http.send(&Request::get(target).header("If-None-Match", known)).await.unwrap();
        assert_eq!(answer.status, status, "{known}");
    }
    for coding in ["gzip", "br"] {
        let coded = http.send(&Request::get(target).header("Accept-Encoding", coding)).await.unwrap();
        assert_eq!(coded.header("content-encoding"), Some(coding));
        assert!(coded.body.len() < file.body.len() / 2, "{coding}");
    }
}

#[tokio::test]
async fn head_asks_for_the_headers_alone() {
    let running = serve(Server::builder().workers(1), |_| {});
    let mut wire = posthaste_testkit::Wire::connect(running.addr).await;
    let request = Request::new("HEAD", "/socket.io/socket.io.min.js").header("Connection", "close");
    wire.write(&request.encode()).await.unwrap();
    let answer = String::from_utf8(wire.take_rest().await.unwrap()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\netag: "), "{head}");
    assert_eq!(body, "");
}

#[tokio::test]
async fn any_other_name_goes_on_to_the_engine() {
    let running = serve(Server::builder().workers(1), |_| {});
    for name in ["socket.io.slim.js", "socket.io.js.gz", "Socket.io.js", "../socket.io.js", "socket.io%2ejs", "VERSION"]
    {
        let answer = Http::once(running.addr, &Request::get(&format!("/socket.io/{name}"))).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":0,"message":"Transport unknown"}"#), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_serves_no_client_knows_none_of_the_names() {
    let running = serve(Server::builder().workers(1).serve_client(false), |_| {});
    for name in NAMES {
        let answer = Http::once(running.addr, &Request::get(&format!("/socket.io/{name}"))).await.unwrap();
        assert_eq!((answer.status, answer.text()), (400, r#"{"code":0,"message":"Transport unknown"}"#), "{name}");
    }
}

#[tokio::test]
async fn other_origins_may_load_it_where_they_may_connect() {
    let cors = Cors::origin("https://app.example").unwrap();
    let running = serve(Server::builder().workers(1).cors(cors), |_| {});
    for target in ["/socket.io/socket.io.js", "/socket.io/?EIO=4&transport=polling", "/socket.io/"] {
        let answer = Http::once(running.addr, &Request::get(target).header("Origin", "https://app.example")).await;
        let answer = answer.unwrap();
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"), "{target}");
    }
}
