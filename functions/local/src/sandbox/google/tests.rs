//! Tests of the sandbox Google Suite.

use serde_json::{Value, json};

use super::super::testing::{Answer, TestBed};
use super::super::{Expire, Faults};
use super::OWNER;

const BEARER: [(&str, &str); 1] = [("authorization", "Bearer sandbox-token-main")];
const EVENTS: &str = "/calendar/v3/calendars/primary/events";
const GROUPS: &str = "/v1/contactGroups";
const HISTORY: &str = "/gmail/v1/users/me/history";

async fn get(bed: &TestBed, path: &str) -> Answer {
    bed.send("GET", &format!("/googlesuite{path}"), &BEARER, "").await
}

async fn ok(bed: &TestBed, path: &str) -> Value {
    let answer = get(bed, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().map(|rows| rows.iter().filter_map(|row| row["id"].as_str()).collect()).unwrap_or_default()
}

fn reason(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"]["errors"][0]["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn events_sync_from_a_full_list_to_deltas() {
    let bed = TestBed::new();
    for id in ["a", "b", "c"] {
        bed.sandbox.create("googlesuite", "events", json!({"id": id})).unwrap();
    }
    let first = ok(&bed, &format!("{EVENTS}?maxResults=2")).await;
    assert_eq!((ids(&first["items"]), first.get("nextSyncToken")), (vec!["a", "b"], None));
    assert_eq!(
        (&first["items"][0]["created"], &first["items"][0]["updated"], &first["kind"]),
        (&json!("2026-08-01T13:00:04.000Z"), &json!("2026-08-01T13:00:04.335Z"), &json!("calendar#events"))
    );
    // An edit between two pages hides nothing: the first delta shows it.
    bed.sandbox.update("googlesuite", "events", "a", json!({"summary": "moved"})).unwrap();
    let page_token = first["nextPageToken"].as_str().unwrap();
    let last = ok(&bed, &format!("{EVENTS}?maxResults=2&pageToken={page_token}")).await;
    assert_eq!((ids(&last["items"]), last.get("nextPageToken")), (vec!["c"], None));
    let sync = last["nextSyncToken"].as_str().unwrap().to_owned();

    let etag = bed.sandbox.get("googlesuite", "events", "b").unwrap()["etag"].clone();
    bed.sandbox.delete("googlesuite", "events", "b").unwrap();
    let delta = ok(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
    assert_eq!(ids(&delta["items"]), ["a", "b"]);
    let stub = &delta["items"][1];
    assert_eq!((&stub["status"], stub.get("updated")), (&json!("cancelled"), None));
    assert_ne!(stub["etag"], etag);
    let again = ok(&bed, &format!("{EVENTS}?syncToken={}", delta["nextSyncToken"].as_str().unwrap())).await;
    assert_eq!(again["items"], json!([]));
    assert_eq!(ids(&ok(&bed, EVENTS).await["items"]), ["a", "c"]);
    assert_eq!(ids(&ok(&bed, &format!("{EVENTS}?showDeleted=true")).await["items"]), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_sync_token_holds_for_one_calendar_and_one_set_of_parameters() {
    let bed = TestBed::new();
    bed.sandbox.create("googlesuite", "calendars", json!({"id": "team@x"})).unwrap();
    bed.sandbox.create("googlesuite", "events:team@x", json!({"id": "same"})).unwrap();
    bed.sandbox.create("googlesuite", "events", json!({"id": "same"})).unwrap();
    let team = "/calendar/v3/calendars/team%40x/events";
    assert_eq!(ids(&ok(&bed, team).await["items"]), ["same"]);
    let sync = ok(&bed, EVENTS).await["nextSyncToken"].as_str().unwrap().to_owned();
    ok(&bed, &format!("/calendar/v3/calendars/me%40example.com/events?syncToken={sync}")).await;
    for (path, wanted) in [
        (format!("{team}?syncToken={sync}"), (400, "invalid")),
        (format!("{EVENTS}?syncToken={sync}&singleEvents=true"), (400, "invalid")),
        (format!("{EVENTS}?syncToken={sync}&timeMin=2026-01-01T00:00:00Z"), (400, "badRequest")),
        (format!("{EVENTS}?syncToken={sync}&showDeleted=false"), (400, "badRequest")),
        (format!("{EVENTS}?syncToken=nonsense"), (400, "invalid")),
        (format!("{EVENTS}?updatedMin=2026-01-01T00:00:00Z"), (410, "updatedMinTooLongAgo")),
        ("/calendar/v3/calendars/other/events".to_owned(), (404, "notFound")),
    ] {
        let (status, why) = reason(&get(&bed, &path).await);
        assert_eq!((status, why.as_str()), wanted, "{path}");
    }
    bed.sandbox.expire("googlesuite", Expire::SyncTokens).unwrap();
    let expired = get(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
    assert_eq!(reason(&expired), (410, "fullSyncRequired".into()));
    bed.sandbox.delete("googlesuite", "calendars", "team@x").unwrap();
    assert_eq!(reason(&get(&bed, team).await), (410, "deleted".into()));
    let calendars = ok(&bed, "/calendar/v3/users/me/calendarList").await;
    assert_eq!(ids(&calendars["items"]), ["me@example.com"]);
    assert_eq!(ok(&bed, "/calendar/v3/calendars/primary").await["id"], "me@example.com");
}

#[tokio::test]
async fn middle_pages_can_be_empty() {
    let bed = TestBed::new();
    bed.sandbox.set_faults("googlesuite", Faults { empty_pages: true, ..Faults::default() }).unwrap();
    for id in ["a", "b", "c"] {
        bed.sandbox.create("googlesuite", "events", json!({"id": id})).unwrap();
    }
    let (mut sizes, mut token) = (Vec::new(), String::new());
    loop {
        let page = ok(&bed, &format!("{EVENTS}?maxResults=1{token}")).await;
        sizes.push(ids(&page["items"]).len());
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(sizes, [1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn gmail_shows_history_until_it_has_forgotten_it() {
    let bed = TestBed::new();
    bed.sandbox.create("googlesuite", "messages", json!({"id": "m0"})).unwrap();
    let profile = ok(&bed, "/gmail/v1/users/me/profile").await;
    assert_eq!((&profile["emailAddress"], &profile["messagesTotal"]), (&json!("me@example.com"), &json!(1)));
    let start = profile["historyId"].as_str().unwrap().to_owned();
    let nothing = ok(&bed, &format!("{HISTORY}?startHistoryId={start}")).await;
    assert_eq!(nothing, json!({"historyId": start}));

    bed.sandbox.create("googlesuite", "messages", json!({"id": "m1", "labelIds": ["UNREAD", "INBOX"]})).unwrap();
    bed.sandbox.update("googlesuite", "messages", "m1", json!({"labelIds": ["INBOX", "TRASH"]})).unwrap();
    bed.sandbox.update("googlesuite", "messages", "m1", json!({"snippet": "same labels"})).unwrap();
    bed.sandbox.delete("googlesuite", "messages", "m0").unwrap();
    let page = ok(&bed, &format!("{HISTORY}?startHistoryId={start}")).await;
    let rows = page["history"].as_array().unwrap();
    let kinds: Vec<&str> = rows
        .iter()
        .map(|row| {
            row.as_object().unwrap().keys().find(|key| !["id", "messages"].contains(&key.as_str())).unwrap().as_str()
        })
        .collect();
    assert_eq!(kinds, ["messagesAdded", "labelsAdded", "labelsRemoved", "messagesDeleted"]);
    assert_eq!(rows[1]["labelsAdded"][0]["labelIds"], json!(["TRASH"]));
    assert_eq!(rows[3]["messagesDeleted"][0]["message"]["id"], "m0");
    let numbers: Vec<u64> = rows.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted() && *numbers.last().unwrap() <= page["historyId"].as_str().unwrap().parse().unwrap());
    let deleted = ok(&bed, &format!("{HISTORY}?startHistoryId={start}&historyTypes=messageDeleted")).await;
    assert_eq!(deleted["history"].as_array().unwrap().len(), 1);
    let paged = ok(&bed, &format!("{HISTORY}?startHistoryId={start}&maxResults=3")).await;
    let rest = ok(
        &bed,
        &format!(
            "{HISTORY}?startHistoryId={start}&maxResults=3&pageToken={}",
            paged["nextPageToken"].as_str().unwrap()
        ),
    )
    .await;
    assert_eq!((rest["history"].as_array().unwrap().len(), rest.get("nextPageToken")), (1, None));

    let message = ok(&bed, "/gmail/v1/users/me/messages/m1?format=metadata&metadataHeaders=Subject").await;
    assert_eq!(
        (&message["internalDate"], message["payload"]["headers"].as_array().unwrap().len()),
        (&json!("1785589204335"), 1)
    );
    assert_eq!(get(&bed, "/gmail/v1/users/me/messages/m0").await.status, 404);
    bed.sandbox.expire("googlesuite", Expire::History).unwrap();
    assert_eq!(reason(&get(&bed, &format!("{HISTORY}?startHistoryId={start}")).await), (404, "notFound".into()));
    let fresh = ok(&bed, "/gmail/v1/users/me/profile").await["historyId"].as_str().unwrap().to_owned();
    ok(&bed, &format!("{HISTORY}?startHistoryId={fresh}")).await;
}

#[tokio::test]
async fn contact_groups_say_expired_with_a_400() {
    let bed = TestBed::new();
    let made = bed.sandbox.create("googlesuite", "contactGroups", json!({"name": "Friends"})).unwrap();
    assert_eq!(made["metadata"]["updateTime"], "2026-08-01T13:00:04.335000Z");
    let id = made["resourceName"].as_str().unwrap().strip_prefix("contactGroups/").unwrap();
    let first = ok(&bed, GROUPS).await;
    assert_eq!(first["totalItems"], 3);
    assert!(first["contactGroups"][0].get("metadata").is_none(), "system groups have no date");
    let sync = first["nextSyncToken"].as_str().unwrap().to_owned();
    bed.sandbox.delete("googlesuite", "contactGroups", id).unwrap();
    let delta = ok(&bed, &format!("{GROUPS}?syncToken={sync}")).await;
    assert_eq!(delta["contactGroups"][0]["metadata"], json!({"deleted": true}));
    assert_eq!(get(&bed, &format!("{GROUPS}?pageSize=1001")).await.status, 400);
    assert_eq!(get(&bed, &format!("{GROUPS}?groupFields=colour")).await.status, 400);
    bed.advance(8 * 86_400);
    let expired = get(&bed, &format!("{GROUPS}?syncToken={sync}")).await;
    assert_eq!((expired.status, &expired.json()["error"]["details"][0]["reason"]), (400, &json!("EXPIRED_SYNC_TOKEN")));
}

#[tokio::test]
async fn a_feed_that_is_late_loses_nothing() {
    let bed = TestBed::new();
    let sync = ok(&bed, EVENTS).await["nextSyncToken"].as_str().unwrap().to_owned();
    bed.sandbox.set_faults("googlesuite", Faults { late_indexing: Some((5, 5)), ..Faults::default() }).unwrap();
    bed.sandbox.create("googlesuite", "events", json!({"id": "slow"})).unwrap();
    bed.sandbox.set_faults("googlesuite", Faults::default()).unwrap();
    bed.sandbox.create("googlesuite", "events", json!({"id": "fast"})).unwrap();
    let early = ok(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
    assert_eq!(early["items"], json!([]), "what came after the late change waits for it");
    bed.advance(5);
    let later = ok(&bed, &format!("{EVENTS}?syncToken={}", early["nextSyncToken"].as_str().unwrap())).await;
    assert_eq!(ids(&later["items"]), ["slow", "fast"]);
}

#[tokio::test]
async fn tokens_as_google_gives_them() {
    let bed = TestBed::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let token = async |body: String| bed.send("POST", "/googlesuite/token", &form, body).await;
    for (extra, refreshable) in [("&access_type=offline&prompt=consent", true), ("", false)] {
        let ask = format!(
            "/googlesuite/o/oauth2/v2/auth?response_type=code&client_id=app&redirect_uri=http%3A%2F%2Fapp%2Fcb&decision=allow&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fgmail.readonly{extra}"
        );
        let location = bed.send("GET", &ask, &[], "").await.headers["location"].to_str().unwrap().to_owned();
        let code = location.split("code=").nth(1).unwrap();
        let mismatch = token(format!(
            "grant_type=authorization_code&client_id=app&client_secret=s&code={code}&redirect_uri=http%3A%2F%2Fother"
        ))
        .await;
        assert_eq!((mismatch.status, &mismatch.json()["error"]), (400, &json!("redirect_uri_mismatch")));
        let location = bed.send("GET", &ask, &[], "").await.headers["location"].to_str().unwrap().to_owned();
        let code = location.split("code=").nth(1).unwrap();
        let given = token(format!(
            "grant_type=authorization_code&client_id=app&client_secret=s&code={code}&redirect_uri=http%3A%2F%2Fapp%2Fcb"
        ))
        .await
        .json();
        assert_eq!((&given["expires_in"], given["refresh_token"].is_string()), (&json!(3599), refreshable));
        let Some(refresh) = given["refresh_token"].as_str() else { continue };
        let refreshed =
            token(format!("grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={refresh}"))
                .await
                .json();
        assert_eq!(refreshed.get("refresh_token"), None);
        let bearer = format!("Bearer {}", refreshed["access_token"].as_str().unwrap());
        let allowed =
            bed.send("GET", "/googlesuite/gmail/v1/users/me/profile", &[("authorization", &bearer)], "").await;
        assert_eq!(allowed.status, 200);
        let who = bed.send("GET", "/googlesuite/oauth2/v2/userinfo", &[("authorization", &bearer)], "").await;
        assert_eq!(who.json()["email"], OWNER);
        let calendar = bed.send("GET", &format!("/googlesuite{EVENTS}"), &[("authorization", &bearer)], "").await;
        assert_eq!(reason(&calendar), (403, "insufficientPermissions".into()));
        let revoked = bed.send("POST", &format!("/googlesuite/revoke?token={}", &bearer[7..]), &[], "").await;
        assert_eq!(revoked.status, 200);
        let dead =
            token(format!("grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={refresh}")).await;
        assert_eq!((dead.status, &dead.json()["error"]), (400, &json!("invalid_grant")));
    }
    assert_eq!(reason(&bed.send("GET", &format!("/googlesuite{EVENTS}"), &[], "").await), (401, "authError".into()));
    bed.sandbox.set_faults("googlesuite", Faults { rotate_refresh: true, ..Faults::default() }).unwrap();
    let given =
        token("grant_type=authorization_code&client_id=app&client_secret=s&code=sandbox-code-".into()).await.json();
    let refresh = format!(
        "grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={}",
        given["refresh_token"].as_str().unwrap()
    );
    assert_ne!(token(refresh.clone()).await.json()["refresh_token"], given["refresh_token"]);
    assert_eq!(token(refresh).await.json()["error"], "invalid_grant");
}
