//! Login pages, codes and tokens, each vendor in its own style.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{Duration, SecondsFormat};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Vendor;
use super::http::{Call, Reply};
use super::state::{Grant, GrantKind, SandboxState};

/// The way in which a vendor does OAuth.
pub(crate) struct Style {
    /// True for the path of the page where a user allows access.
    pub(crate) is_authorize: fn(&str) -> bool,
    /// True for the path that hands out tokens.
    pub(crate) is_token: fn(&str) -> bool,
    /// True for the path that revokes tokens.
    pub(crate) is_revoke: fn(&str) -> bool,
    /// The body of a token request is JSON, else a form. The other one is refused.
    pub(crate) json_body: bool,
    /// Life of an access token.
    pub(crate) access_life_s: i64,
    /// `expires_at` with an instant, else `expires_in` with seconds.
    pub(crate) absolute_expiry: bool,
    /// A refresh reply carries the refresh token.
    pub(crate) refresh_in_refresh: bool,
    /// A login gives a refresh token only if it was asked for with `access_type=offline`.
    pub(crate) refresh_only_offline: bool,
    /// The prefixes of codes, access tokens and refresh tokens.
    pub(crate) prefixes: [&'static str; 3],
    /// A token reply contains the scope.
    pub(crate) shows_scope: bool,
    /// Makes an error answer from OAuth's error name and a sentence.
    pub(crate) error: fn(&str, &str) -> Reply,
}

/// Codes live this long.
const CODE_LIFE_S: i64 = 300;

/// The result of looking up an access token.
pub(crate) enum Bearer {
    Good(String),
    Expired,
    Revoked,
    Unknown,
}

/// Looks an access token up.
pub(crate) fn bearer(state: &SandboxState, call: &Call) -> Bearer {
    let Some(token) = call.bearer() else { return Bearer::Unknown };
    let Some(grant) = state.grant(token).filter(|grant| grant.vendor == call.vendor && grant.kind == GrantKind::Access)
    else {
        return match token.strip_prefix("sandbox-token-") {
            Some(account) => Bearer::Good(named_or_main(account)),
            None => Bearer::Unknown,
        };
    };
    if grant.revoked {
        Bearer::Revoked
    } else if grant.expires.is_some_and(|at| at <= state.now()) {
        Bearer::Expired
    } else {
        Bearer::Good(grant.account.clone())
    }
}

fn named_or_main(account: &str) -> String {
    if account.is_empty() { "main".to_owned() } else { account.to_owned() }
}

/// Answers the request if it is a login or token call of a vendor that has such.
pub(crate) fn answer(state: &mut SandboxState, call: &Call) -> Option<Reply> {
    let style = call.vendor.behavior().oauth.as_ref()?;
    if (style.is_authorize)(&call.path) {
        Some(authorize(state, style, call))
    } else if (style.is_token)(&call.path) {
        Some(if call.method == "POST" {
            token(state, style, call)
        } else {
            Reply::text(405, "text/plain", "POST only")
        })
    } else if (style.is_revoke)(&call.path) {
        Some(revoke(state, style, call))
    } else {
        None
    }
}

// ---------------------------------------------------------------- login page

fn authorize(state: &mut SandboxState, style: &Style, call: &Call) -> Reply {
    let wrong =
        |text: String| Reply::text(400, "text/html; charset=utf-8", page(call.vendor, &format!("<p>{text}</p>")));
    let Some(redirect) = call.query("redirect_uri").and_then(|text| url::Url::parse(text).ok()) else {
        return wrong("The application gave no <code>redirect_uri</code> that is an address.".to_owned());
    };
    if !matches!(redirect.scheme(), "http" | "https") {
        return wrong("The <code>redirect_uri</code> must be http or https.".to_owned());
    }
    for needed in ["client_id", "response_type"] {
        let optional = style.absolute_expiry && needed == "response_type";
        if !optional && call.query(needed).is_none_or(str::is_empty) {
            return wrong(format!("The application gave no <code>{needed}</code>."));
        }
    }
    let mut back = redirect;
    match call.query("decision") {
        None => return login_page(call),
        Some("allow") => {
            let code = state.token(style.prefixes[0]);
            let grant = Grant {
                vendor: call.vendor,
                account: named_or_main(call.query("account").unwrap_or_default()),
                kind: GrantKind::Code,
                expires: Some(state.now() + Duration::seconds(CODE_LIFE_S)),
                revoked: false,
                bound_to: Some(
                    json!([call.query("redirect_uri"), call.query("code_challenge"), call.query("access_type")])
                        .to_string(),
                ),
                scope: call.query("scope").unwrap_or_default().to_owned(),
            };
            state.put_grant(&code, grant);
            back.query_pairs_mut().append_pair("code", &code);
        }
        Some(_) => {
            back.query_pairs_mut()
                .append_pair("error", "access_denied")
                .append_pair("error_description", "The user denied the request.");
        }
    }
    if let Some(given) = call.query("state") {
        back.query_pairs_mut().append_pair("state", given);
    }
    Reply::text(302, "text/plain", "").with("location", back)
}

fn login_page(call: &Call) -> Reply {
    let title = call.vendor.behavior().title;
    let hidden: String = call
        .query
        .iter()
        .filter(|(name, _)| name != "account" && name != "decision")
        .map(|(name, value)| format!("<input type=hidden name=\"{}\" value=\"{}\">", escaped(name), escaped(value)))
        .collect();
    let scopes: String = call
        .query("scope")
        .unwrap_or_default()
        .split([' ', '+', ','])
        .filter(|scope| !scope.is_empty())
        .map(|scope| format!("<li>{}</li>", escaped(scope)))
        .collect();
    let form = format!(
        "<p><b>{client}</b> asks to read your data:</p><ul>{scopes}</ul>\
         <form method=get>{hidden}<label>Log in to Sandbox {title} as \
         <input name=account value=\"{account}\" autofocus spellcheck=false></label>\
         <div><button name=decision value=allow class=yes>Allow</button>\
         <button name=decision value=deny>Deny</button></div></form>",
        client = escaped(call.query("client_id").unwrap_or_default()),
        account = escaped(call.query("account").unwrap_or("main")),
    );
    Reply::text(200, "text/html; charset=utf-8", page(call.vendor, &form))
}

fn page(vendor: Vendor, content: &str) -> String {
    let title = vendor.behavior().title;
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Sandbox {title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;background:#eef1f5;color:#1c2430;display:grid;place-items:center;min-height:100vh;margin:0}}\
         main{{background:#fff;padding:2rem 2.5rem;border-radius:12px;box-shadow:0 4px 24px #0002;max-width:26rem;width:80vw}}\
         h1{{font-size:1.3rem;margin:0 0 1rem}}small{{color:#667}}label{{display:block}}\
         input{{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5rem;margin:.3rem 0 1rem;border:1px solid #bbc;border-radius:6px}}\
         button{{font:inherit;padding:.5rem 1.4rem;margin-right:.6rem;border:1px solid #bbc;border-radius:6px;background:#fff;cursor:pointer}}\
         .yes{{background:#1a56db;border-color:#1a56db;color:#fff}}ul{{color:#445}}\
         </style><main><h1>Sandbox {title}</h1>{content}<p><small>This is not the real {title}: \
         no password is asked for, and each name is a data set of its own.</small></p></main></html>"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

// ---------------------------------------------------------------- tokens

fn token(state: &mut SandboxState, style: &Style, call: &Call) -> Reply {
    let error = style.error;
    let fields: HashMap<String, String> = if style.json_body {
        match call.json() {
            Some(Value::Object(fields)) if !call.is("application/x-www-form-urlencoded") => {
                fields.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
            }
            _ => return error("invalid_request", "The request body must be JSON."),
        }
    } else if call.is("application/x-www-form-urlencoded") {
        call.form()
    } else {
        return error("invalid_request", "The request body must be a form.");
    };
    let field = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if field("client_id").is_none() {
        return error("invalid_request", "Missing required parameter: client_id");
    }
    let proves_by_key = field("code_verifier").is_some();
    if field("client_secret") == Some("wrong")
        || (field("client_secret").is_none() && !proves_by_key && field("refresh_token").is_none())
    {
        return error("invalid_client", "The client secret is not valid.");
    }
    match field("grant_type") {
        Some("authorization_code") => match field("code") {
            None => error("invalid_request", "Missing required parameter: code"),
            Some(code) => match redeem(state, call.vendor, code, field("redirect_uri"), field("code_verifier")) {
                Err((name, text)) => error(name, text),
                Ok((account, scope, offline)) => {
                    let refresh = offline || !style.refresh_only_offline;
                    issue(state, style, call.vendor, &account, &scope, None, refresh)
                }
            },
        },
        Some("refresh_token") => match field("refresh_token") {
            None => error("invalid_request", "Missing required parameter: refresh_token"),
            Some(refresh) => {
                let known = state
                    .grant(refresh)
                    .filter(|grant| grant.vendor == call.vendor && grant.kind == GrantKind::Refresh && !grant.revoked);
                match known.cloned() {
                    None => error("invalid_grant", "Token has been expired or revoked."),
                    Some(grant) => issue(state, style, call.vendor, &grant.account, &grant.scope, Some(refresh), true),
                }
            }
        },
        _ => error("unsupported_grant_type", "The grant type is not supported."),
    }
}

type Refused = (&'static str, &'static str);

/// Uses a code up and tells the account and scope it stands for, and whether it was asked for with offline access.
fn redeem(
    state: &mut SandboxState,
    vendor: Vendor,
    code: &str,
    redirect: Option<&str>,
    verifier: Option<&str>,
) -> Result<(String, String, bool), Refused> {
    if let Some(account) = code.strip_prefix("sandbox-code-") {
        return Ok((named_or_main(account), String::new(), true));
    }
    const DEAD: Refused = ("invalid_grant", "The authorization code is unknown, used or expired.");
    let grant = state
        .grant(code)
        .filter(|grant| grant.vendor == vendor && grant.kind == GrantKind::Code)
        .cloned()
        .ok_or(DEAD)?;
    state.drop_grant(code);
    if grant.revoked || grant.expires.is_some_and(|at| at <= state.now()) {
        return Err(DEAD);
    }
    let bound: [Option<String>; 3] =
        grant.bound_to.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    if redirect.is_some() && redirect != bound[0].as_deref() {
        return Err(("redirect_uri_mismatch", "The redirect_uri differs from the one the code was asked for with."));
    }
    let proof = verifier.map(|text| URL_SAFE_NO_PAD.encode(Sha256::digest(text)));
    if bound[1].is_some() && bound[1] != proof {
        return Err(("invalid_grant", "The code_verifier does not fit the code_challenge."));
    }
    Ok((grant.account, grant.scope, bound[2].as_deref() == Some("offline")))
}

fn issue(
    state: &mut SandboxState,
    style: &Style,
    vendor: Vendor,
    account: &str,
    scope: &str,
    used: Option<&str>,
    refreshable: bool,
) -> Reply {
    let rotate = state.faults(vendor, account).rotate_refresh;
    let refresh = match used {
        Some(refresh) if !rotate => refresh.to_owned(),
        _ => state.token(style.prefixes[2]),
    };
    let access = state.token(style.prefixes[1]);
    let now = state.now();
    let expires = now + Duration::seconds(style.access_life_s);
    let grant = |kind, expires, bound_to| Grant {
        vendor,
        account: account.to_owned(),
        kind,
        expires,
        revoked: false,
        bound_to,
        scope: scope.to_owned(),
    };
    if used != Some(refresh.as_str()) {
        state.put_grant(&refresh, grant(GrantKind::Refresh, None, None));
        used.inspect(|old| state.drop_grant(old));
    }
    state.forget_expired(&refresh);
    state.put_grant(&access, grant(GrantKind::Access, Some(expires), Some(refresh.clone())));

    let mut reply = Map::new();
    reply.insert("access_token".into(), json!(access));
    if style.absolute_expiry {
        reply.insert("token_type".into(), json!("bearer"));
        reply.insert("expires_at".into(), json!(expires.to_rfc3339_opts(SecondsFormat::Secs, true)));
        reply.insert("merchant_id".into(), json!(format!("ML{}", account.to_uppercase())));
        reply.insert("short_lived".into(), json!(false));
    } else {
        reply.insert("token_type".into(), json!("Bearer"));
        // Google says one second less than the hour.
        reply.insert("expires_in".into(), json!(style.access_life_s - 1));
    }
    if style.shows_scope {
        reply.insert("scope".into(), json!(scope));
    }
    if refreshable && (used.is_none() || rotate || style.refresh_in_refresh) {
        reply.insert("refresh_token".into(), json!(refresh));
    }
    Reply::ok(&Value::Object(reply)).with("cache-control", "no-store")
}

fn revoke(state: &mut SandboxState, style: &Style, call: &Call) -> Reply {
    let in_body = if style.json_body {
        call.json().and_then(|body| Some(body.get("access_token")?.as_str()?.to_owned()))
    } else {
        call.form().remove("token")
    };
    let Some(token) = call.query("token").map(str::to_owned).or(in_body) else {
        return (style.error)("invalid_request", "Missing required parameter: token");
    };
    let Some(grant) = state.grant(&token).filter(|grant| grant.vendor == call.vendor).cloned() else {
        return (style.error)("invalid_token", "The token is not known.");
    };
    state.change_grant(&token, |grant| grant.revoked = true);
    if let Some(refresh) = grant.bound_to {
        state.change_grant(&refresh, |grant| grant.revoked = true);
    }
    Reply::ok(&if style.json_body { json!({"success": true}) } else { json!({}) })
}
