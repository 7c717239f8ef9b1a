//! The route table: no path is served without its description.
//!
//! A handler is registered together with an [`Operation`], and what its signature says need not be said again: a
//! handler that takes [`crate::input::Authenticated`] wants secrets and answers 401, one that takes
//! [`crate::input::Target`] also answers 404, one that takes [`crate::input::JsonBody`] has a body and answers 400,
//! 413 and 415. [`crate::openapi`] writes the document from the same table that the router is made of.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};

use crate::ApiState;

/// An argument of a handler, as far as it shows in the description.
pub trait Input {
    /// Adds the argument to the description.
    fn describe(_: &mut Operation) {}
}

/// All arguments of a handler together; `M` is axum's mark of how the last is taken.
pub trait Inputs {
    /// Adds all arguments to the description.
    fn describe(operation: &mut Operation);
}

macro_rules! inputs {
    ($($input:ident)*) => {
        impl<M, $($input: Input),*> Inputs for (M, $($input,)*) {
            fn describe(_operation: &mut Operation) {
                $($input::describe(_operation);)*
            }
        }
    };
}

inputs! {}
inputs! { A }
inputs! { A B }
inputs! { A B C }
inputs! { A B C D }
inputs! { A B C D E }

impl Input for axum::extract::State<ApiState> {}
impl Input for axum::http::HeaderMap {}

/// The kind of value that a parameter has.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number between these.
    Number(u64, u64),
    /// Whole numbers, and the parameter may be repeated.
    Numbers,
    /// An instant, as in RFC 3339 or in milliseconds since 1970.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text, and the parameter may be repeated.
    Texts,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub kind: Kind,
    /// The effect, in a sentence.
    pub about: &'static str,
}

/// A body that a call takes.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// Name of its schema.
    pub schema: &'static str,
    /// The call is refused without it.
    pub required: bool,
}

/// The secrets that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// A user with the organization's secret or an instance's token.
    Secrets,
    /// A user with an instance's token.
    Token,
}

/// One call, as the document describes it.
#[derive(Debug, Clone)]
pub struct Operation {
    /// `operationId`.
    pub id: &'static str,
    /// The group that it belongs to.
    pub tag: &'static str,
    /// A line.
    pub summary: &'static str,
    /// A paragraph, in Markdown.
    pub about: &'static str,
    /// The secrets that a caller needs.
    pub access: Access,
    /// The call is about one instance.
    pub of_instance: bool,
    /// The answer comes in pages.
    pub paged: bool,
    /// The parameters of the query.
    pub query: Vec<Parameter>,
    /// The body that the call takes.
    pub body: Option<Body>,
    /// Name of the schema of a success; none: it has no body.
    pub answer: Option<&'static str>,
    /// Further statuses that this call answers with.
    pub statuses: Vec<u16>,
    /// The path of the same call about the instance whose token comes along.
    pub token_path: Option<&'static str>,
    /// It is that same call.
    pub twin: bool,
}

impl Operation {
    /// A parameter of the query.
    pub fn query(mut self, name: &'static str, kind: Kind, about: &'static str) -> Self {
        self.query.push(Parameter { name, kind, about });
        self
    }

    /// The answer is a page of a listing.
    pub fn paged(mut self) -> Self {
        self.paged = true;
        self
    }

    /// Name of the schema of the body.
    pub fn takes(mut self, schema: &'static str) -> Self {
        let required = self.body.is_none_or(|body| body.required);
        self.body = Some(Body { schema, required });
        self
    }

    /// Name of the schema of a success.
    pub fn answers(mut self, schema: &'static str) -> Self {
        self.answer = Some(schema);
        self
    }

    /// Further statuses that the call answers with.
    pub fn or(mut self, statuses: &[u16]) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// The same call is served at this path too, about the instance whose token comes along.
    pub fn also_at(mut self, path: &'static str) -> Self {
        self.token_path = Some(path);
        self
    }

    /// The call needs an instance's token whatever its path.
    pub fn by_token(mut self) -> Self {
        self.access = Access::Token;
        self
    }
}

/// A call with its name, its group and what it does, in a line and in a paragraph.
pub fn op(id: &'static str, tag: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation {
        id,
        tag,
        summary,
        about,
        access: Access::Open,
        of_instance: false,
        paged: false,
        query: Vec::new(),
        body: None,
        answer: None,
        statuses: Vec::new(),
        token_path: None,
        twin: false,
    }
}

/// A described call with its method and path.
#[derive(Debug, Clone)]
pub struct Described {
    /// Method in lower case, as OpenAPI writes it.
    pub method: &'static str,
    /// Path after [`crate::BASE`].
    pub path: &'static str,
    /// The description.
    pub operation: Operation,
}

/// Routes and their descriptions.
pub struct Routes {
    /// The router that serves them.
    pub router: Router<ApiState>,
    /// The descriptions, for the document.
    pub described: Vec<Described>,
}

macro_rules! methods {
    ($($method:ident $filter:ident $word:literal,)*) => {
        $(
            #[doc = concat!("A `", stringify!($filter), "` of this path.")]
            pub fn $method<H, T>(self, path: &'static str, handler: H, operation: Operation) -> Self
            where
                H: Handler<T, ApiState>,
                T: Inputs + 'static,
            {
                self.add(MethodFilter::$filter, $word, path, path, handler, operation)
            }
        )*
    };
}

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self { router: Router::new(), described: Vec::new() }
    }

    methods! {
        get GET "get",
        post POST "post",
        put PUT "put",
        patch PATCH "patch",
        delete DELETE "delete",
    }

    /// A `GET` that axum routes by one pattern and the document shows as one of the paths that it takes.
    pub fn get_shown_as<H, T>(self, pattern: &'static str, path: &'static str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, ApiState>,
        T: Inputs + 'static,
    {
        self.add(MethodFilter::GET, "get", pattern, path, handler, operation)
    }

    /// Another path that is served by a pattern which is registered already.
    pub fn shown_also_as(mut self, path: &'static str, operation: Operation) -> Self {
        let Some(last) = self.described.last().cloned() else { return self };
        let operation = Operation { access: last.operation.access, of_instance: false, ..operation };
        self.described.push(Described { method: last.method, path, operation });
        self
    }

    fn add<H, T>(
        mut self,
        filter: MethodFilter,
        method: &'static str,
        pattern: &str,
        path: &'static str,
        handler: H,
        mut operation: Operation,
    ) -> Self
    where
        H: Handler<T, ApiState>,
        T: Inputs + 'static,
    {
        T::describe(&mut operation);
        if let Some(token_path) = operation.token_path.take() {
            let twin = Operation { access: Access::Token, of_instance: false, twin: true, ..operation.clone() };
            self.described.push(Described { method, path: token_path, operation: twin });
            self.router = self.router.route(token_path, on(filter, handler.clone()));
        }
        if operation.of_instance && !path.contains("{id}") {
            // Without an id the call is about the instance whose token comes along.
            (operation.access, operation.of_instance) = (Access::Token, false);
        }
        self.described.push(Described { method, path, operation });
        self.router = self.router.route(pattern, on(filter, handler));
        self
    }

    /// These and those.
    pub fn merge(mut self, others: Self) -> Self {
        self.router = self.router.merge(others.router);
        self.described.extend(others.described);
        self
    }
}
