//! SEC-16: what is put into a cookie cannot become another cookie, an attribute or a header.

use posthaste_engine::Cookie;
use posthaste_testkit::{Http, Request};

use crate::echo::EchoServer;
use crate::{POLLING, serves};

#[tokio::test]
async fn sec_16_a_cookies_value_cannot_leave_its_place() {
    let value = |sid: &str| format!("{sid}; Domain=evil.example\r\nSet-Cookie: session=stolen\r\n\r\n<script>,\"\\ü\0");
    let server = EchoServer::start(|config| config.cookie = Some(Cookie::builder().encode(value).build().unwrap()));
    let opened = Http::once(server.addr, &Request::get(POLLING)).await.unwrap();
    assert_eq!(opened.status, 200);
    let cookies: Vec<_> = opened.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    let [(_, cookie)] = cookies[..] else { panic!("{cookies:?}") };
    let sid = &opened.text()[r#"0{"sid":""#.len()..][..20];
    let escaped = "%3B%20Domain=evil.example%0D%0ASet-Cookie:%20session=stolen%0D%0A%0D%0A<script>%2C%22%5C%C3%BC%00";
    assert_eq!(*cookie, format!("io={sid}{escaped}; Path=/; HttpOnly; SameSite=Lax"));
    serves(&server).await;
}
