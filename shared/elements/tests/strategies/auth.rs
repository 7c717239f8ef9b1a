//! Login pages, requests for tokens, and their answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::secret::Secret;
use elements::auth::{self, AuthFault, Grant, LoginPage};
use elements::call::CallContext;
use elements::listing::ScanMode;
use elements::{Bases, Tokens};
use http::Response;
use serde_json::{Value, json};

use crate::support::*;

fn oauth(token: &str) -> String {
    format!(
        r#"[auth]
        kind = "oauth2_code"
        authorize_url = "https://${{connection.tenant}}.example.com/login"
        authorize_params = {{ prompt = "consent" }}
        scopes = ["a", "b"]
        refresh = "rotate_required"
        [auth.token]
        url = "https://${{connection.tenant}}.example.com/token"
        {token}"#
    )
}

#[test]
fn a_user_is_sent_to_log_in() {
    let element = element(&oauth(""), &plain_resource());
    let params = BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]);
    let page =
        LoginPage { api_key: "my id", callback_url: "https://me/cb", scope: None, state: Some("st"), params: &params };
    let url = auth::authorize_url(&element, &Bases::default(), &page);
    assert_eq!(
        url.expect("a URL").as_str(),
        "https://acme.example.com/login?response_type=code&client_id=my+id&redirect_uri=https%3A%2F%2Fme%2Fcb&scope=a+b\
         &state=st&prompt=consent"
    );
    let evil = BTreeMap::from([("tenant".to_owned(), "evil.com/".to_owned())]);
    let page = LoginPage { api_key: "", callback_url: "", scope: None, state: None, params: &evil };
    let problems = auth::authorize_url(&element, &Bases::default(), &page).expect_err("three");
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn tokens_are_asked_for_as_form_json_and_with_basic() {
    let code = Secret::new("c&1");
    let verifier = Secret::new("v");
    let ask = |token: &str| {
        let account = Account::new(element(&oauth(token), &plain_resource()));
        let grant = Grant::Code { code: &code, redirect_uri: "https://me/cb", code_verifier: Some(&verifier) };
        auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request")
    };
    let form = ask("");
    assert_eq!(form.uri(), "https://acme.example.com/token");
    assert_eq!(
        body_of(&form),
        "grant_type=authorization_code&code=c%261&redirect_uri=https%3A%2F%2Fme%2Fcb&code_verifier=v&client_id=id\
         &client_secret=s%2B1"
    );
    let parsed: Value = serde_json::from_str(body_of(&ask("body = \"json\""))).expect("JSON");
    assert_eq!(parsed["client_secret"], "s+1");
    let basic = ask("client = \"basic\"\nparams = { audience = \"https://x\" }");
    assert_eq!(basic.headers()["authorization"], "Basic aWQ6cyUyQjE=");
    assert!(!body_of(&basic).contains("client_secret") && body_of(&basic).ends_with("&audience=https%3A%2F%2Fx"));
    assert!(!format!("{basic:?}").contains("aWQ6"), "a header that is a secret is not printed");
}

#[test]
fn token_answers_say_when_they_end_in_four_ways() {
    let now = at("2026-08-13T12:00:00Z");
    let end = |expiry: &str, answer_body: Value| {
        let element = element(&oauth(expiry), &plain_resource());
        let tokens = auth::read_tokens(&element, &answer(200, &answer_body), now, None).expect("tokens");
        (tokens.expires_at, auth::refresh_due(&element, &tokens, now))
    };
    let body = json!({"access_token":"a","refresh_token":"r","expires_in":"240","expires_at":"2026-09-12T12:00:00Z"});
    assert_eq!(
        end("expiry = { seconds_field = \"/expires_in\" }", body.clone()),
        (Some(at("2026-08-13T12:04:00Z")), true)
    );
    assert_eq!(
        end("expiry = { timestamp_field = \"/expires_at\" }\nrefresh_before = \"1h\"", body.clone()),
        (Some(at("2026-09-12T12:00:00Z")), false)
    );
    assert_eq!(end("expiry = { fixed = \"10m\" }", body.clone()), (Some(at("2026-08-13T12:10:00Z")), false));
    assert_eq!(end("expiry = \"none\"", body), (None, false));
}

#[test]
fn a_refresh_keeps_or_rotates_and_a_refusal_says_what_it_means() {
    let now = at("2026-08-13T12:00:00Z");
    let keeping = element(&oauth("").replace("rotate_required", "keep_if_absent"), &plain_resource());
    let rotating = element(&oauth(""), &plain_resource());
    let old = Tokens {
        access: Secret::new("old"),
        refresh: Some(Secret::new("r1")),
        expires_at: None,
        extra: BTreeMap::from([("merchant".to_owned(), "M1".to_owned())]),
    };
    let without = answer(200, &json!({"access_token":"new"}));
    let kept = auth::read_tokens(&keeping, &without, now, Some(&old)).expect("tokens");
    assert_eq!((kept.refresh, kept.extra), (old.refresh.clone(), old.extra.clone()));
    assert!(matches!(auth::read_tokens(&rotating, &without, now, Some(&old)), Err(AuthFault::Unreadable { .. })));
    let with = answer(200, &json!({"access_token":"new","refresh_token":"r2"}));
    let rotated = auth::read_tokens(&rotating, &with, now, Some(&old)).expect("tokens");
    assert_eq!(rotated.refresh, Some(Secret::new("r2")));
    let refused = answer(400, &json!({"error":"invalid_grant","error_description":"Token has been revoked."}));
    let dead = AuthFault::Dead { reason: "invalid_grant: Token has been revoked.".to_owned() };
    assert_eq!(auth::read_tokens(&keeping, &refused, now, Some(&old)), Err(dead));
    for status in [408, 429, 500, 503] {
        let fault = auth::read_tokens(&keeping, &answer(status, &json!({})), now, Some(&old));
        assert!(matches!(fault, Err(AuthFault::Retry { .. })), "{status}");
    }
    let page = Response::new(Bytes::from_static(b"<html>"));
    assert!(matches!(auth::read_tokens(&keeping, &page, now, None), Err(AuthFault::Retry { .. })));
    let empty = answer(200, &json!({}));
    assert!(matches!(auth::read_tokens(&keeping, &empty, now, None), Err(AuthFault::Unreadable { .. })));
}

#[test]
fn tokens_without_a_user_and_without_a_login() {
    let credentials = element(
        "[auth]\nkind = \"oauth2_client_credentials\"\nscopes = [\"x\"]\n[auth.token]\nurl = \"https://a.example.com/t\"",
        &plain_resource(),
    );
    let account = Account::new(credentials);
    assert!(auth::needs_tokens(&account.element, &account.connection) && !auth::grants_code(&account.element));
    let grant = auth::unattended_grant(&account.element).expect("a grant");
    let request = auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request");
    assert_eq!(body_of(&request), "grant_type=client_credentials&scope=x&client_id=id&client_secret=s%2B1");
    let refresh = Secret::new("r");
    let wrong = auth::token_request(
        &account.element,
        &account.bases,
        &account.connection,
        Grant::Refresh { refresh: &refresh },
    );
    assert!(wrong.is_err());

    let login = element(
        "[auth]\nkind = \"login_exchange\"\n[auth.token]\nurl = \"https://a.example.com/Authenticate\"\nbody = \"json\"\n\
         access = \"/Data/Token\"\nexpiry = { fixed = \"10m\" }\n\
         params = { UID = \"${connection.client_id}\", Password = \"${connection.client_secret}\" }",
        &plain_resource(),
    );
    let account = Account::new(login);
    let grant = auth::unattended_grant(&account.element).expect("a grant");
    let request = auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request");
    assert_eq!(body_of(&request), r#"{"Password":"s+1","UID":"id"}"#);
    let now = at("2026-08-13T12:00:00Z");
    let session = answer(200, &json!({"Code":0,"Data":{"Token":"T1"}}));
    let tokens = auth::read_tokens(&account.element, &session, now, None).expect("tokens");
    let caller = CallContext { tokens: Some(&tokens), ..account.caller() };
    let request = account.start(ScanMode::Complete, None).request(&account.plan, &caller).expect("a request");
    assert_eq!(request.headers()["authorization"], "Bearer T1");

    let bearer =
        element("[auth]\nkind = \"static_bearer\"\ntoken = \"${connection.client_secret}\"", &plain_resource());
    let account = Account::new(bearer);
    assert!(!auth::needs_tokens(&account.element, &account.connection));
    let request = account.start(ScanMode::Complete, None).request(&account.plan, &account.caller()).expect("a request");
    assert_eq!(request.headers()["authorization"], "Bearer s+1");
    assert!(request.headers()["authorization"].is_sensitive());
}
